/*
 * storm: all connect and subscribe at once; when all have had their first event, all close; and
 * again. A unit is one connection; its latency is the time from connect to the first event.
 */
#include "measure.h"
#include "push_setup.h"
#include "works.h"

#include <errno.h>
#include <stdio.h>

#define ROUND_MS 120000
/* The servers have dealt with the last closes when they need less than QUIET_US of a LOOK_MS. */
#define LOOK_MS	  20
#define QUIET_US  1000
#define QUIET_MS  5000
#define TURN_US	  1000

struct storm {
	const struct options *options;
	struct push_setup setup;
	struct measure measure;
	struct stats stats;
	struct buf round_seconds;
};

static uint64_t server_us(const struct measure *measure)
{
	uint64_t sum = 0;
	struct timespec used;

	for (size_t i = 0; i < measure->options->server_pid_count; i++)
		if (clock_gettime(measure->server_clocks[i], &used) == 0)
			sum += (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
	return sum;
}

/* So that what the last closes cost is counted too. */
static void await_quiet(struct storm *storm)
{
	uint64_t due_us = monotonic_us() + QUIET_MS * 1000;
	uint64_t before_us = server_us(&storm->measure), look_us = monotonic_us();

	while (storm->options->server_pid_count > 0 && look_us < due_us) {
		if (push_team_turn(&storm->setup.team, TURN_US) != 0)
			return;
		if (monotonic_us() - look_us < LOOK_MS * 1000)
			continue;
		uint64_t now_us = server_us(&storm->measure);

		if (now_us - before_us < QUIET_US)
			return;
		before_us = now_us;
		look_us = monotonic_us();
	}
}

/* The time at which the last one was there. */
static uint64_t last_settled_us(const struct push_team *team)
{
	uint64_t last_us = 0;

	for (uint32_t i = 0; i < team->options.threads; i++) {
		uint64_t us = metric_value(&team->members[i].last_settled_us);

		if (us > last_us)
			last_us = us;
	}
	return last_us;
}

/* Returns 0 or -ETIMEDOUT. */
static int play_round(struct storm *storm, uint32_t round)
{
	struct push_team *team = &storm->setup.team;
	uint64_t begin_us = monotonic_us();

	team->round = round;
	push_team_tell(team, PUSH_ORDER_OPEN);

	bool is_settled = push_team_await_settled(team, ROUND_MS);
	uint64_t settled = PUSH_SUM(team, settled);
	double seconds = (double)(last_settled_us(team) - begin_us) / 1e6;

	buf_printf(&storm->round_seconds, "%s%.3f", round ? "," : "", is_settled ? seconds : 0);
	push_team_tell(team, PUSH_ORDER_CLOSE);
	if (is_settled && push_team_await_closed(team, ROUND_MS))
		return 0;
	tell("round %u: not all connections were opened and closed in time, %llu opened", round + 1,
	     (unsigned long long)settled);
	return -ETIMEDOUT;
}

static int run(struct storm *storm)
{
	struct push_team *team = &storm->setup.team;
	int code = push_setup_init(&storm->setup);

	if (code == 0)
		code = push_setup_prepare(&storm->setup);
	if (code == 0)
		code = push_team_start(team);
	if (code)
		return code;
	measure_begin(&storm->measure);
	for (uint32_t round = 0; code == 0 && round < storm->options->rounds; round++)
		code = play_round(storm, round);
	await_quiet(storm);
	measure_end(&storm->measure);
	return code;
}

static int report(struct storm *storm)
{
	const struct push_team *team = &storm->setup.team;
	struct stats *stats = &storm->stats;
	uint64_t planned = (uint64_t)storm->setup.streams * storm->options->rounds;
	struct buf more;

	stats->units = PUSH_SUM(team, crew.ready);
	stats->failed = planned - stats->units + storm->setup.redis_failed;
	stats->ended = PUSH_SUM(team, crew.ended);
	for (uint32_t i = 0; i < team->options.threads; i++) {
		const struct push_member *member = &team->members[i];

		stats->wrong += metric_value(&member->crew.check.wrong);
		histogram_merge(&stats->latency, member->latency);
		if (member->crew.fault[0])
			tell("%s", member->crew.fault);
	}
	buf_init(&more, 4096);
	buf_printf(&more, "\"rounds\":%u,\"round_seconds\":[%.*s]", storm->options->rounds,
		   SPAN_ARGS(buf_span(&storm->round_seconds)));

	int code = stats_report(storm->options->work, stats, &storm->measure, buf_span(&more));

	buf_finish(&more);
	return code == 0 && stats->ended == 0 ? 0 : 1;
}

int storm_run(const struct options *options)
{
	static struct storm storm;

	storm = (struct storm){
		.options = options,
		.setup = {.options = options,
			  .users = options->users ? options->users : options->connections,
			  .active = options->connections,
			  .rounds = options->rounds,
			  .times_openings = true,
			  .at_once = options->at_once},
	};
	buf_init(&storm.round_seconds, 4096);
	if (measure_init(&storm.measure, options) != 0)
		return 2;

	int code = run(&storm);

	push_setup_leave(&storm.setup);

	int reported = report(&storm);

	push_setup_finish(&storm.setup);
	measure_finish(&storm.measure);
	buf_finish(&storm.round_seconds);
	return code ? 1 : reported;
}
