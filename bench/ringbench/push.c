/*
 * push: streams are opened, events published, deliveries checked. A unit is one delivery.
 *
 *   open ─► (hold) ─► publish: by a schedule, or flat out ─► drain ─► stalled ones read again ─► leave
 */
#include "measure.h"
#include "push_freeze.h"
#include "push_publish.h"
#include "works.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define OPEN_AT_ONCE	256
#define OPEN_MS		600000
#define LEAD_US		20000 /* from the last preparation to the first event */
#define TURN_US		1000
#define PUBLISH_BATCH	64 /* events until received bytes are looked at again */
#define DRAIN_QUIET_US	10000000 /* nothing comes: a shared machine may stand still for a while */
#define DRAIN_ENDED_US	300000	/* the same, when ended streams explain what is missing */
#define STALLED_MS	5000

struct push_work {
	const struct options *options;
	struct push_setup setup;
	struct push_publisher publisher;
	struct measure measure;
	struct stats stats;
	uint64_t delivered_before, delivered_after;
	uint64_t last_delivery_us;
	uint64_t ended_before_leaving;
	uint64_t stalled, stalled_ended, open;
	double open_seconds;
};

static uint64_t delivered(const struct push_work *work)
{
	return PUSH_SUM(&work->setup.team, crew.delivered);
}

static int turn(struct push_work *work, uint64_t wait_us)
{
	int code = push_team_turn(&work->setup.team, wait_us);

	if (code)
		tell("io_uring: %s", strerrordesc_np(-code));
	return code;
}

/* ---- opening ---- */

static void tell_fault(const struct push_work *work)
{
	const struct push_team *team = &work->setup.team;

	for (uint32_t i = 0; i < team->options.threads; i++) {
		const struct push_crew *crew = &team->members[i].crew;

		if (crew->fault[0])
			tell("%s", crew->fault);
		if (crew->check.why[0])
			tell("%s", crew->check.why);
	}
}

/* Returns 0, or -EIO when not all streams are open. */
static int open_all(struct push_work *work)
{
	struct push_team *team = &work->setup.team;
	uint64_t begin_us = monotonic_us();
	int code = push_team_start(team);

	if (code)
		return code;
	push_team_tell(team, PUSH_ORDER_OPEN);
	push_team_await_settled(team, OPEN_MS);
	work->open_seconds = (double)(monotonic_us() - begin_us) / 1e6;
	work->open = PUSH_SUM(team, crew.ready) + PUSH_SUM(team, crew.refused) -
		     PUSH_SUM(team, crew.ended);
	if (work->open == work->setup.streams)
		return 0;
	tell("%llu of %u streams are open", (unsigned long long)work->open, work->setup.streams);
	work->stats.failed = work->setup.streams - work->open;
	return -EIO;
}

struct input {
	struct op op;
	struct worker *worker;
	char bytes[256];
	bool is_over;
};

static void input_read(struct op *op, const struct completion *completion)
{
	struct input *input = CONTAINER_OF(op, struct input, op);
	struct iovec into = {input->bytes, sizeof(input->bytes)};

	if (completion->result <= 0 ||
	    op_read(input->worker, op, file_from_fd(STDIN_FILENO), into) != 0)
		input->is_over = true;
}

/* Until the end of standard input, or until nobody is left. */
static int hold(struct push_work *work)
{
	struct push_team *team = &work->setup.team;
	struct input input = {.worker = team->members[0].crew.worker, .op.done = input_read};
	struct iovec into = {input.bytes, sizeof(input.bytes)};
	int code = op_read(input.worker, &input.op, file_from_fd(STDIN_FILENO), into);

	printf("{\"open\":%llu}\n", (unsigned long long)work->open);
	fflush(stdout);
	while (code == 0 && !input.is_over)
		code = turn(work, TURN_US);
	return code;
}

