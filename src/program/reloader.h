/*
 * reloader: the configuration file in use, and reading it again at SIGHUP. One reload at a time;
 * requests that come meanwhile are one more after it. A file with mistakes, or one that not every
 * worker could take, changes nothing. Thread: main's. Source: edge.md §2.3, api.md §1.
 */
#ifndef PROGRAM_RELOADER_H
#define PROGRAM_RELOADER_H

#include "config/config.h"
#include "gateway/gateway.h"

enum reload_result { RELOAD_SUCCESS, RELOAD_MISTAKES, RELOAD_FAILED, RELOAD_RESULTS };

struct reloader {
	const struct config *config;
	struct worker *control;
	struct gateway *gateway;  /* of the latest request */
	struct config_file *file; /* what is routed by */
	struct config_file *next; /* on its way to the workers; NULL: none */
	bool is_asked_again, is_serving, is_stopped;
	struct metric_counter results[RELOAD_RESULTS];
	struct metric_gauge last_success; /* seconds since 1970 */
};

/* Lifetime: config, control and metrics outlive it. Returns 0 or -ENOMEM. */
int reloader_init(struct reloader *reloader, const struct config *config, struct worker *control,
		  struct metric_registry *metrics);
void reloader_finish(struct reloader *reloader); /* also of one that is all zero */

/* The process serves: the service manager is told, now and after each reload. */
void reloader_start(struct reloader *reloader);

/* The process ends: requests are ignored. */
void reloader_stop(struct reloader *reloader);

void reloader_request(struct reloader *reloader, struct gateway *gateway);

#endif
