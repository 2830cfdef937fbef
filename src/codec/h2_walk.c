#include "codec/h2_walk.h"

#define HEAD_BYTES 9
/* RFC 9113 §6 */
#define FRAME_DATA	      0
#define FRAME_HEADERS	      1
#define FRAME_PRIORITY	      2
#define FRAME_RST_STREAM      3
#define FRAME_SETTINGS	      4
#define FRAME_PING	      6
#define FRAME_GOAWAY	      7
#define FRAME_WINDOW_UPDATE   8
#define FRAME_CONTINUATION    9
#define FRAME_PRIORITY_UPDATE 16 /* RFC 9218 §7.1 */
#define FLAG_ACK	      1
#define FLAG_END_STREAM	      1
#define FLAG_END_HEADERS      4
#define FLAG_PADDED	      8

void h2_walk_init(struct h2_walk *walk, enum h2_role role)
{
	*walk = (struct h2_walk){.left_bytes = role == H2_SERVER ? sizeof(H2_PREFACE) - 1 : 0};
}

static uint32_t payload_bytes(const uint8_t *head)
{
	return (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
}

static bool is_padded_data(const uint8_t *head)
{
	return head[3] == FRAME_DATA && (head[4] & FLAG_PADDED) != 0 && payload_bytes(head) > 0;
}

/* What must be there before the frame is judged. */
static size_t head_bytes(const uint8_t *head)
{
	return is_padded_data(head) ? HEAD_BYTES + 1 : HEAD_BYTES;
}

/* Whether nothing but padding comes with it. A frame padded over its end is for nghttp2. */
static bool is_empty_data(const uint8_t *head)
{
	uint32_t bytes = payload_bytes(head);

	return is_padded_data(head) ? head[HEAD_BYTES] + 1U >= bytes : bytes == 0;
}

static enum h2_oddity judge_data(const uint8_t *head)
{
	if (head[4] & FLAG_END_STREAM)
		return H2_ODD_NOTHING;
	if (is_empty_data(head))
		return H2_ODD_EMPTY_DATA;
	return payload_bytes(head) < H2_SMALL_DATA_BYTES ? H2_ODD_SMALL_FRAME : H2_ODD_NOTHING;
}

static enum h2_oddity judge(const uint8_t *head)
{
	switch (head[3]) {
	case FRAME_DATA:
		return judge_data(head);
	case FRAME_HEADERS:
	case FRAME_GOAWAY:
		return H2_ODD_NOTHING;
	case FRAME_RST_STREAM:
	case FRAME_WINDOW_UPDATE:
		return H2_ODD_SMALL_FRAME;
	case FRAME_SETTINGS:
		return head[4] & FLAG_ACK ? H2_ODD_NOTHING : H2_ODD_SETTINGS;
	case FRAME_PING:
		return H2_ODD_PING;
	case FRAME_PRIORITY:
	case FRAME_PRIORITY_UPDATE:
		return H2_ODD_PRIORITY;
	case FRAME_CONTINUATION:
		return H2_ODD_CONTINUATION;
	default:
		return H2_ODD_UNKNOWN_FRAME;
	}
}

/* A frame's head is there; its payload follows. */
static void begin_frame(struct h2_walk *walk, const uint8_t *head)
{
	bool begins = head[3] == FRAME_HEADERS;

	walk->left_bytes = payload_bytes(head) - (uint32_t)(head_bytes(head) - HEAD_BYTES);
	walk->is_headers = begins || head[3] == FRAME_CONTINUATION;
	if (walk->is_headers)
		walk->in_block = (head[4] & FLAG_END_HEADERS) == 0;
	walk->block_is_new |= begins;
}

/*
 * Collects a head that comes in parts, or takes one that lies whole.
 * Returns it, or NULL: more is to come. *taken: of `bytes`.
 */
static const uint8_t *take_head(struct h2_walk *walk, struct span bytes, size_t *taken)
{
	if (walk->head_len == 0 && bytes.len > HEAD_BYTES) {
		*taken = head_bytes(bytes.data);
		return bytes.data;
	}
	for (*taken = 0; *taken < bytes.len;) {
		walk->head[walk->head_len++] = bytes.data[(*taken)++];
		if (walk->head_len >= HEAD_BYTES && walk->head_len == head_bytes(walk->head)) {
			walk->head_len = 0;
			return walk->head;
		}
	}
	return NULL;
}

void h2_walk_take(struct h2_walk *walk, struct span bytes, h2_walk_fn *odd,
		  struct h2_session *session)
{
	walk->block_is_new = false;
	while (bytes.len > 0) {
		size_t taken = walk->left_bytes < bytes.len ? walk->left_bytes : bytes.len;

		if (taken > 0) {
			walk->left_bytes -= (uint32_t)taken;
			bytes = span_from(bytes, taken);
			continue;
		}

		const uint8_t *head = take_head(walk, bytes, &taken);

		bytes = span_from(bytes, taken);
		if (!head)
			continue;
		begin_frame(walk, head);

		enum h2_oddity oddity = judge(head);

		if (oddity != H2_ODD_NOTHING)
			odd(session, oddity);
	}
}

enum h2_header_progress h2_walk_progress(const struct h2_walk *walk)
{
	if (!walk->in_block && (!walk->is_headers || walk->left_bytes == 0))
		return H2_HEADER_WHOLE;
	return walk->block_is_new ? H2_HEADER_BEGUN : H2_HEADER_GOES_ON;
}
