/*
 * Whole stories over simulated rings: HTTP/1.1 clients and gRPC clients (the upstream pool is one)
 * call an edge server, which asks a Redis over redis/client and a service over upstream/grpc,
 * whose names are looked up by net/dns. Every part is the real one but the ring and the Redis.
 *
 *   outside: http clients ─┐            edge            behind
 *            gRPC pool ────┴─► two edge servers ─┬─► a Redis of a few lines
 *                                                └─► a gRPC service
 *
 * Whatever the ring does: no byte is lost or out of order in a stream, every call ends exactly once
 * and every operation too, nothing is left in the tables of files, no buffer is kept, and the whole
 * can always be shut down. SEED=<number> runs one seed again.
 */
#include "codec/grpc.h"
#include "edge/server.h"
#include "redis/client.h"
#include "sim/fake_redis.h"
#include "sim/mock_ring.h"
#include "sim/seeds.h"
#include "upstream/grpc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define SEEDS_CLEAN   300
#define SEEDS_HOSTILE 2000
#define TURNS_MAX     400000
#define BODY_MAX      6000
#define HTTP_CLIENTS  2
#define HTTP_REQUESTS 4
#define CALLS_MAX     6
#define PATH	      "/t.Story/Do"

enum side { OUTSIDE, EDGE, BEHIND, SIDES };
enum listening { AT_HTTP, AT_GRPC, AT_SERVICE, AT_REDIS, LISTENINGS };

/* One request at the edge: a key of Redis, then (gRPC) a call behind. */
struct job {
	struct request *request;
	struct redis_call redis;
	struct upstream_call call;
	bool is_rpc;
};

struct http_client {
	struct conn conn;
	struct dial dial;
	struct deadline patience;
	struct buf in;
	unsigned answered, connections;
	size_t bodies[HTTP_REQUESTS]; /* bytes */
	bool is_open, is_over;
};

struct front_call {
	struct upstream_call call;
	struct payload *message;
	unsigned ended;
	bool cancelled;
};

static struct story {
	struct worker workers[SIDES];
	int fds[LISTENINGS];
	uint16_t ports[LISTENINGS];
	struct config config;
	struct router *router, *service_router;
	struct server *http, *grpc, *service;
	struct redis_client *redis;
	struct upstream *upstream, *front;
	struct config_upstream upstream_config, front_config;
	struct endpoint upstream_endpoint, front_endpoint;
	struct dns *dns;
	struct fake_redis fake_redis;
	struct http_client clients[HTTP_CLIENTS];
	struct front_call calls[CALLS_MAX];
	unsigned call_count, jobs, parts; /* parts of the end that are to come */
	bool hostile, stopping;
} story;

/* Over all seeds: what was reached. */
static struct {
	uint64_t http_answers, http_errors, rpc_answers, rpc_errors, cut;
	struct sim_counts sim;
} reached;

static uint8_t byte_at(size_t position, size_t salt)
{
	return (uint8_t)('a' + (position * 31 + position / 251 + salt) % 26);
}

static void fill(uint8_t *bytes, size_t len, size_t salt)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(i, salt);
}

static void check_filled(struct span bytes, size_t len, size_t salt)
{
	CHECK(bytes.len == len);
	for (size_t i = 0; i < len; i++)
		CHECK(bytes.data[i] == byte_at(i, salt));
}

static struct payload *message_make(struct span body)
{
	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + body.len);

	CHECK(payload);
	grpc_write_prefix(payload->data, (uint32_t)body.len);
	memcpy(payload->data + GRPC_PREFIX_BYTES, body.data, body.len);
	return payload;
}

static const struct conn_options conn_options = {.queue_bytes_max = 1 << 20,
						 .queue_bytes_room = 64 << 10};

static void part_stopped(void *context)
{
	(void)context;
	CHECK(story.parts > 0);
	story.parts--;
}

/* ── what the edge does ── */

static void job_free(struct job *job)
{
	redis_call_cancel(&job->redis);
	upstream_call_cancel(&job->call);
	story.jobs--;
	free(job);
}

static void job_fail(struct job *job)
{
	struct request *request = job->request;

	CHECK(story.hostile || story.stopping);
	if (job->is_rpc)
		rpc_fail(request, ERR_SESSION_UNAVAILABLE, NULL, 0);
	else
		request_reply_error(request, ERR_SESSION_UNAVAILABLE, NULL, 0);
	job_free(job);
}

