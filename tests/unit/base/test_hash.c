#include "unit/base/base_test.h"

#include "unit/base/failing_alloc.h"

#include "base/hash.c"

static const struct hash_secret counting = {
	.bytes = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
};

/*
 * SipHash-1-3 of the bytes 00 01 02 and so on, of length 0 to 63, under the secret 00 01 to 0f, from
 * OpenSSL's SIPHASH (c-rounds 1, d-rounds 3).
 */
static const uint64_t siphash_1_3[64] = {
	UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93),
	UINT64_C(0x82cb9b024dc7d44d), UINT64_C(0x8bf80ab8e7ddf7fb),
	UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
	UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140),
	UINT64_C(0x369095118d299a8e), UINT64_C(0x25a48eb36c063de4),
	UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
	UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7),
	UINT64_C(0x605aa111c0f95d34), UINT64_C(0xd320d86d2a519956),
	UINT64_C(0xcc4fdd1a7d908b66), UINT64_C(0x9cf2689063dbd80c),
	UINT64_C(0x8ffc389cb473e63e), UINT64_C(0xf21f9de58d297d1c),
	UINT64_C(0xc0dc2f46a6cce040), UINT64_C(0xb992abfe2b45f844),
	UINT64_C(0x7ffe7b9ba320872e), UINT64_C(0x525a0e7fdae6c123),
	UINT64_C(0xf464aeb267349c8c), UINT64_C(0x45cd5928705b0979),
	UINT64_C(0x3a3e35e3ca9913a5), UINT64_C(0xa91dc74e4ade3b35),
	UINT64_C(0xfb0bed02ef6cd00d), UINT64_C(0x88d93cb44ab1e1f4),
	UINT64_C(0x540f11d643c5e663), UINT64_C(0x2370dd1f8c21d1bc),
	UINT64_C(0x81157b6c16a7b60d), UINT64_C(0x4d54b9e57a8ff9bf),
	UINT64_C(0x759f12781f2a753e), UINT64_C(0xcea1a3bebf186b91),
	UINT64_C(0x2cf508d3ada26206), UINT64_C(0xb6101c2da3c33057),
	UINT64_C(0xb3f47496ae3a36a1), UINT64_C(0x626b57547b108392),
	UINT64_C(0xc1d2363299e41531), UINT64_C(0x667cc1923f1ad944),
	UINT64_C(0x65704ffec8138825), UINT64_C(0x24f280d1c28949a6),
	UINT64_C(0xc2ca1cedfaf8876b), UINT64_C(0xc2164bfc9f042196),
	UINT64_C(0xa16e9c9368b1d623), UINT64_C(0x49fb169c8b5114fd),
	UINT64_C(0x9f3143f8df074c46), UINT64_C(0xc6fdaf2412cc86b3),
	UINT64_C(0x7eaf49d10a52098f), UINT64_C(0x1cf313559d292f9a),
	UINT64_C(0xc44a30dda2f41f12), UINT64_C(0x36fae98943a71ed0),
	UINT64_C(0x318fb34c73f0bce6), UINT64_C(0xa27abf3670a7e980),
	UINT64_C(0xb4bcc0db243c6d75), UINT64_C(0x23f8d852fdb71513),
	UINT64_C(0x8f035f4da67d8a08), UINT64_C(0xd89cd0e5b7e8f148),
	UINT64_C(0xf6f4e6bcf7a644ee), UINT64_C(0xaec59ad80f1837f2),
	UINT64_C(0xc3b2f6154b6694e0), UINT64_C(0x9d199062b7bbb3a8),
};

