/*
 * worker: a thread's loop over its ring. Also used by the bus thread and by the main thread
 * (signals, admin).
 *
 * One turn: run due deadlines, reap completions, run callbacks, retry starved receives,
 * deliver mail, before_wait hook, run flush tasks, run sweep tasks, post mail (wakes),
 * submit and wait. A turn is a circle; mail is posted just before the submit that carries it, so
 * that it never waits for a turn.
 */
#ifndef URING_WORKER_H
#define URING_WORKER_H

#include "base/list.h"
#include "base/metric.h"
#include "base/wheel.h"
#include "uring/deadline.h"
#include "uring/mailbox.h"
#include "uring/op.h"
#include "uring/slots.h"

#define WORKERS_MAX 128 /* workers, bus and main: targets of one worker's wakes fit two words */

#define WORKER_BATCH	     256  /* completions, or tasks of a step, until the ring is entered */
#define WORKER_MANY_SUBMISSIONS 16 /* of a turn, which then does not wait */
#define WORKER_REAP_MAX	     32	  /* completions between two looks at the clock … */
#define WORKER_REAP_BYTES    1024 /* … and bytes received: two commands */
#define WORKER_TURN_MAX	     1024 /* completions of one turn, before the flushes … */
/*
 * … and after this much time of theirs no more: a command costs 50 us of cryptography, one buffer of
 * them half a millisecond, and nothing on the loop is to wait for more than two.
 */
#define WORKER_TURN_US 500
/*
 * Submissions of one turn, from which on flushes are left to the next: sends run inline when they are
 * submitted, 4 to 8 us each.
 */
#define WORKER_SUBMISSIONS_MAX 128
#define WORKER_FLUSHES_MIN     16 /* run in each turn all the same */
#define WORKER_STARVED_MAX   64	  /* starved receives called back in one turn */
#define WORKER_WAKE_RETRY_US 1000 /* after a wake that the kernel refused */

/* Something to do once at a later step of this turn. Unlinked = not scheduled. */
struct task {
	struct list link;
	void (*run)(struct task *task);
};

static inline void task_init(struct task *task, void (*run)(struct task *task))
{
	list_init(&task->link);
	task->run = run;
}

/* Time, brought in so that tests drive it. */
struct worker_clock {
	uint64_t (*monotonic_us)(void *context);
	int64_t (*wall_ms)(void *context); /* since 1970 */
	void *context;
};

extern const struct worker_clock worker_clock_system;

struct worker_options {
	const char *name; /* "worker-0", "bus", "main": label of its metrics; outlives the worker */
	uint32_t index;	  /* 0…WORKERS_MAX - 1, unique in the process */
	struct ring_options ring;
	struct worker_clock clock;
	struct metric_registry *metrics; /* may be NULL */
};

struct worker_metrics {
	struct metric_counter submissions, completions, cq_overflows, buffer_starvations,
		late_completions;
	struct metric_counter wakes_sent, wakes_failed, letters;
	struct metric_histogram loop_seconds; /* a turn, the wait left out; many sends are in it */
	struct metric_gauge ops_in_flight;
};

/* Aligned to 64 bytes (its mailbox): static, or from aligned_alloc. */
struct worker {
	const char *name;
	uint32_t index;
	struct ring *ring;
	struct slots slots;
	struct wheel wheel;
	struct list fine_deadlines;
	struct mpsc mailbox;
	_Atomic bool asleep_hint; /* a poster skips the wake while false: order in mailbox.c */
	uint64_t now_us, now_ms;  /* monotonic, of this turn */
	int64_t wall_ms;	  /* of this turn */
	struct list flush_tasks, sweep_tasks;
	struct list starved;	/* receives that wait for a buffer (struct worker_starved) */
	uint32_t starved_batch; /* called back per turn: ≤ WORKER_STARVED_MAX, ≤ buffers */
	struct worker *wake_targets[WORKERS_MAX];
	uint64_t wake_pending[WORKERS_MAX / 64];
	uint64_t wake_failed[WORKERS_MAX / 64]; /* sent again whatever their hint says … */
	uint64_t wake_retry_us;			/* … at this time; 0: none */
	bool wakes_in_air;			/* the last turn sent some; refusals may come yet */
	uint64_t *unclosed; /* bit by place: direct files whose close found no room yet */
	uint32_t unclosed_count, discards; /* bits set; closes by op_discard not completed */
	bool started;				/* its ring is enabled */
	bool stop_requested;
	struct ring_counts counted; /* already in the metrics */
	struct worker_clock clock;
	struct worker_metrics metrics;
	struct metric_registry *registry;
	/* Optional hook: drain the ready feeds. Set before worker_run. */
	void (*before_wait)(struct worker *worker);
	void *context; /* whoever set before_wait */
};

/* Creates ring and tables. Thread: any; `why` as in ring_probe. Returns 0 or a negative errno. */
int worker_init(struct worker *worker, const struct worker_options *options, char *why,
		size_t why_size);

/* Nothing in flight (CHECK). Thread: any after worker_run, else the one that ran turns. */
void worker_finish(struct worker *worker);

/*
 * Runs turns until worker_stop was called and no operation, task, letter or wake-up is left.
 * Returns 0 or the ring's negative errno.
 */
int worker_run(struct worker *worker);

/* One turn; waits at most `wait_us`. For tests and for worker_run. */
int worker_turn(struct worker *worker, uint64_t wait_us);

/* Ends worker_run once the last operation has completed. Thread: the worker's own. */
void worker_stop(struct worker *worker);

/*
 * Schedules for this turn's step, once however often it is called; from within that step: next
 * turn. A step runs at most WORKER_BATCH tasks, a flush step fewer when it has submitted much; the
 * others come first in the next turn, which does not wait.
 */
void worker_flush_later(struct worker *worker, struct task *task);
void worker_sweep_later(struct worker *worker, struct task *task);

/* The clock as it is, where the turn's time is too old: for who does much in one call. */
uint64_t worker_clock_us(const struct worker *worker);

/*
 * A receive that ended with -ENOBUFS waits here and is called back when buffers are there.
 * Embedded; safe to remove by list_remove.
 */
struct worker_starved {
	struct list link;
	void (*retry)(struct worker_starved *starved);
};
static inline void worker_starved_init(struct worker_starved *starved,
				       void (*retry)(struct worker_starved *starved))
{
	list_init(&starved->link);
	starved->retry = retry;
}

void worker_starve(struct worker *worker, struct worker_starved *starved);

/* Operations armed now. */
uint32_t worker_ops_in_flight(const struct worker *worker);

#endif