static void job_called(struct upstream_call *call, const struct upstream_result *result)
{
	struct job *job = CONTAINER_OF(call, struct job, call);
	struct request *request = job->request;

	if (result->outcome != UPSTREAM_OK) {
		job_fail(job);
		return;
	}
	(void)rpc_give(request, message_make(result->message));
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
	job_free(job);
}

static void job_read(struct redis_call *call, enum redis_outcome outcome,
		     const struct resp_value *value)
{
	struct job *job = CONTAINER_OF(call, struct job, redis);
	struct request *request = job->request;
	char key[32];

	snprintf(key, sizeof(key), "key-%zu", request->body.len);
	if (outcome != REDIS_REPLY) {
		job_fail(job);
		return;
	}
	CHECK(value->type == RESP_STRING && span_equal(value->text, span_from_cstr(key)));
	if (!job->is_rpc) {
		request_reply(request, &(struct reply){.status = 200,
						       .content_type = "text/plain",
						       .body = request->body});
		job_free(job);
		return;
	}
	struct payload *message = message_make(request->body);
	const struct upstream_request asked = {.path = SPAN(PATH), .message = message};
	int code = upstream_call_start(story.upstream, &job->call, job_called, &asked);

	payload_put(message);
	if (code)
		job_fail(job);
}

static void job_start(struct request *request)
{
	struct job *job = calloc(1, sizeof(*job));
	char key[32];
	int len = snprintf(key, sizeof(key), "key-%zu", request->body.len);
	const struct span args[] = {SPAN("GET"), span_make(key, (size_t)len)};
	const struct redis_command command = {
		.args = args,
		.count = ARRAY_LEN(args),
		.role = REDIS_SESSION,
		.timeout_ms = story.hostile ? 500 : 100000,
	};

	CHECK(job);
	job->request = request;
	job->is_rpc = request->route->kind == ROUTE_GRPC;
	request->context = job;
	story.jobs++;
	if (redis_call_start(story.redis, &job->redis, job_read, &command))
		job_fail(job);
}

static void job_cancelled(struct request *request)
{
	job_free(request->context);
}

static void service_start(struct request *request)
{
	(void)rpc_give(request, message_make(request->body));
	rpc_finish(request, GRPC_OK, SPAN_EMPTY);
}

static const struct route http_route = {.kind = ROUTE_HTTP,
					.method = "POST",
					.path = "/do",
					.body_bytes_max = BODY_MAX,
					.start = job_start,
					.cancelled = job_cancelled};
static const struct route grpc_route = {.kind = ROUTE_GRPC,
					.method = "POST",
					.path = PATH,
					.body_bytes_max = BODY_MAX,
					.start = job_start,
					.cancelled = job_cancelled};
static const struct route service_route = {.kind = ROUTE_GRPC,
					   .method = "POST",
					   .path = PATH,
					   .body_bytes_max = BODY_MAX,
					   .start = service_start};

/* ── HTTP/1.1 clients: every request at once, the answers in their order ── */

static void http_dial(struct http_client *client);

static void http_ask(struct http_client *client)
{
	uint8_t body[BODY_MAX];
	char head[128];

	for (unsigned i = client->answered; i < HTTP_REQUESTS; i++) {
		size_t bytes = client->bodies[i];
		int len = snprintf(head, sizeof(head),
				   "POST /do HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n",
				   bytes);

		fill(body, bytes, bytes);
		if (conn_send(&client->conn, span_make(head, (size_t)len)) ||
		    conn_send(&client->conn, span_make(body, bytes))) {
			CHECK(story.hostile);
			conn_close(&client->conn);
			return;
		}
	}
}

/* Takes one answer; false: it is not all there. */
static bool http_take(struct http_client *client)
{
	const char *text = (const char *)client->in.data;
	const char *end = client->in.len ? memmem(text, client->in.len, "\r\n\r\n", 4) : NULL;
	const char *length =
		end ? memmem(text, (size_t)(end - text), "content-length: ", 16) : NULL;

	if (!end)
		return false;
	CHECK(length && strncmp(text, "HTTP/1.1 ", 9) == 0);
	size_t head = (size_t)(end + 4 - text), bytes = strtoul(length + 16, NULL, 10);

	if (client->in.len < head + bytes)
		return false;
	CHECK(client->answered < HTTP_REQUESTS);
	if (strncmp(text + 9, "200", 3) == 0) {
		check_filled(span_make(text + head, bytes), client->bodies[client->answered],
			     client->bodies[client->answered]);
		reached.http_answers++;
	} else {
		CHECK(story.hostile && strncmp(text + 9, "503", 3) == 0);
		reached.http_errors++;
	}
	client->answered++;
	buf_consume(&client->in, head + bytes);
	return true;
}

