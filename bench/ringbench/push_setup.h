/*
 * push_setup: what must be there before anybody subscribes: a key, users and sessions in Redis, the
 * signed requests of every connection. Main thread.
 */
#ifndef RINGBENCH_PUSH_SETUP_H
#define RINGBENCH_PUSH_SETUP_H

#include "auth/signer.h"
#include "options.h"
#include "push_store.h"
#include "push_team.h"

struct push_setup {
	const struct options *options;
	uint64_t run;		  /* random: names of this run's users, mark of its events */
	uint32_t users;		  /* who get events */
	uint32_t idle_users;	  /* who get none */
	uint32_t at_once;	  /* connections opening at the same time; 0: all */
	bool times_openings;
	uint32_t rounds;	  /* how often all connect */
	uint32_t active, streams; /* streams of users who get events; of all */
	struct signer *signer;	  /* one key pair for all sessions */
	uint8_t gateway_key[ENVELOPE_KEY_BYTES];
	bool has_gateway_key;
	struct push_team team;
	struct push_store store;
	uint64_t redis_failed; /* the store's, once it is closed */
};

/*
 * Makes the team and connects to Redis. `options`, `users`, `rounds` and `active` are the caller's,
 * the rest is zero. Returns 0 or a negative errno with a sentence.
 */
int push_setup_init(struct push_setup *setup);
/* Closes everything and ends the threads; what they counted is still there. */
void push_setup_leave(struct push_setup *setup);
void push_setup_finish(struct push_setup *setup);

/* Writes the session records and signs the requests of all rounds. Returns as init. */
int push_setup_prepare(struct push_setup *setup);

#define PUSH_NAME_MAX 64
struct span push_user_name(const struct push_setup *setup, char text[PUSH_NAME_MAX],
			   uint32_t user);

#endif
