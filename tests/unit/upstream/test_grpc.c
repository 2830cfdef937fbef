/* The client pool against scripted services, both on one worker; time jumps where nothing else
 * happens. */
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

static uint64_t jumped_us;

static uint64_t clock_us(void *context)
{
	struct timespec now;

	(void)context;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 + jumped_us;
}

static int64_t wall_ms(void *context)
{
	return (int64_t)(clock_us(context) / 1000);
}

static struct worker *worker_make(void)
{
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);
	const struct worker_options options = {
		.name = "test",
		.ring = {.sq_entries = 256,
			 .cq_entries = 16384,
			 .file_slots = 256,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = {clock_us, wall_ms, NULL},
	};
	char why[256] = "";

	assert_non_null(worker);
	memset(worker, 0, sizeof(*worker));
	if (worker_init(worker, &options, why, sizeof(why)) != 0)
		fail_msg("worker_init: %s", why);
	assert_int_equal(worker_turn(worker, 0), 0);
	return worker;
}

static void turns(struct rig *rig, int count)
{
	for (int i = 0; i < count; i++)
		assert_int_equal(worker_turn(rig->worker, 200), 0);
}

static void jump_ms(struct rig *rig, uint64_t ms)
{
	turns(rig, 3);
	jumped_us += ms * 1000;
	turns(rig, 3);
}

static void rig_services(struct rig *rig, size_t count)
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

static void rig_start(struct rig *rig)
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
static void rig_open(struct rig *rig)
{
	rig_services(rig, 1);
	rig_start(rig);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

static void rig_stopped(void *context)
{
	((struct rig *)context)->stopped = true;
}

static void rig_stop_upstream(struct rig *rig)
{
	upstream_stop(rig->upstream, rig_stopped, rig);
	TURN_UNTIL(rig->worker, rig->stopped);
	upstream_destroy(rig->upstream);
	rig->upstream = NULL;
}

static int setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	return rig ? 0 : -1;
}

static int teardown(void **state)
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

static void call_done(struct upstream_call *upstream_call, const struct upstream_result *result)
{
	struct call *call = CONTAINER_OF(upstream_call, struct call, call);

	assert_false(call->done);
	call->done = true;
	call->result = *result;
	snprintf(call->message, sizeof(call->message), "%.*s", SPAN_ARGS(result->message));
	if (call->cancels)
		upstream_call_cancel(&call->cancels->call);
}

static int start_sized(struct rig *rig, size_t index, size_t bytes, uint64_t deadline_ms)
{
	uint8_t *message = calloc(1, bytes + 1);

	assert_non_null(message);
	memset(message, 'a', bytes);

	struct payload *payload = service_message(span_make(message, bytes));
	const struct upstream_request request = {
		.path = PATH,
		.message = payload,
		.deadline_ms = deadline_ms,
		.request_id = SPAN("request-1"),
	};
	int code = upstream_call_start(rig->upstream, &rig->calls[index].call, call_done, &request);

	free(message);
	payload_put(payload);
	return code;
}

static int start(struct rig *rig, size_t index)
{
	return start_sized(rig, index, 5, 0);
}

static struct upstream_result call_once(struct rig *rig, size_t index)
{
	assert_int_equal(start(rig, index), 0);
	TURN_UNTIL(rig->worker, rig->calls[index].done);
	return rig->calls[index].result;
}

static bool has_metric(struct rig *rig, const char *line)
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

/* ---- the main path ---- */

static void call_is_answered(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_null(rig->calls[0].call.stream);
	assert_string_equal(rig->services[0].last_type, "application/grpc");
	assert_string_equal(rig->services[0].last_request_id, "request-1");

	char authority[32];

	snprintf(authority, sizeof(authority), "127.0.0.1:%u", rig->services[0].port);
	assert_string_equal(rig->services[0].last_authority, authority);
	assert_true(
		has_metric(rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"OK\"} 1\n"));
	assert_true(has_metric(rig, "upstream_grpc_latency_seconds_count{upstream=\"fleet\","
				    "rpc=\"galaxy.gateway.v1.CommandHandler/Handle\"} 1\n"));
}

static void call_waits_for_the_first_connection(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig_start(rig);
	assert_false(upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
}

static void large_messages_go_both_ways(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	/* over a frame, and over nothing that h2 would window */
	assert_int_equal(start_sized(rig, 0, MESSAGE_MAX, 0), 0);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_OK);
	assert_int_equal(rig->calls[0].result.message.len, MESSAGE_MAX);
	/* the request's limit is not ours to enforce; its echo is over the answer's */
	assert_int_equal(start_sized(rig, 1, MESSAGE_MAX + 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_MALFORMED);
	assert_int_equal(rig->calls[1].result.status, GRPC_RESOURCE_EXHAUSTED);
	/* the connection lives on */
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].connections, 1);
}

