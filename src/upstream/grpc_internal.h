/*
 * grpc_internal: what the files of the client pool share. Nobody else includes it. Thread: the
 * worker's.
 *
 *   upstream ─┬─ backend (an address) ─┬─ dialer ─► link (a connection) ─► stream ─► …
 *             │                        └─ dialer ─► link
 *             ├─ backend …
 *             └─ waiting: streams that have no link yet
 *
 * A dialer keeps one link alive: it dials, and dials again. A link that the peer told to go away
 * leaves its dialer, so that the next one is dialled while its last streams end.
 */
#ifndef UPSTREAM_GRPC_INTERNAL_H
#define UPSTREAM_GRPC_INTERNAL_H

#include "base/slab.h"
#include "codec/grpc.h"
#include "codec/h2.h"
#include "net/conn.h"
#include "upstream/backoff.h"
#include "upstream/grpc.h"
#include "upstream/guard.h"

#define REQUEST_ID_BYTES_MAX 128 /* longer ones are not sent on */
#define HEALTH_CHECK_PATH    SPAN("/grpc.health.v1.Health/Check")
#define RPCS_MAX	     64 /* paths with metrics of their own; more are counted by upstream only */

/* ---- metrics (grpc_metrics.c) ---- */

struct rpc_metrics { /* of one path */
	struct metric_histogram latency;
	struct metric_counter errors[GRPC_STATUS_COUNT]; /* GRPC_OK is never counted */
	size_t path_len;
	char path[]; /* and a NUL */
};

struct upstream_metrics {
	struct metric_counter calls[GRPC_STATUS_COUNT];
	struct metric_counter retries, reconnects, protocol_errors, silent;
	struct metric_gauge in_flight;
	struct rpc_metrics *rpcs[RPCS_MAX];
	size_t rpc_count;
};

/* Cells that find no room in the registry are not rendered. */
void upstream_metrics_register(struct upstream *upstream);
void upstream_metrics_finish(struct upstream *upstream);

/* Of a path, registered at its first call. Returns NULL beyond RPCS_MAX or without memory. */
struct rpc_metrics *upstream_metrics_rpc(struct upstream *upstream, struct span path);

/* ---- a call on its way (grpc_stream.c) ---- */

struct answer {
	bool is_grpc; /* content-type */
	bool has_status, has_message;
	bool encoding_unknown;
	enum grpc_status status;
	enum grpc_encoding encoding;
	uint16_t http_status;
	struct buf status_message; /* decoded */
	struct buf details;	   /* grpc-status-details-bin */
	struct grpc_deframer deframer;
	struct buf copy; /* of a message that lay in received bytes */
	struct span message;
};

struct upstream_stream {
	struct h2_stream h2;
	struct list link; /* upstream->waiting, or its link's streams; unlinked once ended */
	struct upstream *upstream;
	struct upstream_call *call; /* NULL: ended; waits for the last word of h2 */
	struct upstream_link *on;   /* NULL: waits */
	struct backend
		*pinned; /* a health check: to this address, beside max_in_flight, never retried */
	struct rpc_metrics *rpc; /* may be NULL */
	struct span path;
	const struct upstream_header *headers;
	size_t header_count;
	struct payload *message;
	struct deadline deadline;
	uint64_t started_us, due_ms;
	uint64_t avoided_link; /* serial of the link that refused it; 0: none */
	uint32_t pass;	       /* the breaker's; 0: a health check */
	struct buf held;       /* received and not told: the call is paused */
	bool is_paused, is_telling;
	bool is_timed;	       /* its latency is counted: the first message of a stream came */
	bool has_ended;	       /* the answer is whole, but for being told */
	bool is_unseen;	       /* GOAWAY said so */
	bool is_shortened;     /* the caller gave it less than the upstream's deadline */
	bool was_reset;	       /* ended by RST_STREAM, not by an answer */
	uint8_t request_id_len;
	char request_id[REQUEST_ID_BYTES_MAX];
	struct answer answer;
};

