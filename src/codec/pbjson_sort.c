#include "base/check.h"
#include "codec/pbjson_write.h"

#include <errno.h>
#include <stdlib.h>

/* One field on the wire; offsets in the message. */
struct occurrence {
	uint32_t tag_at, value_at, end;
	uint16_t index; /* of the field */
};

/* What is known of a oneof: which member came last, and since which occurrence no other did. */
struct choice {
	uint32_t since;
	uint16_t index;
};

struct sorting {
	const struct schema_message *message;
	struct span wire;
	struct occurrence *occurrences; /* as on the wire */
	uint32_t *order;		/* by field; those of one field as on the wire */
	uint32_t *starts;		/* of each field in `order`, and the end */
	struct choice choices[SCHEMA_ONEOFS_MAX];
	bool is_malformed; /* a part of a merged message, by itself */
};

/* The next field that the message knows. Returns 1, 0 at the end, -EPROTO. `*skipped`: others were
 * before it. */
static int next_known(const struct schema_message *message, struct span wire, uint32_t *offset,
		      struct occurrence *found, bool *skipped)
{
	const uint8_t *at = wire.data + *offset, *end = wire.data + wire.len;

	*skipped = false;
	while (at < end) {
		const uint8_t *tag_at = at;
		uint32_t tag;

		at = pbjson_take_tag(at, end, &tag);
		if (!at)
			return -EPROTO;

		const struct schema_field *field = schema_field_of_number(message, tag >> 3);
		const uint8_t *value_at = at;

		at = pbjson_skip(at, end, tag);
		if (!at)
			return -EPROTO;
		if (!field || !pbjson_is_field_wire(field, tag & 7)) {
			*skipped = true;
			continue;
		}
		*found = (struct occurrence){.tag_at = (uint32_t)(tag_at - wire.data),
					     .value_at = (uint32_t)(value_at - wire.data),
					     .end = (uint32_t)(at - wire.data),
					     .index = field->index};
		*offset = found->end;
		return 1;
	}
	*offset = (uint32_t)wire.len;
	return 0;
}

/* Returns 1 when it is in order, 0 when not, -EPROTO. Counts the known fields. */
static int look_through(const struct schema_message *message, struct span wire, uint32_t *count)
{
	uint64_t oneofs[SCHEMA_ONEOFS_MAX / 64] = {0};
	struct occurrence found;
	uint32_t offset = 0;
	int last = -1, more, in_order = 1;
	bool skipped;

	*count = 0;
	while ((more = next_known(message, wire, &offset, &found, &skipped)) > 0) {
		const struct schema_field *field = &message->fields[found.index];

		++*count;
		if (field->index < last ||
		    (field->index == last && (!field->is_repeated || skipped)))
			in_order = 0;
		last = field->index;
		if (field->oneof >= 0) {
			uint64_t bit = UINT64_C(1) << (field->oneof % 64);

			if (oneofs[field->oneof / 64] & bit)
				in_order = 0;
			oneofs[field->oneof / 64] |= bit;
		}
	}
	return more < 0 ? more : in_order;
}

static void note_choice(struct sorting *sorting, uint32_t at)
{
	const struct occurrence *occurrence = &sorting->occurrences[at];
	int16_t oneof = sorting->message->fields[occurrence->index].oneof;

	if (oneof >= 0 && (sorting->choices[oneof].since == UINT32_MAX ||
			   sorting->choices[oneof].index != occurrence->index))
		sorting->choices[oneof] = (struct choice){.since = at, .index = occurrence->index};
}

/* Counting sort: stable, and the number of fields is bounded. */
static void put_in_order(struct sorting *sorting, uint32_t count)
{
	const struct schema_message *message = sorting->message;
	uint32_t offset = 0;
	bool skipped;

	for (uint16_t i = 0; i < message->oneof_count; i++)
		sorting->choices[i] = (struct choice){.since = UINT32_MAX};
	for (uint32_t i = 0; i < count; i++) {
		CHECK(next_known(message, sorting->wire, &offset, &sorting->occurrences[i],
				 &skipped) == 1); /* they were counted */
		note_choice(sorting, i);
		sorting->starts[sorting->occurrences[i].index + 1]++;
	}
	for (uint32_t i = 0; i < message->field_count; i++)
		sorting->starts[i + 1] += sorting->starts[i];
	for (uint32_t i = 0; i < count; i++)
		sorting->order[sorting->starts[sorting->occurrences[i].index]++] = i;
	/* each start is its field's end now, which is the next one's start */
	for (uint32_t i = message->field_count; i > 0; i--)
		sorting->starts[i] = sorting->starts[i - 1];
	sorting->starts[0] = 0;
}

static uint8_t *put_raw(uint8_t *to, struct span wire, uint32_t from, uint32_t end)
{
	memcpy(to, wire.data + from, end - from);
	return to + (end - from);
}

