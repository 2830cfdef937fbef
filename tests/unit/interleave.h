/*
 * interleave: runs up to INTERLEAVE_ACTORS small scripts in every order of their steps, on one
 * thread and reproducibly. The code under test is compiled into the test with its step macro set to
 * interleave_step(), so that a switch can come before every access that the other side can see.
 *
 * A state (the scripts' stacks and registers, and the memory that the test names) that was reached
 * before is not gone on from again: what follows from it has been seen. So the number of runs is
 * that of states, not of orders, and scripts may be long. The orders are those of a machine without
 * reordering; for the rest there is ThreadSanitizer.
 *
 * Scripts must not assert (they run on stacks of their own): they leave a note that `check` looks at.
 */
#ifndef TESTS_UNIT_INTERLEAVE_H
#define TESTS_UNIT_INTERLEAVE_H

#include "base/check.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INTERLEAVE_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define INTERLEAVE_TSAN 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define INTERLEAVE_ASAN 1
#endif
#ifdef __SANITIZE_THREAD__
#define INTERLEAVE_TSAN 1
#endif

#ifdef INTERLEAVE_TSAN
#define INTERLEAVE_WHY_NOT "ThreadSanitizer does not follow ucontext switches"
#else
#define INTERLEAVE_WHY_NOT "" /* the tests can run */
#endif

#ifdef INTERLEAVE_ASAN
#include <sanitizer/asan_interface.h>
/* Variables must be on the stacks that are compared. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_stack_use_after_return=0";
}
#define INTERLEAVE_NO_ASAN __attribute__((no_sanitize("address")))
#else
#define INTERLEAVE_NO_ASAN
#endif

#define INTERLEAVE_ACTORS 3
#define INTERLEAVE_STACK_BYTES (256 << 10)
#define INTERLEAVE_CHOICES_MAX 4096 /* in one run */
#define INTERLEAVE_STEPS_MAX 100000 /* in one run: beyond it, scripts wait for each other */
#define INTERLEAVE_STATES_MAX (1 << 22) /* power of two; at most half are used */
#define INTERLEAVE_MEMORY_MAX 8

enum actor_state { ACTOR_NEW, ACTOR_READY, ACTOR_PAUSED, ACTOR_WAITING, ACTOR_DONE };

struct actor {
	void (*script)(void *context);
	enum actor_state state;
	const bool *waits_for;
	uint64_t paused_at; /* the memory's hash when it paused */
	ucontext_t machine;
	jmp_buf registers;
	const char *stack_low; /* in use from here up */
	_Alignas(64) char stack[INTERLEAVE_STACK_BYTES];
};

struct interleave {
	/* the test's */
	void (*scripts[INTERLEAVE_ACTORS])(void *context); /* NULL: none */
	void (*set_up)(void *context); /* before every run */
	bool (*check)(void *context);  /* after every run that came to its end */
	void *context;
	struct {
		const void *bytes;
		size_t len;
	} memory[INTERLEAVE_MEMORY_MAX]; /* all that scripts share or keep outside their stacks */
	/* results */
	uint64_t run_count, end_count, state_count;
	bool is_stuck; /* some script waits for what never comes */
	bool is_refused; /* by check */
	bool is_too_large;
};

static struct {
	struct interleave *test;
	struct actor actors[INTERLEAVE_ACTORS];
	int running; /* -1: home */
	ucontext_t home;
	uint8_t choices[INTERLEAVE_CHOICES_MAX], options[INTERLEAVE_CHOICES_MAX];
	size_t depth, length, steps;
	bool is_known; /* this run came to a state that was seen before */
	uint64_t states[INTERLEAVE_STATES_MAX];
} interleave = { .running = -1 };

/* Not memcpy and friends: ASan's would look at the red zones between variables. */
INTERLEAVE_NO_ASAN static uint64_t interleave_mix(uint64_t hash, const void *bytes, size_t len)
{
	const volatile unsigned char *at = bytes;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
	return hash ^ hash >> 29;
}

