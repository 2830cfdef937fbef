/* The four PINGs of start-up (edge.md §6), each on a connection of its own, as its user will have
 * one. */
#include "base/explain.h"
#include "gateway/gateway.h"
#include "gateway/redis_options.h"

#include <errno.h>
#include <stdio.h>

#define TURN_WAIT_US                                                                               \
	1000 /* a turn ends with its wait, so a flag set in it is seen this much later */

struct ping {
	bool ready, stopped, expired;
	struct deadline deadline;
};

static void ping_changed(struct redis_client *client, bool ready, void *context)
{
	struct ping *ping = context;

	(void)client;
	ping->ready |= ready;
}

static void ping_stopped(void *context)
{
	struct ping *ping = context;

	ping->stopped = true;
}

static void ping_expired(struct deadline *deadline)
{
	CONTAINER_OF(deadline, struct ping, deadline)->expired = true;
}

/* Runs turns until `*flag`, or the deadline if it is armed. */
static int turn_until(struct worker *control, struct ping *ping, const bool *flag)
{
	int error = 0;

	while (!*flag && !ping->expired && !error)
		error = worker_turn(control, TURN_WAIT_US);
	return error;
}

static int ping_one(struct worker *control, const struct redis_options *options, const char *check,
		    char *why, size_t why_size)
{
	struct ping ping = {0};
	struct redis_client *client;
	int error = redis_client_create(&client, control, options);

	if (error) {
		snprintf(why, why_size, "%s: out of memory", check);
		return error;
	}
	deadline_init(&ping.deadline, ping_expired);
	deadline_arm(control, &ping.deadline, options->connect_timeout_ms);
	redis_client_start(client, ping_changed, &ping);
	error = turn_until(control, &ping, &ping.ready);
	if (error) {
		snprintf(why, why_size, "%s: ring failed: %s", check, errno_text(-error));
	} else if (!ping.ready) {
		const char *cause = redis_client_last_error(client);

		snprintf(why, why_size, "%s: Redis did not answer PING within %u ms%s%s", check,
			 options->connect_timeout_ms, cause[0] ? ": " : "", cause);
		error = -ETIMEDOUT;
	}
	deadline_disarm(control, &ping.deadline);
	ping.expired = false;
	redis_client_stop(client, ping_stopped, &ping);
	turn_until(control, &ping, &ping.stopped);
	redis_client_destroy(client);
	return error;
}

static void dns_closed(void *context)
{
	*(bool *)context = true;
}

int gateway_ping(struct worker *control, const struct config *config,
		 const struct tls_context *redis_tls, char *why, size_t why_size)
{
	const struct {
		const char *check;
		enum redis_role role;
		uint64_t timeout_ms;
	} checks[] = {
		{"session cache", REDIS_SESSION, config->redis_lookup_timeout_ms},
		{"replay store", REDIS_REPLAY, config->replay_reserve_timeout_ms},
		{"session event subscriber", REDIS_SESSION_EVENTS, config->session_events_block_ms},
		{"client event subscriber", REDIS_CLIENT_EVENTS, config->client_events_block_ms},
	};
	struct dns *dns;
	struct ping closing = {0};
	int error = dns_create(&dns, control);

	if (error) {
		snprintf(why, why_size, "name resolution: %s", errno_text(-error));
		return error;
	}
	for (size_t i = 0; i < ARRAY_LEN(checks) && !error; i++) {
		struct redis_options options = redis_options_from(config, redis_tls);

		options.connect_timeout_ms = (uint32_t)checks[i].timeout_ms;
		options.role = checks[i].role;
		options.dns = dns;
		options.limits = (struct resp_limits){
			.value_bytes_max = 4096, .items_max = 16, .depth_max = 2};
		error = ping_one(control, &options, checks[i].check, why, why_size);
	}
	dns_destroy(dns, dns_closed, &closing.stopped);
	turn_until(control, &closing, &closing.stopped);
	return error;
}
