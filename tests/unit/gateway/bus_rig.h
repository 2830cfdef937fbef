/*
 * bus_rig: a real bus and real workers for two ports, with what the tails would hand over put in by
 * the test. The tails are never started: nothing here needs Redis. For one test binary each.
 */
#ifndef TESTS_UNIT_GATEWAY_BUS_RIG_H
#define TESTS_UNIT_GATEWAY_BUS_RIG_H

#include "unit/turns.h"

#include "gateway/bus_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RIG_PORTS 2
#define RIG_KEY	  "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" /* base64 of 32 bytes */

struct rig {
	struct worker bus_worker;
	struct worker workers[RIG_PORTS];
	struct bus_port ports[RIG_PORTS];
	struct config *config;
	struct signer *signer;
	struct feed_budget budget;
	struct bus *bus;
	uint64_t now_us; /* of the virtual clock */
	bool is_virtual;
	int fds_before;
};

static struct rig rig;

static inline uint64_t rig_monotonic_us(void *context)
{
	(void)context;
	return rig.now_us;
}

static inline int64_t rig_wall_ms(void *context)
{
	(void)context;
	return (int64_t)(1700000000000 + rig.now_us / 1000);
}

static inline void rig_worker_init(struct worker *worker, const char *name, uint32_t index)
{
	static const struct worker_clock clock_virtual = {
		.monotonic_us = rig_monotonic_us,
		.wall_ms = rig_wall_ms,
	};
	const struct worker_options options = {
		.name = name,
		.index = index,
		.ring = {.sq_entries = 64,
			 .cq_entries = 4096,
			 .file_slots = 16,
			 .buffer_count = 16,
			 .buffer_bytes = 2048},
		.clock = rig.is_virtual ? clock_virtual : worker_clock_system,
	};
	char why[256] = "";

	if (worker_init(worker, &options, why, sizeof(why)))
		fail_msg("worker_init: %s", why);
}

static inline void rig_load_config(void)
{
	static char *const environment[] = {
		(char *)"GATEWAY_SESSION_CACHE_REDIS_ADDR=unix:/nowhere",
		(char *)"GATEWAY_SESSION_EVENTS_REDIS_STREAM=session_events",
		(char *)"GATEWAY_CLIENT_EVENTS_REDIS_STREAM=client_events",
		(char *)"GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH=/nowhere",
		NULL,
	};
	struct buf report;

	buf_init(&report, 1u << 16);
	rig.config = config_load(environment, NULL, &report);
	if (!rig.config)
		fail_msg("%.*s", SPAN_ARGS(buf_span(&report)));
	buf_finish(&report);
}

static inline void rig_not_started(void *context)
{
	(void)context;
	fail_msg("the tails do not run");
}

/* The caller sets `updated` and `drain` of the ports. */
static inline void rig_init(bool is_virtual, uint32_t capacity)
{
	static const uint8_t seed[32] = {7};
	static const char *const names[RIG_PORTS] = {"worker-0", "worker-1"};

	rig = (struct rig){.is_virtual = is_virtual, .now_us = 1000000};
	rig.fds_before = descriptor_count();
	log_setup(&(struct log_options){.level = LOG_ERROR, .format = LOG_TEXT, .fd = 2});
	assert_int_equal(auth_init(), 0);
	assert_int_equal(signer_from_seed(&rig.signer, seed), 0);
	rig_load_config();
	rig.config->push_queue_capacity = capacity;
	rig.budget.max_bytes = UINT64_C(1) << 30;
	rig_worker_init(&rig.bus_worker, "bus", 0);
	for (uint32_t i = 0; i < RIG_PORTS; i++) {
		rig_worker_init(&rig.workers[i], names[i], i + 1);
		rig.ports[i].worker = &rig.workers[i];
	}

	const struct bus_options options = {
		.config = rig.config,
		.signer = rig.signer,
		.worker = &rig.bus_worker,
		.ports = rig.ports,
		.port_count = RIG_PORTS,
		.budget = &rig.budget,
		.started = rig_not_started,
	};

	assert_int_equal(bus_create(&rig.bus, &options), 0);
}

static inline void rig_drain_nothing(struct bus_port *port)
{
	(void)port;
}

