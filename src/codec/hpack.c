#include "codec/hpack.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>

/* The inflater under a name of ours. */
static nghttp2_hd_inflater *inflater_of(struct hpack *hpack)
{
	return (nghttp2_hd_inflater *)hpack;
}

int hpack_create(struct hpack **hpack)
{
	nghttp2_hd_inflater *inflater;

	if (nghttp2_hd_inflate_new(&inflater) != 0)
		return -ENOMEM;
	*hpack = (struct hpack *)inflater;
	return 0;
}

void hpack_destroy(struct hpack *hpack)
{
	if (hpack)
		nghttp2_hd_inflate_del(inflater_of(hpack));
}

int hpack_decode(struct hpack *hpack, struct span block, hpack_field_fn *field, void *context)
{
	for (;;) {
		nghttp2_nv pair;
		int flags = 0;
		ssize_t taken = nghttp2_hd_inflate_hd2(inflater_of(hpack), &pair, &flags,
						       block.data, block.len, 1);

		if (taken < 0)
			return taken == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
		block = span_from(block, (size_t)taken);
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			field(context, span_make(pair.name, pair.namelen),
			      span_make(pair.value, pair.valuelen));
		if (flags & NGHTTP2_HD_INFLATE_FINAL) {
			nghttp2_hd_inflate_end_headers(inflater_of(hpack));
			return 0;
		}
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && block.len == 0)
			return -EPROTO;
	}
}

int hpack_read(struct span block, hpack_field_fn *field, void *context)
{
	struct hpack *hpack;
	int code = hpack_create(&hpack);

	if (code)
		return code;
	code = hpack_decode(hpack, block, field, context);
	hpack_destroy(hpack);
	return code;
}

/* An integer behind a prefix of `bits` (RFC 7541 §5.1). Returns false at the end of the block. */
static bool take_integer(struct span *block, unsigned bits, size_t *value)
{
	size_t mask = ((size_t)1 << bits) - 1;

	if (block->len == 0)
		return false;
	*value = block->data[0] & mask;
	*block = span_from(*block, 1);
	if (*value < mask)
		return true;
	for (unsigned shift = 0; block->len > 0 && shift < 28; shift += 7) {
		uint8_t byte = block->data[0];

		*block = span_from(*block, 1);
		*value += (size_t)(byte & 127) << shift;
		if (!(byte & 128))
			return true;
	}
	return false;
}

static bool skip_text(struct span *block)
{
	size_t len;

	if (!take_integer(block, 7, &len) || len > block->len)
		return false;
	*block = span_from(*block, len);
	return true;
}

bool hpack_is_neutral(struct span block)
{
	while (block.len > 0) {
		uint8_t kind = block.data[0]; /* NOLINT: a span without a pointer has no length */
		size_t index;

		if (kind & 0x80) { /* a field of the table */
			if (!take_integer(&block, 7, &index))
				return false;
		} else if (kind & 0x60) { /* into the table, or the table's size */
			return false;
		} else if (!take_integer(&block, 4, &index) || (index == 0 && !skip_text(&block)) ||
			   !skip_text(&block)) {
			return false;
		}
	}
	return true;
}
