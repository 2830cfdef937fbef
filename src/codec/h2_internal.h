/* h2_internal: what h2.c (session) and h2_stream.c (streams) share. Nobody else includes it. */
#ifndef CODEC_H2_INTERNAL_H
#define CODEC_H2_INTERNAL_H

#include "base/check.h"
#include "codec/h2.h"
#include "codec/h2_memory_internal.h"
#include "codec/h2_walk.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>

struct h2_session {
	nghttp2_session *framing;
	size_t framing_bytes;	/* 0: not known */
	struct h2_block *block; /* this session lies in it; NULL: in malloc's memory */
	struct h2_options options;
	const struct h2_handler *handler;
	void *owner;
	struct list streams;
	struct h2_walk walk;	   /* with handler->odd */
	struct h2_stream *reading; /* whose header block is being read; NULL: ask nghttp2 */
	int32_t last_stream_id;	   /* of HEADERS received */
	uint32_t stream_count;
	uint32_t wanting_count;	    /* streams with `wants` */
	uint64_t answer_count;	    /* h2_answer_count */
	const struct sink *sink;    /* during h2_produce */
	int sink_error;		    /* what the sink said; sticks */
	bool is_busy;		    /* inside h2_receive or h2_produce */
	bool is_bombed;		    /* a header list beyond all measure; is_broken follows */
	bool is_broken;		    /* a connection error, or the sink failed */
	bool is_leaving;	    /* GOAWAY sent or received: no new requests */
	bool has_said_last;	    /* h2_goaway: what comes above its last id is not served,
				     * though nghttp2 takes it until the frame has left */
	bool fatal_goaway;	    /* GOAWAY with an error is queued or sent */
	bool fatal_goaway_sent;
};

struct h2_trailers {
	size_t count;
	nghttp2_nv fields[]; /* their bytes lie behind them */
};

/* 0 for nghttp2's success, else -ENOMEM or -EPIPE (it will not have this any more). */
int h2_code_from_framing(int result);

/* The stream is the session's from now on. */
void h2_stream_open(struct h2_stream *stream, struct h2_session *session, int32_t id);

/* The stream leaves the session: memory given back, `closed` told. The stream may be gone
 * afterwards. */
void h2_stream_close(struct h2_stream *stream, uint32_t code);

/* Tells the owner, if it wants to know. */
void h2_note_odd(struct h2_session *session, enum h2_oddity oddity);

/* nghttp2's nghttp2_data_source_read_callback and nghttp2_send_data_callback. */
ssize_t h2_stream_read(nghttp2_session *framing, int32_t stream_id, uint8_t *buf, size_t length,
		       uint32_t *data_flags, nghttp2_data_source *source, void *user_data);
int h2_stream_send(nghttp2_session *framing, nghttp2_frame *frame, const uint8_t *head,
		   size_t length, nghttp2_data_source *source, void *user_data);

#endif
