#include "push_check.h"

#include "client/message.h"
#include "codec/pb.h"
#include "push_crew.h"

#include <stdio.h>
#include <stdlib.h>

void push_event_id(char text[PUSH_EVENT_ID_LEN + 1], uint64_t sequence)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = PUSH_EVENT_ID_LEN - 1; i >= 0; i--, sequence >>= 4)
		text[i] = digits[sequence & 15];
	text[PUSH_EVENT_ID_LEN] = '\0';
}

void push_check_finish(struct push_check *check)
{
	for (size_t i = 0; i < PUSH_SAMPLES; i++)
		free(check->samples[i].bytes);
}

static void wrong(struct push_check *check, const char *why)
{
	if (metric_value(&check->wrong) == 0)
		snprintf(check->why, sizeof(check->why), "%s", why);
	metric_add(&check->wrong, 1);
}

/* ---- layout ---- */

/* The event lies in `message`. Layouts that do not fit the shape stay unlearnt: slow, but right. */
static void learn(struct push_check *check, const struct event *event, struct span message)
{
	struct push_shape *shape = &check->shape;
	size_t head_len = (size_t)(event->id.data - message.data);
	size_t mark_at = (size_t)(event->payload.data - message.data);
	size_t middle_len = 1 + pb_varint_bytes(event->payload.len);

	if (head_len > sizeof(shape->head) || middle_len > sizeof(shape->middle) ||
	    event->id.len != PUSH_EVENT_ID_LEN || mark_at < head_len + PUSH_EVENT_ID_LEN)
		return;
	*shape = (struct push_shape){
		.message_len = (uint32_t)message.len,
		.head_len = (uint32_t)head_len,
		.middle_at = (uint32_t)(mark_at - middle_len),
		.middle_len = (uint32_t)middle_len,
		.mark_at = (uint32_t)mark_at,
	};
	memcpy(shape->head, message.data, head_len);
	memcpy(shape->middle, message.data + shape->middle_at, middle_len);
}

static inline bool fits(const struct push_shape *shape, struct span message)
{
	return message.len == shape->message_len &&
	       memcmp(message.data, shape->head, shape->head_len) == 0 &&
	       memcmp(message.data + shape->middle_at, shape->middle, shape->middle_len) == 0;
}

/* ---- order ---- */

static inline void follow(struct push_check *check, struct push_stream *stream,
			  const struct push_mark *mark)
{
	if (stream->user != mark->user) {
		wrong(check, "an event of another user");
	} else if (mark->user_sequence == stream->next) {
		stream->next++;
	} else if (mark->user_sequence > stream->next) {
		metric_add(&check->gaps, mark->user_sequence - stream->next);
		stream->next = mark->user_sequence + 1;
	} else {
		metric_add(&check->duplicates, 1);
	}
	if (!stream->stalled && mark->due_us >= check->measure_from_us &&
	    mark->due_us < check->measure_to_us)
		histogram_record(check->latency,
				 check->now_us > mark->due_us ? check->now_us - mark->due_us : 0);
}

/* ---- in full ---- */

static bool is_right(struct push_check *check, const struct event *event,
		     const struct push_mark *mark)
{
	char id[PUSH_EVENT_ID_LEN + 1];

	push_event_id(id, mark->sequence);
	if (event->verdict == VERDICT_BAD || event->verdict == VERDICT_UNSIGNED)
		wrong(check, "the hash or the signature of an event is bad");
	else if (!span_equal(event->id, span_make(id, PUSH_EVENT_ID_LEN)))
		wrong(check, "an event's id is not that of its payload");
	else if (event->payload.len != mark->payload_len)
		wrong(check, "an event's payload is shorter or longer than published");
	else
		return true;
	return false;
}

/* Hash and signature once; of the same event on another stream only whether it is the same. */
static void sample(struct push_check *check, struct span message, const struct push_mark *mark)
{
	struct push_sample *known = &check->samples[mark->sequence / PUSH_SAMPLE % PUSH_SAMPLES];
	struct event event;

	if (known->bytes && known->sequence == mark->sequence) {
		if (!span_equal(span_make(known->bytes, known->len), message))
			wrong(check, "the same event came with other bytes");
		return;
	}
	if (event_read(&event, message, check->key) != 0) {
		wrong(check, "an event is no protobuf message");
		return;
	}
	metric_add(&check->verified, 1);
	if (!is_right(check, &event, mark))
		return;
	free(known->bytes);
	known->bytes = malloc(message.len);
	if (!known->bytes)
		return;
	memcpy(known->bytes, message.data, message.len);
	known->len = message.len;
	known->sequence = mark->sequence;
}

static enum push_event read_bootstrap(struct push_check *check, const struct event *event,
				      struct span message)
{
	struct event signed_event;
	int64_t ms;

	if (!server_time_read(event->payload, &ms))
		wrong(check, "a bootstrap event without the server's time");
	else if (check->bootstraps++ % PUSH_SAMPLE == 0 &&
		 (event_read(&signed_event, message, check->key) != 0 ||
		  signed_event.verdict == VERDICT_BAD ||
		  signed_event.verdict == VERDICT_UNSIGNED))
		wrong(check, "the signature of a bootstrap event is bad");
	return PUSH_EVENT_BOOTSTRAP;
}

static enum push_event read_in_full(struct push_check *check, struct push_stream *stream,
				    struct span message)
{
	struct event event;
	struct push_mark mark;

	metric_add(&check->parsed, 1);
	if (event_read(&event, message, NULL) != 0) {
		wrong(check, "a message is no protobuf message");
		return PUSH_EVENT_OTHER;
	}
	if (span_equal(event.type, SPAN("gateway.server_time")))
		return read_bootstrap(check, &event, message);
	if (span_equal(event.type, SPAN("gateway.heartbeat")))
		return PUSH_EVENT_OTHER;
	if (!span_equal(event.type, SPAN(PUSH_EVENT_TYPE)) || event.payload.len < sizeof(mark)) {
		metric_add(&check->foreign, 1);
		return PUSH_EVENT_OTHER;
	}
	memcpy(&mark, event.payload.data, sizeof(mark));
	if (mark.run != check->run) {
		metric_add(&check->foreign, 1);
		return PUSH_EVENT_OTHER;
	}
	learn(check, &event, message);
	follow(check, stream, &mark);
	sample(check, message, &mark);
	return PUSH_EVENT_OURS;
}

enum push_event push_check_message(struct push_check *check, struct push_stream *stream,
				   struct span message)
{
	struct push_mark mark;

	if (!fits(&check->shape, message))
		return read_in_full(check, stream, message);
	memcpy(&mark, message.data + check->shape.mark_at, sizeof(mark));
	if (mark.run != check->run)
		return read_in_full(check, stream, message);
	follow(check, stream, &mark);
	if (mark.sequence % PUSH_SAMPLE == 0)
		sample(check, message, &mark);
	return PUSH_EVENT_OURS;
}
