/* rig: the client pool and scripted services, all on one worker; time jumps where nothing else
 * happens. */
#ifndef UNIT_UPSTREAM_RIG_H
#define UNIT_UPSTREAM_RIG_H

#include "unit/upstream/jumping_worker.h"
#include "unit/upstream/service.h"

#include "upstream/grpc.h"

#define SERVICES_MAX 3
#define CALLS_MAX    64
#define PATH	     "/galaxy.gateway.v1.CommandHandler/Handle"
#define MESSAGE_MAX  65536

struct call {
	struct upstream_call call;
	bool done;
	struct upstream_result result;
	char message[256];
	struct call *cancels; /* in its done */
	struct call *starts;
};

struct rig {
	struct worker *worker;
	struct service services[SERVICES_MAX];
	size_t service_count;
	struct endpoint endpoints[SERVICES_MAX];
	struct config_upstream config;
	struct upstream *upstream;
	struct metric_registry *metrics;
	struct call calls[CALLS_MAX];
	bool stopped;
};

__attribute__((unused)) static void turns(struct rig *rig, int count)
{
	for (int i = 0; i < count; i++)
		assert_int_equal(worker_turn(rig->worker, 2000), 0);
}

__attribute__((unused)) static void jump_ms(struct rig *rig, uint64_t ms)
{
	turns(rig, 3);
	ahead_us += ms * 1000;
	turns(rig, 3);
}

__attribute__((unused)) static void rig_services(struct rig *rig, size_t count)
{
	rig->worker = worker_make();
	rig->metrics = metric_registry_create();
	rig->service_count = count;
	for (size_t i = 0; i < count; i++) {
		service_start(&rig->services[i], rig->worker);
		rig->endpoints[i] = (struct endpoint){
			.kind = ENDPOINT_HOST, .port = rig->services[i].port, .host = "127.0.0.1"};
	}
	rig->config = (struct config_upstream){
		.name = "fleet",
		.addresses = rig->endpoints,
		.address_count = count,
		.deadline_ms = 2000,
		.connections = 1,
		.max_in_flight = 32,
		.health_interval_ms = 5000,
	};
}

__attribute__((unused)) static void rig_start(struct rig *rig)
{
	const struct upstream_options options = {
		.config = &rig->config,
		.message_bytes_max = MESSAGE_MAX,
		.metrics = rig->metrics,
	};

	assert_int_equal(upstream_create(&rig->upstream, rig->worker, &options), 0);
	upstream_start(rig->upstream);
}

/* One service, and the pool connected to it. */
__attribute__((unused)) static void rig_open(struct rig *rig)
{
	rig_services(rig, 1);
	rig_start(rig);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

__attribute__((unused)) static void rig_stopped(void *context)
{
	((struct rig *)context)->stopped = true;
}

__attribute__((unused)) static void rig_stop_upstream(struct rig *rig)
{
	upstream_stop(rig->upstream, rig_stopped, rig);
	TURN_UNTIL(rig->worker, rig->stopped);
	upstream_destroy(rig->upstream);
	rig->upstream = NULL;
}

__attribute__((unused)) static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	return rig ? 0 : -1;
}

__attribute__((unused)) static int teardown(void **state)
{
	struct rig *rig = *state;

	if (rig->upstream)
		rig_stop_upstream(rig);
	for (size_t i = 0; i < rig->service_count; i++)
		service_stop(&rig->services[i]);
	metric_registry_destroy(rig->metrics);
	harness_worker_finish(rig->worker);
	free(rig->worker);
	free(rig);
	return 0;
}

__attribute__((unused)) static void call_done(struct upstream_call *upstream_call,
					      const struct upstream_result *result)
{
	struct call *call = CONTAINER_OF(upstream_call, struct call, call);

	assert_false(call->done);
	call->done = true;
	call->result = *result;
	snprintf(call->message, sizeof(call->message), "%.*s", SPAN_ARGS(result->message));
	if (call->cancels)
		upstream_call_cancel(&call->cancels->call);
}

__attribute__((unused)) static int start_sized(struct rig *rig, size_t index, size_t bytes,
					       uint64_t deadline_ms)
{
	uint8_t *message = calloc(1, bytes + 1);

	assert_non_null(message);
	memset(message, 'a', bytes);

	struct payload *payload = service_message(span_make(message, bytes));
	const struct upstream_request request = {
		.path = SPAN(PATH),
		.message = payload,
		.deadline_ms = deadline_ms,
		.request_id = SPAN("request-1"),
	};
	int code = upstream_call_start(rig->upstream, &rig->calls[index].call, call_done, &request);

	free(message);
	payload_put(payload);
	return code;
}

__attribute__((unused)) static int start(struct rig *rig, size_t index)
{
	return start_sized(rig, index, 5, 0);
}

__attribute__((unused)) static struct upstream_result call_once(struct rig *rig, size_t index)
{
	assert_int_equal(start(rig, index), 0);
	TURN_UNTIL(rig->worker, rig->calls[index].done);
	return rig->calls[index].result;
}

__attribute__((unused)) static bool has_metric(struct rig *rig, const char *line)
{
	struct buf text;

	buf_init(&text, 1u << 20);
	metric_render(rig->metrics, &text);
	buf_append_byte(&text, '\0');

	bool found = strstr((const char *)text.data, line) != NULL;

	if (!found)
		print_message("not in:\n%s\n", (const char *)text.data);
	buf_finish(&text);
	return found;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
