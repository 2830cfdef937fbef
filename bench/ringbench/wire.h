/*
 * wire: the client's end of HTTP/2 with prior knowledge, by hand and only as far as a load
 * generator needs it, so that it costs less than the server: requests are prebuilt header blocks
 * and bodies, answers are frames by their heads, header blocks by codec/hpack unless the same bytes
 * have been decoded before. Windows are as wide as they go. Thread: its lane's.
 * Source: RFC 9113, RFC 7541.
 */
#ifndef RINGBENCH_WIRE_H
#define RINGBENCH_WIRE_H

#include "link.h"

#include "base/buf.h"

struct hpack;
struct wire;

/* ---- requests ---- */

struct wire_header {
	const char *name, *value;
};

#define WIRE_BLOCK_MAX 1024

/* A header block in three forms; the same for all requests of a run. */
struct wire_request {
	uint8_t first[WIRE_BLOCK_MAX]; /* puts every field into the peer's table … */
	uint8_t next[64];	       /* … and names them there */
	uint8_t plain[WIRE_BLOCK_MAX]; /* for a peer that keeps no table */
	uint16_t first_len, next_len, plain_len;
};

/* Returns 0 or -EMSGSIZE. */
int wire_request_make(struct wire_request *request, const struct wire_header *headers,
		      size_t count);

/* ---- answers ---- */

struct wire_head {	     /* what is looked at of a header block */
	int16_t status;	     /* :status; 0: none */
	int16_t grpc_status; /* -1: none */
	bool is_grpc;	     /* content-type application/grpc… */
};

struct wire_stream { /* embedded in who asks */
	int32_t id;  /* 0: not open */
};

struct wire_handler {
	/* The peer's SETTINGS are here. */
	void (*ready)(struct wire *wire);
	void (*head)(struct wire *wire, struct wire_stream *stream, const struct wire_head *head);
	/* A DATA frame's bytes, lent until return. */
	void (*data)(struct wire *wire, struct wire_stream *stream, struct span bytes);
	/* END_STREAM, or `reset`: the peer's RST_STREAM. The stream is not open any more. */
	void (*ended)(struct wire *wire, struct wire_stream *stream, bool reset);
	/* The connection's window has opened again after an -EAGAIN. */
	void (*resumed)(struct wire *wire);
	/* Last call for the connection; streams that were open are not told one by one. */
	void (*closed)(struct wire *wire);
};

#define WIRE_BLOCKS 4 /* kinds of header blocks that a server sends again and again */

struct wire_block {
	uint64_t version; /* of the table that it was decoded with */
	uint16_t len;	  /* 0: none */
	struct wire_head head;
	uint8_t bytes[256];
};

struct wire {
	struct link link;
	const struct wire_handler *handler;
	struct hpack *hpack;
	uint64_t table_version; /* counts the blocks that changed the peer's table */
	struct wire_block blocks[WIRE_BLOCKS];
	uint32_t block_next;
	struct buf partial;	      /* a frame cut by the transport */
	struct buf fragments;	      /* of a header block in several frames */
	struct wire_stream **streams; /* by id; a power of two */
	uint32_t stream_mask;
	int32_t next_id, fragments_id; /* fragments_id 0: no header block is open */
	bool fragments_end;	       /* END_STREAM of the block */
	bool has_settings, has_table, is_blocked, is_broken;
	uint32_t max_streams, frame_max, stream_window; /* the peer's */
	int64_t window;					/* the connection's, to send */
	uint64_t taken_bytes;				/* of our own window, not given back yet */
};

/* Connects. `streams_max`: open at a time. Returns 0 or -ENOMEM. */
int wire_open(struct wire *wire, struct lane *lane, uint32_t number, uint32_t streams_max,
	      const struct wire_handler *handler);

/* Safe in any state; `closed` follows if it was connected. */
void wire_close(struct wire *wire);

/* Gives back the memory of a closed, or zeroed, wire. */
void wire_free(struct wire *wire);

/*
 * Opens a stream; everything of one turn leaves in one send.
 * Returns 0, -EAGAIN (the window: `resumed` follows), or another negative code (broken).
 */
int wire_ask(struct wire *wire, struct wire_stream *stream, const struct wire_request *request,
	     struct span body);

static inline struct lane *wire_lane(const struct wire *wire)
{
	return wire->link.lane;
}

#endif
