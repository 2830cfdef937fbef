/*
 * h2: HTTP/2 framing by nghttp2, server or client, without I/O. One thread at a time.
 *
 *   bytes in ─► h2_receive ─► events on streams ─► owner
 *   owner ─► h2_respond, h2_stream_push … ─► h2_produce ─► sink
 *
 * Data out is pulled: nghttp2 decides which stream may send (windows, fairness) and the stream's
 * `pull` is asked for slices only then. Payload bytes are never copied: the sink gets a 9-byte
 * frame header and then slices.
 *
 * Source: RFC 9113, RFC 7541.
 */
#ifndef CODEC_H2_H
#define CODEC_H2_H

#include "base/list.h"
#include "base/metric.h"
#include "base/payload.h"
#include "base/sink.h"

struct h2_memory;
struct h2_session;
struct h2_stream;

enum h2_role { H2_SERVER, H2_CLIENT };

/* RFC 9113 §7 */
enum h2_error {
	H2_NO_ERROR = 0,
	H2_PROTOCOL_ERROR = 1,
	H2_INTERNAL_ERROR = 2,
	H2_REFUSED_STREAM = 7,
	H2_CANCEL = 8,
	H2_ENHANCE_YOUR_CALM = 11,
};

struct h2_header {
	struct span name, value; /* name in lower case */
};

enum h2_headers_kind {
	H2_HEADERS_REQUEST,
	H2_HEADERS_INFORMATIONAL, /* 1xx */
	H2_HEADERS_RESPONSE,
	H2_HEADERS_TRAILERS,
};

/* What a peer may do, and does to excess or to our cost only. Most are frames, whatever they say.
 */
enum h2_oddity {
	H2_ODD_NOTHING,
	H2_ODD_PING,	 /* an answer to one, too */
	H2_ODD_SETTINGS, /* not their acknowledgement */
	H2_ODD_PRIORITY, /* also PRIORITY_UPDATE; neither has an effect */
	H2_ODD_UNKNOWN_FRAME,
	H2_ODD_CONTINUATION, /* MAX_FRAME_SIZE holds a header list of our default limit */
	H2_ODD_EMPTY_DATA,   /* nothing but padding, and it does not end the stream */
	H2_ODD_SMALL_FRAME,  /* WINDOW_UPDATE, RST_STREAM, DATA of < H2_SMALL_DATA_BYTES */
	H2_ODD_SMALL_WINDOW, /* it cut our DATA to < H2_SMALL_DATA_BYTES, and more is queued */
	H2_ODD_HEADER_LIST,  /* over the limit; the stream is reset */
	H2_ODD_LATE_HEADERS, /* of a stream that is over */
	H2_ODD_REFUSED,	     /* a stream that is refused: over the limit, or not `opened` */
	H2_ODD_STREAM_ERROR, /* nghttp2 resets a stream for its peer's fault: CVE-2025-8671 */
	H2_ODD_COUNT
};

#define H2_SMALL_DATA_BYTES 64

/* Whether the bytes received so far end inside a header block. */
enum h2_header_progress {
	H2_HEADER_WHOLE,
	H2_HEADER_BEGUN, /* by the last h2_receive */
	H2_HEADER_GOES_ON,
};

#define H2_QUEUE_SLICES	    4 /* inline; more go to a grown array, up to H2_QUEUE_SLICES_MAX */
#define H2_QUEUE_SLICES_MAX 1024

/* Embedded in the owner's call. Zeroed by the owner before use; read only for the owner. */
struct h2_stream {
	struct h2_session *session; /* NULL: not open */
	struct list link;	    /* in the session's streams */
	int32_t id;
	bool deferred;		 /* nghttp2 does not ask it for data until it is resumed */
	bool wants;		 /* something to send, or to be pulled; else nghttp2 is not asked */
	bool pulled_dry;	 /* the last pull had no more, and nothing came since */
	bool finish;		 /* trailers or END_STREAM once the queue is empty */
	bool responded;		 /* server: headers are on their way */
	bool local_closed;	 /* our END_STREAM is on its way, nothing may follow */
	bool local_ended;	 /* our END_STREAM has been handed to the sink */
	bool remote_ended;	 /* the peer's END_STREAM has come */
	bool is_reset;		 /* RST_STREAM is on its way: no more events but `closed` */
	bool is_faulted;	 /* nghttp2 resets it: H2_ODD_STREAM_ERROR has been told */
	bool reset_when_ended;	 /* h2_stream_reset(NO_ERROR) waits for our END_STREAM */
	bool has_final_headers;	 /* client: a response other than 1xx has come */
	bool front_partial;	 /* a part of the first queued slice has been handed out */
	uint32_t reset_code;	 /* with is_reset */
	uint16_t status;	 /* client: of the header block being read */
	uint32_t header_bytes;	 /* of the header block being read; name + value + 32 each */
	size_t unconsumed_bytes; /* received, not yet given to h2_consume */
	uint32_t queue_first, queue_count, queue_cap; /* ring; queue_cap 0: the inline one */
	size_t queue_bytes;			      /* in the queue, not yet handed to the sink */
	struct payload_slice inline_queue[H2_QUEUE_SLICES];
	struct payload_slice *grown_queue;
	struct h2_trailers *trailers;
	const struct h2_header *fixed_trailers; /* instead, with their count */
	size_t fixed_count;
};

