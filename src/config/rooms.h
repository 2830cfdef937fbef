/*
 * rooms: which gateways are configured, that there is one, and what is said to no effect because
 * the edge gateway is not. Thread: main. Source: edge.md §7.
 */
#ifndef CONFIG_ROOMS_H
#define CONFIG_ROOMS_H

#include "config/option.h"

/* As gRPC names the edge gateway. */
#define EDGE_SERVICE "galaxy.gateway.v1.EdgeGateway"

/* Of a file without mistakes: a mistake if there is nothing to do, else warnings of its parts. */
void rooms_check(const struct config *config, const struct config_file *file,
		 struct report *report);

/* Warnings of variables. Where rooms_check found something to do. */
void rooms_check_environment(const struct config *config, char *const *environment,
			     struct report *report);

#endif
