/*
 * mock_ring: a second implementation of uring/ring.h, without a kernel. One thread; any number of
 * rings.
 *
 * Files are ends of streams in memory; time stands still but for ring_enter, which moves it on;
 * what completes next, when, how short, and with which error, a seed decides. Same seed and same
 * calls: same run. Descriptors made by the real socket(2) become such files when a ring adopts or
 * first uses them: a listener is found by the address it is bound to, a connect goes to the
 * listener of that address.
 */
#ifndef TESTS_SIM_MOCK_RING_H
#define TESTS_SIM_MOCK_RING_H

#include "uring/worker.h"

/* Chances are per thousand and drawn for each attempt. */
struct sim_options {
	uint64_t seed;
	uint32_t delay_us_max;	   /* an operation is looked at this much later, at most */
	uint32_t short_chance;	   /* sends and receives that move less than they could */
	uint32_t starve_chance;	   /* ENOBUFS though buffers are there */
	uint32_t multishot_chance; /* multishot receives that end after a completion */
	uint32_t reset_chance;	   /* sends and receives that find the connection reset */
	uint32_t accept_chance;	   /* accepts that fail and lose the connection */
	uint32_t connect_chance;   /* connects that fail (ECONNREFUSED, ETIMEDOUT) */
	uint32_t message_chance;   /* messages between rings that are refused */
	uint32_t copied_chance;	   /* zero-copy sends that the kernel copied */
	uint32_t refused_chance;   /* zero-copy sends that it refused, with a notification or not */
	uint32_t notify_us_max;	   /* a zero-copy send's notification; 0: as delay_us_max */
	uint32_t stream_bytes;	   /* what a stream holds between its ends */
	uint32_t idle_us;	   /* a wait without a completion moves time by this, at most */
	uint32_t error_chance;	   /* operations that fail, by any row of their table */
	uint32_t queue_chance;	   /* submissions that find no room */
	uint32_t cq_entries;	   /* completions that the queue holds; 0: the ring's own number */
};

/* Kind to everything: delays and short moves, no errors. */
struct sim_options sim_options_clean(uint64_t seed);
/* As clean, with every fault there is. */
struct sim_options sim_options_faulty(uint64_t seed);
/* As faulty, and every errno there is, a completion queue that overflows, submissions refused. */
struct sim_options sim_options_hostile(uint64_t seed);

/* Before the first ring. */
void sim_begin(const struct sim_options *options);

/* Other chances from here on; the seed's numbers go on. */
void sim_change(const struct sim_options *options);

/* After the last ring: nothing may be left open (CHECK). */
void sim_end(void);

/* 0 … below - 1, from the seed. */
uint64_t sim_random(uint64_t below);
bool sim_chance(uint32_t per_thousand);

/* Microseconds since sim_begin. */
uint64_t sim_now_us(void);
void sim_sleep_us(uint64_t us);

extern const struct worker_clock sim_clock;

/* A connected pair, one end in each ring's table (may be the same ring). */
void sim_pair(struct ring *a, struct file_ref *file_a, struct ring *b, struct file_ref *file_b);

/* An unconnected socket and a listener at 127.0.0.1:port, without the kernel's help. */
struct file_ref sim_socket(struct ring *ring);
struct file_ref sim_listener(struct ring *ring, uint16_t port);

/* A listener by a descriptor, for what takes no other; no ring closes it. */
int sim_listener_fd(uint16_t port);
void sim_close_fd(int fd);

struct sim_counts {
	uint64_t shorts, starvations, multishot_ends, resets, accept_failures, connect_failures;
	uint64_t messages_refused, zerocopy_refused, zerocopy_notified, bytes;
	uint64_t errors, submissions_refused, cq_overflows;
	uint64_t cancel_races; /* operations that ended otherwise than by their cancel */
	uint64_t slot_reuses;  /* places given anew while an operation on the old file was on */
};
struct sim_counts sim_get_counts(void);

/*
 * Over all runs since the program began: errnos of this kind's table that error_chance gives, and
 * how many of them have been given.
 */
unsigned sim_errno_count(enum ring_opcode opcode);
unsigned sim_errno_reached(enum ring_opcode opcode);

#endif
