#include "codec/h2_internal.h"

#include <stdlib.h>

#define FIELDS_INLINE                                                                              \
	32 /* header fields converted without memory; our own responses have fewer                 \
	    */
#define QUEUE_KEEP_SLICES 32 /* a grown queue up to this size stays when it runs empty */
#define FRAME_HEAD_BYTES  9  /* RFC 9113 §4.1 */

/* ---- the queue: a ring of slices, each holding a reference ---- */

static uint32_t queue_cap(const struct h2_stream *stream)
{
	return stream->grown_queue ? stream->queue_cap : H2_QUEUE_SLICES;
}

static struct payload_slice *queue_at(struct h2_stream *stream, uint32_t index)
{
	struct payload_slice *queue =
		stream->grown_queue ? stream->grown_queue : stream->inline_queue;

	return &queue[(stream->queue_first + index) % queue_cap(stream)];
}

static int queue_grow(struct h2_stream *stream)
{
	uint32_t cap = queue_cap(stream) * 2;

	if (cap > H2_QUEUE_SLICES_MAX)
		return -ENOBUFS;

	struct payload_slice *grown = malloc(cap * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	for (uint32_t i = 0; i < stream->queue_count; i++)
		grown[i] = *queue_at(stream, i);
	free(stream->grown_queue);
	stream->grown_queue = grown;
	stream->queue_cap = cap;
	stream->queue_first = 0;
	return 0;
}

static void queue_shrink(struct h2_stream *stream)
{
	free(stream->grown_queue);
	stream->grown_queue = NULL;
	stream->queue_cap = 0;
	stream->queue_first = 0;
}

/* The first `bytes` bytes of the first slice have gone, of which more is left. */
static void queue_cut_front(struct h2_stream *stream, uint32_t bytes)
{
	struct payload_slice *front = queue_at(stream, 0);

	stream->queue_bytes -= bytes;
	stream->front_partial = true;
	front->offset += bytes;
	front->len -= bytes;
}

/* The first slice has gone, its reference with it. */
static void queue_pop_front(struct h2_stream *stream)
{
	stream->queue_bytes -= queue_at(stream, 0)->len;
	stream->front_partial = false;
	stream->queue_first = (stream->queue_first + 1) % queue_cap(stream);
	stream->queue_count--;
	if (stream->queue_count == 0 && stream->queue_cap > QUEUE_KEEP_SLICES)
		queue_shrink(stream);
}

/* Gives back slices from the end until `keep_bytes` are left; the one across the border is
 * shortened. */
static size_t queue_drop(struct h2_stream *stream, size_t keep_bytes)
{
	size_t before = stream->queue_bytes;

	while (stream->queue_bytes > keep_bytes) {
		struct payload_slice *last = queue_at(stream, stream->queue_count - 1);
		size_t excess = stream->queue_bytes - keep_bytes;

		if (excess < last->len) {
			last->len -= (uint32_t)excess;
			stream->queue_bytes = keep_bytes;
			break;
		}
		stream->queue_bytes -= last->len;
		payload_put(last->payload);
		stream->queue_count--;
	}
	if (stream->queue_count == 0)
		stream->front_partial = false;
	return before - stream->queue_bytes;
}

/* Everything the stream holds for sending. */
static void release_outgoing(struct h2_stream *stream)
{
	queue_drop(stream, 0);
	queue_shrink(stream);
	free(stream->trailers);
	stream->trailers = NULL;
	stream->fixed_count = 0;
}

/* ---- header fields ---- */

/* For fields that live as long as the process. */
#define FIXED_FIELD (NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)

/* Another value on each call: in the peer's table it would push out what comes again, and both
 * sides would look through what has become of it. */
static bool is_unique(struct span name)
{
	return name.len == sizeof("x-request-id") - 1 && name.data[0] == 'x' &&
	       span_equal(name, SPAN("x-request-id"));
}

static void fields_from_headers(nghttp2_nv *fields, const struct h2_header *headers, size_t count,
				uint8_t flags)
{
	/* nghttp2 never writes to them; its struct just has no const */
	for (size_t i = 0; i < count; i++)
		fields[i] = (nghttp2_nv){
			.name = (uint8_t *)headers[i].name.data,
			.value = (uint8_t *)headers[i].value.data,
			.namelen = headers[i].name.len,
			.valuelen = headers[i].value.len,
			.flags = is_unique(headers[i].name)
					 ? (uint8_t)(flags | NGHTTP2_NV_FLAG_NO_INDEX)
					 : flags,
		};
}

/* Returns `inline_fields` or memory that fields_free gives back; NULL without memory. */
static nghttp2_nv *fields_make(nghttp2_nv inline_fields[FIELDS_INLINE],
			       const struct h2_header *headers, size_t count)
{
	CHECK(count > 0); /* at least the pseudo-headers */

	nghttp2_nv *fields =
		count <= FIELDS_INLINE ? inline_fields : calloc(count, sizeof(*fields));

	if (fields)
		fields_from_headers(fields, headers, count, NGHTTP2_NV_FLAG_NONE);
	return fields;
}

static void fields_free(nghttp2_nv inline_fields[FIELDS_INLINE], nghttp2_nv *fields)
{
	if (fields != inline_fields)
		free(fields);
}

static uint8_t *copy_field_part(uint8_t *at, uint8_t **part, size_t len)
{
	if (len > 0)
		memcpy(at, *part, len);
	*part = at;
	return at + len;
}

static struct h2_trailers *trailers_make(const struct h2_header *headers, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name.len + headers[i].value.len;

	struct h2_trailers *trailers =
		malloc(sizeof(*trailers) + count * sizeof(nghttp2_nv) + bytes);

	if (!trailers)
		return NULL;
	trailers->count = count;
	fields_from_headers(trailers->fields, headers, count, NGHTTP2_NV_FLAG_NONE);

	uint8_t *at = (uint8_t *)&trailers->fields[count];

	for (size_t i = 0; i < count; i++) {
		at = copy_field_part(at, &trailers->fields[i].name, trailers->fields[i].namelen);
		at = copy_field_part(at, &trailers->fields[i].value, trailers->fields[i].valuelen);
	}
	return trailers;
}

/* ---- who has something to send ---- */

static void set_wants(struct h2_stream *stream, bool wants)
{
	if (stream->wants == wants)
		return;
	stream->wants = wants;
	stream->session->wanting_count += wants ? 1u : -1u;
}

/*
 * Whether nghttp2 need not be asked for another frame now. A stream that is left alone stays active
 * in nghttp2, which spares it the deferring and resuming with every frame; not being counted, it
 * is not asked before there is something.
 */
static bool is_all_out(const struct h2_session *session)
{
	return session->wanting_count == 0 &&
	       nghttp2_session_get_outbound_queue_size(session->framing) == 0;
}

/* ---- life ---- */

void h2_stream_open(struct h2_stream *stream, struct h2_session *session, int32_t id)
{
	CHECK(!stream->session);
	stream->session = session;
	stream->id = id;
	list_push_back(&session->streams, &stream->link);
	session->stream_count++;
}

void h2_stream_close(struct h2_stream *stream, uint32_t code)
{
	struct h2_session *session = stream->session;
	bool is_whole =
		session->options.role == H2_SERVER ? stream->local_closed : stream->remote_ended;

	/* the peer's end may have overtaken our reset: the owner hears what it asked for all the
	 * same */
	if (stream->is_reset)
		code = stream->reset_code;
	release_outgoing(stream);
	set_wants(stream, false);
	/* what the owner has not dealt with would be missing from the connection's window for ever
	 */
	if (stream->unconsumed_bytes > 0)
		nghttp2_session_consume_connection(session->framing, stream->unconsumed_bytes);
	stream->unconsumed_bytes = 0;
	if (session->reading == stream)
		session->reading = NULL;
	list_remove(&stream->link);
	session->stream_count--;
	stream->session = NULL;
	stream->local_closed = true;
	session->handler->closed(stream, code == H2_NO_ERROR && !is_whole ? H2_CANCEL : code);
}

static bool can_send(const struct h2_stream *stream)
{
	return stream->session && !stream->is_reset && !stream->local_closed && !stream->finish;
}

static bool has_trailers(const struct h2_stream *stream)
{
	return stream->trailers || stream->fixed_count > 0;
}

static int submit_fixed_trailers(struct h2_stream *stream)
{
	nghttp2_nv fields[FIELDS_INLINE];
	size_t count = stream->fixed_count;

	fields_from_headers(fields, stream->fixed_trailers, count, FIXED_FIELD);
	stream->fixed_count = 0;
	stream->local_closed = true;
	return nghttp2_submit_trailer(stream->session->framing, stream->id, fields, count);
}

static int submit_trailers(struct h2_stream *stream)
{
	if (stream->fixed_count > 0)
		return submit_fixed_trailers(stream);

	struct h2_trailers *trailers = stream->trailers;
	int result = nghttp2_submit_trailer(stream->session->framing, stream->id, trailers->fields,
					    trailers->count);

	free(trailers);
	stream->trailers = NULL;
	stream->local_closed = true;
	return result;
}

/*
 * Trailers need no window, but nghttp2 asks for data only when there is one. A server's go out
 * directly when nothing is queued before them; a client's request headers may still wait, and
 * trailers would overtake them.
 */
static int try_direct_trailers(struct h2_stream *stream)
{
	if (!stream->finish || !has_trailers(stream) || !stream->responded ||
	    stream->queue_count > 0)
		return 0;
	return h2_code_from_framing(submit_trailers(stream));
}

int h2_respond_continue(struct h2_stream *stream)
{
	const nghttp2_nv status = {
		.name = (uint8_t *)(uintptr_t) ":status",
		.value = (uint8_t *)(uintptr_t) "100",
		.namelen = 7,
		.valuelen = 3,
		.flags = NGHTTP2_NV_FLAG_NONE,
	};

	if (!stream->session || stream->is_reset || stream->responded)
		return -EPIPE;

	int32_t result = nghttp2_submit_headers(stream->session->framing, NGHTTP2_FLAG_NONE,
						stream->id, NULL, &status, 1, NULL);

	return h2_code_from_framing(result);
}

int h2_respond_fixed(struct h2_stream *stream, const struct h2_header *headers, size_t count)
{
	nghttp2_nv fields[FIELDS_INLINE];
	nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = h2_stream_read};

	if (!stream->session || stream->is_reset)
		return -EPIPE;
	CHECK(stream->session->options.role == H2_SERVER && !stream->responded);
	CHECK(count > 0 && count <= FIELDS_INLINE);
	fields_from_headers(fields, headers, count, FIXED_FIELD);

	int result = nghttp2_submit_response(stream->session->framing, stream->id, fields, count,
					     &provider);

	if (result)
		return h2_code_from_framing(result);
	stream->responded = true;
	return try_direct_trailers(stream);
}

