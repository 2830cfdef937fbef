#include "unit/base/base_test.h"

#include "base/wheel.h"

#define REVOLUTION_MS (UINT64_C(1) << 30) /* 64^5: what the levels span */

static const uint64_t starts[] = {
	0,
	1,
	63,
	64,
	4095,
	REVOLUTION_MS - 1,
	REVOLUTION_MS,
	3 * REVOLUTION_MS - 64,
	UINT64_C(1800000000000), /* a wall clock */
};

static struct wheel_timer *pop(struct list *due)
{
	struct list *link = list_pop_front(due);

	return link ? CONTAINER_OF(link, struct wheel_timer, link) : NULL;
}

static void wheel_without_timers_never_wants_an_advance(void **state)
{
	struct wheel wheel;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_init(&wheel, 5);
	assert_true(wheel_next_ms(&wheel) == WHEEL_NEVER);
	wheel_advance(&wheel, UINT64_C(1) << 50, &due);
	assert_true(list_is_empty(&due));
	assert_true(wheel_next_ms(&wheel) == WHEEL_NEVER);
	assert_true(wheel.now_ms == UINT64_C(1) << 50);
}

/* Delays at both sides of every level's border, and beyond the last level. */
static void wheel_fires_at_the_millisecond_and_not_before(void **state)
{
	struct wheel wheel;

	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(starts); s++) {
		for (unsigned bits = 0; bits <= 36; bits++) {
			for (uint64_t off = 0; off < 3; off++) {
				uint64_t due_ms = starts[s] + (UINT64_C(1) << bits) - 1 + off;
				struct wheel_timer timer;
				struct list due;

				list_init(&due);
				wheel_timer_init(&timer);
				wheel_init(&wheel, starts[s]);
				wheel_arm(&wheel, &timer, due_ms);
				assert_true(wheel_is_armed(&timer));
				assert_true(wheel_next_ms(&wheel) <= due_ms);
				if (due_ms > starts[s]) {
					wheel_advance(&wheel, due_ms - 1, &due);
					assert_true(list_is_empty(&due));
					assert_true(wheel_next_ms(&wheel) == due_ms);
				}
				wheel_advance(&wheel, due_ms, &due);
				assert_ptr_equal(pop(&due), &timer);
				assert_false(wheel_is_armed(&timer));
				assert_true(wheel_next_ms(&wheel) == WHEEL_NEVER);
				assert_int_equal(wheel.armed_count, 0);
			}
		}
	}
}

static void wheel_reaches_a_far_timer_by_its_own_wake_ups(void **state)
{
	struct wheel wheel;

	(void)state;
	for (size_t s = 0; s < ARRAY_LEN(starts); s++) {
		uint64_t due_ms = starts[s] + 5 * REVOLUTION_MS + 1234567;
		struct wheel_timer timer;
		struct list due;
		int wake_ups = 0;

		list_init(&due);
		wheel_timer_init(&timer);
		wheel_init(&wheel, starts[s]);
		wheel_arm(&wheel, &timer, due_ms);
		while (list_is_empty(&due)) {
			uint64_t next_ms = wheel_next_ms(&wheel);

			assert_true(next_ms > wheel.now_ms && next_ms <= due_ms);
			wheel_advance(&wheel, next_ms, &due);
			wake_ups++;
		}
		assert_true(wheel.now_ms == due_ms);
		assert_in_range(wake_ups, 1, 6 + WHEEL_LEVELS);
	}
}

static void wheel_time_in_the_past_is_due_at_the_next_advance(void **state)
{
	struct wheel wheel;
	struct wheel_timer late, now, soon;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_timer_init(&late);
	wheel_timer_init(&now);
	wheel_timer_init(&soon);
	wheel_init(&wheel, 1000);
	wheel_arm(&wheel, &soon, 1001);
	wheel_arm(&wheel, &now, 1000);
	wheel_arm(&wheel, &late, 3);
	assert_true(wheel_next_ms(&wheel) == 1000);
	wheel_advance(&wheel, 1000, &due);
	assert_ptr_equal(pop(&due), &now);
	assert_ptr_equal(pop(&due), &late);
	assert_null(pop(&due));
	wheel_cancel(&wheel, &soon);
}

static void wheel_does_not_go_back(void **state)
{
	struct wheel wheel;
	struct wheel_timer timer;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_timer_init(&timer);
	wheel_init(&wheel, 1000);
	wheel_arm(&wheel, &timer, 1010);
	wheel_advance(&wheel, 10, &due);
	assert_true(list_is_empty(&due));
	assert_true(wheel.now_ms == 1000);
	wheel_advance(&wheel, 1010, &due);
	assert_ptr_equal(pop(&due), &timer);
}