static void deadline_is_the_shorter_and_is_sent(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)),
			 2000000);
	assert_int_equal(start_sized(rig, 1, 1, 150), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)), 150000);
	assert_int_equal(start_sized(rig, 2, 1, 60000), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 3);
	assert_int_equal(grpc_parse_timeout(span_from_cstr(rig->services[0].last_timeout)),
			 2000000);

	jump_ms(rig, 160);
	assert_true(rig->calls[1].done);
	assert_false(rig->calls[0].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_TIMEOUT);
	assert_int_equal(rig->calls[1].result.status, GRPC_DEADLINE_EXCEEDED);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 1);
	jump_ms(rig, 2000);
	assert_true(rig->calls[0].done && rig->calls[2].done);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 3);
}

static void cancel_resets_the_stream(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	upstream_call_cancel(&rig->calls[0].call);
	assert_null(rig->calls[0].call.stream);
	upstream_call_cancel(&rig->calls[0].call);
	TURN_UNTIL(rig->worker, rig->services[0].cancelled == 1);
	assert_false(rig->calls[0].done);
	assert_true(has_metric(
		rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"CANCELLED\"} 1\n"));
	assert_true(has_metric(rig, "upstream_grpc_in_flight{upstream=\"fleet\"} 0\n"));

	/* before it is sent, and while it waits */
	assert_int_equal(start(rig, 1), 0);
	upstream_call_cancel(&rig->calls[1].call);
	turns(rig, 10);
	rig->services[0].script = SCRIPT_ECHO;
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
}

static void done_may_cancel_another_call(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	assert_int_equal(start(rig, 1), 0);
	rig->calls[0].cancels = &rig->calls[1];
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	service_close_peers(&rig->services[0]);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	turns(rig, 5);
	assert_false(rig->calls[1].done);
}

static void max_in_flight_refuses_at_once(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->config.max_in_flight = 3;
	rig_start(rig);
	/* those that wait for the connection count too */
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(start(rig, i), 0);
	assert_int_equal(start(rig, 3), -UPSTREAM_BUSY);
	assert_null(rig->calls[3].call.stream);
	TURN_UNTIL(rig->worker, rig->calls[0].done && rig->calls[1].done && rig->calls[2].done);
	assert_int_equal(call_once(rig, 3).outcome, UPSTREAM_OK);
	assert_true(has_metric(rig, "code=\"RESOURCE_EXHAUSTED\"} 1\n"));
}

/* ---- answers of every kind ---- */

struct answer_row {
	enum script script;
	enum grpc_status given;
	const char *text;
	enum upstream_outcome outcome;
	enum grpc_status status;
	const char *message;
};

static void every_answer_has_its_outcome(void **state)
{
	static const struct answer_row rows[] = {
		{SCRIPT_STATUS, GRPC_NOT_FOUND, "no%20such%C3%A9", UPSTREAM_STATUS, GRPC_NOT_FOUND,
		 "no such\xc3\xa9"},
		{SCRIPT_STATUS, GRPC_INTERNAL, NULL, UPSTREAM_STATUS, GRPC_INTERNAL, ""},
		{SCRIPT_STATUS, 99, "odd", UPSTREAM_STATUS, GRPC_UNKNOWN, "odd"},
		{SCRIPT_STATUS, GRPC_OK, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_STATUS, GRPC_DEADLINE_EXCEEDED, "its own", UPSTREAM_STATUS,
		 GRPC_DEADLINE_EXCEEDED, "its own"},
		{SCRIPT_LATE_STATUS, GRPC_ABORTED, "late", UPSTREAM_STATUS, GRPC_ABORTED, "late"},
		{SCRIPT_WRONG_TYPE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_HTTP_ERROR, 0, NULL, UPSTREAM_STATUS, GRPC_UNAVAILABLE, ""},
		{SCRIPT_NO_STATUS, 0, NULL, UPSTREAM_MALFORMED, GRPC_UNKNOWN, ""},
		{SCRIPT_NO_MESSAGE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_TWO_MESSAGES, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_HALF_MESSAGE, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_BAD_ENCODING, 0, NULL, UPSTREAM_MALFORMED, GRPC_INTERNAL, ""},
		{SCRIPT_RESET, 0, NULL, UPSTREAM_STATUS, GRPC_INTERNAL, ""},
		{SCRIPT_REFUSE, 0, NULL, UPSTREAM_UNAVAILABLE, GRPC_UNAVAILABLE, ""},
		{SCRIPT_ECHO, 0, NULL, UPSTREAM_OK, GRPC_OK, "aaaaa"},
	};
	struct rig *rig = *state;
	struct service *service = &rig->services[0];

	rig_open(rig);
	service->reset_code = H2_INTERNAL_ERROR;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		service->script = rows[i].script;
		service->status = rows[i].given;
		service->status_message = rows[i].text;

		struct upstream_result result = call_once(rig, i);

		if (result.outcome != rows[i].outcome || result.status != rows[i].status ||
		    strcmp(rig->calls[i].message, rows[i].message) != 0)
			fail_msg("row %zu: outcome %d status %d message '%s'", i,
				 (int)result.outcome, (int)result.status, rig->calls[i].message);
	}
	/* none of them was worth the connection */
	assert_int_equal(service->connections, 1);
	assert_int_equal(service->calls, ARRAY_LEN(rows));
}

