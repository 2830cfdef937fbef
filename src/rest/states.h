/*
 * states: the states of sign-ons that were spent, where no Redis remembers them: one table of all
 * workers, in which each can be spent once in its life. Thread: any. Source: api.md §4.
 */
#ifndef REST_STATES_H
#define REST_STATES_H

#include "base/hash.h"
#include "rest/login.h"

#define STATES_LIFE_MS ((uint64_t)LOGIN_MINUTES * 60 * 1000)
/* Of the process: over 200 sign-ons a second for all the time; 10 MiB when it is full, none before
 * they are needed. */
#define STATES_MAX (1u << 17)

struct states;

enum states_answer {
	STATES_SPENT, /* now: it was not before */
	STATES_USED,
	STATES_FULL, /* or no memory: none is forgotten for another */
};

/* `max` at once. Returns NULL without memory. */
struct states *states_create(size_t max, struct hash_secret secret);
void states_destroy(struct states *states); /* NULL is fine */

/* `state`: of a login. `now_ms`: monotonic, of any worker; they may differ by a turn. */
enum states_answer states_spend(struct states *states, const char *state, uint64_t now_ms);

#endif