extern const struct h2_handler upstream_h2_handler;

/* Returns NULL at the bound or without memory. The deadline runs. */
struct upstream_stream *stream_create(struct upstream *upstream,
				      const struct upstream_request *request);

/* Not yet on a link, or closed by h2. */
void stream_free(struct upstream_stream *stream);

/* Onto this link, which has room. Returns 0 or -ENOMEM: the stream is then as before. */
int stream_send(struct upstream_stream *stream, struct upstream_link *link);

/* Ends the call: counts it, tells `done`. A stream that waited is freed; one on a link is reset
 * unless its peer has ended. */
void stream_end(struct upstream_stream *stream, const struct upstream_result *result);
void stream_fail(struct upstream_stream *stream, enum upstream_outcome outcome,
		 enum grpc_status status);

/* The call takes messages again. */
void stream_resume(struct upstream_stream *stream);

/* As stream_end without telling anyone. */
void stream_abandon(struct upstream_stream *stream);

/* ---- a connection (grpc_link.c) ---- */

enum link_state {
	LINK_NEW,      /* its dialer dials */
	LINK_GREETING, /* ours is sent, the peer's SETTINGS are not here */
	LINK_READY,
	LINK_LEAVING, /* GOAWAY: what is in flight may end */
	LINK_CLOSING,
	LINK_STATES
};

struct upstream_link {
	struct conn conn;
	struct list link; /* in its backend's links */
	struct backend *backend;
	struct dialer *dialer; /* NULL: has left it */
	struct h2_session *session;
	struct list streams; /* in flight */
	struct deadline
		deadline;  /* GREETING: of the greeting. Later: of silence, or of a PING's answer */
	uint64_t serial;   /* from 1, never used again */
	uint64_t ready_ms; /* when it became so */
	uint64_t received_ms;	   /* bytes of any kind */
	uint64_t pinged_ms;	   /* when the last PING was sent */
	uint32_t unrewarded_pings; /* since HEADERS or DATA last came */
	uint8_t state;		   /* enum link_state */
	bool ping_is_out;
	bool has_answered; /* HEADERS came on some stream */
};

/* Returns NULL without memory. */
struct upstream_link *link_create(struct dialer *dialer);

/* One that was never opened; others end by themselves. */
void link_destroy(struct upstream_link *link);

/* Owns: the file. Returns 0 or a negative errno, with the file closed. `greeting_ms`: for the
 * peer's SETTINGS. */
int link_open(struct upstream_link *link, struct file_ref file, uint32_t greeting_ms);

/* Whether a call may be sent on it now. */
bool link_has_room(const struct upstream_link *link);

/* What the h2 session has to say leaves with this turn. */
void link_flush(struct upstream_link *link);

/* What h2 heard from the peer. */
void link_settings(struct upstream_link *link);
void link_goaway(struct upstream_link *link, int32_t last_stream_id, uint32_t code);

/* A call went out on it: from now on silence means something. */
void link_watch(struct upstream_link *link);

/* HEADERS or DATA came. */
void link_heard(struct upstream_link *link);

/* A call ran into its deadline: is the peer still there? */
void link_suspect(struct upstream_link *link);

/* A stream has gone: a leaving link may be done now. */
void link_settle(struct upstream_link *link);

/* Ends everything on it with UPSTREAM_UNAVAILABLE. `politely`: GOAWAY first. No-op when closing. */
void link_drop(struct upstream_link *link, const char *why, bool politely);

/* ---- an address (backend.c) ---- */

enum dialer_state {
	DIALER_OFF,
	DIALER_DIALING,
	DIALER_CONNECTED,
	DIALER_WAITING,
	DIALER_STOPPING,
	DIALER_STATES
};

