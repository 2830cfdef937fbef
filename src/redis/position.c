#include "redis/position.h"

#include <inttypes.h>
#include <stdio.h>

bool stream_id_parse(struct span text, struct stream_id *id)
{
	ptrdiff_t dash = span_find_byte(text, '-');

	return dash > 0 && span_to_uint64(span_first(text, (size_t)dash), &id->ms) &&
	       span_to_uint64(span_from(text, (size_t)dash + 1), &id->sequence);
}

struct span stream_id_format(struct stream_id id, char text[STREAM_ID_TEXT_MAX])
{
	int len = snprintf(text, STREAM_ID_TEXT_MAX, "%" PRIu64 "-%" PRIu64, id.ms, id.sequence);

	return span_make(text, (size_t)len);
}

int stream_id_compare(struct stream_id a, struct stream_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	if (a.sequence != b.sequence)
		return a.sequence < b.sequence ? -1 : 1;
	return 0;
}

static bool is_text(const struct resp_value *value)
{
	return value->type == RESP_STRING || value->type == RESP_STATUS;
}

static bool take_count(const struct resp_value *value, uint64_t *count)
{
	if (value->type != RESP_INTEGER || value->integer < 0)
		return false;
	*count = (uint64_t)value->integer;
	return true;
}

/* first-entry: [id, [field, value, …]], or nil. */
static bool take_first(const struct resp_value *value, struct stream_id *first)
{
	if (value->type == RESP_NIL || (value->type == RESP_ARRAY && value->count == 0))
		return true;
	return value->type == RESP_ARRAY && is_text(value->items[0]) &&
	       stream_id_parse(value->items[0]->text, first);
}

bool stream_info_parse(const struct resp_value *value, struct stream_info *info)
{
	bool has_length = false, has_last = false;

	*info = (struct stream_info){0};
	if (value->type != RESP_ARRAY || value->count % 2 != 0)
		return false;
	for (size_t i = 0; i < value->count; i += 2) {
		const struct resp_value *name = value->items[i], *member = value->items[i + 1];
		bool good = is_text(name);

		if (!good)
			return false;
		if (span_equal(name->text, SPAN("length")))
			good = has_length = take_count(member, &info->length);
		else if (span_equal(name->text, SPAN("entries-added")))
			good = info->has_counter = take_count(member, &info->entries_added);
		else if (span_equal(name->text, SPAN("last-generated-id")))
			good = has_last =
				is_text(member) && stream_id_parse(member->text, &info->last);
		else if (span_equal(name->text, SPAN("first-entry")))
			good = take_first(member, &info->first);
		if (!good)
			return false;
	}
	return has_length && has_last;
}

void position_start(struct position *position, const struct stream_info *info)
{
	*position = (struct position){
		.last = info->last,
		.has_counter = info->has_counter,
		.seen_count = info->entries_added,
	};
}

bool position_advance(struct position *position, struct stream_id id)
{
	if (stream_id_compare(id, position->last) <= 0)
		return false;
	position->last = id;
	position->seen_count++;
	return true;
}

static bool is_recreated(const struct position *position, const struct stream_info *info)
{
	return stream_id_compare(info->last, position->last) < 0 ||
	       (position->has_counter && info->has_counter &&
		info->entries_added < position->seen_count);
}

/* Entries leave a stream at its front: while ours is there, or one before it, none after it was
 * trimmed. */
static bool ours_is_gone(const struct position *position, const struct stream_info *info)
{
	return info->length == 0 || stream_id_compare(info->first, position->last) > 0;
}

static uint64_t gone_count(const struct stream_info *info)
{
	return info->entries_added > info->length ? info->entries_added - info->length : 0;
}

static enum position_verdict begin_anew(struct position *position, const struct stream_info *info)
{
	*position = (struct position){
		.has_counter = info->has_counter,
		.seen_count = gone_count(info),
		.replayed = info->last,
	};
	return POSITION_RECREATED;
}

enum position_verdict position_judge(struct position *position, const struct stream_info *info)
{
	if (is_recreated(position, info))
		return begin_anew(position, info);
	if (!info->has_counter || !position->has_counter) {
		bool were_added = stream_id_compare(info->last, position->last) > 0;
		/* At 0-0 nothing of ours can be missing; the stream's first entries are then all to
		 * be read. */
		bool had_entry = position->last.ms != 0 || position->last.sequence != 0;

		return had_entry && were_added && ours_is_gone(position, info) ? POSITION_TRIMMED
									       : POSITION_FINE;
	}

	/* At the end all were read but those that were trimmed while we were behind. */
	bool at_end = stream_id_compare(info->last, position->last) == 0;

	if (!at_end && !ours_is_gone(position, info))
		return POSITION_FINE;

	/* Else all that is left is ahead of us. Both are our place exactly: the same gap is not
	 * told twice. */
	uint64_t place = at_end ? info->entries_added : gone_count(info);
	bool is_trimmed = place > position->seen_count;

	/* What we have seen is neither there nor gone from there. */
	if (place < position->seen_count)
		return begin_anew(position, info);

	position->seen_count = place;
	return is_trimmed ? POSITION_TRIMMED : POSITION_FINE;
}
