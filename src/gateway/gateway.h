/*
 * gateway: the edge gateway as a whole: what its nodes share, its threads, its start and its end.
 * Where it is not configured (config_has_edge) all this is the guest's home alone: no bus, no
 * Redis, no gRPC listener, and steps of the end that have no part are not taken.
 * Thread: the control worker's (main), unless a line says otherwise. Source: edge.md §6, §7.
 *
 *   create ─► start ─(bus, if any, knows where the streams end; every node listens)─► started
 *   stop: draining ─ delay ─► listeners ─► subscribers ─► push hub ─► calls ─► bus ─► workers
 *         ─► stopped
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "auth/signer.h"
#include "config/config.h"
#include "gateway/guest.h"
#include "gateway/survey.h"
#include "net/listener.h"
#include "uring/worker.h"

struct gateway;
struct tls_context;

struct gateway_options {
	const struct config *config;
	const struct tls_context *redis_tls; /* NULL: plain */
	const struct signer *signer;	     /* NULL: no edge gateway */
	struct worker *control;		     /* the main thread's */
	uint32_t worker_count;
	uint64_t nofile; /* soft RLIMIT_NOFILE */
	bool direct_files; /* of each worker so many connections; else of all together */
	struct metric_registry *metrics;
	const struct listen_socket *public_socket;
	const struct listen_socket *grpc_socket; /* of the edge gateway */
	const struct guest_operations *guest; /* of every worker; NULL: none */
	void *guest_shared;		      /* theirs together; outlives the gateway */
	void (*started)(void *context);
	/* No worker accepts any more: the sockets may be closed, so that clients are refused at
	 * once. */
	void (*accepting_stopped)(void *context);
	void (*stopped)(void *context, bool clean); /* clean: no component had to be cut */
	void *context;
};

/*
 * The four bounded PINGs; of the edge gateway. Runs turns of `control` itself, before it runs.
 * Returns 0, or a negative code with a sentence in `why` that names the check that failed.
 */
int gateway_ping(struct worker *control, const struct config *config,
		 const struct tls_context *redis_tls, char *why, size_t why_size);

/* Builds all parts. Returns 0 or a negative code with a sentence in `why`. */
int gateway_create(struct gateway **gateway, const struct gateway_options *options, char *why,
		   size_t why_size);

/* Starts the threads; `started` follows when every listener accepts. Returns 0 or a negative code
 * with `why`. */
int gateway_start(struct gateway *gateway, char *why, size_t why_size);

/* Begins the end, in any state after gateway_start; once. `stopped` follows, then gateway_destroy
 * may. */
void gateway_stop(struct gateway *gateway);

/* One survey for each worker; lent. */
typedef void gateway_surveyed_fn(void *context, const struct survey *surveys, size_t count);

/*
 * Asks every worker about its event streams; `surveyed` follows once. Returns 0, -EBUSY (one is
 * under way) or -ESHUTDOWN (the workers end).
 */
int gateway_survey(struct gateway *gateway, gateway_surveyed_fn *surveyed, void *context);

/* 0: every worker uses the file. Else none does: -ENOMEM, or -ESHUTDOWN: the end came first. */
typedef void gateway_reloaded_fn(void *context, int error);

/*
 * Swaps upstreams and command routes on every worker, or on none; calls in flight end where they
 * are. Takes a reference. Returns 0 (`reloaded` follows once), -EBUSY (one is under way) or
 * -ESHUTDOWN.
 */
int gateway_reload(struct gateway *gateway, struct config_file *file, gateway_reloaded_fn *reloaded,
		   void *context);

bool gateway_is_draining(const struct gateway *gateway);

void gateway_destroy(struct gateway *gateway);

#endif