/* Workers that hear of sessions, and have no streams. */
static inline void rig_hear(void (*updated)(struct bus_port *port, const struct bus_update *update))
{
	for (uint32_t i = 0; i < RIG_PORTS; i++) {
		rig.ports[i].updated = updated;
		rig.ports[i].drain = rig_drain_nothing;
	}
}

/* After the bus's parts have ended, and its thread if it had one. Nothing may be left. */
static inline void rig_finish(void)
{
	assert_int_equal(atomic_load(&rig.budget.queued_bytes), 0);
	bus_destroy(rig.bus);
	assert_int_equal(worker_ops_in_flight(&rig.bus_worker), 0);
	worker_finish(&rig.bus_worker);
	for (uint32_t i = 0; i < RIG_PORTS; i++) {
		assert_int_equal(worker_ops_in_flight(&rig.workers[i]), 0);
		worker_finish(&rig.workers[i]);
	}
	signer_destroy(rig.signer);
	config_destroy(rig.config);
	assert_int_equal(descriptor_count(), rig.fds_before);
}

static inline void rig_set_true(void *context)
{
	*(bool *)context = true;
}

/* For tests that turn the bus themselves. */
static inline void rig_stop_parts(void)
{
	bool stopped = false;
	int turns = 0;

	bus_stop_reading(rig.bus, rig_set_true, &stopped);
	while (!stopped) {
		assert_true(++turns < 1000);
		assert_int_equal(worker_turn(&rig.bus_worker, 0), 0);
	}
}

/* ---- what the tails would hand over; thread: the bus's. Each is a batch of one. ---- */

static inline void rig_tell_session_entry(const char *id, const char *user, const char *status,
					  bool is_replayed)
{
	const struct tail_field fields[] = {
		{SPAN("device_session_id"), span_from_cstr(id)},
		{SPAN("user_id"), span_from_cstr(user)},
		{SPAN("client_public_key"), SPAN(RIG_KEY)},
		{SPAN("status"), span_from_cstr(status)},
	};
	const struct tail_entry entry = {.id = SPAN("1-0"),
					 .id_ms = 1,
					 .fields = fields,
					 .field_count = ARRAY_LEN(fields),
					 .is_replayed = is_replayed};

	bus_session_handler.entry(rig.bus->session_tail, &entry);
	bus_session_handler.batch_end(rig.bus->session_tail);
}

static inline void rig_tell_session(const char *id, const char *user, const char *status)
{
	rig_tell_session_entry(id, user, status, false);
}

/* One of a batch: client_batch_end follows. `session` NULL: to all streams of the user. */
static inline void rig_add_client(const char *user, const char *session, uint32_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "number=%u;", number);

	const struct tail_field fields[] = {
		{SPAN("user_id"), span_from_cstr(user)},
		{SPAN("event_type"), SPAN("test")},
		{SPAN("event_id"), SPAN("e")},
		{SPAN("payload_bytes"), span_from_cstr(text)},
		{SPAN("device_session_id"), span_from_cstr(session ? session : "")},
	};
	const struct tail_entry entry = {
		.id = SPAN("1-0"), .id_ms = 1, .fields = fields, .field_count = session ? 5 : 4};

	bus_client_handler.entry(rig.bus->client_tail, &entry);
}

static inline void rig_end_client_batch(void)
{
	bus_client_handler.batch_end(rig.bus->client_tail);
}

/* The number that rig_add_client was given, of one event of a payload; -1: it is a bootstrap. */
static inline int64_t rig_number_of(const struct payload *payload, uint32_t index)
{
	const uint8_t *at = payload->data, *end = payload->data + payload->len;

	for (uint32_t i = 0; i <= index; i++) {
		at = memmem(at, (size_t)(end - at), "number=", 7);
		if (!at)
			return -1;
		at += 7;
	}
	return strtol((const char *)at, NULL, 10);
}

static inline struct payload *rig_bootstrap(void)
{
	struct payload *payload = payload_copy(SPAN("bootstrap"));

	CHECK(payload);
	return payload;
}

static inline struct session *rig_session(const char *id, const char *user)
{
	const struct session_fields fields = {
		.device_session_id = span_from_cstr(id),
		.user_id = span_from_cstr(user),
		.client_public_key = SPAN(RIG_KEY),
		.status = SPAN("active"),
	};
	struct session *session;
	const char *field;

	CHECK(session_create(&session, &fields, &field) == 0);
	return session;
}

#endif