/* Whoever runs this looks at the servers, when nothing is under way. */
static void step(const struct push_work *work, const char *name)
{
	char line[64];

	if (!work->options->steps)
		return;
	puts(name);
	fflush(stdout);
	while (read(STDIN_FILENO, line, sizeof(line)) < 0 && errno == EINTR)
		;
}

/* ---- publishing ---- */

static void begin_window(struct push_work *work)
{
	work->delivered_before = delivered(work);
	measure_begin(&work->measure);
}

static void end_window(struct push_work *work)
{
	measure_end(&work->measure);
	work->delivered_after = delivered(work);
}

/* As many as are due. Returns whether more are due: Redis or the batch has stopped it. */
static bool publish_due(struct push_work *work, uint64_t start_us, uint64_t total)
{
	double interval_us = 1e6 / work->options->rate;
	uint64_t now_us = monotonic_us();

	for (unsigned i = 0; i < PUBLISH_BATCH; i++) {
		uint64_t due_us =
			start_us + (uint64_t)((double)work->publisher.sequence * interval_us);

		if (work->publisher.sequence == total || due_us > now_us)
			return false;
		if (!push_publish(&work->publisher, due_us))
			return true;
	}
	return true;
}

static uint64_t until(uint64_t due_us, uint64_t now_us)
{
	return due_us > now_us ? due_us - now_us : 0;
}

/* Open loop: events leave when they are due, whatever has arrived. */
static int publish_by_schedule(struct push_work *work, uint64_t start_us)
{
	const struct options *options = work->options;
	uint64_t from_us = work->setup.team.latency_from_us;
	uint64_t to_us = work->setup.team.latency_to_us;
	uint64_t total = (uint64_t)(options->rate * (options->warmup_s + options->duration_s));
	bool has_begun = false;

	for (;;) {
		bool more = publish_due(work, start_us, total);
		uint64_t now_us = monotonic_us();
		uint64_t next_us = start_us + (uint64_t)((double)work->publisher.sequence * 1e6 /
							 options->rate);
		uint64_t edge_us = has_begun ? to_us : from_us;

		if (now_us >= edge_us && has_begun)
			break;
		if (now_us >= edge_us) {
			begin_window(work);
			has_begun = true;
			continue;
		}
		if (work->publisher.sequence == total || next_us > edge_us)
			next_us = edge_us;

		int code = turn(work, more ? 0 : until(next_us, now_us));

		if (code)
			return code;
	}
	end_window(work);
	return 0;
}

/*
 * As fast as Redis takes them: a burst, or as many as the time allows. Prefilled, they wait in
 * Redis while the servers are stopped, so that the rate is the servers' alone.
 */
static int publish_flat_out(struct push_work *work, uint64_t start_us)
{
	const struct options *options = work->options;
	uint64_t total = options->burst ? options->burst : UINT64_MAX;
	uint64_t end_us = options->burst ? UINT64_MAX : work->setup.team.latency_to_us;
	uint64_t now_us = start_us;
	int code = 0;

	if (options->prefill)
		code = servers_freeze(options);
	else
		begin_window(work);
	while (code == 0 && work->publisher.sequence < total && now_us < end_us) {
		unsigned count = 0;

		while (count < PUBLISH_BATCH && work->publisher.sequence < total &&
		       push_publish(&work->publisher, now_us))
			count++;
		code = turn(work, count == PUBLISH_BATCH ? 0 : TURN_US);
		now_us = monotonic_us();
	}
	if (code == 0 && options->prefill)
		code = push_store_settle(&work->setup.store);
	if (options->prefill) {
		begin_window(work);
		servers_thaw(options);
	}
	return code;
}

/* Until everything is there that can come. */
static int drain(struct push_work *work)
{
	uint64_t seen = 0, now_us = monotonic_us(), seen_us = now_us;

	for (;;) {
		uint64_t count = delivered(work);
		bool has_ended = PUSH_SUM(&work->setup.team, crew.ended) > 0;

		if (count != seen) {
			seen = count;
			seen_us = now_us;
		}
		if (count >= work->publisher.expected && work->setup.store.waiting == 0)
			break;
		if (now_us - seen_us > (has_ended ? DRAIN_ENDED_US : DRAIN_QUIET_US))
			break;

		int code = turn(work, TURN_US);

		if (code)
			return code;
		now_us = monotonic_us();
	}
	work->last_delivery_us = seen_us;
	return 0;
}

