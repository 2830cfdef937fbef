#include "redis/entry.h"

#include <errno.h>

static size_t take_fields(const struct resp_value *value, struct tail_field fields[TAIL_FIELDS_MAX])
{
	if (value->count % 2 != 0 || value->count / 2 > TAIL_FIELDS_MAX)
		return 0;
	for (size_t i = 0; i < value->count; i++) {
		if (value->items[i]->type != RESP_STRING)
			return 0;
		if (i % 2 == 0)
			fields[i / 2].name = value->items[i]->text;
		else
			fields[i / 2].value = value->items[i]->text;
	}
	return value->count / 2;
}

const struct resp_value *tail_entries_of(const struct resp_value *answer)
{
	if (answer->type != RESP_ARRAY || answer->count != 1)
		return NULL;

	const struct resp_value *stream = answer->items[0];

	if (stream->type != RESP_ARRAY || stream->count != 2 ||
	    stream->items[1]->type != RESP_ARRAY)
		return NULL;
	return stream->items[1];
}

int tail_entry_read(const struct resp_value *value, struct position *position,
		    struct tail_field fields[TAIL_FIELDS_MAX], struct tail_entry *entry)
{
	struct stream_id id;

	if (value->type != RESP_ARRAY || value->count != 2 ||
	    value->items[0]->type != RESP_STRING || !stream_id_parse(value->items[0]->text, &id) ||
	    !position_advance(position, id))
		return -EPROTO;
	if (value->items[1]->type != RESP_ARRAY)
		return value->items[1]->type == RESP_NIL ? 0 : -EPROTO;
	*entry = (struct tail_entry){
		.id = value->items[0]->text,
		.id_ms = id.ms,
		.fields = fields,
		.field_count = take_fields(value->items[1], fields),
		.is_replayed = stream_id_compare(id, position->replayed) <= 0,
	};
	return 1;
}