static uint64_t interleave_hash_memory(void)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (int i = 0; i < INTERLEAVE_MEMORY_MAX; i++)
		hash = interleave_mix(hash, interleave.test->memory[i].bytes,
				      interleave.test->memory[i].len);
	return hash;
}

static uint64_t interleave_hash(void)
{
	uint64_t hash = interleave_hash_memory();

	for (int i = 0; i < INTERLEAVE_ACTORS; i++) {
		struct actor *actor = &interleave.actors[i];

		hash = interleave_mix(hash, &actor->state, sizeof(actor->state));
		hash = interleave_mix(hash, &actor->waits_for, sizeof(actor->waits_for));
		if (actor->state == ACTOR_NEW || actor->state == ACTOR_DONE)
			continue;
		hash = interleave_mix(hash, actor->registers, sizeof(actor->registers));
		hash = interleave_mix(hash, actor->stack_low,
				      (size_t)(actor->stack + INTERLEAVE_STACK_BYTES -
					       actor->stack_low));
	}
	return hash ? hash : 1;
}

/* Returns whether the state is new, and notes it. */
static bool interleave_note_state(void)
{
	uint64_t hash = interleave_hash();
	size_t at = (size_t)(hash >> 20) & (INTERLEAVE_STATES_MAX - 1);

	while (interleave.states[at] && interleave.states[at] != hash)
		at = (at + 1) & (INTERLEAVE_STATES_MAX - 1);
	if (interleave.states[at])
		return false;
	interleave.states[at] = hash;
	interleave.test->state_count++;
	return true;
}

static bool interleave_may_run(const struct actor *actor)
{
	return actor->state == ACTOR_NEW || actor->state == ACTOR_READY ||
	       (actor->state == ACTOR_WAITING && *actor->waits_for);
}

/* A pause ends when another script has changed something, or when none is left to do so. */
static void interleave_end_pauses(bool all)
{
	for (int i = 0; i < INTERLEAVE_ACTORS; i++) {
		struct actor *actor = &interleave.actors[i];

		if (actor->state == ACTOR_PAUSED &&
		    (all || actor->paused_at != interleave_hash_memory()))
			actor->state = ACTOR_READY;
	}
}

/* The next actor to run; -1: home, because all are done, stuck, or the state is known. */
static int interleave_choose(void)
{
	int able[INTERLEAVE_ACTORS], count = 0, chosen = 0;
	bool all_done = true;

	interleave_end_pauses(false);
	for (int i = 0; i < INTERLEAVE_ACTORS; i++) {
		if (interleave_may_run(&interleave.actors[i]))
			able[count++] = i;
		all_done = all_done && interleave.actors[i].state == ACTOR_DONE;
	}
	if (count == 0 && !all_done) {
		interleave_end_pauses(true);
		for (int i = 0; i < INTERLEAVE_ACTORS; i++) {
			if (interleave_may_run(&interleave.actors[i]))
				able[count++] = i;
		}
	}
	if (count == 0 || interleave.steps++ > INTERLEAVE_STEPS_MAX) {
		interleave.test->is_stuck = interleave.test->is_stuck || !all_done;
		return -1;
	}
	if (count > 1) {
		if (interleave.depth == interleave.length) {
			if (!interleave_note_state()) {
				interleave.is_known = true;
				return -1;
			}
			CHECK(interleave.length < INTERLEAVE_CHOICES_MAX);
			interleave.choices[interleave.length] = 0;
			interleave.options[interleave.length++] = (uint8_t)count;
		}
		chosen = interleave.choices[interleave.depth++];
	}
	return able[chosen];
}

static void interleave_switch(void)
{
	int from = interleave.running, to = interleave_choose();

	interleave.running = to;
	if (to == from)
		return;
	swapcontext(from < 0 ? &interleave.home : &interleave.actors[from].machine,
		    to < 0 ? &interleave.home : &interleave.actors[to].machine);
}