static void http_received(struct conn *conn, struct span bytes)
{
	struct http_client *client = CONTAINER_OF(conn, struct http_client, conn);

	CHECK(buf_append(&client->in, bytes) == 0);
	while (http_take(client))
		continue;
	if (client->answered == HTTP_REQUESTS)
		conn_finish_sending(conn);
}

static void http_closed(struct conn *conn, enum conn_end end, int error)
{
	struct http_client *client = CONTAINER_OF(conn, struct http_client, conn);

	(void)end, (void)error;
	client->is_open = false;
	http_dial(client);
}

static void http_dialled(struct dial *dial, int error, struct file_ref file,
			 const struct address *peer)
{
	static const struct conn_handler handler = {.received = http_received,
						    .closed = http_closed};
	struct http_client *client = CONTAINER_OF(dial, struct http_client, dial);

	(void)peer;
	CHECK(!error || story.hostile || story.stopping);
	if (error || conn_open(&client->conn, dial->worker, file, &handler, &conn_options) != 0) {
		http_dial(client);
		return;
	}
	client->is_open = true;
	http_ask(client);
}

static void http_dial(struct http_client *client)
{
	const struct endpoint endpoint = {
		.kind = ENDPOINT_HOST, .port = story.ports[AT_HTTP], .host = "127.0.0.1"};

	buf_clear(&client->in, SIZE_MAX);
	if (client->answered == HTTP_REQUESTS || client->connections == 4 || story.stopping) {
		deadline_disarm(&story.workers[OUTSIDE], &client->patience);
		client->is_over = true;
		CHECK(story.hostile || story.stopping || client->answered == HTTP_REQUESTS);
		return;
	}
	CHECK(story.hostile || client->connections == 0);
	client->connections++;
	deadline_arm(&story.workers[OUTSIDE], &client->patience, story.hostile ? 2000 : 1000000);
	dial_start(&client->dial, &story.workers[OUTSIDE], NULL, &endpoint,
		   story.hostile ? 1000 : 1000000, http_dialled);
}

static void http_impatient(struct deadline *deadline)
{
	struct http_client *client = CONTAINER_OF(deadline, struct http_client, patience);

	CHECK(story.hostile);
	if (client->is_open)
		conn_close(&client->conn);
}

/* ── gRPC clients ── */

static void front_called(struct upstream_call *call, const struct upstream_result *result)
{
	struct front_call *front = CONTAINER_OF(call, struct front_call, call);

	CHECK(front->ended++ == 0 && !front->cancelled);
	if (result->outcome == UPSTREAM_OK) {
		check_filled(result->message, front->message->len - GRPC_PREFIX_BYTES,
			     front->message->len);
		reached.rpc_answers++;
	} else {
		CHECK(story.hostile || story.stopping);
		reached.rpc_errors++;
	}
}

static void front_start(struct front_call *front)
{
	size_t len = 1 + sim_random(BODY_MAX - 1);
	const struct upstream_request request = {
		.path = SPAN(PATH), .message = payload_create(GRPC_PREFIX_BYTES + len)};

	CHECK(request.message);
	front->message = request.message;
	grpc_write_prefix(front->message->data, (uint32_t)len);
	fill(front->message->data + GRPC_PREFIX_BYTES, len, front->message->len);
	int code = upstream_call_start(story.front, &front->call, front_called, &request);

	if (code) {
		CHECK(story.hostile);
		front->ended++;
		reached.rpc_errors++;
	}
}

/* ── the world ── */

