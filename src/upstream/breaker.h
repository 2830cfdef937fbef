/*
 * breaker: when to leave a failing service alone. Pure: no clock, no I/O. Thread: its owner's.
 * Source: edge.md §2.3 ("no healthy backend"); the README's table of dependencies.
 *
 *   CLOSED ─ `failures` in a row, or `ratio` per cent of at least `calls` within `window` ─► OPEN
 *   OPEN ─ after `open`, or breaker_hope ─► HALF_OPEN: one call, the probe, may pass
 *   HALF_OPEN ─ the probe is answered ─► CLOSED;  it fails ─► OPEN;  it tells nothing ─► the next
 *               (a stream when its answer begins: it may go on for long)
 *
 * One for each upstream *and worker*: what a worker knows of a service it learned over its own
 * connections, which may be well while another worker's are not; a state for all would be a line of
 * memory that every call of every worker writes. The price: up to one run of failures, and one
 * probe, for each worker.
 *
 * Failures are what the way to the service or its silence brings about: refused, reset, no
 * connection, no answer in time, UNAVAILABLE. Any other answer, an error of the application too,
 * is a service that works; so is a stream that was answered until its deadline cut it. What ended
 * for other reasons tells nothing: the caller left or gave it less time than the upstream's own
 * deadline (else one impatient client could close the way for all), or our own bounds were reached.
 */
#ifndef UPSTREAM_BREAKER_H
#define UPSTREAM_BREAKER_H

#include "config/config.h"

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_STATES };

enum breaker_verdict { BREAKER_ANSWERED, BREAKER_FAILED, BREAKER_UNTOLD };

#define BREAKER_SLOTS 10 /* the window is forgotten in such parts */

struct breaker {
	const struct config_breaker *config; /* immutable; the breaker's lifetime */
	uint8_t state;			     /* enum breaker_state */
	bool probe_is_out;
	uint32_t epoch; /* one more with each state; never 0 */
	uint32_t failed_in_a_row;
	uint64_t due_ms;  /* OPEN: a probe may pass */
	uint64_t slot_at; /* number of the latest slot since time 0 */
	struct breaker_slot {
		uint32_t ended, failed;
	} slots[BREAKER_SLOTS];
};

void breaker_init(struct breaker *breaker, const struct config_breaker *config);

/*
 * Returns a pass for this call, to be given back once by breaker_report, or 0: refused at once.
 * `now_ms` never goes back.
 */
uint32_t breaker_admit(struct breaker *breaker, uint64_t now_ms);

/*
 * How it ended. A pass from before the last change of state tells nothing any more. Returns whether
 * the state has changed.
 */
bool breaker_report(struct breaker *breaker, uint32_t pass, enum breaker_verdict verdict,
		    uint64_t now_ms);

/*
 * Its answer has begun and goes on: of a probe that is enough, of others their end tells. Returns
 * as breaker_report.
 */
bool breaker_hear(struct breaker *breaker, uint32_t pass, uint64_t now_ms);

/* An address has become able to take calls: what opened it may be over, the next call is the probe.
 */
void breaker_hope(struct breaker *breaker);

/* "closed", "open", "half_open". */
const char *breaker_state_name(enum breaker_state state);

#endif
