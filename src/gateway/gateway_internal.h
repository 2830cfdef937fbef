/* gateway_internal: the state behind gateway.h, shared by gateway.c and gateway_stop.c. */
#ifndef GATEWAY_GATEWAY_INTERNAL_H
#define GATEWAY_GATEWAY_INTERNAL_H

#include "gateway/gateway.h"
#include "gateway/node.h"
#include "gateway/routes.h"

#include <pthread.h>

struct gateway_thread;

/* Runs on the thread; calls gateway_report when it has done what it was told. */
typedef void gateway_command(struct gateway_thread *thread);

/* A thread with a ring: a node's or the bus's. Control tells it one thing at a time. */
struct gateway_thread {
	struct gateway *gateway;
	struct worker worker;
	pthread_t thread;
	bool is_running, is_reporting; /* control's: reporting means told and not yet answered */
	int error;                     /* the thread's result, after it was joined */
	uint32_t index;                /* of the node */
	struct node *node;             /* NULL: the bus */
	struct letter command, report, drain_notice;
	gateway_command *run;
	bool listening;
	uint8_t servers_open;
	char name[24];
};

struct gateway {
	struct node_shared shared;
	struct routes routes;
	struct worker *control;
	struct gateway_options options;
	struct bus_port *ports;
	struct gateway_thread bus_thread;
	struct gateway_thread *node_threads;
	uint32_t node_count;
	uint32_t reports_due;
	void (*reported)(struct gateway *gateway); /* when reports_due falls to 0 */
	struct letter bus_started;
	bool starting, stopping, clean;
	/* the end */
	size_t step;
	bool step_was_cut;
	uint64_t step_started_ms;
	struct deadline step_deadline, delay_deadline;
};

/* Tells one thread. Thread: control. */
void gateway_tell(struct gateway_thread *thread, gateway_command *run);
void gateway_tell_nodes(struct gateway *gateway, gateway_command *run);

/* Thread: the told one. */
void gateway_report(struct gateway_thread *thread);

/* gateway_stop.c: the deadlines of the end. */
void gateway_stop_init(struct gateway *gateway);

#endif