struct h2_handler {
	/*
	 * Called from h2_receive and h2_produce. The handler may call everything of this header on
	 * the session and its streams but h2_receive, h2_produce and h2_session_destroy. `closed`
	 * may free the stream, no other call may.
	 */

	/* A stream begins (server). Returns its stream, zeroed, or NULL: REFUSED_STREAM. */
	struct h2_stream *(*opened)(struct h2_session *session, int32_t stream_id);
	/*
	 * One header field, pseudo-headers too, already checked by nghttp2. Lent.
	 * Returns 0, or an h2_error code that resets the stream.
	 */
	int (*header)(struct h2_stream *stream, struct span name, struct span value);
	void (*headers_done)(struct h2_stream *stream, enum h2_headers_kind kind, bool end_stream);
	/* Lent bytes. The window is opened again only by h2_consume. */
	void (*data)(struct h2_stream *stream, struct span bytes);
	/* The peer's END_STREAM, after headers_done or data. */
	void (*ended)(struct h2_stream *stream);
	/*
	 * Space in windows and connection for this stream and its queue is empty: push slices,
	 * finish, or leave it. Returns whether it should be asked again by itself once they are
	 * out; else h2_stream_resume, h2_stream_push or h2_stream_finish brings it back. May be
	 * NULL.
	 */
	bool (*pull)(struct h2_stream *stream);
	/*
	 * Last call for the stream: ended (code H2_NO_ERROR) or reset (the code of h2_stream_reset,
	 * else the peer's). Its queue has been given back. A reset with NO_ERROR before our
	 * response (server) or the peer's (client) was whole is told as H2_CANCEL.
	 */
	void (*closed)(struct h2_stream *stream, uint32_t code);
	/*
	 * The peer goes away: streams above last_stream_id will not be answered (they get
	 * closed(REFUSED_STREAM)). May be NULL.
	 */
	void (*goaway)(struct h2_session *session, int32_t last_stream_id, uint32_t code);
	void (*ping_acked)(struct h2_session *session, const uint8_t opaque[8]);
	/* Any PING without ACK from the peer (already answered). May be NULL. */
	void (*pinged)(struct h2_session *session);
	/* The peer's SETTINGS apply; the first time, the connection stands. May be NULL. */
	void (*settings)(struct h2_session *session);
	/*
	 * The peer's oddities, most of them before the bytes they come with are dealt with. Nothing
	 * else bounds their number: who has it counts, and sends h2_goaway. NULL: nobody looks for
	 * any.
	 */
	void (*odd)(struct h2_session *session, enum h2_oddity oddity);
};

struct h2_options {
	enum h2_role role;
	uint32_t max_concurrent_streams;  /* offered to the peer */
	uint32_t stream_window_bytes;	  /* offered per stream */
	uint32_t connection_window_bytes; /* offered for the connection */
	/*
	 * enforced while decoding; over it: stream reset, compression state kept; over four times
	 * of it the connection ends
	 */
	uint32_t max_header_list_bytes;
	uint32_t max_frame_bytes; /* 16384 */
	struct h2_memory *memory; /* where the session lives; NULL: malloc */
};

/*
 * Returns 0 or -ENOMEM. The first bytes out (preface, SETTINGS) are queued.
 * Lifetime: `handler` as the session's.
 */
int h2_session_create(struct h2_session **session, const struct h2_options *options,
		      const struct h2_handler *handler, void *owner);

/* Open streams get closed(H2_CANCEL) first. Not inside the session's own callbacks. */
void h2_session_destroy(struct h2_session *session);

void *h2_session_owner(const struct h2_session *session);

/*
 * Returns 0, or a negative code: the connection is broken (GOAWAY is queued: produce, then close).
 * -EPROTO, -ENOMEM, -EPIPE (broken before, or GOAWAY with an error sent). Not inside its own
 * callbacks.
 */
int h2_receive(struct h2_session *session, struct span bytes);

/* Needs `odd`: of a session without it H2_HEADER_WHOLE. */
enum h2_header_progress h2_header_progress(const struct h2_session *session);

/*
 * Hands frames to the sink while there are any and it has room, which it is asked for before each:
 * a frame has 16384 + 9 bytes at most. Heads and control frames go as bytes, data as slices; the
 * last part of a slice is given. Returns 0, or the sink's negative code, which breaks the session.
 */
