#include "codec/hpack.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>

static int read_fields(nghttp2_hd_inflater *inflater, struct span block, hpack_field_fn *field,
		       void *context)
{
	for (;;) {
		nghttp2_nv pair;
		int flags = 0;
		ssize_t taken = nghttp2_hd_inflate_hd2(inflater, &pair, &flags, block.data,
						       block.len, 1);

		if (taken < 0)
			return taken == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
		block = span_from(block, (size_t)taken);
		if (flags & NGHTTP2_HD_INFLATE_EMIT)
			field(context, span_make(pair.name, pair.namelen),
			      span_make(pair.value, pair.valuelen));
		if (flags & NGHTTP2_HD_INFLATE_FINAL)
			return 0;
		if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && block.len == 0)
			return -EPROTO;
	}
}

int hpack_read(struct span block, hpack_field_fn *field, void *context)
{
	nghttp2_hd_inflater *inflater;

	if (nghttp2_hd_inflate_new(&inflater) != 0)
		return -ENOMEM;

	int code = read_fields(inflater, block, field, context);

	nghttp2_hd_inflate_del(inflater);
	return code;
}