int h2_respond(struct h2_stream *stream, const struct h2_header *headers, size_t count,
	       bool end_stream)
{
	nghttp2_nv inline_fields[FIELDS_INLINE];
	nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = h2_stream_read};

	if (!stream->session || stream->is_reset)
		return -EPIPE;
	CHECK(stream->session->options.role == H2_SERVER && !stream->responded);

	nghttp2_nv *fields = fields_make(inline_fields, headers, count);

	if (!fields)
		return -ENOMEM;

	int result = nghttp2_submit_response(stream->session->framing, stream->id, fields, count,
					     end_stream ? NULL : &provider);

	fields_free(inline_fields, fields);
	if (result)
		return h2_code_from_framing(result);
	stream->responded = true;
	stream->local_closed = end_stream;
	set_wants(stream, !end_stream);
	return try_direct_trailers(stream);
}

int h2_request(struct h2_session *session, struct h2_stream *stream,
	       const struct h2_header *headers, size_t count, bool end_stream)
{
	nghttp2_nv inline_fields[FIELDS_INLINE];
	nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = h2_stream_read};

	CHECK(session->options.role == H2_CLIENT && !stream->session);
	if (h2_request_room(session) == 0)
		return -EAGAIN;

	nghttp2_nv *fields = fields_make(inline_fields, headers, count);

	if (!fields)
		return -ENOMEM;

	int32_t id = nghttp2_submit_request(session->framing, NULL, fields, count,
					    end_stream ? NULL : &provider, stream);

	fields_free(inline_fields, fields);
	if (id == NGHTTP2_ERR_STREAM_ID_NOT_AVAILABLE)
		return -EAGAIN;
	if (id < 0)
		return h2_code_from_framing(id);
	h2_stream_open(stream, session, id);
	stream->local_closed = end_stream;
	set_wants(stream, !end_stream);
	return 0;
}

