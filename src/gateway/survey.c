#include "gateway/survey.h"

#include "codec/json.h"

#include <errno.h>
#include <inttypes.h>

void survey_clear(struct survey *survey)
{
	survey->open_count = 0;
	survey->row_count = 0;
}

static bool is_slower(const struct survey_row *row, uint32_t depth, uint64_t queued_bytes)
{
	return row->depth != depth ? row->depth > depth : row->queued_bytes >= queued_bytes;
}

bool survey_wants(const struct survey *survey, uint32_t depth, uint64_t queued_bytes)
{
	return survey->row_count < SURVEY_ROWS ||
	       !is_slower(&survey->rows[SURVEY_ROWS - 1], depth, queued_bytes);
}

void survey_add(struct survey *survey, const struct survey_row *row)
{
	uint32_t at = survey->row_count;

	if (at == SURVEY_ROWS) {
		if (is_slower(&survey->rows[at - 1], row->depth, row->queued_bytes))
			return;
		at--;
	} else {
		survey->row_count++;
	}
	for (; at > 0 && !is_slower(&survey->rows[at - 1], row->depth, row->queued_bytes); at--)
		survey->rows[at] = survey->rows[at - 1];
	survey->rows[at] = *row;
}

static void write_row(const struct survey_row *row, struct buf *out)
{
	buf_append(out, SPAN("{\"worker\":"));
	json_append_string(out, span_from_cstr(row->worker));
	buf_append(out, SPAN(",\"session\":"));
	json_append_string(out, span_from_cstr(row->session));
	buf_printf(out,
		   ",\"depth\":%" PRIu32 ",\"queued_bytes\":%" PRIu64 ",\"age_ms\":%" PRIu64
		   ",\"silent_ms\":%" PRIu64 "}",
		   row->depth, row->queued_bytes, row->age_ms, row->silent_ms);
}

int survey_write(const struct survey *surveys, size_t count, struct buf *out)
{
	struct survey all = {0};

	for (size_t i = 0; i < count; i++) {
		all.open_count += surveys[i].open_count;
		for (uint32_t k = 0; k < surveys[i].row_count; k++) {
			struct survey_row row = surveys[i].rows[k];

			row.worker = surveys[i].worker;
			survey_add(&all, &row);
		}
	}
	buf_printf(out, "{\"open_streams\":%" PRIu64 ",\"workers\":[", all.open_count);
	for (size_t i = 0; i < count; i++) {
		buf_append(out, i > 0 ? SPAN(",{\"worker\":") : SPAN("{\"worker\":"));
		json_append_string(out, span_from_cstr(surveys[i].worker));
		buf_printf(out, ",\"open_streams\":%" PRIu64 "}", surveys[i].open_count);
	}
	buf_append(out, SPAN("],\"slowest\":["));
	for (uint32_t i = 0; i < all.row_count; i++) {
		if (i > 0)
			buf_append_byte(out, ',');
		write_row(&all.rows[i], out);
	}
	buf_append(out, SPAN("]}\n"));
	return out->failed ? -ENOMEM : 0;
}