static void workers_begin(void)
{
	static const char *const names[SIDES] = {"outside", "edge", "behind"};
	char why[256];

	for (unsigned i = 0; i < SIDES; i++) {
		const struct worker_options options = {
			.name = names[i],
			.index = i,
			.clock = sim_clock,
			.ring = {.sq_entries = 4u << sim_random(5),
				 .cq_entries = 64,
				 .file_slots = 128,
				 .buffer_count = 1u << sim_random(5),
				 .buffer_bytes = 64u << sim_random(6)},
		};

		CHECK(worker_init(&story.workers[i], &options, why, sizeof(why)) == 0);
		CHECK(worker_turn(&story.workers[i], 0) == 0);
	}
}

static void server_begin(struct server **server, enum side side, enum listening at,
			 struct router *router)
{
	const struct server_options options = {
		.name = "story",
		.protocols =
			at == AT_HTTP ? SERVER_HTTP1 | SERVER_HTTP2 : SERVER_HTTP2 | SERVER_GRPC,
		.router = router,
		.config = &story.config,
	};

	CHECK(server_create(server, &story.workers[side], &options) == 0);
	CHECK(server_start(*server, story.fds[at], false) == 0);
}

static void pool_begin(struct upstream **upstream, enum side side, struct config_upstream *config,
		       struct endpoint *endpoint)
{
	const struct upstream_options options = {
		.config = config,
		.message_bytes_max = BODY_MAX,
		.dns = side == OUTSIDE ? story.dns : NULL,
	};

	*config = (struct config_upstream){
		.name = "story",
		.addresses = endpoint,
		.address_count = 1,
		.deadline_ms = story.hostile ? 2000 : 1000000,
		.connections = 1 + (uint32_t)sim_random(2),
		.max_in_flight = 32,
		.health = false,
		.health_interval_ms = 5000,
	};
	CHECK(upstream_create(upstream, &story.workers[side], &options) == 0);
	upstream_start(*upstream);
}

static void behind_begin(void)
{
	fake_redis_start(&story.fake_redis, &story.workers[BEHIND], story.fds[AT_REDIS]);
	server_begin(&story.service, BEHIND, AT_SERVICE, story.service_router);
}

static void edge_begin(void)
{
	const struct redis_options redis = {
		.endpoint = {.kind = ENDPOINT_HOST,
			     .port = story.ports[AT_REDIS],
			     .host = "127.0.0.1"},
		.connect_timeout_ms = story.hostile ? 500 : 1000000,
		.role = REDIS_SESSION,
	};

	story.upstream_endpoint = (struct endpoint){
		.kind = ENDPOINT_HOST, .port = story.ports[AT_SERVICE], .host = "127.0.0.1"};
	pool_begin(&story.upstream, EDGE, &story.upstream_config, &story.upstream_endpoint);
	CHECK(redis_client_create(&story.redis, &story.workers[EDGE], &redis) == 0);
	redis_client_start(story.redis, NULL, NULL);
	server_begin(&story.http, EDGE, AT_HTTP, story.router);
	server_begin(&story.grpc, EDGE, AT_GRPC, story.router);
}

static void turn(unsigned side)
{
	/* Between its turns another worker may be in its wait. */
	CHECK(worker_turn(&story.workers[side],
			  sim_chance(500) ? RING_WAIT_FOREVER : sim_random(2000)) == 0);
}

static void outside_begin(void)
{
	const char *host = sim_chance(250) ? "localhost" : "127.0.0.1";

	CHECK(dns_create(&story.dns, &story.workers[OUTSIDE]) == 0);
	story.front_endpoint =
		(struct endpoint){.kind = ENDPOINT_HOST, .port = story.ports[AT_GRPC]};
	snprintf(story.front_endpoint.host, sizeof(story.front_endpoint.host), "%s", host);
	pool_begin(&story.front, OUTSIDE, &story.front_config, &story.front_endpoint);
	for (unsigned i = 0; i < HTTP_CLIENTS; i++) {
		struct http_client *client = &story.clients[i];

		buf_init(&client->in, 1u << 20);
		deadline_init(&client->patience, http_impatient);
		for (unsigned k = 0; k < HTTP_REQUESTS; k++)
			client->bodies[k] = 1 + sim_random(sim_chance(500) ? 50 : BODY_MAX - 1);
		http_dial(client);
	}
	story.call_count = 1 + (unsigned)sim_random(CALLS_MAX);
	for (unsigned i = 0; i < story.call_count; i++)
		front_start(&story.calls[i]);
}

