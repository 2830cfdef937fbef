#include "net/sendq.h"

#include "base/check.h"
#include "net/pool.h"

#include <errno.h>

struct segment {
	struct payload *payload; /* one reference, or NULL: bytes of this chunk */
	const uint8_t *data;
	uint32_t len;
};

#define CHUNK_ROOM (POOL_CHUNK_BYTES - sizeof(void *) - 8 * sizeof(uint16_t))

/*
 * Bytes grow up from the start of `room`, segments grow down from its end: segment n is the nth
 * from there.
 */
struct sendq_chunk {
	struct sendq_chunk *next;
	uint16_t bytes_used;
	uint16_t segment_first, segment_count; /* [first, count) are queued */
	uint16_t segment_held; /* [held, first) have been sent; a pin keeps their payloads */
	uint8_t pins;
	bool left; /* not in the queue any more: the last pin frees it */
	bool secret; /* wiped before it is given back */
	_Alignas(struct segment) uint8_t room[CHUNK_ROOM];
};

_Static_assert(sizeof(struct sendq_chunk) <= POOL_CHUNK_BYTES, "a chunk is one block of the pool");
_Static_assert(CHUNK_ROOM % sizeof(void *) == 0, "segments are aligned from the end");

/* A larger copy gets a payload of its own: one iovec instead of many. */
#define COPY_MAX ((size_t)1024)

_Static_assert(SENDQ_SECRET_MAX + sizeof(struct segment) <= CHUNK_ROOM, "a secret fits into a chunk");

static struct segment *chunk_segment(const struct sendq_chunk *chunk, uint32_t index)
{
	struct segment *end = (struct segment *)(void *)(chunk->room + CHUNK_ROOM);

	return end - 1 - index;
}

static size_t chunk_room(const struct sendq_chunk *chunk)
{
	return CHUNK_ROOM - chunk->bytes_used - chunk->segment_count * sizeof(struct segment);
}

void sendq_init(struct sendq *queue, size_t bytes_max)
{
	*queue = (struct sendq){.bytes_max = bytes_max};
}

static int chunk_add(struct sendq *queue)
{
	struct sendq_chunk *chunk = pool_take(POOL_CHUNK);

	if (!chunk)
		return -ENOMEM;
	chunk->next = NULL;
	chunk->bytes_used = 0;
	chunk->segment_first = 0;
	chunk->segment_count = 0;
	chunk->segment_held = 0;
	chunk->pins = 0;
	chunk->left = false;
	chunk->secret = false;
	if (queue->last)
		queue->last->next = chunk;
	else
		queue->first = chunk;
	queue->last = chunk;
	return 0;
}

static void chunk_free(struct sendq_chunk *chunk)
{
	if (chunk->secret)
		explicit_bzero(chunk->room, sizeof(chunk->room));
	pool_give(POOL_CHUNK, chunk);
}

static void chunk_drop_first(struct sendq *queue)
{
	struct sendq_chunk *chunk = queue->first;

	queue->first = chunk->next;
	if (!queue->first)
		queue->last = NULL;
	if (chunk->pins > 0)
		chunk->left = true; /* and keeps `next`: a pin walks on over it */
	else
		chunk_free(chunk);
}

static struct segment *chunk_last_segment(const struct sendq_chunk *chunk)
{
	if (!chunk || chunk->segment_count == chunk->segment_first)
		return NULL;
	return chunk_segment(chunk, chunk->segment_count - 1u);
}

static void chunk_add_segment(struct sendq_chunk *chunk, struct segment segment)
{
	*chunk_segment(chunk, chunk->segment_count) = segment;
	chunk->segment_count++;
}

/*
 * How many bytes a copy can put into this chunk, joined to its last segment or in one of their own.
 */
static size_t chunk_copy_room(const struct sendq_chunk *chunk)
{
	if (!chunk)
		return 0;

	const struct segment *last = chunk_last_segment(chunk);
	size_t room = chunk_room(chunk);

	if (last && !last->payload)
		return room;
	return room > sizeof(struct segment) ? room - sizeof(struct segment) : 0;
}

