/* h2_client: an HTTP/2 client of codec/h2 over the rig's client, and calls on it. */
#ifndef UNIT_EDGE_H2_CLIENT_H
#define UNIT_EDGE_H2_CLIENT_H

#include "codec/h2.h"
#include "unit/edge/rig.h"

struct h2_client {
	struct client client;
	struct h2_session *session;
	struct buf out;
	bool reads; /* false: the connection's windows are not opened again */
	bool broken;
	bool goaway, noticed; /* noticed: the first step, that refuses no stream yet */
	int32_t goaway_last_id;
	uint32_t goaway_code;
};

/* One call as the client sees it. Zeroed before call_start. */
struct test_call {
	struct h2_stream stream;
	int status, grpc_status; /* -1: not seen */
	bool trailers_only, headers_seen, answered, closed, continued;
	uint32_t closed_code;
	char message[256], retry[32], retry_after[32], accept[64], type[64], allow[64];
	struct buf body;
};

static inline int take_header(struct h2_stream *stream, struct span name, struct span value)
{
	struct test_call *call = CONTAINER_OF(stream, struct test_call, stream);
	uint64_t number = 0;
	const struct {
		const char *name;
		char *text;
		size_t size;
	} texts[] = {
		{"grpc-message", call->message, sizeof(call->message)},
		{"retry-after-ms", call->retry, sizeof(call->retry)},
		{"retry-after", call->retry_after, sizeof(call->retry_after)},
		{"grpc-accept-encoding", call->accept, sizeof(call->accept)},
		{"content-type", call->type, sizeof(call->type)},
		{"allow", call->allow, sizeof(call->allow)},
	};

	if (span_equal(name, SPAN(":status")) && span_to_uint64(value, &number))
		call->status = (int)number;
	if (span_equal(name, SPAN("grpc-status")) && span_to_uint64(value, &number))
		call->grpc_status = (int)number;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (span_equal(name, span_from_cstr(texts[i].name)))
			snprintf(texts[i].text, texts[i].size, "%.*s", SPAN_ARGS(value));
	return 0;
}

static inline void take_headers(struct h2_stream *stream, enum h2_headers_kind kind,
				bool end_stream)
{
	struct test_call *call = CONTAINER_OF(stream, struct test_call, stream);

	if (kind == H2_HEADERS_RESPONSE && end_stream && call->grpc_status >= 0)
		call->trailers_only = true;
	if (kind == H2_HEADERS_INFORMATIONAL)
		call->continued = call->status == 100;
	else
		call->headers_seen = true;
}

static inline void take_data(struct h2_stream *stream, struct span bytes)
{
	struct test_call *call = CONTAINER_OF(stream, struct test_call, stream);
	struct h2_client *client = h2_session_owner(stream->session);

	assert_int_equal(buf_append(&call->body, bytes), 0);
	if (client->reads)
		h2_consume(stream, bytes.len);
}

static inline void take_end(struct h2_stream *stream)
{
	CONTAINER_OF(stream, struct test_call, stream)->answered = true;
}

static inline void take_closed(struct h2_stream *stream, uint32_t code)
{
	struct test_call *call = CONTAINER_OF(stream, struct test_call, stream);

	call->closed = true;
	call->closed_code = code;
}

static inline void take_goaway(struct h2_session *session, int32_t last_stream_id, uint32_t code)
{
	struct h2_client *client = h2_session_owner(session);

	client->goaway = true;
	client->noticed = client->noticed || last_stream_id == INT32_MAX;
	client->goaway_last_id = last_stream_id;
	client->goaway_code = code;
}

static const struct h2_handler h2_client_handler = {
	.header = take_header,
	.headers_done = take_headers,
	.data = take_data,
	.ended = take_end,
	.closed = take_closed,
	.goaway = take_goaway,
};

static inline int out_bytes(void *context, struct span bytes)
{
	return buf_append(context, bytes);
}

static inline int out_slice(void *context, struct payload_slice slice)
{
	return buf_append(context, span_make(slice.payload->data + slice.offset, slice.len));
}

static inline bool out_has_room(void *context)
{
	(void)context;
	return true;
}

/* What the session has to send goes to `out`. */
static inline void h2_client_produce(struct h2_client *client)
{
	const struct sink sink = {.context = &client->out,
				  .bytes = out_bytes,
				  .slice = out_slice,
				  .has_room = out_has_room};

	(void)h2_produce(client->session, &sink);
}

/* The session takes what has been received. */
static inline void h2_client_take(struct h2_client *client)
{
	if (client->client.in.len > 0 &&
	    h2_receive(client->session, buf_span(&client->client.in)) < 0)
		client->broken = true;
	client_forget(&client->client);
}