static void story_begin(uint64_t seed, bool hostile)
{
	const struct sim_options clean = sim_options_clean(seed), other = sim_options_hostile(seed);

	memset(&story, 0, sizeof(story));
	story.hostile = hostile;
	story.config.http_header_timeout_ms = hostile ? 5000 : 1000000;
	story.config.http_body_timeout_ms = hostile ? 10000 : 1000000;
	story.config.http_idle_timeout_ms = 1000000;
	story.config.http_max_header_bytes = 16384;
	story.router = router_create((struct hash_secret){{1}});
	story.service_router = router_create((struct hash_secret){{2}});
	CHECK(story.router && router_add(story.router, &http_route) == 0 &&
	      router_add(story.router, &grpc_route) == 0);
	CHECK(story.service_router && router_add(story.service_router, &service_route) == 0);
	sim_begin(&clean);
	for (unsigned i = 0; i < LISTENINGS; i++)
		story.fds[i] = sim_listener_fd(story.ports[i] = (uint16_t)(4711 + i));
	workers_begin();
	behind_begin();
	edge_begin();
	for (unsigned n = 0; !redis_client_is_ready(story.redis); n++) {
		CHECK(n < TURNS_MAX);
		turn((unsigned)sim_random(SIDES));
	}
	if (hostile)
		sim_change(&other);
	outside_begin();
}

static bool is_answered(void)
{
	for (unsigned i = 0; i < HTTP_CLIENTS; i++)
		if (!story.clients[i].is_over)
			return false;
	for (unsigned i = 0; i < story.call_count; i++)
		if (story.calls[i].ended == 0)
			return false;
	return true;
}

static void run_until(bool (*is_so)(void))
{
	for (unsigned n = 0; !is_so(); n++) {
		CHECK(n < TURNS_MAX);
		turn((unsigned)sim_random(SIDES));
	}
}

/* ── the end: from outside to behind, in order, in the middle of everything or after it ── */

static bool are_parts_stopped(void)
{
	return story.parts == 0;
}

static bool are_clients_over(void)
{
	if (story.parts > 0)
		return false;
	for (unsigned i = 0; i < HTTP_CLIENTS; i++)
		if (!story.clients[i].is_over)
			return false;
	return true;
}

static bool is_quiet(void)
{
	for (unsigned i = 0; i < SIDES; i++)
		if (worker_ops_in_flight(&story.workers[i]) > 0)
			return false;
	return list_is_empty(&story.fake_redis.peers);
}

static void stop_outside(void)
{
	for (unsigned i = 0; i < story.call_count; i++) {
		struct front_call *front = &story.calls[i];

		if (front->ended == 0 && sim_chance(500)) {
			upstream_call_cancel(&front->call);
			front->cancelled = true;
		}
	}
	story.parts = 1;
	upstream_stop(story.front, part_stopped, NULL);
	for (unsigned i = 0; i < HTTP_CLIENTS; i++)
		if (story.clients[i].is_open)
			conn_close(&story.clients[i].conn);
}

static void stop_edge(void)
{
	story.parts = 2;
	server_drain(story.http, part_stopped, NULL);
	server_drain(story.grpc, part_stopped, NULL);
	if (sim_chance(500))
		reached.cut += server_cut(story.http) + server_cut(story.grpc);
}

static void story_stop(void)
{
	bool edge_first = sim_chance(500);

	story.stopping = true;
	if (edge_first)
		stop_edge();
	else
		stop_outside();
	for (uint64_t n = sim_random(200); n > 0; n--)
		turn((unsigned)sim_random(SIDES));
	if (edge_first) {
		reached.cut += server_cut(story.http) + server_cut(story.grpc);
		run_until(are_parts_stopped);
		stop_outside();
	} else {
		run_until(are_clients_over);
		stop_edge();
		reached.cut += server_cut(story.http) + server_cut(story.grpc);
	}
	run_until(are_clients_over);
	CHECK(story.jobs == 0);
	story.parts = 4;
	dns_destroy(story.dns, part_stopped, NULL);
	redis_client_stop(story.redis, part_stopped, NULL);
	upstream_stop(story.upstream, part_stopped, NULL);
	server_drain(story.service, part_stopped, NULL);
	(void)server_cut(story.service);
	run_until(are_parts_stopped);
	story.parts = 1;
	fake_redis_stop(&story.fake_redis, part_stopped);
	run_until(are_parts_stopped);
}