static void status_of_our_own_deadline_is_a_timeout(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_STATUS;
	rig->services[0].status = GRPC_DEADLINE_EXCEEDED;
	assert_int_equal(start_sized(rig, 0, 1, 15), 0);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_TIMEOUT);
}

/* ---- sent again, or not ---- */

static void goaway_below_a_call_sends_it_again(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_GOAWAY_UNSEEN;
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_string_equal(rig->calls[0].message, "aaaaa");
	assert_int_equal(rig->services[0].calls, 2);
	assert_int_equal(rig->services[0].connections, 2);
	assert_true(has_metric(rig, "upstream_grpc_retries_total{upstream=\"fleet\"} 1\n"));
}

static void goaway_above_a_call_lets_it_end(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_GOAWAY_SEEN;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 4);
	assert_true(rig->services[0].connections >= 4);
	assert_true(has_metric(rig, "upstream_grpc_retries_total{upstream=\"fleet\"} 0\n"));
}

static void refused_stream_is_sent_again_to_another_connection(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig_start(rig);
	rig->services[0].script = SCRIPT_REFUSE;
	rig->services[1].script = SCRIPT_ECHO;
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_true(rig->services[0].calls > 0);
	assert_int_equal(rig->services[1].calls, 6);
}

static void refused_twice_is_unavailable(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 3);
	rig_start(rig);
	for (size_t i = 0; i < 3; i++)
		rig->services[i].script = SCRIPT_REFUSE;
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections &&
					rig->services[2].connections);
	turns(rig, 20);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(rig->services[0].calls + rig->services[1].calls + rig->services[2].calls,
			 2);
}

static void lost_connection_fails_its_calls_at_once_and_never_sends_again(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_CLOSE;
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(rig->services[0].calls, 1);
	rig->services[0].script = SCRIPT_ECHO;
	/* the connection had answered nothing, so the next try backs off: time brings it */
	jump_ms(rig, 200);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 1).outcome, UPSTREAM_OK);
}

/* ---- connections ---- */

static void nobody_listens_is_unavailable(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	service_unlisten(&rig->services[0]);
	rig_start(rig);
	/* it waits for the first dial, and hears of its failure at once */
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_UNAVAILABLE);
	/* between two tries nobody waits */
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);

	/* it comes back by itself within the longest backoff */
	for (int i = 0; i < 10; i++)
		jump_ms(rig, 500);
	service_listen(&rig->services[0], rig->services[0].port);
	jump_ms(rig, 2010);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 2).outcome, UPSTREAM_OK);
}

static void useful_connection_is_dialled_again_within_100_ms_while_calls_wait(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	service_close_peers(&rig->services[0]);
	TURN_UNTIL(rig->worker, !upstream_is_ready(rig->upstream));
	assert_int_equal(start(rig, 1), 0);
	jump_ms(rig, 95);
	TURN_UNTIL(rig->worker, rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].connections, 2);
}

static void service_without_settings_is_dropped_and_not_waited_for(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].is_mute = true;
	rig_start(rig);
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);
	jump_ms(rig, 2010);
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	/* both clocks run out together: it was no answer in time, or no connection */
	assert_true(rig->calls[0].result.outcome == UPSTREAM_TIMEOUT ||
		    rig->calls[0].result.outcome == UPSTREAM_UNAVAILABLE);
	TURN_UNTIL(rig->worker, list_is_empty(&rig->services[0].peers));
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);
	rig->services[0].is_mute = false;
	jump_ms(rig, 500);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

