/* gateway_internal: the state behind gateway.h, shared by gateway.c and gateway_stop.c. */
#ifndef GATEWAY_GATEWAY_INTERNAL_H
#define GATEWAY_GATEWAY_INTERNAL_H

#include "gateway/gateway.h"
#include "gateway/node.h"
#include "gateway/routes.h"
#include "gateway/subscribe.h"

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
	uint32_t index;                /* of the node */
	struct node *node;             /* NULL: the bus */
	struct letter command, report, drain_notice, cut_notice;
	gateway_command *run;
	bool listening;
	uint8_t servers_open;
	uint32_t owing_count; /* cut while waiting for a service; the node's, then control's */
	char name[24];
};

/* gateway_errand.c: something asked of every node beside its life. */
struct errand_leg {
	struct letter letter; /* there and back */
	struct errand *errand;
	struct gateway_thread *thread;
	int error; /* the node's answer */
};

/* Thread: the node's. */
typedef void errand_leg_fn(struct errand_leg *leg);

struct errand {
	struct gateway *gateway;
	errand_leg_fn *on_node;
	void (*done)(struct errand *errand); /* thread: control */
	uint32_t legs_out;
	struct errand_leg *legs; /* one for each node */
};

struct gateway {
	struct node_shared shared;
	struct routes routes;
	struct worker *control;
	struct gateway_options options;
	struct bus_port *ports;
	struct gateway_thread bus_thread; /* unused where shared.bus is NULL */
	struct gateway_thread *node_threads;
	uint32_t node_count;
	uint32_t reports_due;
	void (*reported)(struct gateway *gateway); /* when reports_due falls to 0 */
	struct letter bus_started;
	bool starting, stopping, clean;
	bool nodes_leave; /* they were told to stop: no errand any more */
	struct errand survey_errand, reload_errand;
	struct survey *surveys; /* one for each node, which fills it */
	gateway_surveyed_fn *surveyed;
	void *survey_context;
	struct config_file *reload_file; /* NULL: none under way */
	gateway_reloaded_fn *reloaded;
	void *reload_context;
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

/* Thread: control. One that is out must come back first (CHECK). */
int errand_init(struct errand *errand, struct gateway *gateway);
void errand_finish(struct errand *errand);
void errand_send(struct errand *errand, errand_leg_fn *on_node, void (*done)(struct errand *errand));

/* After the threads' memory is there. Returns 0 or -ENOMEM. */
int gateway_errands_init(struct gateway *gateway);
void gateway_errands_finish(struct gateway *gateway);

/* gateway_stop.c: the deadlines of the end. */
void gateway_stop_init(struct gateway *gateway);

#endif