static void add_counts(void)
{
	const struct sim_counts counts = sim_get_counts();

	reached.sim.shorts += counts.shorts;
	reached.sim.starvations += counts.starvations;
	reached.sim.multishot_ends += counts.multishot_ends;
	reached.sim.resets += counts.resets;
	reached.sim.errors += counts.errors;
	reached.sim.submissions_refused += counts.submissions_refused;
	reached.sim.cq_overflows += counts.cq_overflows;
	reached.sim.cancel_races += counts.cancel_races;
	reached.sim.slot_reuses += counts.slot_reuses;
}

static void story_end(void)
{
	run_until(is_quiet);
	upstream_destroy(story.front);
	upstream_destroy(story.upstream);
	redis_client_destroy(story.redis);
	server_destroy(story.http);
	server_destroy(story.grpc);
	server_destroy(story.service);
	router_destroy(story.router);
	router_destroy(story.service_router);
	for (unsigned i = 0; i < story.call_count; i++) {
		CHECK(story.calls[i].ended + story.calls[i].cancelled == 1);
		CHECK(story.calls[i].message->count == 1);
		payload_put(story.calls[i].message);
	}
	for (unsigned i = 0; i < HTTP_CLIENTS; i++)
		buf_finish(&story.clients[i].in);
	/* Completions of quiet submissions that failed; then rings that hold anything abort. */
	for (unsigned i = 0; i < 10 * SIDES; i++) {
		sim_sleep_us(1000);
		CHECK(worker_turn(&story.workers[i % SIDES], 1000) == 0);
	}
	for (unsigned i = 0; i < SIDES; i++)
		worker_finish(&story.workers[i]);
	for (unsigned i = 0; i < LISTENINGS; i++)
		sim_close_fd(story.fds[i]);
	add_counts();
	sim_end();
}

static void run_clean(uint64_t seed)
{
	story_begin(seed, false);
	run_until(is_answered);
	story_stop();
	story_end();
}

static void run_hostile(uint64_t seed)
{
	story_begin(seed, true);
	if (sim_chance(700))
		run_until(is_answered);
	else
		for (uint64_t n = sim_random(2000); n > 0; n--)
			turn((unsigned)sim_random(SIDES));
	story_stop();
	story_end();
}

static void every_call_is_answered_whatever_the_order_and_the_size_of_completions(void **state)
{
	(void)state;
	memset(&reached, 0, sizeof(reached));
	if (!seeds_run("clean", SEEDS_CLEAN, run_clean))
		return;
	assert_true(reached.http_answers >= HTTP_CLIENTS * HTTP_REQUESTS);
	assert_int_equal(reached.http_errors + reached.rpc_errors, 0);
	assert_true(reached.sim.shorts > 0 && reached.sim.starvations > 0);
}

static void every_call_ends_once_and_all_can_stop_whatever_the_ring_does(void **state)
{
	static const enum ring_opcode used[] = {RING_ACCEPT,  RING_RECEIVE,  RING_SEND,
						RING_CONNECT, RING_SHUTDOWN, RING_CLOSE};

	(void)state;
	memset(&reached, 0, sizeof(reached));
	if (!seeds_run("hostile", SEEDS_HOSTILE, run_hostile))
		return;
	assert_true(reached.http_answers > 0 && reached.http_errors > 0);
	assert_true(reached.rpc_answers > 0 && reached.rpc_errors > 0 && reached.cut > 0);
	assert_true(reached.sim.resets > 0 && reached.sim.multishot_ends > 0);
	assert_true(reached.sim.errors > 0 && reached.sim.submissions_refused > 0);
	assert_true(reached.sim.cq_overflows > 0 && reached.sim.cancel_races > 0);
	assert_true(reached.sim.slot_reuses > 0);
	/* Every errno of each table has been given. */
	for (size_t i = 0; i < ARRAY_LEN(used); i++)
		assert_int_equal(sim_errno_reached(used[i]), sim_errno_count(used[i]));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			every_call_is_answered_whatever_the_order_and_the_size_of_completions),
		cmocka_unit_test(every_call_ends_once_and_all_can_stop_whatever_the_ring_does),
	};

	(void)argc;
	seeds_begin(argv[0]);
	log_setup(&(struct log_options){.level = LOG_ERROR + 1, .format = LOG_TEXT, .fd = 2});
	return cmocka_run_group_tests_name("story_sim", tests, NULL, NULL);
}
