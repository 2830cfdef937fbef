/* redis_rig: a worker that a test turns by hand, and a scripted peer in the same thread for what no
 * Redis would do. */
#ifndef TESTS_REDIS_RIG_H
#define TESTS_REDIS_RIG_H

#include "unit/redis/redis_server.h"
#include "unit/turns.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static inline void rig_worker_init(struct worker *worker, struct worker_clock clock)
{
	const struct worker_options options = {
		.name = "test",
		.ring = {.sq_entries = 256,
			 .cq_entries = 16384,
			 .file_slots = 64,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = clock,
	};
	char why[256] = "";
	int code = worker_init(worker, &options, why, sizeof(why));

	if (code)
		fail_msg("worker_init: %d %s", code, why);
	assert_int_equal(worker_turn(worker, 0), 0);
}

static inline void rig_worker_finish(struct worker *worker)
{
	TURN_UNTIL(worker, worker_ops_in_flight(worker) == 0);
	worker_finish(worker);
}

static inline void rig_set_true(void *context)
{
	*(bool *)context = true;
}

/* ── the scripted peer: listens on 127.0.0.1 ── */

struct fake {
	struct worker *worker;
	int listener, peer; /* -1: none */
	uint16_t port;
	char heard[1u << 16]; /* not yet expected */
	size_t heard_len;
};

static inline void fake_open(struct fake *fake, struct worker *worker)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	*fake = (struct fake){.worker = worker, .peer = -1};
	fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fake->listener >= 0);
	assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fake->listener, 16), 0);
	assert_int_equal(getsockname(fake->listener, (struct sockaddr *)&address, &len), 0);
	fake->port = ntohs(address.sin_port);
}

static inline struct endpoint fake_endpoint(const struct fake *fake)
{
	return (struct endpoint){.kind = ENDPOINT_HOST, .host = "127.0.0.1", .port = fake->port};
}

static inline void fake_hang_up(struct fake *fake)
{
	if (fake->peer >= 0)
		close(fake->peer);
	fake->peer = -1;
	fake->heard_len = 0;
}

/* What it has not read, or the peer has not, is lost. */
static inline void fake_reset(struct fake *fake)
{
	const struct linger now = {.l_onoff = 1};

	assert_int_equal(setsockopt(fake->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	fake_hang_up(fake);
}

static inline void fake_close(struct fake *fake)
{
	fake_hang_up(fake);
	if (fake->listener >= 0)
		close(fake->listener);
	fake->listener = -1;
}

static inline bool fake_has_peer(struct fake *fake)
{
	if (fake->peer < 0)
		fake->peer = accept4(fake->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	return fake->peer >= 0;
}

static inline void fake_accept(struct fake *fake)
{
	fake_hang_up(fake);
	TURN_UNTIL(fake->worker, fake_has_peer(fake));
}

/* Whether `text` stands in what came; it and what was before it is taken. */
static inline bool fake_hears(struct fake *fake, const char *text)
{
	ssize_t n = recv(fake->peer, fake->heard + fake->heard_len,
			 sizeof(fake->heard) - fake->heard_len, 0);
	size_t len = strlen(text);

	if (n > 0)
		fake->heard_len += (size_t)n;

	char *at = memmem(fake->heard, fake->heard_len, text, len);

	if (!at)
		return false;
	fake->heard_len -= (size_t)(at - fake->heard) + len;
	memmove(fake->heard, at + len, fake->heard_len);
	return true;
}

static inline void fake_expect(struct fake *fake, const char *text)
{
	TURN_UNTIL(fake->worker, fake_hears(fake, text));
}

static inline void fake_say_bytes(struct fake *fake, const char *bytes, size_t len)
{
	assert_int_equal(send(fake->peer, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void fake_say(struct fake *fake, const char *text)
{
	fake_say_bytes(fake, text, strlen(text));
}

/* Accepts and answers the greeting of a client without password and database. */
static inline void fake_greet(struct fake *fake)
{
	fake_accept(fake);
	fake_expect(fake, "PING\r\n");
	fake_say(fake, "+PONG\r\n");
}

#endif