int h2_produce(struct h2_session *session, const struct sink *sink);

/* Whether h2_produce would hand out anything (windows permitting). */
bool h2_wants_produce(const struct h2_session *session);

/*
 * Whether the session is over: GOAWAY sent or received and no stream left, or a GOAWAY with an
 * error has been handed to the sink. What remains is to send what the sink has, and to close.
 */
bool h2_is_finished(const struct h2_session *session);

/* Tells the processor what h2_produce will touch: step 0, then step 1. Changes nothing. */
void h2_session_fetch(const struct h2_session *session, unsigned step);

/* ---- streams, server ---- */

/*
 * Response headers (":status" first), once. end_stream: nothing follows.
 * Returns 0, -ENOMEM, or -EPIPE (stream is closed).
 */
int h2_respond(struct h2_stream *stream, const struct h2_header *headers, size_t count,
	       bool end_stream);

/* As h2_respond; the headers and their bytes live as long as the process: nothing is copied. More
 * follows. */
int h2_respond_fixed(struct h2_stream *stream, const struct h2_header *headers, size_t count);

/* ":status: 100" ahead of the response: the body is wanted. Returns 0, -ENOMEM or -EPIPE. */
int h2_respond_continue(struct h2_stream *stream);

/* ---- streams, client ---- */

/*
 * Opens a stream.
 * Returns 0, -ENOMEM, -EAGAIN (peer's stream limit reached or ids used up, going away).
 */
int h2_request(struct h2_session *session, struct h2_stream *stream,
	       const struct h2_header *headers, size_t count, bool end_stream);

/* Streams that may still be opened now. */
uint32_t h2_request_room(const struct h2_session *session);

/* ---- streams, both ---- */

/*
 * Queues data; takes a reference of its own. Resumes a deferred stream.
 * Returns 0, -ENOBUFS (H2_QUEUE_SLICES_MAX), -ENOMEM, -EPIPE.
 */
int h2_stream_push(struct h2_stream *stream, struct payload_slice slice);

/* As h2_stream_push, but takes over the caller's reference. On failure it stays the caller's. */
int h2_stream_give(struct h2_stream *stream, struct payload_slice slice);

/* There is something to pull again. */
void h2_stream_resume(struct h2_stream *stream);

/*
 * After the queue: trailers (count > 0) or END_STREAM, once. The headers are copied. Returns 0 or
 * -ENOMEM, -EPIPE. A server's trailers behind an empty queue need no window; END_STREAM alone,
 * behind data already out, does.
 */
int h2_stream_finish(struct h2_stream *stream, const struct h2_header *trailers, size_t count);

/* As h2_stream_finish; the headers and their bytes live as long as the process: nothing is copied.
 */
int h2_stream_finish_fixed(struct h2_stream *stream, const struct h2_header *trailers,
			   size_t count);

/* Drops what is queued behind the first `keep_bytes` bytes. Returns bytes dropped. */
size_t h2_stream_drop_queue(struct h2_stream *stream, size_t keep_bytes);

/* What is queued of the first slice; the queue is not empty. Borrowed. */
static inline struct payload_slice h2_stream_front(const struct h2_stream *stream)
{
	const struct payload_slice *queue =
		stream->grown_queue ? stream->grown_queue : stream->inline_queue;

	return queue[stream->queue_first];
}

/*
 * Bytes still queued of a slice that has been handed out in part: with one slice a message, what
 * must be kept so that no message is cut.
 */
static inline size_t h2_stream_partial_bytes(const struct h2_stream *stream)
{
	return stream->front_partial ? h2_stream_front(stream).len : 0;
}

/*
 * RST_STREAM; `closed` follows from h2_produce. The queue is given back, events stop. H2_NO_ERROR
 * after h2_stream_finish waits until our END_STREAM is out, and is not sent if the peer has ended
 * too (RFC 9113 §8.1).
 */
void h2_stream_reset(struct h2_stream *stream, uint32_t code);

/* `bytes` of received data have been dealt with: opens stream and connection windows. */
void h2_consume(struct h2_stream *stream, size_t bytes);

/* ---- connection ---- */

/* First step of a graceful end: GOAWAY with last id 2^31-1 (server). */
void h2_shutdown_notice(struct h2_session *session);
/*
 * Final GOAWAY with the real last id; new streams are refused from now on, ignored once it is out.
 * With an error code the session ends with it.
 */
void h2_goaway(struct h2_session *session, uint32_t code, struct span debug);
int h2_ping(struct h2_session *session, const uint8_t opaque[8]);
uint32_t h2_open_stream_count(const struct h2_session *session);

/* HEADERS and DATA frames handed to the sink so far: whether a ping came while there was traffic.
 */
uint64_t h2_answer_count(const struct h2_session *session);

/* What a client's connection begins with. RFC 9113 §3.4. */
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#endif