static void chunk_copy(struct sendq_chunk *chunk, struct span bytes)
{
	struct segment *last = chunk_last_segment(chunk);
	uint8_t *target = chunk->room + chunk->bytes_used;

	memcpy(target, bytes.data, bytes.len);
	chunk->bytes_used = (uint16_t)(chunk->bytes_used + bytes.len);
	if (last && !last->payload)
		last->len += (uint32_t)bytes.len;
	else
		chunk_add_segment(chunk,
				  (struct segment){.data = target, .len = (uint32_t)bytes.len});
}

static int append_large(struct sendq *queue, struct span bytes)
{
	struct payload *payload = payload_copy(bytes);

	if (!payload)
		return -ENOMEM;

	int code = sendq_give_slice(
		queue, (struct payload_slice){.payload = payload, .len = (uint32_t)bytes.len});

	if (code)
		payload_put(payload);
	return code;
}

int sendq_append(struct sendq *queue, struct span bytes)
{
	if (bytes.len == 0)
		return 0;
	if (bytes.len > queue->bytes_max || queue->bytes > queue->bytes_max - bytes.len)
		return -ENOBUFS;
	if (bytes.len > COPY_MAX)
		return append_large(queue, bytes);

	struct sendq_chunk *chunk = queue->last;
	size_t here = chunk_copy_room(chunk);

	if (here > bytes.len)
		here = bytes.len;
	if (here < bytes.len && chunk_add(queue) < 0)
		return -ENOMEM;
	if (here > 0)
		chunk_copy(chunk, span_first(bytes, here));
	if (here < bytes.len)
		chunk_copy(queue->last, span_from(bytes, here));
	queue->bytes += bytes.len;
	return 0;
}

int sendq_append_secret(struct sendq *queue, struct span bytes)
{
	CHECK(bytes.len <= SENDQ_SECRET_MAX);
	if (bytes.len > queue->bytes_max || queue->bytes > queue->bytes_max - bytes.len)
		return -ENOBUFS;
	if (bytes.len == 0)
		return 0;
	if (chunk_add(queue) < 0)
		return -ENOMEM;
	queue->last->secret = true;
	chunk_copy(queue->last, bytes);
	queue->bytes += bytes.len;
	return 0;
}

int sendq_append_slice(struct sendq *queue, struct payload_slice slice)
{
	if (slice.len == 0)
		return 0;

	int code = sendq_give_slice(queue, slice);

	/*
	 * After, not before: the caller's own reference keeps the payload alive until this returns.
	 */
	if (code == 0)
		payload_get(slice.payload, 1);
	return code;
}

int sendq_give_slice(struct sendq *queue, struct payload_slice slice)
{
	CHECK(slice.offset <= slice.payload->len && slice.len <= slice.payload->len - slice.offset);
	if (slice.len == 0) {
		payload_put(slice.payload);
		return 0;
	}
	if (slice.len > queue->bytes_max || queue->bytes > queue->bytes_max - slice.len)
		return -ENOBUFS;
	if ((!queue->last || chunk_room(queue->last) < sizeof(struct segment)) &&
	    chunk_add(queue) < 0)
		return -ENOMEM;

	chunk_add_segment(queue->last, (struct segment){.payload = slice.payload,
							.data = slice.payload->data + slice.offset,
							.len = slice.len});
	queue->bytes += slice.len;
	return 0;
}

size_t sendq_gather(const struct sendq *queue, struct iovec *iov, size_t iov_max, size_t *bytes)
{
	size_t count = 0;

	*bytes = 0;
	for (const struct sendq_chunk *chunk = queue->first; chunk; chunk = chunk->next) {
		for (uint32_t i = chunk->segment_first; i < chunk->segment_count; i++) {
			const struct segment *segment = chunk_segment(chunk, i);

			if (count == iov_max)
				return count;
			iov[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)segment->data,
						      .iov_len = segment->len};
			*bytes += segment->len;
		}
	}
	return count;
}