/* What a message's occurrences hold, one behind the other: that is what merging means. */
static uint8_t *put_merged(struct sorting *sorting, uint8_t *to, uint32_t first, uint32_t end)
{
	const struct occurrence *head = &sorting->occurrences[sorting->order[first]];
	size_t sum = 0;
	uint32_t count;

	const struct schema_message *message = sorting->message->fields[head->index].message;

	for (int pass = 0; pass < 2; pass++) {
		if (pass == 1) {
			to = put_raw(to, sorting->wire, head->tag_at, head->value_at);
			to = pbjson_put_varint(to, sum);
		}
		for (uint32_t i = first; i < end; i++) {
			const struct occurrence *part = &sorting->occurrences[sorting->order[i]];
			struct span bytes = SPAN_EMPTY;

			pbjson_take_bytes(sorting->wire.data + part->value_at,
					  sorting->wire.data + part->end, &bytes);
			sum += bytes.len;
			/* a part that is cut must not go on in the next one */
			if (pass == 0 && bytes.len > 0 && look_through(message, bytes, &count) < 0)
				sorting->is_malformed = true;
			if (pass == 1 && bytes.len > 0) {
				memcpy(to, bytes.data, bytes.len);
				to += bytes.len;
			}
		}
	}
	return to;
}

static uint8_t *put_field(struct sorting *sorting, uint8_t *to, uint32_t index)
{
	const struct schema_field *field = &sorting->message->fields[index];
	uint32_t first = sorting->starts[index], end = sorting->starts[index + 1];

	if (field->oneof >= 0) {
		const struct choice *choice = &sorting->choices[field->oneof];

		if (choice->index != index)
			return to;
		while (first < end && sorting->order[first] < choice->since)
			first++;
	}
	if (first == end)
		return to;
	if (!field->is_repeated && field->type == SCHEMA_MESSAGE && end - first > 1)
		return put_merged(sorting, to, first, end);
	if (!field->is_repeated)
		first = end - 1;
	for (; first < end; first++) {
		const struct occurrence *part = &sorting->occurrences[sorting->order[first]];

		to = put_raw(to, sorting->wire, part->tag_at, part->end);
	}
	return to;
}

static int copy_sorted(struct sorting *sorting, uint32_t count, struct pbjson_sorted *sorted)
{
	uint32_t field_count = sorting->message->field_count;
	int error = -ENOMEM;

	sorting->occurrences = malloc((count + 1) * sizeof(*sorting->occurrences));
	sorting->order = malloc((count + 1) * sizeof(*sorting->order));
	sorting->starts = calloc(field_count + 2, sizeof(*sorting->starts));
	sorted->copy = malloc(sorting->wire.len + 1);
	if (!sorting->occurrences || !sorting->order || !sorting->starts || !sorted->copy)
		goto out;
	put_in_order(sorting, count);

	uint8_t *to = sorted->copy;

	for (uint32_t i = 0; i < field_count; i++)
		to = put_field(sorting, to, i);
	sorted->wire = span_make(sorted->copy, (size_t)(to - sorted->copy));
	error = sorting->is_malformed ? -EPROTO : 0;
out:
	free(sorting->occurrences);
	free(sorting->order);
	free(sorting->starts);
	if (error) {
		free(sorted->copy);
		sorted->copy = NULL;
	}
	return error;
}

int pbjson_sort(struct writer *writer, const struct schema_message *message, struct span wire,
		struct pbjson_sorted *sorted)
{
	struct sorting sorting;
	uint32_t count;
	int in_order = wire.len ? look_through(message, wire, &count) : 1;

	*sorted = (struct pbjson_sorted){.wire = wire};
	if (in_order < 0)
		return pbjson_write_fail(writer, -EPROTO, "malformed protobuf");
	if (in_order)
		return 0;

	size_t scratch = (size_t)count * (sizeof(struct occurrence) + 4) + wire.len;

	if (scratch > PBJSON_SCRATCH_MAX - writer->scratch_bytes)
		return pbjson_write_fail(writer, -EMSGSIZE, "too many fields out of order");
	sorting.message = message;
	sorting.wire = wire;
	sorting.is_malformed = false;

	int error = copy_sorted(&sorting, count, sorted);

	if (error)
		return pbjson_write_fail(writer, error,
					 error == -EPROTO ? "malformed protobuf" : "no memory");
	sorted->charged_bytes = wire.len;
	writer->scratch_bytes += wire.len;
	return 0;
}

void pbjson_sort_finish(struct writer *writer, struct pbjson_sorted *sorted)
{
	if (!sorted->copy)
		return;
	free(sorted->copy);
	writer->scratch_bytes -= sorted->charged_bytes;
}