static void half_open_peer_is_found_by_a_ping(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	rig->services[0].is_deaf = true;
	jump_ms(rig, 1000);
	assert_int_equal(start_sized(rig, 1, 1, 1000), 0);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start_sized(rig, 2, 1, 2000), 0);
	jump_ms(rig, 1010);
	assert_true(rig->calls[1].done);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_TIMEOUT);
	assert_false(rig->calls[2].done);
	/* the PING that followed has no answer either: what is left in flight need not wait for its
	 * deadline */
	jump_ms(rig, 900);
	assert_false(rig->calls[2].done);
	assert_int_equal(start_sized(rig, 3, 1, 2000), 0);
	jump_ms(rig, 85);
	jump_ms(rig, 1100);
	TURN_UNTIL(rig->worker, rig->calls[3].done);
	assert_int_equal(rig->calls[3].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_true(has_metric(rig, "gateway_glitches_total{kind=\"upstream_silent\"} 1\n"));
}

static void slow_service_is_pinged_twice_at_most(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(start_sized(rig, i, 1, 1000), 0);
		TURN_UNTIL(rig->worker, rig->services[0].calls == i + 1);
		jump_ms(rig, 1010);
		assert_true(rig->calls[i].done);
		turns(rig, 10);
	}
	assert_int_equal(rig->services[0].pings, 2);
	assert_int_equal(rig->services[0].connections, 1);
}

static void calls_spread_over_addresses_and_connections(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig->config.connections = 2;
	rig_start(rig);
	TURN_UNTIL(rig->worker,
		   rig->services[0].connections == 2 && rig->services[1].connections == 2);
	turns(rig, 20);
	for (size_t i = 0; i < 20; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 10);
	assert_int_equal(rig->services[1].calls, 10);
}

static void lost_address_is_left_out(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 2);
	rig_start(rig);
	TURN_UNTIL(rig->worker, rig->services[0].connections && rig->services[1].connections);
	turns(rig, 20);
	service_unlisten(&rig->services[0]);
	service_close_peers(&rig->services[0]);
	turns(rig, 20);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[1].calls, 4);
}

static void peers_stream_limit_is_obeyed(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].max_concurrent_streams = 2;
	rig->services[0].script = SCRIPT_HANG;
	rig_start(rig);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(start(rig, i), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 2);
	turns(rig, 20);
	assert_int_equal(rig->services[0].calls, 2);
	assert_false(upstream_is_ready(rig->upstream));
	/* room is passed on to those that wait */
	upstream_call_cancel(&rig->calls[0].call);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 3);
	rig->services[0].script = SCRIPT_ECHO;
	upstream_call_cancel(&rig->calls[1].call);
	TURN_UNTIL(rig->worker, rig->calls[3].done && rig->calls[4].done && rig->calls[5].done);
	assert_int_equal(rig->services[0].open_calls_max, 2);
	assert_int_equal(rig->services[0].connections, 1);
}

static void http1_service_is_no_service(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->services[0].is_mute = true;
	rig_start(rig);
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);

	struct peer *peer = CONTAINER_OF(rig->services[0].peers.next, struct peer, link);

	conn_send(&peer->conn, SPAN("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
	TURN_UNTIL(rig->worker, rig->calls[0].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_true(has_metric(rig, "gateway_glitches_total{kind=\"upstream_protocol\"} 1\n"));
}

/* ---- health ---- */

static void rig_open_with_health(struct rig *rig, size_t count, enum health_script health)
{
	rig_services(rig, count);
	rig->config.health = true;
	rig->services[0].health = health;
	rig_start(rig);
	for (size_t i = 0; i < count; i++)
		TURN_UNTIL(rig->worker, rig->services[i].checks == 1);
	turns(rig, 20);
}

static void calls_wait_for_the_first_health_check(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 1);
	rig->config.health = true;
	rig_start(rig);
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].checks, 1);
	/* checks are not among the calls */
	assert_true(
		has_metric(rig, "upstream_grpc_calls_total{upstream=\"fleet\",code=\"OK\"} 1\n"));
	assert_true(has_metric(rig, "upstream_healthy{upstream=\"fleet\",address=\"127.0.0.1:"));
}

static void service_without_health_checks_is_healthy(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_UNIMPLEMENTED);
	assert_true(upstream_is_ready(rig->upstream));
	assert_int_equal(call_once(rig, 0).outcome, UPSTREAM_OK);
}