static void wheel_cancel_is_safe_in_every_state(void **state)
{
	struct wheel wheel;
	struct wheel_timer timer;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_timer_init(&timer);
	wheel_init(&wheel, 0);
	wheel_cancel(&wheel, &timer);
	wheel_arm(&wheel, &timer, 100000);
	wheel_cancel(&wheel, &timer);
	wheel_cancel(&wheel, &timer);
	assert_int_equal(wheel.armed_count, 0);
	assert_true(wheel_next_ms(&wheel) == WHEEL_NEVER);
	wheel_advance(&wheel, 200000, &due);
	assert_true(list_is_empty(&due));
}

static void wheel_cancel_takes_a_timer_out_of_the_due_list(void **state)
{
	struct wheel wheel;
	struct wheel_timer first, second;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_timer_init(&first);
	wheel_timer_init(&second);
	wheel_init(&wheel, 0);
	wheel_arm(&wheel, &first, 5);
	wheel_arm(&wheel, &second, 6);
	wheel_advance(&wheel, 10, &due);
	assert_ptr_equal(pop(&due), &first);
	assert_false(wheel_is_armed(&second));
	wheel_cancel(&wheel, &second);
	assert_null(pop(&due));
	assert_int_equal(wheel.armed_count, 0);

	wheel_arm(&wheel, &second, 20);
	wheel_advance(&wheel, 20, &due);
	wheel_arm(&wheel, &second, 30);
	assert_null(pop(&due));
	assert_int_equal(wheel.armed_count, 1);
	wheel_advance(&wheel, 30, &due);
	assert_ptr_equal(pop(&due), &second);
}

static void wheel_arm_moves_an_armed_timer(void **state)
{
	struct wheel wheel;
	struct wheel_timer timer;
	struct list due;

	(void)state;
	list_init(&due);
	wheel_timer_init(&timer);
	wheel_init(&wheel, 0);
	wheel_arm(&wheel, &timer, 10);
	wheel_arm(&wheel, &timer, 10 * REVOLUTION_MS);
	assert_int_equal(wheel.armed_count, 1);
	wheel_advance(&wheel, 100, &due);
	assert_true(list_is_empty(&due));
	wheel_arm(&wheel, &timer, 101);
	wheel_advance(&wheel, 101, &due);
	assert_ptr_equal(pop(&due), &timer);
}

static void wheel_keeps_timers_that_are_due_together_in_order(void **state)
{
	struct wheel wheel;
	struct wheel_timer timers[200];
	struct list due;
	uint64_t before_ms = 0;

	(void)state;
	list_init(&due);
	wheel_init(&wheel, 77);
	for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
		wheel_timer_init(&timers[i]);
		wheel_arm(&wheel, &timers[i], 77 + i * 7919 % 300 * 1000);
	}
	wheel_advance(&wheel, REVOLUTION_MS, &due);
	for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
		struct wheel_timer *timer = pop(&due);

		assert_non_null(timer);
		assert_true(timer->due_ms >= before_ms);
		before_ms = timer->due_ms;
	}
	assert_null(pop(&due));
}

/* The model: an array that is searched whole. */
#define MODEL_TIMERS 60

struct model {
	struct wheel wheel;
	struct wheel_timer timers[MODEL_TIMERS];
	uint64_t due_ms[MODEL_TIMERS];
	bool armed[MODEL_TIMERS];
	uint64_t now_ms;
	uint64_t seed;
};

/* Small and large with the same likelihood: 2^0 to 2^33 ms (99 days). */
static uint64_t random_ms(struct model *model)
{
	uint64_t bits = random_next(&model->seed) >> 32;

	return random_next(&model->seed) & ((UINT64_C(1) << bits % 34) - 1);
}

static uint64_t model_first_ms(const struct model *model, size_t *armed_count)
{
	uint64_t first_ms = WHEEL_NEVER;

	*armed_count = 0;
	for (size_t i = 0; i < MODEL_TIMERS; i++) {
		if (!model->armed[i])
			continue;
		++*armed_count;
		if (model->due_ms[i] < first_ms)
			first_ms = model->due_ms[i];
	}
	return first_ms;
}

static void model_arm(struct model *model, size_t i)
{
	uint64_t due_ms = model->now_ms + random_ms(model);

	if (random_next(&model->seed) >> 60 == 0)
		due_ms = model->now_ms - random_ms(model) % (model->now_ms + 1);
	wheel_arm(&model->wheel, &model->timers[i], due_ms);
	model->armed[i] = true;
	model->due_ms[i] = due_ms < model->now_ms ? model->now_ms : due_ms;
}