/*
 * The stack in use begins at this function's frame: below all of interleave_leave's, which holds
 * the registers of its caller that it has saved. Those that it has not are in `registers`.
 */
static __attribute__((noinline)) void interleave_mark(struct actor *actor)
{
	actor->stack_low = __builtin_frame_address(0);
}

static __attribute__((noinline)) void interleave_leave(enum actor_state state)
{
	if (interleave.running < 0)
		return;

	struct actor *actor = &interleave.actors[interleave.running];

	actor->state = state;
	if (state == ACTOR_PAUSED)
		actor->paused_at = interleave_hash_memory();
	interleave_mark(actor);
	memset(actor->registers, 0, sizeof(actor->registers));
	(void)setjmp(actor->registers); /* for what the caller keeps in registers; never jumped to */
	interleave_switch();
	/* Over the whole actor, not the local: after setjmp a local is not to be trusted. */
	if (interleave.running >= 0)
		interleave.actors[interleave.running].state = ACTOR_READY;
}

/* A switch may come here. */
static inline void interleave_step(void)
{
	interleave_leave(ACTOR_READY);
}

/* In a loop that waits for another script: goes on when one has changed the memory. */
static inline void interleave_pause(void)
{
	interleave_leave(ACTOR_PAUSED);
}

/* Sleeps until the flag is set. */
static inline void interleave_wait(const bool *flag)
{
	if (interleave.running >= 0)
		interleave.actors[interleave.running].waits_for = flag;
	interleave_leave(ACTOR_WAITING);
}

static void interleave_main(void)
{
	struct actor *actor = &interleave.actors[interleave.running];

	actor->state = ACTOR_READY;
	actor->script(interleave.test->context);
	actor->state = ACTOR_DONE;
	interleave_switch();
	UNREACHABLE("a script that is done is not chosen");
}

/* Apart, because a function that may return twice must not have variables to lose. */
static __attribute__((noinline)) void interleave_blank(struct actor *actor)
{
	(void)getcontext(&actor->machine);
}

static void interleave_run(void)
{
	struct interleave *test = interleave.test;

	for (int i = 0; i < INTERLEAVE_ACTORS; i++) {
		struct actor *actor = &interleave.actors[i];

#ifdef INTERLEAVE_ASAN
		ASAN_UNPOISON_MEMORY_REGION(actor->stack, sizeof(actor->stack));
#endif
		actor->script = test->scripts[i];
		actor->state = actor->script ? ACTOR_NEW : ACTOR_DONE;
		actor->waits_for = NULL;
		interleave_blank(actor);
		actor->machine.uc_stack.ss_sp = actor->stack;
		actor->machine.uc_stack.ss_size = sizeof(actor->stack);
		actor->machine.uc_link = NULL;
		makecontext(&actor->machine, interleave_main, 0);
	}
	interleave.depth = 0;
	interleave.steps = 0;
	interleave.is_known = false;
	test->set_up(test->context);
	test->run_count++;
	interleave_switch();
	if (interleave.is_known || test->is_stuck)
		return;
	test->end_count++;
	if (!test->check(test->context))
		test->is_refused = true;
}

/* The next order, or false. */
static bool interleave_next(void)
{
	while (interleave.length > 0 && interleave.choices[interleave.length - 1] + 1 ==
						interleave.options[interleave.length - 1])
		interleave.length--;
	if (interleave.length == 0)
		return false;
	interleave.choices[interleave.length - 1]++;
	return true;
}

/* Returns true if every order came to its end and passed the check. */
static inline bool interleave_all(struct interleave *test)
{
	bool has_next = true;

	memset(interleave.states, 0, sizeof(interleave.states));
	interleave.test = test;
	interleave.length = 0;
	while (has_next && !test->is_stuck && !test->is_refused && !test->is_too_large) {
		interleave_run();
		has_next = interleave_next();
		test->is_too_large = test->state_count > INTERLEAVE_STATES_MAX / 2;
	}
	return !test->is_stuck && !test->is_refused && !test->is_too_large;
}

#endif
