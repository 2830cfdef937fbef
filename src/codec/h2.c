#include "codec/h2_internal.h"

#include "base/fetch.h"

#include <stdlib.h>

#define MAX_SETTINGS	 32  /* entries of one SETTINGS frame; nghttp2's default */
#define MAX_OUTBOUND_ACK 256 /* PING and SETTINGS answers that a peer may leave unread */
/*
 * Frames of one header block: with 16 KiB each beyond the default header limit. For a larger limit
 * as many full ones as it takes, each twice: nghttp2 counts one whose head comes in two parts so.
 */
#define MIN_CONTINUATIONS  8
#define FULL_FRAME_BYTES   16384 /* RFC 9113 §6.5.2: a peer may send no larger ones unasked */
#define HEADER_LIST_EXCESS 4 /* times its limit: the connection ends */
#define FIELD_OVERHEAD_BYTES                                                                       \
	32 /* RFC 9113 §10.5.1: SETTINGS_MAX_HEADER_LIST_SIZE counts this for each field */
#define STREAM_ID_MAX INT32_MAX

int h2_code_from_framing(int result)
{
	if (result == 0)
		return 0;
	return result == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
}

void h2_note_odd(struct h2_session *session, enum h2_oddity oddity)
{
	if (session->handler->odd)
		session->handler->odd(session, oddity);
}

static struct h2_stream *stream_of(nghttp2_session *framing, int32_t stream_id)
{
	return nghttp2_session_get_stream_user_data(framing, stream_id);
}

/* The stream if it still takes events, else NULL: refused, reset. */
static struct h2_stream *live_stream_of(nghttp2_session *framing, int32_t stream_id)
{
	struct h2_stream *stream = stream_of(framing, stream_id);

	return stream && stream->session && !stream->is_reset ? stream : NULL;
}

/* ---- header blocks ---- */

/*
 * nghttp2 decodes a header block for a stream that is over and tells nobody. A stream's number is
 * known from here on, refused or not.
 */
static int on_begin_frame(nghttp2_session *framing, const nghttp2_frame_hd *head, void *user_data)
{
	struct h2_session *session = user_data;

	if (head->type != NGHTTP2_HEADERS)
		return 0;
	if (head->stream_id > session->last_stream_id)
		session->last_stream_id = head->stream_id;
	else if (!stream_of(framing, head->stream_id))
		h2_note_odd(session, H2_ODD_LATE_HEADERS);
	return 0;
}

/*
 * Streams of one connection take turns, frame by frame, whatever their client says: one that always
 * has something to send must not hold up the others. RFC 9218 §4.2.
 */
