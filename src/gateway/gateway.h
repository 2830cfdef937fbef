/*
 * gateway: the edge gateway as a whole: what its nodes share, its threads, its start and its end.
 * Thread: the control worker's (main), unless a line says otherwise. Source: edge.md §6.
 *
 *   create ─► start ─(bus knows where the streams end; every node listens)─► started
 *   stop: draining ─ delay ─► listeners ─► subscribers ─► push hub ─► calls ─► bus ─► workers ─► stopped
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "auth/signer.h"
#include "config/config.h"
#include "net/listener.h"
#include "uring/worker.h"

struct gateway;
struct tls_context;

struct gateway_options {
	const struct config *config;
	const struct tls_context *redis_tls; /* NULL: plain */
	const struct signer *signer;
	struct worker *control;      /* the main thread's */
	uint32_t worker_count;
	uint64_t nofile;             /* soft RLIMIT_NOFILE */
	struct metric_registry *metrics;
	const struct listen_socket *public_socket, *grpc_socket;
	void (*started)(void *context);
	void (*stopped)(void *context, bool clean); /* clean: no component had to be cut */
	void *context;
};

/*
 * The four bounded PINGs. Runs turns of `control` itself, before it runs.
 * Returns 0, or a negative code with a sentence in `why` that names the check that failed.
 */
int gateway_ping(struct worker *control, const struct config *config,
		 const struct tls_context *redis_tls, char *why, size_t why_size);

/* Builds all parts. Returns 0 or a negative code with a sentence in `why`. */
int gateway_create(struct gateway **gateway, const struct gateway_options *options, char *why, size_t why_size);

/* Starts the threads; `started` follows when every listener accepts. Returns 0 or a negative code with `why`. */
int gateway_start(struct gateway *gateway, char *why, size_t why_size);

/* Begins the end, in any state after gateway_start; once. `stopped` follows, then gateway_destroy may. */
void gateway_stop(struct gateway *gateway);

bool gateway_is_draining(const struct gateway *gateway);

void gateway_destroy(struct gateway *gateway);

#endif