/* ---- sending ---- */

int h2_stream_push(struct h2_stream *stream, struct payload_slice slice)
{
	int code;

	/* Before, not after: what is given may be gone by then. */
	payload_get(slice.payload, 1);
	code = h2_stream_give(stream, slice);
	if (code)
		payload_put(slice.payload);
	return code;
}

int h2_stream_give(struct h2_stream *stream, struct payload_slice slice)
{
	if (!can_send(stream))
		return -EPIPE;
	if (slice.len == 0) {
		payload_put(slice.payload);
		return 0;
	}
	if (stream->queue_count == queue_cap(stream)) {
		int error = queue_grow(stream);

		if (error)
			return error;
	}
	*queue_at(stream, stream->queue_count) = slice;
	stream->queue_count++;
	stream->queue_bytes += slice.len;
	h2_stream_resume(stream);
	return 0;
}

void h2_stream_resume(struct h2_stream *stream)
{
	if (!stream->session)
		return;
	set_wants(stream, true);
	stream->pulled_dry = false;
	if (!stream->deferred)
		return;
	stream->deferred = false;

	/* its only failure is a stream that ends anyway, and it never allocates */
	(void)nghttp2_session_resume_data(stream->session->framing, stream->id);
}

/* The queue's end is known, and what comes behind it. */
static int finish(struct h2_stream *stream)
{
	stream->finish = true;

	int error = try_direct_trailers(stream);

	if (!stream->local_closed)
		h2_stream_resume(stream);
	return error;
}

