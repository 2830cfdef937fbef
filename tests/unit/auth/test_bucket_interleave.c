/* Every interleaving of charges in one set of two buckets, one step at a time. */
#include "unit/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define BUCKET_STEP() interleave_step()
#define BUCKET_YIELD() interleave_pause()
#define SPINS_BEFORE_YIELD 1
#define WAYS 2
#include "auth/bucket.c"

#define SCRIPTS 2
#define CHARGES_MAX 5
#define RATE 2
#define WINDOW 7
#define NOW 1000
/* LATER is no whole number of tokens: a fresh time is never an old one's number (see bucket.c). */
#define LATER (NOW + 1)
#define MUCH_LATER (NOW + 100)

/* A script charges its keys one after another. */
struct script {
	char keys[CHARGES_MAX + 1];
	uint64_t now_ms[CHARGES_MAX];
};

static struct world {
	struct bucket_set set;
	struct bucket_table table;
	struct bucket_rule rule;
	struct script scripts[SCRIPTS];
	char before[8];
	uint64_t answers[SCRIPTS][CHARGES_MAX];
} world;

static uint64_t charge_key(char key, uint64_t now_ms)
{
	return bucket_charge(&world.table, &world.rule, span_make(&key, 1), now_ms);
}

static void set_up(void *context)
{
	struct world script = *(const struct world *)context;

	memset(&world, 0, sizeof(world));
	world.rule = script.rule;
	memcpy(world.scripts, script.scripts, sizeof(world.scripts));
	memcpy(world.before, script.before, sizeof(world.before));
	world.table.sets = &world.set;
	for (const char *key = world.before; *key; key++)
		charge_key(*key, NOW);
}

static void run_script(int which)
{
	const struct script *script = &world.scripts[which];

	for (int i = 0; script->keys[i]; i++)
		world.answers[which][i] = charge_key(script->keys[i], script->now_ms[i]);
}

static void first(void *context)
{
	(void)context;
	run_script(0);
}

static void second(void *context)
{
	(void)context;
	run_script(1);
}

/* How many charges of this key were granted, those before the scripts included. */
static uint64_t granted_count(char key)
{
	uint64_t count = 0;

	for (const char *at = world.before; *at; at++)
		count += *at == key;
	for (int i = 0; i < SCRIPTS; i++) {
		for (int j = 0; world.scripts[i].keys[j]; j++)
			count += world.scripts[i].keys[j] == key && world.answers[i][j] == 0;
	}
	return count;
}

static int bucket_count(char key)
{
	uint64_t tag = tag_of(&world.table, &world.rule, span_make(&key, 1));
	int count = 0;

	for (int way = 0; way < WAYS; way++)
		count += atomic_load(&world.set.tags[way]) == tag;
	return count;
}

/* The bucket of `key` remembers all that was granted, if nothing was ever evicted. */
static bool remembers(char key)
{
	uint64_t tag = tag_of(&world.table, &world.rule, span_make(&key, 1));

	for (int way = 0; way < WAYS; way++) {
		if (atomic_load(&world.set.tags[way]) == tag)
			return atomic_load(&world.set.times[way]) ==
			       NOW * RATE + granted_count(key) * WINDOW;
	}
	return granted_count(key) == 0;
}

/* All charges at one time and no eviction: each key is granted exactly its burst. */
static bool check_exact(void *context)
{
	(void)context;
	for (char key = 'a'; key <= 'b'; key++) {
		uint64_t tried = 0;

		for (const char *at = world.before; *at; at++)
			tried += *at == key;
		for (int i = 0; i < SCRIPTS; i++) {
			for (int j = 0; world.scripts[i].keys[j]; j++)
				tried += world.scripts[i].keys[j] == key;
		}
		if (granted_count(key) != (tried < world.rule.burst ? tried : world.rule.burst))
			return false;
		if (bucket_count(key) > 1 || !remembers(key))
			return false;
	}
	return atomic_load(&world.set.claim) == 0 && atomic_load(&world.table.evicted_count) == 0;
}

