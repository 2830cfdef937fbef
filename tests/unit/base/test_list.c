#include "unit/base/base_test.h"

#include "base/list.h"

struct item {
	int number;
	struct list link;
};

/* The numbers in the list as decimal digits; also walks backwards and compares. */
static int digits(const struct list *head)
{
	int forward = 0, backward = 0, scale = 1;

	for (const struct list *at = head->next; at != head; at = at->next)
		forward = forward * 10 + CONTAINER_OF(at, struct item, link)->number;
	for (const struct list *at = head->prev; at != head; at = at->prev, scale *= 10)
		backward += scale * CONTAINER_OF(at, struct item, link)->number;
	assert_int_equal(forward, backward);
	return forward;
}

static void fill(struct list *head, struct item *items, int first, int count)
{
	list_init(head);
	for (int i = 0; i < count; i++) {
		items[i].number = first + i;
		list_init(&items[i].link);
		list_push_back(head, &items[i].link);
	}
}

static void list_is_empty_after_init(void **state)
{
	struct list head;

	(void)state;
	list_init(&head);
	assert_true(list_is_empty(&head));
	assert_null(list_pop_front(&head));
}

static void list_keeps_the_order_of_pushes(void **state)
{
	struct item items[] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };
	struct list head;

	(void)state;
	list_init(&head);
	list_push_back(&head, &items[1].link);
	list_push_back(&head, &items[3].link);
	list_push_front(&head, &items[0].link);
	list_insert_before(&items[3].link, &items[2].link);
	assert_int_equal(digits(&head), 1234);
	assert_false(list_is_empty(&head));
}

static void list_remove_works_at_every_place(void **state)
{
	static const int wanted[] = { 23, 13, 12 };

	(void)state;
	for (int at = 0; at < 3; at++) {
		struct item items[3];
		struct list head;

		fill(&head, items, 1, 3);
		list_remove(&items[at].link);
		assert_true(list_is_empty(&items[at].link));
		assert_int_equal(digits(&head), wanted[at]);
	}
}

static void list_remove_is_safe_on_an_unlinked_node(void **state)
{
	struct item item;

	(void)state;
	list_init(&item.link);
	list_remove(&item.link);
	list_remove(&item.link);
	assert_true(list_is_empty(&item.link));
}

static void list_pop_front_takes_the_oldest_and_unlinks_it(void **state)
{
	struct item items[3];
	struct list head;

	(void)state;
	fill(&head, items, 1, 3);
	for (int i = 0; i < 3; i++) {
		assert_ptr_equal(list_pop_front(&head), &items[i].link);
		assert_true(list_is_empty(&items[i].link));
	}
	assert_null(list_pop_front(&head));
}

static void list_splice_back_moves_all_to_the_end(void **state)
{
	static const struct {
		int to_count, from_count, wanted;
	} rows[] = { { 0, 0, 0 }, { 2, 0, 12 }, { 0, 2, 56 }, { 1, 1, 15 }, { 3, 3, 123567 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct item a[3], b[3];
		struct list to, from;

		fill(&to, a, 1, rows[i].to_count);
		fill(&from, b, 5, rows[i].from_count);
		list_splice_back(&to, &from);
		assert_int_equal(digits(&to), rows[i].wanted);
		assert_true(list_is_empty(&from));
	}
}

static void list_for_each_allows_removal_of_the_current_node(void **state)
{
	(void)state;
	for (unsigned removed = 0; removed < 16; removed++) {
		struct item items[4];
		struct list head;
		int visited = 0, wanted = 0;

		fill(&head, items, 1, 4);
		LIST_FOR_EACH(&head, node) {
			int number = CONTAINER_OF(node, struct item, link)->number;

			visited = visited * 10 + number;
			if (removed >> (number - 1) & 1) {
				list_remove(node);
				memset(node, 0xa5, sizeof(*node));
			} else {
				wanted = wanted * 10 + number;
			}
		}
		assert_int_equal(visited, 1234);
		assert_int_equal(digits(&head), wanted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(list_is_empty_after_init),
		cmocka_unit_test(list_keeps_the_order_of_pushes),
		cmocka_unit_test(list_remove_works_at_every_place),
		cmocka_unit_test(list_remove_is_safe_on_an_unlinked_node),
		cmocka_unit_test(list_pop_front_takes_the_oldest_and_unlinks_it),
		cmocka_unit_test(list_splice_back_moves_all_to_the_end),
		cmocka_unit_test(list_for_each_allows_removal_of_the_current_node),
	};

	return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