int h2_stream_finish(struct h2_stream *stream, const struct h2_header *trailers, size_t count)
{
	if (!can_send(stream))
		return -EPIPE;
	if (count > 0) {
		stream->trailers = trailers_make(trailers, count);
		if (!stream->trailers)
			return -ENOMEM;
	}
	return finish(stream);
}

int h2_stream_finish_fixed(struct h2_stream *stream, const struct h2_header *trailers, size_t count)
{
	CHECK(count > 0 && count <= FIELDS_INLINE);
	if (!can_send(stream))
		return -EPIPE;
	stream->fixed_trailers = trailers;
	stream->fixed_count = count;
	return finish(stream);
}

size_t h2_stream_drop_queue(struct h2_stream *stream, size_t keep_bytes)
{
	size_t dropped = queue_drop(stream, keep_bytes);

	/* without memory for it the stream ends: its peer must not wait for trailers that will not
	 * come */
	if (stream->session && try_direct_trailers(stream) != 0)
		h2_stream_reset(stream, H2_INTERNAL_ERROR);
	return dropped;
}

void h2_stream_reset(struct h2_stream *stream, uint32_t code)
{
	if (!stream->session || stream->is_reset)
		return;
	if (code == H2_NO_ERROR && (stream->finish || stream->local_closed) &&
	    !stream->local_ended) {
		stream->reset_when_ended = true;
		return;
	}
	stream->is_reset = true;
	stream->reset_code = code;
	release_outgoing(stream);

	int result = nghttp2_submit_rst_stream(stream->session->framing, NGHTTP2_FLAG_NONE,
					       stream->id, code);

	/* the stream could not be ended, so the connection is: nobody would ever hear of it
	 * otherwise */
	if (result) {
		stream->session->is_broken = true;
		nghttp2_session_terminate_session(stream->session->framing, NGHTTP2_INTERNAL_ERROR);
	}
}

