#include "push_team.h"

#include "base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#define TURN_US	     2000
#define OPEN_BATCH   64 /* connects of one turn, so that answers are read in between */
#define FILE_HEADROOM 64

/* ---- one member's work ---- */

static void crew_settled(struct push_crew *crew, struct push_conn *conn)
{
	struct push_member *member = crew->context;
	uint64_t now_us = crew->worker->clock.monotonic_us(NULL);

	member->opening_count--;
	metric_add(&member->settled, 1);
	atomic_store_explicit(&member->last_settled_us.value, now_us, memory_order_relaxed);
	if (member->team->options.times_openings)
		histogram_record(member->latency, now_us - conn->opened_us);
}

static void crew_closed(struct push_crew *crew, struct push_conn *conn)
{
	struct push_member *member = crew->context;

	(void)conn;
	member->open_conns--;
	metric_add(&member->closed, 1);
}

static const struct push_handler crew_handler = {.settled = crew_settled, .closed = crew_closed};

static struct op_address source_of(const struct push_team *team, uint32_t index)
{
	struct op_address source = {.len = 0};
	struct sockaddr_in *address = (struct sockaddr_in *)&source.storage;

	if (team->options.source_addresses == 0)
		return source;
	source.len = sizeof(*address);
	address->sin_family = AF_INET;
	address->sin_addr.s_addr =
		htonl(INADDR_LOOPBACK + 1 + index % team->options.source_addresses);
	return source;
}

/* A connection that cannot even begin has been refused. */
static void open_one(struct push_member *member, uint32_t index)
{
	struct push_team *team = member->team;
	struct push_conn *conn = &member->crew.conns[index];
	uint32_t place = member->first_conn + index;
	size_t slot = (size_t)team->round * team->conn_count + place;
	struct op_address source = source_of(team, place);
	struct push_out *opening = team->openings[slot];

	team->openings[slot] = NULL;

	int code = push_conn_open(conn, &team->options.target, &source, opening);

	if (code == 0) {
		member->opening_count++;
		member->open_conns++;
		return;
	}
	push_crew_blame(&member->crew, "cannot connect: %s", strerrordesc_np(-code));
	metric_add(&member->settled, 1);
	metric_add(&member->closed, 1);
	metric_add(&member->crew.refused, conn->stream_count);
	metric_add(&member->crew.ended, conn->stream_count);
	metric_add(&member->crew.ended_by[PUSH_STATUS_LOST], conn->stream_count);
}

/* Returns whether there is more to open at once. */
static bool open_some(struct push_member *member)
{
	uint32_t at_once = member->team->options.at_once / member->team->options.threads;

	for (unsigned i = 0; i < OPEN_BATCH; i++) {
		if (member->next_conn == member->crew.conn_count)
			return false;
		if (at_once > 0 && member->opening_count >= at_once)
			return false;
		open_one(member, member->next_conn++);
	}
	return true;
}

static void stall_some(struct push_member *member, bool stall)
{
	struct push_crew *crew = &member->crew;

	for (uint32_t i = 0; i < crew->conn_count; i++) {
		struct push_conn *conn = &crew->conns[i];

		if (!conn->is_to_stall)
			continue;
		for (uint32_t k = 0; k < conn->stream_count; k++)
			crew->streams[conn->first_stream + k].stalled = true;
		if (stall)
			push_conn_stall(conn);
		else
			push_conn_unstall(conn);
	}
}

static void close_all(struct push_member *member)
{
	member->crew.leaving = true;
	for (uint32_t i = 0; i < member->crew.conn_count; i++)
		push_conn_close(&member->crew.conns[i]);
}

static void obey(struct push_member *member, enum push_order order)
{
	switch (order) {
	case PUSH_ORDER_WAIT:
		break;
	case PUSH_ORDER_OPEN:
		member->crew.leaving = false;
		member->next_conn = 0;
		break;
	case PUSH_ORDER_STALL:
	case PUSH_ORDER_UNSTALL:
		stall_some(member, order == PUSH_ORDER_STALL);
		break;
	case PUSH_ORDER_CLOSE:
	case PUSH_ORDER_LEAVE:
		member->next_conn = member->crew.conn_count;
		close_all(member);
		break;
	}
}

