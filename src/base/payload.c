#include "base/payload.h"

#include "base/check.h"

#include <stdlib.h>

struct payload *payload_create(size_t len)
{
	if (len > PAYLOAD_BYTES_MAX)
		return NULL;

	struct payload *payload = malloc(sizeof(*payload) + len);

	if (!payload)
		return NULL;
	atomic_init(&payload->count, 1);
	payload->len = (uint32_t)len;
	payload->messages = 1;
	return payload;
}

struct payload *payload_trim(struct payload *payload)
{
	struct payload *trimmed = realloc(payload, sizeof(*payload) + payload->len);

	return trimmed ? trimmed : payload;
}

struct payload *payload_copy(struct span bytes)
{
	struct payload *payload = payload_create(bytes.len);

	if (payload && bytes.len > 0)
		memcpy(payload->data, bytes.data, bytes.len);
	return payload;
}

void payload_get(struct payload *payload, uint32_t count)
{
	/* Relaxed: the caller holds a reference, so nothing is freed; nothing is published. */
	uint32_t before = atomic_fetch_add_explicit(&payload->count, count, memory_order_relaxed);

	CHECK(before > 0 && before <= UINT32_MAX - count);
}

void payload_put_many(struct payload *payload, uint32_t count)
{
	if (!payload || count == 0)
		return;

	/*
	 * Release: our reads of the bytes come before the free of whoever is last. Acquire: if that
	 * is us, theirs come before ours. One read-modify-write does both, because ThreadSanitizer
	 * does not understand fences.
	 */
	uint32_t before = atomic_fetch_sub_explicit(&payload->count, count, memory_order_acq_rel);

	CHECK(before >= count);
	if (before == count)
		free(payload);
}