static int share_in_turn(nghttp2_session *framing, int32_t id)
{
	const nghttp2_extpri turns = {.urgency = NGHTTP2_EXTPRI_DEFAULT_URGENCY, .inc = 1};

	return nghttp2_session_change_extpri_stream_priority(framing, id, &turns, 1) == 0
		       ? 0
		       : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *framing, const nghttp2_frame *frame, void *user_data)
{
	struct h2_session *session = user_data;
	int32_t id = frame->hd.stream_id;
	struct h2_stream *stream = stream_of(framing, id);

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	session->reading = stream;
	if (stream) {
		stream->header_bytes = 0;
		stream->status = 0;
		return 0;
	}
	if (frame->headers.cat != NGHTTP2_HCAT_REQUEST)
		return 0;
	stream = session->has_said_last ? NULL : session->handler->opened(session, id);
	if (stream) {
		h2_stream_open(stream, session, id);
		nghttp2_session_set_stream_user_data(framing, id, stream);
		session->reading = stream;
		return share_in_turn(framing, id);
	}
	/* the failure code makes nghttp2 decode the rest of the block without telling us, so that
	 * HPACK stays in step */
	if (!session->has_said_last)
		h2_note_odd(session, H2_ODD_REFUSED);
	if (nghttp2_submit_rst_stream(framing, NGHTTP2_FLAG_NONE, id, H2_REFUSED_STREAM) != 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/*
 * The stream is reset, and the rest decoded, so that HPACK stays in step; but not more of it than
 * an honest mistake has: a byte of the block may stand for the largest field of the table.
 */
static int header_list_over(struct h2_stream *stream, uint64_t bytes)
{
	struct h2_session *session = stream->session;
	bool is_first = stream->header_bytes <= session->options.max_header_list_bytes;

	stream->header_bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
	if (is_first) {
		h2_stream_reset(stream, H2_ENHANCE_YOUR_CALM);
		h2_note_odd(session, H2_ODD_HEADER_LIST);
	}
	session->is_bombed = bytes / HEADER_LIST_EXCESS > session->options.max_header_list_bytes;
	return session->is_bombed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_header(nghttp2_session *framing, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *user_data)
{
	struct h2_session *session = user_data;
	struct h2_stream *stream = session->reading;
	struct span name_span = span_make(name, name_len), value_span = span_make(value, value_len);
	uint64_t status;

	(void)flags;
	if (!stream || stream->id != frame->hd.stream_id)
		stream = stream_of(framing, frame->hd.stream_id);
	if (!stream || !stream->session)
		return 0;

	uint64_t bytes =
		(uint64_t)stream->header_bytes + name_len + value_len + FIELD_OVERHEAD_BYTES;

	if (bytes > session->options.max_header_list_bytes)
		return header_list_over(stream, bytes);
	stream->header_bytes = (uint32_t)bytes;
	if (stream->is_reset)
		return 0;
	/* nghttp2 has checked that it is three digits */
	if (span_equal(name_span, SPAN(":status")) && span_to_uint64(value_span, &status))
		stream->status = (uint16_t)status;

	int code = session->handler->header(stream, name_span, value_span);

	if (code == 0)
		return stream->is_reset ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE : 0;
	h2_stream_reset(stream, (uint32_t)code);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static enum h2_headers_kind headers_kind(struct h2_stream *stream, const nghttp2_frame *frame)
{
	if (stream->session->options.role == H2_SERVER)
		return frame->headers.cat == NGHTTP2_HCAT_REQUEST ? H2_HEADERS_REQUEST
								  : H2_HEADERS_TRAILERS;
	if (stream->has_final_headers)
		return H2_HEADERS_TRAILERS;
	if (stream->status / 100 == 1)
		return H2_HEADERS_INFORMATIONAL;
	stream->has_final_headers = true;
	return H2_HEADERS_RESPONSE;
}

/* ---- frames in ---- */

static void stream_ended(struct h2_stream *stream)
{
	const struct h2_handler *handler = stream->session->handler;

	if (!stream->is_reset)
		handler->ended(stream);
}

static void headers_received(nghttp2_session *framing, const nghttp2_frame *frame)
{
	struct h2_stream *stream = live_stream_of(framing, frame->hd.stream_id);
	bool is_end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (!stream)
		return;
	stream->remote_ended = is_end;
	stream->session->handler->headers_done(stream, headers_kind(stream, frame), is_end);
	if (is_end)
		stream_ended(stream);
}

static int on_frame_recv(nghttp2_session *framing, const nghttp2_frame *frame, void *user_data)
{
	struct h2_session *session = user_data;
	const struct h2_handler *handler = session->handler;
	struct h2_stream *stream;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		headers_received(framing, frame);
		break;
	case NGHTTP2_DATA:
		stream = live_stream_of(framing, frame->hd.stream_id);
		if (stream && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
			stream->remote_ended = true;
			stream_ended(stream);
		}
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK) {
			if (handler->ping_acked)
				handler->ping_acked(session, frame->ping.opaque_data);
		} else if (handler->pinged) {
			handler->pinged(session);
		}
		break;
	case NGHTTP2_SETTINGS:
		if (!(frame->hd.flags & NGHTTP2_FLAG_ACK) && handler->settings)
			handler->settings(session);
		break;
	case NGHTTP2_GOAWAY:
		session->is_leaving = true;
		if (handler->goaway)
			handler->goaway(session, frame->goaway.last_stream_id,
					frame->goaway.error_code);
		break;
	}
	return 0;
}

static int on_data_chunk(nghttp2_session *framing, uint8_t flags, int32_t stream_id,
			 const uint8_t *data, size_t len, void *user_data)
{
	struct h2_session *session = user_data;
	struct h2_stream *stream = live_stream_of(framing, stream_id);

	(void)flags;
	if (!stream)
		return nghttp2_session_consume(framing, stream_id, len)
			       ? NGHTTP2_ERR_CALLBACK_FAILURE
			       : 0;
	stream->unconsumed_bytes += len;
	session->handler->data(stream, span_make(data, len));
	return 0;
}

static int on_stream_close(nghttp2_session *framing, int32_t stream_id, uint32_t code,
			   void *user_data)
{
	struct h2_stream *stream = stream_of(framing, stream_id);

	(void)user_data;
	if (stream && stream->session) {
		nghttp2_session_set_stream_user_data(framing, stream_id, NULL);
		h2_stream_close(stream, code);
	}
	return 0;
}

/* nghttp2 resets it, of its own accord. Told once. */
static void stream_failed(struct h2_session *session, int32_t id)
{
	struct h2_stream *stream = live_stream_of(session->framing, id);

	if (!stream || stream->is_faulted)
		return;
	stream->is_faulted = true;
	h2_note_odd(session, H2_ODD_STREAM_ERROR);
}

/*
 * Told at once where nghttp2 tells us: the reset may never leave, and until it does nothing bounds
 * how many a client's next bytes bring about. Other errors are the connection's.
 */
static int on_invalid_frame(nghttp2_session *framing, const nghttp2_frame *frame, int error,
			    void *user_data)
{
	int32_t id = frame->hd.stream_id;

	(void)framing;
	if (error == NGHTTP2_ERR_REFUSED_STREAM)
		h2_note_odd(user_data, H2_ODD_REFUSED);
	else if (error == NGHTTP2_ERR_HTTP_HEADER || error == NGHTTP2_ERR_HTTP_MESSAGING ||
		 (error == NGHTTP2_ERR_FLOW_CONTROL && id > 0))
		stream_failed(user_data, id);
	return 0;
}

/* ---- frames out ---- */

static int on_frame_send(nghttp2_session *framing, const nghttp2_frame *frame, void *user_data)
{
	struct h2_session *session = user_data;
	bool has_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;

	/* ours; nghttp2 would go on behind it */
	if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
		session->fatal_goaway = session->fatal_goaway_sent = true;
	if (frame->hd.type == NGHTTP2_RST_STREAM)
		stream_failed(session, frame->hd.stream_id);
	session->answer_count += has_end;
	if (!has_end || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;

	struct h2_stream *stream = stream_of(framing, frame->hd.stream_id);

	if (!stream || !stream->session)
		return 0;
	stream->local_ended = true;
	if (stream->reset_when_ended && !stream->remote_ended)
		h2_stream_reset(stream, H2_NO_ERROR);
	return 0;
}

/* Headers that nghttp2 will not send (a block over 64 KiB): the peer would wait for ever. */
static int on_frame_not_send(nghttp2_session *framing, const nghttp2_frame *frame, int error,
			     void *user_data)
{
	(void)user_data;
	/* closing: nghttp2 has a reset of its own on the way */
	if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat == NGHTTP2_HCAT_REQUEST ||
	    error == NGHTTP2_ERR_STREAM_CLOSING)
		return 0;

	struct h2_stream *stream = live_stream_of(framing, frame->hd.stream_id);

	if (stream)
		h2_stream_reset(stream, H2_INTERNAL_ERROR);
	return 0;
}

/* ---- life ---- */

static nghttp2_session_callbacks *make_callbacks(void)
{
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_frame_not_send);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, h2_stream_send);
	return callbacks;
}