static int publish_all(struct push_work *work)
{
	const struct options *options = work->options;
	struct push_team *team = &work->setup.team;
	uint64_t start_us = monotonic_us() + LEAD_US;
	bool is_scheduled = options->rate > 0 && options->burst == 0;

	team->latency_from_us =
		is_scheduled ? start_us + (uint64_t)(options->warmup_s * 1e6) : start_us - LEAD_US;
	team->latency_to_us =
		start_us + (uint64_t)((options->warmup_s + options->duration_s) * 1e6);
	if (options->burst)
		team->latency_to_us = UINT64_MAX;

	int code = push_team_command(team, PUSH_ORDER_STALL);

	if (code == 0)
		code = push_publisher_init(&work->publisher, &work->setup);
	if (code)
		return code;
	code = is_scheduled ? publish_by_schedule(work, start_us)
			    : publish_flat_out(work, start_us);
	if (code == 0)
		code = drain(work);
	if (code == 0 && !is_scheduled) {
		end_window(work);
		work->measure.end_us = work->last_delivery_us;
	}
	return code;
}

/* ---- stalled streams ---- */

static uint64_t count_stalled(const struct push_work *work, bool ended_only)
{
	const struct push_team *team = &work->setup.team;
	uint64_t count = 0;

	for (uint32_t i = 0; i < team->options.threads; i++) {
		const struct push_crew *crew = &team->members[i].crew;

		for (uint32_t k = 0; k < crew->stream_count; k++)
			count += crew->streams[k].stalled &&
				 (!ended_only || crew->streams[k].state == PUSH_STREAM_ENDED);
	}
	return count;
}

/* They read again, and must hear how it ended for them. */
static int release_stalled(struct push_work *work)
{
	struct push_team *team = &work->setup.team;
	uint64_t due_us = monotonic_us() + STALLED_MS * 1000;
	uint64_t ended_before = PUSH_SUM(team, crew.ended);
	int code = 0;

	work->stalled = count_stalled(work, false);
	if (work->stalled == 0)
		return 0;
	push_team_tell(team, PUSH_ORDER_UNSTALL);
	while (code == 0 && monotonic_us() < due_us &&
	       PUSH_SUM(team, crew.ended) < ended_before + work->stalled)
		code = turn(work, TURN_US);
	return code;
}

/* ---- accounts ---- */

/* After all threads have ended. */
static void account_stream(struct push_work *work, const struct push_stream *stream)
{
	bool is_ended = stream->state == PUSH_STREAM_ENDED;

	if (stream->stalled) {
		work->stalled_ended += is_ended;
		if (is_ended && stream->status != GRPC_RESOURCE_EXHAUSTED)
			work->stats.failed++;
		return;
	}
	work->stats.ended += is_ended;
	if (is_ended || !work->publisher.user_sequences || stream->user >= work->setup.users)
		return;

	uint64_t published = work->publisher.user_sequences[stream->user];

	if (stream->next < published)
		work->stats.lost += published - stream->next;
}

static void account(struct push_work *work)
{
	const struct push_team *team = &work->setup.team;
	struct stats *stats = &work->stats;

	stats->units = work->delivered_after - work->delivered_before;
	stats->failed += work->setup.redis_failed;
	for (uint32_t i = 0; i < team->options.threads; i++) {
		const struct push_member *member = &team->members[i];
		const struct push_check *check = &member->crew.check;

		stats->wrong += metric_value(&check->wrong);
		stats->duplicates += metric_value(&check->duplicates);
		stats->lost += metric_value(&check->gaps);
		stats->failed += member->error != 0;
		histogram_merge(&stats->latency, member->latency);
		for (uint32_t k = 0; k < member->crew.stream_count; k++)
			account_stream(work, &member->crew.streams[k]);
	}
}