struct dialer {
	struct backend *backend;
	struct upstream_link *link; /* DIALING: to be opened; CONNECTED */
	struct dial dial;
	struct deadline retry;
	struct backoff backoff;
	uint64_t dial_started_ms;
	uint8_t state;	 /* enum dialer_state */
	bool was_silent; /* the last try ran into its timeout: calls do not wait for the next */
	bool calls_wait; /* while WAITING */
	bool dialed_before;
};

enum health { HEALTH_UNKNOWN, HEALTH_GOOD, HEALTH_BAD };

struct backend {
	struct upstream *upstream;
	const struct endpoint *endpoint;
	char text[ENDPOINT_TEXT_MAX];
	char authority[ENDPOINT_TEXT_MAX];
	struct dialer *dialers; /* config->connections */
	uint32_t dialer_next;	/* round robin */
	struct list links;	/* all of them, leaving and closing too */
	uint32_t ready_count;	/* links in LINK_READY */
	enum health health;
	struct upstream_call check;
	struct deadline check_deadline;
	bool check_is_repeated;
	struct metric_gauge healthy;
};

void backend_init(struct backend *backend, struct upstream *upstream,
		  const struct endpoint *endpoint);
void backend_start(struct backend *backend);
void backend_stop(struct backend *backend);
/* Nothing is in flight any more. */
bool backend_is_stopped(const struct backend *backend);

/* A link that may take a call now, in turn; not the one with this serial. NULL: none. Healthy or
 * not. */
struct upstream_link *backend_pick(struct backend *backend, uint64_t avoided_link);

/* Whether waiting for it makes sense: a connection is, or is being made, that may take calls. */
bool backend_is_hopeful(const struct backend *backend, uint64_t avoided_link);

/* A link is ready, or no longer. */
void backend_gain(struct backend *backend);
void backend_lose(struct backend *backend);

/* After health or ready_count changed. */
void backend_show(struct backend *backend);

enum dialer_loss {
	LOSS_GRACEFUL, /* GOAWAY: dial again at once */
	LOSS_EARLY,    /* GOAWAY on a connection that had been of no use yet: after a backoff */
	LOSS_BROKEN,   /* a connection that had been of use: soon */
	LOSS_FAILED,   /* one that had not: after a backoff; calls do not wait for it */
	LOSS_SILENT,   /* it did not answer at all: likewise, nor while it is dialled */
};

/* The link is no longer its dialer's: the dialer dials again, unless the pool stops. */
void dialer_lost(struct dialer *dialer, enum dialer_loss loss);

/* `why` may be empty. */
void backend_log(const struct backend *backend, enum log_level level, const char *message,
		 const char *why);

/* ---- health (health.c) ---- */

void health_init(struct backend *backend);
/* The first link of this address is ready. */
void health_begin(struct backend *backend);
/* The last one has gone. */
void health_forget(struct backend *backend);
void health_stop(struct backend *backend);

/* ---- the pool (grpc.c) ---- */

struct upstream {
	struct worker *worker;
	struct upstream_options options;
	const struct config_upstream *config;
	struct backend *backends;
	size_t backend_count;
	size_t backend_next; /* round robin */
	struct slab streams;
	struct h2_memory *h2_memory; /* of its links' sessions */
	struct list waiting;
	struct list parked; /* whole answers that are not told yet */
	uint32_t in_flight_count; /* waiting ones too; health checks not */
	uint64_t link_serial;
	struct payload *check_message;
	struct guard guard;
	struct task pump, settle;
	struct backoff jitter;
	bool is_running, is_retiring, is_stopping;
	void (*stopped)(void *context);
	void *stopped_context;
	struct upstream_metrics metrics;
};

/* Whether any address has a connection that is up, whatever it can take. */
bool upstream_is_connected(const struct upstream *upstream);

/* Something changed that waiting calls may profit from, or must hear of: looked at in this turn. */
void upstream_pump_later(struct upstream *upstream);

/* Something ended: is the pool stopped now? */
void upstream_settle_later(struct upstream *upstream);

#endif