static size_t max_continuations(const struct h2_options *options)
{
	size_t count = (size_t)2 * (options->max_header_list_bytes / FULL_FRAME_BYTES);

	return count > MIN_CONTINUATIONS ? count : MIN_CONTINUATIONS;
}

static nghttp2_option *make_option(const struct h2_options *options)
{
	nghttp2_option *option;

	if (nghttp2_option_new(&option) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_option_set_no_closed_streams(option, 1);
	nghttp2_option_set_max_settings(option, MAX_SETTINGS);
	nghttp2_option_set_max_outbound_ack(option, MAX_OUTBOUND_ACK);
	nghttp2_option_set_max_continuations(option, max_continuations(options));
	nghttp2_option_set_max_reserved_remote_streams(option, 0);
	/* counts the resets of streams long answered, too: see h2_handler.odd */
	if (options->role == H2_SERVER)
		nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX, 0);
	return option;
}

static int create_framing(struct h2_session *session)
{
	nghttp2_mem hooks = session->block ? h2_block_hooks(session->block) : (nghttp2_mem){0};
	nghttp2_mem *memory = session->block ? &hooks : NULL;
	nghttp2_session_callbacks *callbacks = make_callbacks();
	nghttp2_option *option = make_option(&session->options);
	int result = NGHTTP2_ERR_NOMEM;

	if (callbacks && option)
		result = session->options.role == H2_SERVER
				 ? nghttp2_session_server_new3(&session->framing, callbacks,
							       session, option, memory)
				 : nghttp2_session_client_new3(&session->framing, callbacks,
							       session, option, memory);
	if (callbacks)
		nghttp2_session_callbacks_del(callbacks);
	if (option)
		nghttp2_option_del(option);
	return result;
}