static void put_statuses(struct buf *out, const struct push_team *team)
{
	const char *comma = "";

	buf_printf(out, ",\"ended_by\":{");
	for (int status = 0; status < PUSH_STATUS_COUNT; status++) {
		uint64_t count = PUSH_SUM(team, crew.ended_by[status]);
		const char *name = status < GRPC_STATUS_COUNT	 ? grpc_status_name(status)
				   : status == PUSH_STATUS_NONE ? "no status"
								 : "connection lost";

		if (count == 0)
			continue;
		buf_printf(out, "%s\"%s\":%llu", comma, name, (unsigned long long)count);
		comma = ",";
	}
	buf_append_byte(out, '}');
}

static int report(struct push_work *work)
{
	const struct push_team *team = &work->setup.team;
	struct buf more;

	buf_init(&more, 4096);
	buf_printf(&more,
		   "\"streams\":%u,\"open_seconds\":%.3f,\"events\":%llu,\"deliveries\":%llu,"
		   "\"expected\":%llu,\"stalled\":%llu,\"stalled_ended\":%llu,\"foreign\":%llu,"
		   "\"verified\":%llu,\"parsed\":%llu,\"receives\":%llu,\"received_bytes\":%llu",
		   work->setup.streams, work->open_seconds,
		   (unsigned long long)work->publisher.sequence,
		   (unsigned long long)delivered(work),
		   (unsigned long long)work->publisher.expected, (unsigned long long)work->stalled,
		   (unsigned long long)work->stalled_ended,
		   (unsigned long long)PUSH_SUM(team, crew.check.foreign),
		   (unsigned long long)PUSH_SUM(team, crew.check.verified),
		   (unsigned long long)PUSH_SUM(team, crew.check.parsed),
		   (unsigned long long)PUSH_SUM(team, crew.receives),
		   (unsigned long long)PUSH_SUM(team, crew.received_bytes));
	put_statuses(&more, team);

	int code = stats_report(work->options->work, &work->stats, &work->measure, buf_span(&more));

	buf_finish(&more);
	return code == 0 && work->stats.ended == 0 ? 0 : 1;
}

/* ---- the work ---- */

static int run(struct push_work *work)
{
	int code = push_setup_init(&work->setup);

	if (code == 0)
		code = push_setup_prepare(&work->setup);
	if (code)
		return code;
	code = open_all(work);
	if (code == 0 && work->options->hold)
		return hold(work);
	if (code == 0) {
		step(work, "open");
		code = publish_all(work);
		step(work, "delivered");
	}
	if (code == 0)
		code = release_stalled(work);
	return code;
}

int push_run(const struct options *options)
{
	static struct push_work work; /* its histogram alone is too large for the stack */

	work = (struct push_work){
		.options = options,
		.setup = {.options = options,
			  .users = options->users ? options->users : 1,
			  .active = options->streams,
			  .rounds = 1,
			  .at_once = options->at_once ? options->at_once : OPEN_AT_ONCE},
	};
	if (options->payload_bytes < PUSH_PAYLOAD_MIN) {
		tell("--payload: at least %zu bytes, the mark by which an event is known",
		     PUSH_PAYLOAD_MIN);
		return 2;
	}
	if (options->prefill && (options->server_pid_count == 0 || options->burst == 0)) {
		tell("--prefill needs --server-pid and --burst");
		return 2;
	}
	int code = measure_init(&work.measure, options);

	if (code)
		return 2;
	code = run(&work);
	push_setup_leave(&work.setup);
	account(&work);
	if (code && work.stats.failed == 0)
		work.stats.failed = 1;
	tell_fault(&work);
	code = report(&work);
	push_publisher_finish(&work.publisher);
	push_setup_finish(&work.setup);
	measure_finish(&work.measure);
	return code;
}