static void unhealthy_address_is_left_out_and_recovers(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 2, HEALTH_NOT_SERVING);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 0);
	assert_int_equal(rig->services[1].calls, 4);

	rig->services[0].health = HEALTH_SERVING;
	jump_ms(rig, 5600);
	TURN_UNTIL(rig->worker, rig->services[0].checks == 2);
	turns(rig, 20);
	for (size_t i = 4; i < 8; i++)
		assert_int_equal(call_once(rig, i).outcome, UPSTREAM_OK);
	assert_int_equal(rig->services[0].calls, 2);
}

static void no_healthy_address_is_unavailable_at_once(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_NOT_SERVING);
	assert_int_equal(start(rig, 0), -UPSTREAM_UNAVAILABLE);
	assert_false(upstream_is_ready(rig->upstream));
}

static void health_check_without_answer_is_unhealthy(void **state)
{
	struct rig *rig = *state;

	rig_open_with_health(rig, 1, HEALTH_HANGS);
	assert_int_equal(start_sized(rig, 0, 1, 0), 0);
	jump_ms(rig, 1900);
	jump_ms(rig, 110);
	assert_true(rig->calls[0].done);
	assert_int_equal(start(rig, 1), -UPSTREAM_UNAVAILABLE);
	rig->services[0].health = HEALTH_SERVING;
	jump_ms(rig, 5600);
	TURN_UNTIL(rig->worker, upstream_is_ready(rig->upstream));
}

/* ---- the end ---- */

static void stop_fails_what_is_in_flight(void **state)
{
	struct rig *rig = *state;

	rig_open(rig);
	rig->services[0].script = SCRIPT_HANG;
	assert_int_equal(start(rig, 0), 0);
	TURN_UNTIL(rig->worker, rig->services[0].calls == 1);
	assert_int_equal(start(rig, 1), 0);
	upstream_stop(rig->upstream, rig_stopped, rig);
	assert_true(rig->calls[0].done && rig->calls[1].done);
	assert_int_equal(rig->calls[0].result.outcome, UPSTREAM_UNAVAILABLE);
	assert_int_equal(start(rig, 2), -UPSTREAM_UNAVAILABLE);
	TURN_UNTIL(rig->worker, rig->stopped);
	upstream_destroy(rig->upstream);
	rig->upstream = NULL;
}

static void stop_while_dialling_and_greeting_and_waiting(void **state)
{
	struct rig *rig = *state;

	rig_services(rig, 3);
	rig->services[0].is_mute = true;
	service_unlisten(&rig->services[1]);
	rig_start(rig);
	TURN_UNTIL(rig->worker, rig->services[0].connections == 1);
	assert_int_equal(start(rig, 0), 0);
	rig_stop_upstream(rig);
	assert_true(rig->calls[0].done);

	/* at once */
	rig->stopped = false;
	rig_start(rig);
	assert_int_equal(start(rig, 1), 0);
	rig_stop_upstream(rig);
	assert_int_equal(rig->calls[1].result.outcome, UPSTREAM_UNAVAILABLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(call_is_answered),
		TEST(call_waits_for_the_first_connection),
		TEST(large_messages_go_both_ways),
		TEST(deadline_is_the_shorter_and_is_sent),
		TEST(cancel_resets_the_stream),
		TEST(done_may_cancel_another_call),
		TEST(max_in_flight_refuses_at_once),
		TEST(every_answer_has_its_outcome),
		TEST(status_of_our_own_deadline_is_a_timeout),
		TEST(goaway_below_a_call_sends_it_again),
		TEST(goaway_above_a_call_lets_it_end),
		TEST(refused_stream_is_sent_again_to_another_connection),
		TEST(refused_twice_is_unavailable),
		TEST(lost_connection_fails_its_calls_at_once_and_never_sends_again),
		TEST(nobody_listens_is_unavailable),
		TEST(useful_connection_is_dialled_again_within_100_ms_while_calls_wait),
		TEST(service_without_settings_is_dropped_and_not_waited_for),
		TEST(half_open_peer_is_found_by_a_ping),
		TEST(slow_service_is_pinged_twice_at_most),
		TEST(calls_spread_over_addresses_and_connections),
		TEST(lost_address_is_left_out),
		TEST(peers_stream_limit_is_obeyed),
		TEST(http1_service_is_no_service),
		TEST(calls_wait_for_the_first_health_check),
		TEST(service_without_health_checks_is_healthy),
		TEST(unhealthy_address_is_left_out_and_recovers),
		TEST(no_healthy_address_is_unavailable_at_once),
		TEST(health_check_without_answer_is_unhealthy),
		TEST(stop_fails_what_is_in_flight),
		TEST(stop_while_dialling_and_greeting_and_waiting),
	};

	return cmocka_run_group_tests_name("upstream/grpc", tests, NULL, NULL);
}
