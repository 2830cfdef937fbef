/*
 * upstreams: the services that one worker calls, by what the configuration file says now. A service
 * that a later file no longer has, or has otherwise, takes no new calls and ends with its last one.
 * Thread: the worker's. Source: edge.md §2.3.
 *
 *   init ─► start ─► prepare ─┬─ commit ──► (the new file is routed by)
 *                             └─ abandon ─► (as if nothing had been)
 *   any ─► stop ─► finish
 */
#ifndef UPSTREAM_UPSTREAMS_H
#define UPSTREAM_UPSTREAMS_H

#include "base/list.h"
#include "upstream/grpc.h"

struct upstreams_options {
	struct worker *worker;
	uint32_t message_bytes_max;
	struct dns *dns;
	struct metric_registry *metrics;
	struct span announced_path; /* of each service, as upstream_announce; empty: none */
};

struct service; /* one upstream */

/* A file and its services, in the file's order. */
struct upstream_set {
	struct list link;	  /* in upstreams->earlier */
	struct config_file *file; /* NULL: none */
	struct service **services;
	uint32_t hold_count;
};

struct upstreams {
	struct upstreams_options options;
	struct upstream_set current, next;
	struct list earlier;	   /* sets that are no longer current, and still held */
	struct upstream_set *past; /* with `next`: what current becomes if it is held then */
	struct list services; /* all: of the current file, of the next one, and those that end */
	bool is_started;
	void (*stopped)(void *context);
	void *stopped_context;
};

/* Takes a reference of its own to `file`. Returns 0 or -ENOMEM; upstreams_finish, whatever was
 * returned. */
int upstreams_init(struct upstreams *upstreams, const struct upstreams_options *options,
		   struct config_file *file);

/* Begins to dial. */
void upstreams_start(struct upstreams *upstreams);

/* The upstream that this message type goes to, or NULL: not routed. Lent until the next turn. */
struct upstream *upstreams_route(const struct upstreams *upstreams, struct span message_type);

/*
 * What the current file has can be called until upstreams_release, whatever file comes meanwhile: for
 * who has begun by that file and will call later. Each hold has its release, with the file that was
 * current (a reference is the caller's); after upstreams_stop that is a no-op.
 */
void upstreams_hold(struct upstreams *upstreams);
void upstreams_release(struct upstreams *upstreams, const struct config_file *file);

/* The service of an index in `file`, or NULL when that is neither current nor held. */
struct upstream *upstreams_at(const struct upstreams *upstreams, const struct config_file *file,
			      size_t index);

/*
 * Makes all that `file` (a reference is taken) has and the current one has not; nothing is dialled.
 * Then commit or abandon. A service that is the same in both (config_upstream_equal) is kept as it
 * is, connections and all. Returns 0 or -ENOMEM: abandoned already.
 */
int upstreams_prepare(struct upstreams *upstreams, struct config_file *file);
void upstreams_commit(struct upstreams *upstreams);
void upstreams_abandon(struct upstreams *upstreams); /* no-op when nothing is prepared */

/* Ends them all, calls too; `stopped` may come before this returns. What was prepared is abandoned.
 */
void upstreams_stop(struct upstreams *upstreams, void (*stopped)(void *context), void *context);

/* After `stopped`, or without upstreams_start. */
void upstreams_finish(struct upstreams *upstreams);

#endif