/* Returns 0, 1 when the member may leave, or the ring's negative errno. */
static int member_turn(struct push_member *member, uint64_t wait_us)
{
	uint64_t told = atomic_load_explicit(&member->team->order, memory_order_acquire);
	enum push_order order = (enum push_order)(told & 0xff);

	if (member->order_seen != (uint32_t)(told >> 8)) {
		member->order_seen = (uint32_t)(told >> 8);
		member->crew.check.measure_from_us = member->team->latency_from_us;
		member->crew.check.measure_to_us = member->team->latency_to_us;
		obey(member, order);
		atomic_store_explicit(&member->obeyed.value, told >> 8, memory_order_release);
	}
	if (open_some(member))
		wait_us = 0;

	int code = worker_turn(member->crew.worker, wait_us < TURN_US ? wait_us : TURN_US);

	if (code)
		return code;
	return order == PUSH_ORDER_LEAVE && member->order_seen == (uint32_t)(told >> 8) &&
	       member->open_conns == 0;
}

static void *member_run(void *context)
{
	struct push_member *member = context;
	int code;

	do
		code = member_turn(member, TURN_US);
	while (code == 0);
	if (code < 0)
		member->error = code;
	worker_stop(member->crew.worker);
	code = worker_run(member->crew.worker);
	if (code)
		member->error = code;
	return NULL;
}

/* ---- the team ---- */

static struct worker *make_worker(uint32_t index, uint32_t conn_count, bool is_deep)
{
	struct worker *worker = aligned_alloc(64, (sizeof(*worker) + 63) / 64 * 64);
	/* many connections bring a little each, few bring much */
	const struct worker_options options = {
		.name = "ringbench",
		.index = index,
		.ring = {.sq_entries = 4096,
			 .cq_entries = 65536,
			 .file_slots = conn_count + FILE_HEADROOM,
			 .adopted_slots = conn_count + FILE_HEADROOM,
			 .buffer_count = is_deep ? 512 : 4096,
			 .buffer_bytes = is_deep ? 32768 : 4096},
		.clock = worker_clock_system,
	};
	char why[256] = "";

	if (!worker)
		return NULL;
	memset(worker, 0, sizeof(*worker));
	if (worker_init(worker, &options, why, sizeof(why)) == 0)
		return worker;
	fprintf(stderr, "ringbench: %s\n", why);
	free(worker);
	return NULL;
}

/* Spread evenly over those that get events. */
static bool is_to_stall(const struct push_team *team, uint64_t place)
{
	uint64_t stalled = team->options.stalled, count = team->active_conns;

	return place < count && (place + 1) * stalled / count != place * stalled / count;
}

/* Connections and streams of member `index`. */
static int make_member(struct push_team *team, uint32_t index)
{
	const struct push_team_options *options = &team->options;
	struct push_member *member = &team->members[index];
	uint32_t per = options->streams_per_connection;
	uint32_t first = (uint32_t)((uint64_t)team->conn_count * index / options->threads);
	uint32_t last = (uint32_t)((uint64_t)team->conn_count * (index + 1) / options->threads);
	uint32_t end = last * per < options->streams ? last * per : options->streams;
	struct worker *worker = make_worker(index, last - first, team->conn_count <= 2048);

	if (!worker)
		return -ENOMEM;
	member->team = team;
	member->first_conn = first;
	member->next_conn = last - first;
	member->latency = calloc(1, sizeof(*member->latency));

	int code = push_crew_init(&member->crew, worker, last - first, end - first * per);

	if (code || !member->latency) {
		worker_finish(worker);
		free(worker);
		member->crew.worker = NULL;
		return -ENOMEM;
	}
	member->crew.handler = &crew_handler;
	member->crew.context = member;
	member->crew.check.latency = member->latency;
	for (uint32_t i = 0; i < last - first; i++) {
		struct push_conn *conn = &member->crew.conns[i];
		uint32_t left = member->crew.stream_count - i * per;

		conn->first_stream = i * per;
		conn->is_to_stall = is_to_stall(team, first + i);
		conn->stream_count = (uint8_t)(left < per ? left : per);
	}
	return 0;
}

