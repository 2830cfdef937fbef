/* peers: how many connections each address has; the threads at the end are for the thread
 * sanitizer. */
#include "base/check.h"
#include "edge/peers.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include <cmocka.h>

static const struct hash_secret secret = {{7}};

static struct address address_of(const char *text)
{
	struct address address;

	if (text[0] == '/')
		return address_from_path(text);
	assert_true(address_from_text(&address, text, 1000));
	return address;
}

static void peers_count_by_address_and_v6_by_its_64(void **state)
{
	static const struct {
		const char *first, *second;
		bool is_same;
	} rows[] = {
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"10.0.0.1", "a00:1::", false}, /* the same four bytes, then zeros */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct peers *peers = peers_create(secret, 1);
		struct address first = address_of(rows[i].first);
		struct address second = address_of(rows[i].second);

		assert_int_equal(peers_admit(peers, &first), PEERS_ADMITTED);
		enum peers_answer answer = peers_admit(peers, &second);

		if (answer != (rows[i].is_same ? PEERS_REFUSED : PEERS_ADMITTED))
			fail_msg("%s after %s: %d", rows[i].second, rows[i].first, answer);
		peers_release(peers, &first);
		if (!rows[i].is_same)
			peers_release(peers, &second);
		peers_destroy(peers);
	}
}

static void peers_admit_as_many_as_they_may_and_again_after_a_release(void **state)
{
	struct peers *peers = peers_create(secret, 3);
	struct address address = address_of("10.0.0.1");

	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(peers_admit(peers, &address), PEERS_ADMITTED);
		assert_int_equal(peers_admit(peers, &address), PEERS_REFUSED);
		assert_int_equal(peers_admit(peers, &address), PEERS_REFUSED);
		peers_release(peers, &address);
		assert_int_equal(peers_admit(peers, &address), PEERS_ADMITTED);
		assert_int_equal(peers_admit(peers, &address), PEERS_REFUSED);
		for (unsigned i = 0; i < 3; i++)
			peers_release(peers, &address);
	}
	peers_destroy(peers);
}

static void peers_without_an_address_are_exempt(void **state)
{
	struct peers *peers = peers_create(secret, 1);
	struct address local = address_of("/run/x.sock"), unknown = {.len = 0};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(peers_admit(peers, &local), PEERS_EXEMPT);
		assert_int_equal(peers_admit(peers, &unknown), PEERS_EXEMPT);
	}
	peers_destroy(peers);
	peers_destroy(NULL);
}

/* A refused peer leaves nothing behind, nor does one that has gone: peers_destroy checks. */
static void peers_forget_who_has_no_connection(void **state)
{
	struct peers *peers = peers_create(secret, 1);

	(void)state;
	for (unsigned i = 0; i < 100000; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);

		struct address address = address_of(text);

		assert_int_equal(peers_admit(peers, &address), PEERS_ADMITTED);
		assert_int_equal(peers_admit(peers, &address), PEERS_REFUSED);
		peers_release(peers, &address);
	}
	peers_destroy(peers);
}

#define THREADS 4
#define ROUNDS	20000

struct crowd {
	struct peers *peers;
	_Atomic uint64_t inside[8];
	_Atomic bool was_exceeded;
};

static void *come_and_go(void *context)
{
	struct crowd *crowd = context;

	for (unsigned i = 0; i < ROUNDS; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.0.0.%u", i % 8);

		struct address address = address_of(text);

		if (peers_admit(crowd->peers, &address) != PEERS_ADMITTED)
			continue;
		if (atomic_fetch_add(&crowd->inside[i % 8], 1) >= 2)
			crowd->was_exceeded = true;
		atomic_fetch_sub(&crowd->inside[i % 8], 1);
		peers_release(crowd->peers, &address);
	}
	return NULL;
}

static void peers_hold_between_threads(void **state)
{
	struct crowd crowd = {.peers = peers_create(secret, 2)};
	pthread_t threads[THREADS];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_false(crowd.was_exceeded);
	peers_destroy(crowd.peers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(peers_count_by_address_and_v6_by_its_64),
		cmocka_unit_test(peers_admit_as_many_as_they_may_and_again_after_a_release),
		cmocka_unit_test(peers_without_an_address_are_exempt),
		cmocka_unit_test(peers_forget_who_has_no_connection),
		cmocka_unit_test(peers_hold_between_threads),
	};

	return cmocka_run_group_tests_name("peers", tests, NULL, NULL);
}