size_t sendq_slice_bytes(const struct sendq *queue, size_t iov_count)
{
	size_t bytes = 0;

	for (const struct sendq_chunk *chunk = queue->first; chunk; chunk = chunk->next) {
		for (uint32_t i = chunk->segment_first; i < chunk->segment_count; i++) {
			const struct segment *segment = chunk_segment(chunk, i);

			if (iov_count-- == 0)
				return bytes;
			if (segment->payload)
				bytes += segment->len;
		}
	}
	return bytes;
}

/* References on one payload that are given up in one step. */
struct put_batch {
	struct payload *payload;
	uint32_t count;
};

static void put_later(struct put_batch *batch, struct payload *payload)
{
	if (batch->payload != payload) {
		payload_put_many(batch->payload, batch->count);
		*batch = (struct put_batch){.payload = payload};
	}
	batch->count++;
}

/* Gives up the payloads of what has been sent. */
static void chunk_release(struct sendq_chunk *chunk, struct put_batch *batch)
{
	for (; chunk->segment_held < chunk->segment_first; chunk->segment_held++) {
		struct segment *segment = chunk_segment(chunk, chunk->segment_held);

		if (segment->payload)
			put_later(batch, segment->payload);
	}
}

/* Takes `bytes` off the front of the chunk. Returns how many it did not have. */
static size_t chunk_advance(struct sendq_chunk *chunk, size_t bytes, struct put_batch *batch)
{
	while (chunk->segment_first < chunk->segment_count) {
		struct segment *segment = chunk_segment(chunk, chunk->segment_first);

		if (bytes < segment->len) {
			segment->data += bytes;
			segment->len -= (uint32_t)bytes;
			bytes = 0;
			break;
		}
		bytes -= segment->len;
		chunk->segment_first++;
	}
	if (chunk->pins == 0)
		chunk_release(chunk, batch);
	return bytes;
}

void sendq_advance(struct sendq *queue, size_t bytes)
{
	struct put_batch batch = {0};

	CHECK(bytes <= queue->bytes);
	queue->bytes -= bytes;
	while (queue->first) {
		bytes = chunk_advance(queue->first, bytes, &batch);
		if (queue->first->segment_first < queue->first->segment_count)
			break;
		chunk_drop_first(queue);
	}
	payload_put_many(batch.payload, batch.count);
	CHECK(bytes == 0 && (queue->bytes == 0) == (queue->first == NULL));
}

/* ---- pins ---- */

struct sendq_pin sendq_pin(struct sendq *queue, size_t iov_count)
{
	struct sendq_pin pin = {.first = queue->first};
	size_t seen = 0;

	CHECK(iov_count > 0);
	for (struct sendq_chunk *chunk = queue->first; chunk && seen < iov_count;
	     chunk = chunk->next) {
		CHECK(chunk->pins < SENDQ_PINS_MAX);
		chunk->pins++;
		pin.chunk_count++;
		seen += chunk->segment_count - chunk->segment_first;
	}
	CHECK(seen >= iov_count);
	return pin;
}

void sendq_unpin(struct sendq_pin pin)
{
	struct put_batch batch = {0};
	struct sendq_chunk *chunk = pin.first, *next;

	for (uint32_t i = 0; i < pin.chunk_count; i++, chunk = next) {
		/* The last one's may be gone; it is not followed. */
		next = chunk->next;
		CHECK(chunk->pins > 0);
		if (--chunk->pins > 0)
			continue;
		chunk_release(chunk, &batch);
		if (chunk->left)
			chunk_free(chunk);
	}
	payload_put_many(batch.payload, batch.count);
}

void sendq_finish(struct sendq *queue)
{
	sendq_advance(queue, queue->bytes);
}