static void hash_bytes_is_siphash_1_3_at_every_length(void **state)
{
	uint8_t bytes[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	for (size_t len = 0; len < sizeof(bytes); len++)
		assert_true(hash_bytes(counting, span_make(bytes, len)) == siphash_1_3[len]);
	assert_true(hash_bytes(counting, SPAN_EMPTY) == siphash_1_3[0]);
}

static void hash_bytes_under_a_zero_secret_is_what_cpython_computes(void **state)
{
	const struct hash_secret zero = { .bytes = { 0 } };

	(void)state;
	/* hash(b"abc") with PYTHONHASHSEED=0, CPython 3.11 */
	assert_true(hash_bytes(zero, SPAN("abc")) == UINT64_C(0xc03bc3a0042630f2));
}

static void hash_bytes_does_not_depend_on_alignment(void **state)
{
	uint8_t room[64 + 8];

	(void)state;
	for (size_t shift = 0; shift < 8; shift++) {
		for (size_t i = 0; i < 63; i++)
			room[shift + i] = (uint8_t)i;
		assert_true(hash_bytes(counting, span_make(room + shift, 63)) == siphash_1_3[63]);
	}
}

struct entry {
	struct hash_node node;
	uint32_t key;
	unsigned visits;
	bool is_in;
};

static bool entry_match(const struct hash_node *node, struct span key)
{
	return span_equal(span_make(&CONTAINER_OF(node, const struct entry, node)->key, 4), key);
}

static struct span key_of(const struct entry *entry)
{
	return span_make(&entry->key, sizeof(entry->key));
}

static void insert(struct hash_table *table, struct entry *entry)
{
	assert_int_equal(hash_insert(table, &entry->node, key_of(entry)), 0);
	entry->is_in = true;
}

static void hash_finds_nothing_in_an_empty_table(void **state)
{
	struct hash_table table;

	(void)state;
	hash_init(&table, entry_match, counting);
	assert_null(hash_find(&table, SPAN("abcd")));
	assert_null(table.now.heads);
	hash_finish(&table);
}

static void assert_table_is(struct hash_table *table, struct entry *entries, size_t count)
{
	size_t in = 0;

	for (size_t i = 0; i < count; i++) {
		struct hash_node *found = hash_find(table, key_of(&entries[i]));

		assert_ptr_equal(found, entries[i].is_in ? &entries[i].node : NULL);
		in += entries[i].is_in;
	}
	assert_int_equal(table->count, in);
}

static void hash_finds_every_node_after_each_insertion_and_removal(void **state)
{
	enum { COUNT = 300 };
	static struct entry entries[COUNT];
	struct hash_table table;

	(void)state;
	hash_init(&table, entry_match, counting);
	for (uint32_t i = 0; i < COUNT; i++)
		entries[i] = (struct entry){ .key = i * 7 };
	for (size_t i = 0; i < COUNT; i++) {
		insert(&table, &entries[i]);
		assert_table_is(&table, entries, COUNT);
	}
	for (size_t i = 0; i < COUNT; i++) {
		hash_remove(&table, &entries[i * 7 % COUNT].node);
		entries[i * 7 % COUNT].is_in = false;
		assert_table_is(&table, entries, COUNT);
	}
	hash_finish(&table);
}

static void hash_agrees_with_a_plain_array_under_random_use(void **state)
{
	enum { COUNT = 3000 };
	static struct entry entries[COUNT];
	struct hash_table table;
	uint64_t seed = 11;

	(void)state;
	hash_init(&table, entry_match, counting);
	for (uint32_t i = 0; i < COUNT; i++)
		entries[i] = (struct entry){ .key = i };
	for (unsigned step = 0; step < 60000; step++) {
		struct entry *entry = &entries[random_next(&seed) % COUNT];

		assert_ptr_equal(hash_find(&table, key_of(entry)),
				 entry->is_in ? &entry->node : NULL);
		if (entry->is_in) {
			hash_remove(&table, &entry->node);
			entry->is_in = false;
		} else {
			insert(&table, entry);
		}
		if (step % 5000 == 0)
			assert_table_is(&table, entries, COUNT);
	}
	assert_table_is(&table, entries, COUNT);
	hash_finish(&table);
}

static void hash_moves_a_few_buckets_per_insertion(void **state)
{
	enum { COUNT = 5000 };
	static struct entry entries[COUNT];
	struct hash_table table;
	unsigned moving = 0;

	(void)state;
	hash_init(&table, entry_match, counting);
	for (uint32_t i = 0; i < COUNT; i++) {
		struct hash_table before = table;

		entries[i] = (struct entry){ .key = i };
		insert(&table, &entries[i]);
		if (before.old.count && table.old.count)
			assert_in_range(table.moved_count - before.moved_count, 0, 2);
		if (before.old.count)
			/* A move is done before the next growth. */
			assert_true(table.now.count == before.now.count);
		moving += table.old.count != 0;
	}
	assert_true(moving > COUNT / 4);
	assert_true(table.now.count >= COUNT / 2);
	hash_finish(&table);
}

static bool visit_once(struct hash_node *node, void *context)
{
	struct entry *entry = CONTAINER_OF(node, struct entry, node);

	assert_true(entry->is_in);
	entry->visits++;
	++*(size_t *)context;
	return true;
}

static struct hash_table *each_table;

static bool visit_and_remove_odd(struct hash_node *node, void *context)
{
	struct entry *entry = CONTAINER_OF(node, struct entry, node);

	visit_once(node, context);
	if (entry->key & 1) {
		hash_remove(each_table, node);
		entry->is_in = false;
		memset(node, 0xa5, sizeof(*node));
	}
	return true;
}

static void hash_each_visits_every_node_once_at_every_moment_of_a_move(void **state)
{
	enum { COUNT = 140 };
	static struct entry entries[COUNT];

	(void)state;
	for (size_t count = 0; count <= COUNT; count++) {
		struct hash_table table;
		size_t visits = 0, again = 0;

		hash_init(&table, entry_match, counting);
		for (uint32_t i = 0; i < COUNT; i++)
			entries[i] = (struct entry){ .key = i };
		for (size_t i = 0; i < count; i++)
			insert(&table, &entries[i]);
		assert_true(hash_each(&table, visit_once, &visits));
		assert_int_equal(visits, count);

		each_table = &table;
		visits = 0;
		assert_true(hash_each(&table, visit_and_remove_odd, &visits));
		assert_int_equal(visits, count);
		for (size_t i = 0; i < count; i++)
			assert_int_equal(entries[i].visits, 2);
		assert_table_is(&table, entries, COUNT);
		assert_true(hash_each(&table, visit_once, &again));
		assert_int_equal(again, (count + 1) / 2);
		hash_finish(&table);
	}
}

static bool stop_at_third(struct hash_node *node, void *context)
{
	(void)node;
	return ++*(size_t *)context < 3;
}

static void hash_each_stops_when_a_visit_says_so(void **state)
{
	static struct entry entries[20];
	struct hash_table table;
	size_t visits = 0;

	(void)state;
	hash_init(&table, entry_match, counting);
	assert_true(hash_each(&table, stop_at_third, &visits));
	for (uint32_t i = 0; i < 20; i++) {
		entries[i] = (struct entry){ .key = i };
		insert(&table, &entries[i]);
	}
	assert_false(hash_each(&table, stop_at_third, &visits));
	assert_int_equal(visits, 3);
	hash_finish(&table);
}

static void hash_tells_nodes_of_equal_hash_apart_by_key(void **state)
{
	struct entry a = { .key = 1 }, b = { .key = 2 };
	struct hash_table table;

	(void)state;
	hash_init(&table, entry_match, counting);
	insert(&table, &a);
	insert(&table, &b);
	/* As if both keys had b's hash, in b's bucket. */
	hash_remove(&table, &a.node);
	a.node.hash = b.node.hash;
	push(head_of(&table, b.node.hash), &a.node);
	table.count++;
	assert_ptr_equal(hash_find(&table, key_of(&b)), &b.node);
	hash_remove(&table, &a.node);
	assert_ptr_equal(hash_find(&table, key_of(&b)), &b.node);
	hash_finish(&table);
}

static void remove_a_stranger(void)
{
	struct entry a = { .key = 1 }, stranger = { .key = 2 };
	struct hash_table table;

	hash_init(&table, entry_match, counting);
	insert(&table, &a);
	hash_remove(&table, &stranger.node);
}

static void hash_remove_checks_that_the_node_is_in(void **state)
{
	(void)state;
	assert_aborts(remove_a_stranger, "check failed: *link == node");
}

static void hash_insert_fails_only_when_the_first_buckets_cannot_be_had(void **state)
{
	enum { COUNT = 200 };
	static struct entry entries[COUNT];
	struct hash_table table;

	(void)state;
	hash_init(&table, entry_match, counting);
	for (uint32_t i = 0; i < COUNT; i++)
		entries[i] = (struct entry){ .key = i };
	allocs_until_failure = 0;
	assert_int_equal(hash_insert(&table, &entries[0].node, key_of(&entries[0])), -ENOMEM);
	assert_int_equal(table.count, 0);
	assert_null(hash_find(&table, key_of(&entries[0])));
	allocs_until_failure = 1;
	for (size_t i = 0; i < COUNT - 50; i++)
		insert(&table, &entries[i]);
	assert_int_equal(table.now.count, HASH_FIRST_BUCKETS);
	assert_table_is(&table, entries, COUNT);
	allocs_until_failure = -1;
	for (size_t i = COUNT - 50; i < COUNT; i++)
		insert(&table, &entries[i]);
	assert_true(table.now.count > HASH_FIRST_BUCKETS);
	assert_table_is(&table, entries, COUNT);
	hash_finish(&table);
}

static bool match_none(const struct hash_node *node, struct span key)
{
	(void)node, (void)key;
	return false;
}

static void hash_first_is_where_a_key_is_looked_for(void **state)
{
	struct hash_node nodes[40];
	struct hash_table table;
	char key[8];

	(void)state;
	hash_init(&table, match_none, counting);
	hash_fetch(&table, 1);
	assert_null(hash_first(&table, 1));
	for (size_t i = 0; i < 40; i++) {
		snprintf(key, sizeof(key), "%zu", i);
		assert_int_equal(hash_insert(&table, &nodes[i], span_from_cstr(key)), 0);
		for (size_t k = 0; k <= i; k++) { /* whether its bucket has moved or not */
			struct hash_node *at = hash_first(&table, nodes[k].hash);

			hash_fetch(&table, nodes[k].hash);
			while (at && at != &nodes[k])
				at = at->next;
			assert_ptr_equal(at, &nodes[k]);
		}
	}
	hash_finish(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_bytes_is_siphash_1_3_at_every_length),
		cmocka_unit_test(hash_bytes_under_a_zero_secret_is_what_cpython_computes),
		cmocka_unit_test(hash_bytes_does_not_depend_on_alignment),
		cmocka_unit_test(hash_finds_nothing_in_an_empty_table),
		cmocka_unit_test(hash_first_is_where_a_key_is_looked_for),
		cmocka_unit_test(hash_finds_every_node_after_each_insertion_and_removal),
		cmocka_unit_test(hash_agrees_with_a_plain_array_under_random_use),
		cmocka_unit_test(hash_moves_a_few_buckets_per_insertion),
		cmocka_unit_test(hash_each_visits_every_node_once_at_every_moment_of_a_move),
		cmocka_unit_test(hash_each_stops_when_a_visit_says_so),
		cmocka_unit_test(hash_tells_nodes_of_equal_hash_apart_by_key),
		cmocka_unit_test(hash_remove_checks_that_the_node_is_in),
		cmocka_unit_test(hash_insert_fails_only_when_the_first_buckets_cannot_be_had),
	};

	return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