static int submit_first_frames(struct h2_session *session)
{
	const struct h2_options *options = &session->options;
	nghttp2_settings_entry entries[5];
	size_t count = 0;

	if (options->role == H2_CLIENT)
		entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
	else
		entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
							    options->max_concurrent_streams};
	entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
						    options->stream_window_bytes};
	entries[count++] =
		(nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_FRAME_SIZE, options->max_frame_bytes};
	entries[count++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE,
						    options->max_header_list_bytes};
	/* The tree of RFC 7540 costs with each stream, and was a way to attack. RFC 9113 §5.3.2 */
	if (options->role == H2_SERVER)
		entries[count++] =
			(nghttp2_settings_entry){NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1};

	int result = nghttp2_submit_settings(session->framing, NGHTTP2_FLAG_NONE, entries, count);

	if (result)
		return result;
	return nghttp2_session_set_local_window_size(session->framing, NGHTTP2_FLAG_NONE, 0,
						     (int32_t)options->connection_window_bytes);
}

static struct h2_session *alloc_session(struct h2_memory *memory)
{
	struct h2_block *block = memory ? h2_block_take(memory) : NULL;
	struct h2_session *session = NULL;

	if (block)
		session = h2_block_alloc(block, sizeof(*session));
	else if (!memory)
		session = calloc(1, sizeof(*session));
	if (session)
		session->block = block;
	else if (block)
		h2_block_give(block);
	return session;
}

static void free_session(struct h2_session *session)
{
	struct h2_block *block = session->block;

	if (!block) {
		free(session);
		return;
	}
	h2_block_free(block, session);
	h2_block_give(block);
}

int h2_session_create(struct h2_session **session, const struct h2_options *options,
		      const struct h2_handler *handler, void *owner)
{
	/* RFC 9113 §6.5.2: what a peer would refuse is a fault of our configuration */
	CHECK(options->stream_window_bytes <= INT32_MAX &&
	      options->connection_window_bytes <= INT32_MAX);
	CHECK(options->max_frame_bytes >= 16384 && options->max_frame_bytes <= 16777215);

	struct h2_session *made = alloc_session(options->memory);

	if (!made)
		return -ENOMEM;
	made->options = *options;
	made->handler = handler;
	made->owner = owner;
	list_init(&made->streams);
	h2_walk_init(&made->walk, options->role);
	if (create_framing(made) != 0)
		goto no_framing;
	if (made->block) {
		made->framing_bytes = h2_block_object_bytes(made->framing);
		h2_block_end_birth(made->block);
	}
	if (submit_first_frames(made) != 0)
		goto no_frames;
	*session = made;
	return 0;

no_frames:
	nghttp2_session_del(made->framing);
no_framing:
	free_session(made);
	return -ENOMEM;
}