int push_team_create(struct push_team *team, const struct push_team_options *options)
{
	uint32_t per = options->streams_per_connection;

	*team = (struct push_team){.options = *options};
	CHECK(per > 0 && per <= PUSH_CONN_STREAMS_MAX && options->threads <= PUSH_THREADS_MAX);
	team->conn_count = (options->streams + per - 1) / per;
	team->active_conns = (options->active_streams + per - 1) / per;
	team->openings = calloc((size_t)team->conn_count * options->rounds + 1,
				sizeof(*team->openings));
	team->members = calloc(options->threads, sizeof(*team->members));
	if (!team->openings || !team->members)
		return -ENOMEM;
	for (uint32_t i = 0; i < options->threads; i++) {
		int code = make_member(team, i);

		if (code)
			return code;
	}
	/* the first turn enables the ring and reads the clock */
	return worker_turn(team->members[0].crew.worker, 0);
}

void push_team_destroy(struct push_team *team)
{
	size_t openings = (size_t)team->conn_count * team->options.rounds;

	for (uint32_t i = 0; team->members && i < team->options.threads; i++) {
		struct push_member *member = &team->members[i];

		push_crew_finish(&member->crew);
		free(member->latency);
		if (!member->crew.worker)
			continue;
		worker_finish(member->crew.worker);
		free(member->crew.worker);
	}
	for (size_t i = 0; team->openings && i < openings; i++)
		free(team->openings[i]);
	free(team->openings);
	free(team->members);
}

struct push_stream *push_team_stream(struct push_team *team, uint32_t index)
{
	uint32_t place = index / team->options.streams_per_connection;

	for (uint32_t i = team->options.threads; i-- > 0;) {
		struct push_member *member = &team->members[i];

		if (place >= member->first_conn && member->crew.conn_count > 0)
			return &member->crew.streams[index - member->first_conn *
							  team->options.streams_per_connection];
	}
	UNREACHABLE("the first member's connections begin at 0");
}

int push_team_start(struct push_team *team)
{
	for (uint32_t i = 1; i < team->options.threads; i++) {
		struct push_member *member = &team->members[i];
		int code = pthread_create(&member->thread, NULL, member_run, member);

		if (code)
			return -code;
		member->is_running = true;
	}
	return 0;
}

void push_team_tell(struct push_team *team, enum push_order order)
{
	uint64_t number = (atomic_load_explicit(&team->order, memory_order_relaxed) >> 8) + 1;

	/* between rounds nobody counts */
	for (uint32_t i = 0; order == PUSH_ORDER_OPEN && i < team->options.threads; i++) {
		atomic_store(&team->members[i].settled.value, 0);
		atomic_store(&team->members[i].closed.value, 0);
	}
	atomic_store_explicit(&team->order, number << 8 | order, memory_order_release);
}

int push_team_turn(struct push_team *team, uint64_t wait_us)
{
	int code = member_turn(&team->members[0], wait_us);

	return code < 0 ? code : 0;
}

int push_team_command(struct push_team *team, enum push_order order)
{
	push_team_tell(team, order);

	uint64_t number = atomic_load_explicit(&team->order, memory_order_relaxed) >> 8;

	for (uint32_t i = 0; i < team->options.threads;) {
		const struct metric_counter *obeyed = &team->members[i].obeyed;

		if (atomic_load_explicit(&obeyed->value, memory_order_acquire) == number) {
			i++;
			continue;
		}
		int code = push_team_turn(team, TURN_US);

		if (code)
			return code;
	}
	return 0;
}

uint64_t push_team_sum(const struct push_team *team, size_t offset)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < team->options.threads; i++)
		sum += metric_value((const struct metric_counter *)((const char *)&team->members[i] +
								    offset));
	return sum;
}

static bool await_count(struct push_team *team, size_t offset, uint64_t timeout_ms)
{
	uint64_t due_ms = team->members[0].crew.worker->now_ms + timeout_ms;

	while (push_team_sum(team, offset) < team->conn_count)
		if (push_team_turn(team, TURN_US) != 0 ||
		    team->members[0].crew.worker->now_ms > due_ms)
			return false;
	return true;
}

bool push_team_await_settled(struct push_team *team, uint64_t timeout_ms)
{
	return await_count(team, offsetof(struct push_member, settled), timeout_ms);
}

bool push_team_await_closed(struct push_team *team, uint64_t timeout_ms)
{
	return await_count(team, offsetof(struct push_member, closed), timeout_ms);
}

void push_team_leave(struct push_team *team)
{
	push_team_tell(team, PUSH_ORDER_LEAVE);
	member_run(&team->members[0]);
	for (uint32_t i = 1; i < team->options.threads; i++)
		if (team->members[i].is_running)
			pthread_join(team->members[i].thread, NULL);
}