void h2_consume(struct h2_stream *stream, size_t bytes)
{
	if (!stream->session || bytes == 0)
		return;
	CHECK(bytes <= stream->unconsumed_bytes);
	stream->unconsumed_bytes -= bytes;
	if (nghttp2_session_consume(stream->session->framing, stream->id, bytes) != 0)
		h2_stream_reset(stream, H2_INTERNAL_ERROR);
}

/* ---- nghttp2 asks for data ---- */

ssize_t h2_stream_read(nghttp2_session *framing, int32_t stream_id, uint8_t *buf, size_t length,
		       uint32_t *data_flags, nghttp2_data_source *source, void *user_data)
{
	struct h2_stream *stream = source->ptr;
	struct h2_session *session = user_data;

	(void)framing, (void)stream_id, (void)buf;
	if (stream->queue_count == 0 && can_send(stream))
		stream->pulled_dry = !session->handler->pull || !session->handler->pull(stream);

	bool is_over = stream->is_reset || stream->local_closed;

	if (is_over || (stream->queue_count == 0 && !stream->finish)) {
		set_wants(stream, false);
		stream->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}

	size_t bytes = stream->queue_bytes < length ? stream->queue_bytes : length;

	if (length < H2_SMALL_DATA_BYTES && bytes < stream->queue_bytes)
		h2_note_odd(session, H2_ODD_SMALL_WINDOW);
	*data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (bytes < stream->queue_bytes || !stream->finish)
		return (ssize_t)bytes;
	*data_flags |= NGHTTP2_DATA_FLAG_EOF;
	stream->local_closed = true;
	if (has_trailers(stream)) {
		*data_flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (submit_trailers(stream) != 0)
			return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	return (ssize_t)bytes;
}

/* Hands out the first slice's last part, and our reference with it. */
static int send_rest_of_slice(struct h2_stream *stream, const struct sink *sink)
{
	struct payload_slice part = *queue_at(stream, 0);
	int code = sink->give ? sink->give(sink->context, part) : sink->slice(sink->context, part);

	if (code)
		return code;
	queue_pop_front(stream);
	if (!sink->give)
		payload_put(part.payload);
	return 0;
}

/* Hands out `length` bytes of the queue. */
static int send_slices(struct h2_stream *stream, const struct sink *sink, size_t length)
{
	int code = 0;

	while (code == 0 && length > 0) {
		struct payload_slice part = *queue_at(stream, 0);

		if (part.len <= length) {
			length -= part.len;
			code = send_rest_of_slice(stream, sink);
			continue;
		}
		part.len = (uint32_t)length;
		code = sink->slice(sink->context, part);
		if (code == 0)
			queue_cut_front(stream, part.len);
		length = 0;
	}
	return code;
}

int h2_stream_send(nghttp2_session *framing, nghttp2_frame *frame, const uint8_t *head,
		   size_t length, nghttp2_data_source *source, void *user_data)
{
	struct h2_stream *stream = source->ptr;
	struct h2_session *session = user_data;
	const struct sink *sink = session->sink;

	(void)framing;
	/* we never asked for padding, and what h2_stream_read promised is still queued */
	CHECK(frame->data.padlen == 0 && length <= stream->queue_bytes);
	session->sink_error = sink->bytes(sink->context, span_make(head, FRAME_HEAD_BYTES));
	if (!session->sink_error)
		session->sink_error = send_slices(stream, sink, length);
	if (session->sink_error)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (stream->queue_count == 0 && (stream->pulled_dry || stream->local_closed))
		set_wants(stream, false);
	/* behind an END_STREAM comes what nghttp2 and on_frame_send make of it */
	if (!stream->local_closed && is_all_out(session))
		return NGHTTP2_ERR_PAUSE;
	return sink->has_room(sink->context) ? 0 : NGHTTP2_ERR_PAUSE;
}