static void model_advance(struct model *model)
{
	uint64_t to_ms = model->now_ms + random_ms(model), before_ms = 0;
	uint64_t next_ms = wheel_next_ms(&model->wheel);
	struct list due;

	if (next_ms != WHEEL_NEVER && random_next(&model->seed) >> 63)
		to_ms = next_ms;
	model->now_ms = to_ms;
	list_init(&due);
	wheel_advance(&model->wheel, to_ms, &due);
	for (struct wheel_timer *timer; (timer = pop(&due)) != NULL;) {
		size_t i = (size_t)(timer - model->timers);

		assert_true(model->armed[i]);
		assert_true(model->due_ms[i] <= to_ms);
		assert_true(model->due_ms[i] >= before_ms);
		assert_true(timer->due_ms == model->due_ms[i]);
		before_ms = model->due_ms[i];
		model->armed[i] = false;
	}
}

static void wheel_agrees_with_a_sorted_model_over_big_jumps(void **state)
{
	static struct model model;
	unsigned long far = 0, advanced = 0;

	(void)state;
	for (size_t round = 0; round < ARRAY_LEN(starts) * 4; round++) {
		model = (struct model){
			.now_ms = starts[round % ARRAY_LEN(starts)],
			.seed = round + 1,
		};
		wheel_init(&model.wheel, model.now_ms);
		for (size_t i = 0; i < MODEL_TIMERS; i++)
			wheel_timer_init(&model.timers[i]);
		for (unsigned step = 0; step < 3000; step++) {
			size_t i = (size_t)(random_next(&model.seed) >> 32) % MODEL_TIMERS;
			unsigned action = (unsigned)(random_next(&model.seed) >> 32) % 8;
			size_t armed_count;

			if (action < 4) {
				model_arm(&model, i);
				far += model.due_ms[i] - model.now_ms > REVOLUTION_MS;
			} else if (action < 6) {
				wheel_cancel(&model.wheel, &model.timers[i]);
				model.armed[i] = false;
			} else {
				model_advance(&model);
				advanced++;
			}

			uint64_t first_ms = model_first_ms(&model, &armed_count);
			uint64_t next_ms = wheel_next_ms(&model.wheel);

			/* Nothing due is left behind, nothing is asked for too late. */
			assert_true(first_ms >= model.now_ms);
			assert_true(next_ms <= first_ms && next_ms >= model.now_ms);
			assert_int_equal(next_ms == WHEEL_NEVER, armed_count == 0);
			assert_int_equal(model.wheel.armed_count, armed_count);
			assert_int_equal(wheel_is_armed(&model.timers[i]), model.armed[i]);
		}
		/* All that is left fires in the end. */
		struct list due;
		size_t left = (size_t)model.wheel.armed_count, fired = 0;

		list_init(&due);
		wheel_advance(&model.wheel, model.now_ms + 20 * REVOLUTION_MS, &due);
		while (pop(&due))
			fired++;
		assert_int_equal(fired, left);
	}
	assert_true(far > 1000 && advanced > 1000);
}

static void wheel_occupied_bits_are_exact(void **state)
{
	struct wheel wheel;
	struct wheel_timer timers[40];
	uint64_t seed = 5;

	(void)state;
	wheel_init(&wheel, 12345);
	for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
		wheel_timer_init(&timers[i]);
		wheel_arm(&wheel, &timers[i], random_next(&seed) >> (20 + i % 40));
	}
	for (size_t i = 0; i < ARRAY_LEN(timers); i++)
		wheel_cancel(&wheel, &timers[(i * 7) % ARRAY_LEN(timers)]);
	for (unsigned level = 0; level < WHEEL_LEVELS; level++)
		assert_true(wheel.occupied[level] == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wheel_without_timers_never_wants_an_advance),
		cmocka_unit_test(wheel_fires_at_the_millisecond_and_not_before),
		cmocka_unit_test(wheel_reaches_a_far_timer_by_its_own_wake_ups),
		cmocka_unit_test(wheel_time_in_the_past_is_due_at_the_next_advance),
		cmocka_unit_test(wheel_does_not_go_back),
		cmocka_unit_test(wheel_cancel_is_safe_in_every_state),
		cmocka_unit_test(wheel_cancel_takes_a_timer_out_of_the_due_list),
		cmocka_unit_test(wheel_arm_moves_an_armed_timer),
		cmocka_unit_test(wheel_keeps_timers_that_are_due_together_in_order),
		cmocka_unit_test(wheel_agrees_with_a_sorted_model_over_big_jumps),
		cmocka_unit_test(wheel_occupied_bits_are_exact),
	};

	return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