/* Sends what the session has, takes what has come. */
static inline void h2_client_pump(struct h2_client *client)
{
	h2_client_produce(client);
	if (client->out.len > 0)
		client_send(&client->client, buf_span(&client->out));
	buf_clear(&client->out, SIZE_MAX);
	rig_turn(client->client.rig);
	client_receive(&client->client);
	h2_client_take(client);
}

#define PUMP_UNTIL(client, condition)                                                              \
	do {                                                                                       \
		for (unsigned n_ = 0; n_ < RIG_TURNS_MAX && !(condition); n_++)                    \
			h2_client_pump(client);                                                    \
		assert_true(condition);                                                            \
	} while (0)

static inline void h2_client_pumps(struct h2_client *client, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		h2_client_pump(client);
}

static inline void h2_client_open_windowed(struct h2_client *client, struct rig *rig,
					   uint32_t stream_window)
{
	const struct h2_options options = {
		.role = H2_CLIENT,
		.stream_window_bytes = stream_window,
		.connection_window_bytes = 1u << 30,
		.max_header_list_bytes = 65536,
		.max_frame_bytes = 16384,
	};

	*client = (struct h2_client){.reads = true};
	buf_init(&client->out, 64u << 20);
	client_open(&client->client, rig);
	assert_int_equal(h2_session_create(&client->session, &options, &h2_client_handler, client),
			 0);
	h2_client_pumps(client, 3);
}

static inline void h2_client_open(struct h2_client *client, struct rig *rig)
{
	h2_client_open_windowed(client, rig, 1u << 20);
}

static inline void h2_client_close(struct h2_client *client)
{
	h2_session_destroy(client->session);
	buf_finish(&client->out);
	client_close(&client->client);
}

#define CALL_HEADERS_MAX 8

/* A gRPC request's headers, then `extra` ("name", "value" pairs, NULL at the end; an own
 * content-type replaces the usual). */
static inline void call_start(struct h2_client *client, struct test_call *call, const char *path,
			      const char *const *extra, bool end_stream)
{
	struct h2_header headers[6 + CALL_HEADERS_MAX] = {
		{SPAN(":method"), SPAN("POST")},
		{SPAN(":scheme"), SPAN("http")},
		{SPAN(":path"), span_from_cstr(path)},
		{SPAN(":authority"), SPAN("x")},
		{SPAN("te"), SPAN("trailers")},
		{SPAN("content-type"), SPAN("application/grpc")},
	};
	size_t count = 6;

	for (size_t i = 0; extra && extra[i]; i += 2) {
		if (strcmp(extra[i], ":method") == 0)
			headers[0].value = span_from_cstr(extra[i + 1]);
		else if (strcmp(extra[i], "content-type") == 0)
			headers[5].value = span_from_cstr(extra[i + 1]);
		else
			headers[count++] = (struct h2_header){span_from_cstr(extra[i]),
							      span_from_cstr(extra[i + 1])};
	}
	*call = (struct test_call){.status = -1, .grpc_status = -1};
	buf_init(&call->body, 64u << 20);
	assert_int_equal(h2_request(client->session, &call->stream, headers, count, end_stream), 0);
}

static inline void call_write(struct test_call *call, struct span bytes)
{
	struct payload *payload = payload_copy(bytes);

	assert_non_null(payload);
	assert_int_equal(
		h2_stream_push(&call->stream, (struct payload_slice){payload, 0, payload->len}), 0);
	payload_put(payload);
}

static inline void call_write_message(struct test_call *call, struct span body)
{
	struct payload *payload = message_make(body);

	assert_non_null(payload);
	call_write(call, payload_span(payload));
	payload_put(payload);
}

static inline void call_end_writing(struct test_call *call)
{
	(void)h2_stream_finish(&call->stream, NULL, 0);
}

/* Pumps until the call is over. */
static inline void call_wait(struct h2_client *client, struct test_call *call)
{
	PUMP_UNTIL(client, call->closed);
}

/* As call_wait, for a call the client does not end: the server does, soon after its answer. */
static inline void call_wait_unended(struct h2_client *client, struct rig *rig,
				     struct test_call *call)
{
	PUMP_UNTIL(client, call->answered);
	assert_false(call->closed);
	rig_advance(rig, 1000);
	call_wait(client, call);
}

static inline void call_finish(struct test_call *call)
{
	buf_finish(&call->body);
}

/* A unary call, whole: headers, one message, end. */
static inline void call_unary(struct h2_client *client, struct test_call *call, const char *path,
			      const char *const *extra, struct span body)
{
	call_start(client, call, path, extra, false);
	call_write_message(call, body);
	call_end_writing(call);
}

/* A server and a client. */
struct pair {
	struct rig rig;
	struct h2_client client;
};

static inline void pair_open(struct pair *pair, unsigned protocols)
{
	rig_open(&pair->rig, protocols);
	h2_client_open(&pair->client, &pair->rig);
}

static inline void pair_close(struct pair *pair)
{
	h2_client_close(&pair->client);
	rig_close(&pair->rig);
}

#endif