void h2_session_destroy(struct h2_session *session)
{
	CHECK(!session->is_busy);
	session->is_leaving = true; /* so that a `closed` cannot open another one */
	while (!list_is_empty(&session->streams)) {
		struct h2_stream *stream =
			CONTAINER_OF(session->streams.next, struct h2_stream, link);

		nghttp2_session_set_stream_user_data(session->framing, stream->id, NULL);
		h2_stream_close(stream, H2_CANCEL);
	}
	nghttp2_session_del(session->framing);
	free_session(session);
}

void *h2_session_owner(const struct h2_session *session)
{
	return session->owner;
}

/* ---- bytes in and out ---- */

/*
 * Whether nghttp2 has queued a GOAWAY that ends the session; it does not tell so before that is
 * sent. It answers a GOAWAY of ours whose last id is one of our own streams with an error if it
 * would take one at all, and with success (doing nothing) if it is ending.
 */
static bool is_terminating(struct h2_session *session)
{
	int32_t own_id = session->options.role == H2_SERVER ? 2 : 1;

	return nghttp2_submit_goaway(session->framing, NGHTTP2_FLAG_NONE, own_id, NGHTTP2_NO_ERROR,
				     NULL, 0) == 0;
}

/* nghttp2 gave up without queueing a GOAWAY itself. */
static int break_session(struct h2_session *session, int result)
{
	uint32_t code = NGHTTP2_PROTOCOL_ERROR;

	if (result == NGHTTP2_ERR_NOMEM || result == NGHTTP2_ERR_CALLBACK_FAILURE)
		code = NGHTTP2_INTERNAL_ERROR;
	if (result == NGHTTP2_ERR_FLOODED || session->is_bombed ||
	    result == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
		code = NGHTTP2_ENHANCE_YOUR_CALM;
	session->is_broken = true;
	nghttp2_session_terminate_session(session->framing, code);
	return code == NGHTTP2_INTERNAL_ERROR ? -ENOMEM : -EPROTO;
}

static bool is_refused(const struct h2_session *session)
{
	return session->block && h2_block_was_refused(session->block);
}

/* Without memory nghttp2 may hold on to what it has freed (see h2_block_free): it is not called
 * again. */
static bool is_out_of_memory(struct h2_session *session)
{
	if (!is_refused(session))
		return false;
	session->is_broken = true;
	return true;
}

int h2_receive(struct h2_session *session, struct span bytes)
{
	CHECK(!session->is_busy);
	if (is_out_of_memory(session))
		return -ENOMEM;
	if (session->is_broken || session->fatal_goaway)
		return -EPIPE;
	if (bytes.len == 0)
		return 0;
	session->is_busy = true;
	if (session->handler->odd)
		h2_walk_take(&session->walk, bytes, session->handler->odd, session);

	/* an owner that has had enough has it before all that is behind it is worked on */
	ssize_t taken = session->fatal_goaway
				? (ssize_t)bytes.len
				: nghttp2_session_mem_recv(session->framing, bytes.data, bytes.len);

	session->is_busy = false;
	if (taken < 0)
		return break_session(session, (int)taken);
	CHECK((size_t)taken == bytes.len); /* no callback of ours pauses */
	session->is_broken |= session->fatal_goaway || is_terminating(session);
	return session->is_broken ? -EPROTO : 0;
}

enum h2_header_progress h2_header_progress(const struct h2_session *session)
{
	return session->handler->odd ? h2_walk_progress(&session->walk) : H2_HEADER_WHOLE;
}

/* Returns 1 when something was handed out, 0 when there is nothing, or a negative code. */
static int produce_one(struct h2_session *session)
{
	const uint8_t *data;
	ssize_t len = nghttp2_session_mem_send(session->framing, &data);

	if (session->sink_error)
		return session->sink_error;
	if (len < 0)
		return len == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPIPE;
	if (len == 0)
		return 0;
	session->sink_error =
		session->sink->bytes(session->sink->context, span_make(data, (size_t)len));
	return session->sink_error ? session->sink_error : 1;
}

int h2_produce(struct h2_session *session, const struct sink *sink)
{
	int result = session->sink_error;

	CHECK(!session->is_busy);
	if (result)
		return result;
	if (is_out_of_memory(session))
		return -ENOMEM;
	session->is_busy = true;
	session->sink = sink;
	do {
		result = sink->has_room(sink->context) && !session->fatal_goaway_sent
				 ? produce_one(session)
				 : 0;
	} while (result > 0);
	session->sink = NULL;
	session->is_busy = false;
	if (result < 0)
		session->is_broken = true;
	return result;
}

/*
 * Of nghttp2's own session, what each frame out needs: its beginning and its end (1.52: all but
 * two lines of them). Between are the HPACK tables.
 */
#define FRAMING_HEAD_FETCHED 768
#define FRAMING_TAIL_FETCHED 640

static void fetch_framing(const struct h2_session *session)
{
	size_t bytes = session->framing_bytes;
	size_t tail = bytes > FRAMING_HEAD_FETCHED ? bytes - FRAMING_HEAD_FETCHED : 0;

	if (tail > FRAMING_TAIL_FETCHED)
		tail = FRAMING_TAIL_FETCHED;
	memory_fetch(session->framing, FRAMING_HEAD_FETCHED);
	memory_fetch((const uint8_t *)session->framing + bytes - tail, tail);
}

void h2_session_fetch(const struct h2_session *session, unsigned step)
{
	if (step == 0) {
		memory_fetch(session, sizeof(*session));
		/* the block's own state, if it lies in one */
		__builtin_prefetch((const uint8_t *)session - FETCH_LINE_BYTES);
		return;
	}
	fetch_framing(session);
	if (session->block)
		h2_block_fetch(session->block);
}

bool h2_wants_produce(const struct h2_session *session)
{
	return !session->fatal_goaway_sent && !session->sink_error &&
	       nghttp2_session_want_write(session->framing);
}

bool h2_is_finished(const struct h2_session *session)
{
	return session->fatal_goaway_sent || (!nghttp2_session_want_read(session->framing) &&
					      !nghttp2_session_want_write(session->framing));
}

/* ---- connection ---- */

uint32_t h2_request_room(const struct h2_session *session)
{
	uint32_t limit = nghttp2_session_get_remote_settings(
		session->framing, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	uint32_t next_id = nghttp2_session_get_next_stream_id(session->framing);

	if (session->is_leaving || session->is_broken || session->fatal_goaway ||
	    is_refused(session) || next_id > STREAM_ID_MAX ||
	    !nghttp2_session_check_request_allowed(session->framing))
		return 0;

	uint32_t ids_left = (STREAM_ID_MAX - next_id) / 2 + 1;
	uint32_t room = limit > session->stream_count ? limit - session->stream_count : 0;

	return room < ids_left ? room : ids_left;
}

void h2_shutdown_notice(struct h2_session *session)
{
	/* without memory the final GOAWAY must do */
	(void)nghttp2_submit_shutdown_notice(session->framing);
}

void h2_goaway(struct h2_session *session, uint32_t code, struct span debug)
{
	int32_t last_id = nghttp2_session_get_last_proc_stream_id(session->framing);

	session->is_leaving = session->has_said_last = true;
	session->fatal_goaway |= code != H2_NO_ERROR;
	if (nghttp2_submit_goaway(session->framing, NGHTTP2_FLAG_NONE, last_id, code, debug.data,
				  debug.len) != 0) {
		session->is_broken = true;
		nghttp2_session_terminate_session(session->framing, code);
	}
}

int h2_ping(struct h2_session *session, const uint8_t opaque[8])
{
	return h2_code_from_framing(
		nghttp2_submit_ping(session->framing, NGHTTP2_FLAG_NONE, opaque));
}

uint64_t h2_answer_count(const struct h2_session *session)
{
	return session->answer_count;
}

uint32_t h2_open_stream_count(const struct h2_session *session)
{
	return session->stream_count;
}