/* Buckets change hands: no key ever has two, none is left half changed, answers make sense. */
static bool check_sane(void *context)
{
	/* The waits that an empty bucket of this rule can give. */
	uint64_t longest = (WINDOW + RATE - 1) / RATE;

	(void)context;
	for (int i = 0; i < SCRIPTS; i++) {
		for (int j = 0; world.scripts[i].keys[j]; j++) {
			if (world.answers[i][j] > longest)
				return false;
		}
	}
	for (char key = 'a'; key <= 'd'; key++) {
		if (bucket_count(key) > 1)
			return false;
	}
	for (int way = 0; way < WAYS; way++) {
		uint64_t time = atomic_load(&world.set.times[way]);

		if (time == TIME_CHANGING || time > MUCH_LATER * RATE + world.rule.burst * WINDOW)
			return false;
	}
	return atomic_load(&world.set.claim) == 0;
}

/* As check_sane; besides, every key stays within its burst: whatever is evicted, all is granted. */
static bool check_all_granted(void *context)
{
	for (int i = 0; i < SCRIPTS; i++) {
		for (int j = 0; world.scripts[i].keys[j]; j++) {
			if (world.answers[i][j] != 0)
				return false;
		}
	}
	return check_sane(context);
}

static void run_play(const char *name, struct world *script, bool (*check)(void *context))
{
	if (INTERLEAVE_WHY_NOT[0]) {
		printf("skip: %s\n", INTERLEAVE_WHY_NOT);
		skip();
	}

	static void (*const runs[])(void *context) = { first, second };
	struct interleave test = {
		.set_up = set_up,
		.check = check,
		.context = script,
		.memory = { { &world, sizeof(world) } },
	};

	for (int i = 0; i < SCRIPTS; i++)
		test.scripts[i] = script->scripts[i].keys[0] ? runs[i] : NULL;

	bool passed = interleave_all(&test);

	printf("%s: %llu states, %llu ends\n", name, (unsigned long long)test.state_count,
	       (unsigned long long)test.end_count);
	if (!passed)
		fail_msg("%s:%s%s%s", name, test.is_stuck ? " stuck" : "",
			 test.is_refused ? " wrong at the end" : "",
			 test.is_too_large ? " too many states" : "");
	assert_true(test.end_count > 0);
}

#define RULE(tokens) { .requests = RATE, .window_ms = WINDOW, .burst = tokens }
#define SCRIPT(text) { text, { NOW, NOW, NOW } }

static void bucket_of_one_key_is_exact_in_any_order(void **state)
{
	static struct world plays[] = {
		/* a key that is new to all, and one that is known */
		{ .rule = RULE(1), .scripts = { SCRIPT("a"), SCRIPT("a") } },
		{ .rule = RULE(2), .scripts = { SCRIPT("aa"), SCRIPT("aa") } },
		{ .rule = RULE(3), .before = "a", .scripts = { SCRIPT("aa"), SCRIPT("aa") } },
		{ .rule = RULE(1), .scripts = { SCRIPT("ab"), SCRIPT("ba") } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		run_play("one key", &plays[i], check_exact);
}

static void bucket_change_of_hands_is_clean_in_any_order(void **state)
{
	static struct world plays[] = {
		{ .rule = RULE(2), .before = "aabb", .scripts = { SCRIPT("a"), SCRIPT("c") } },
		{ .rule = RULE(2), .before = "aab", .scripts = { SCRIPT("ab"), SCRIPT("cd") } },
		{ .rule = RULE(2), .before = "ab", .scripts = { SCRIPT("c"), SCRIPT("c") } },
		{ .rule = RULE(2), .before = "ab", .scripts = { SCRIPT("ab"), SCRIPT("cdc") } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		run_play("hands", &plays[i], check_sane);
}

static void bucket_of_a_stranger_pays_for_nobody_in_any_order(void **state)
{
	static struct world plays[] = {
		/* c takes the place of a while a is charged */
		{ .rule = RULE(2), .before = "a",
		  .scripts = { SCRIPT("a"), { "bcc", { LATER, LATER, LATER } } } },
		/* c takes the place of a, uses it up, and a comes back into the same place */
		{ .rule = RULE(3), .before = "ab",
		  .scripts = { SCRIPT("a"),
			       { "bccca", { MUCH_LATER, LATER, LATER, LATER, LATER } } } },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(plays); i++)
		run_play("stranger", &plays[i], check_all_granted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_of_one_key_is_exact_in_any_order),
		cmocka_unit_test(bucket_change_of_hands_is_clean_in_any_order),
		cmocka_unit_test(bucket_of_a_stranger_pays_for_nobody_in_any_order),
	};

	return cmocka_run_group_tests_name("bucket interleaved", tests, NULL, NULL);
}
