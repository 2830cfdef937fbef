#include "unit/uring/rig.h"

#include <pthread.h>

#define THREADS_MAX 4
#define WINDOW	    4 /* letters of one sender to one target on their way at once */

/* ── rounds of letters between threads: each is checked for its order and sent back ── */

struct post;

struct parcel {
	struct letter letter;
	struct post *from, *to;
	uint64_t number;
	bool on_its_way_back;
};

/* One thread and its worker. */
struct post {
	struct worker worker;
	struct crowd *crowd;
	uint32_t index;
	pthread_t thread;
	struct parcel parcels[THREADS_MAX][WINDOW]; /* by target */
	uint64_t sent[THREADS_MAX], returned[THREADS_MAX], received[THREADS_MAX];
	uint64_t faults;
	int result;
};

struct crowd {
	struct post posts[THREADS_MAX];
	uint32_t count;
	uint64_t rounds; /* letters of each sender to each target */
};

static void parcel_deliver(struct worker *at, struct letter *letter);

static void post_stop_if_done(struct post *post)
{
	for (uint32_t i = 0; i < post->crowd->count; i++) {
		if (post->received[i] != post->crowd->rounds ||
		    post->returned[i] != post->crowd->rounds)
			return;
	}
	worker_stop(&post->worker);
}

static void post_send(struct post *post, struct parcel *parcel)
{
	uint32_t to = parcel->to->index;

	if (post->sent[to] == post->crowd->rounds)
		return;
	parcel->number = post->sent[to]++;
	parcel->on_its_way_back = false;
	letter_post(&post->worker, &parcel->to->worker, &parcel->letter);
}

static void parcel_deliver(struct worker *at, struct letter *letter)
{
	struct parcel *parcel = CONTAINER_OF(letter, struct parcel, letter);
	struct post *post = CONTAINER_OF(at, struct post, worker);

	if (!parcel->on_its_way_back) {
		post->faults += parcel->to != post;
		post->faults += parcel->number != post->received[parcel->from->index]++;
		parcel->on_its_way_back = true;
		letter_post(at, &parcel->from->worker, letter);
	} else {
		post->faults += parcel->from != post;
		post->faults += parcel->number != post->returned[parcel->to->index]++;
		post_send(post, parcel);
	}
	post_stop_if_done(post);
}

static void *post_run(void *argument)
{
	struct post *post = argument;

	for (uint32_t to = 0; to < post->crowd->count; to++) {
		for (unsigned i = 0; i < WINDOW; i++)
			post_send(post, &post->parcels[to][i]);
	}
	post->result = worker_run(&post->worker);
	return NULL;
}

static void crowd_run(uint32_t count, uint64_t rounds)
{
	struct crowd *crowd = aligned_alloc(64, sizeof(*crowd));
	static const struct ring_options ring = {.sq_entries = 64, .cq_entries = 1024};

	assert_non_null(crowd);
	memset(crowd, 0, sizeof(*crowd));
	crowd->count = count;
	crowd->rounds = rounds;
	for (uint32_t from = 0; from < count; from++) {
		struct post *post = &crowd->posts[from];

		post->crowd = crowd;
		post->index = from;
		rig_worker_init(&post->worker, from, &ring);
		for (uint32_t to = 0; to < count; to++) {
			for (unsigned i = 0; i < WINDOW; i++)
				post->parcels[to][i] =
					(struct parcel){.letter.deliver = parcel_deliver,
							.from = post,
							.to = &crowd->posts[to]};
		}
	}
	alarm(240); /* a lost wake-up is a wait without end */
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(
			pthread_create(&crowd->posts[i].thread, NULL, post_run, &crowd->posts[i]),
			0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(pthread_join(crowd->posts[i].thread, NULL), 0);
	alarm(0);
	uint64_t letters = 0, wakes = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct post *post = &crowd->posts[i];

		assert_int_equal(post->result, 0);
		assert_int_equal(post->faults, 0);
		letters += metric_value(&post->worker.metrics.letters);
		wakes += metric_value(&post->worker.metrics.wakes_sent);
		assert_int_equal(metric_value(&post->worker.metrics.wakes_failed), 0);
	}
	assert_int_equal(letters, 2 * rounds * count * count);
	print_message("%u threads: %lu letters, %lu wakes\n", count, (unsigned long)letters,
		      (unsigned long)wakes);
	for (uint32_t i = 0; i < count; i++)
		worker_finish(&crowd->posts[i].worker);
	free(crowd);
}

static void letters_of_two_threads_arrive_once_and_in_order(void **state)
{
	(void)state;
	crowd_run(2, 25000);
}

static void letters_of_four_threads_arrive_once_and_in_order(void **state)
{
	(void)state;
	crowd_run(4, 5000);
}

static void letters_to_oneself_arrive(void **state)
{
	(void)state;
	crowd_run(1, 1000);
}

/* ── wake-ups alone, for queues that the mailbox does not know: two counters ── */

struct wake_ends {
	struct worker feeder, eater;
	/* Relaxed: what is under test is that a wake-up brings the other side's count along. */
	_Atomic uint64_t fed, eaten;
	uint64_t goal;
	int feeder_result, eater_result;
};

static void eater_before_wait(struct worker *worker)
{
	struct wake_ends *ends = worker->context;
	uint64_t fed = atomic_load_explicit(&ends->fed, memory_order_relaxed);

	if (fed == atomic_load_explicit(&ends->eaten, memory_order_relaxed))
		return;
	atomic_store_explicit(&ends->eaten, fed, memory_order_relaxed);
	worker_wake(worker, &ends->feeder);
	if (fed == ends->goal)
		worker_stop(worker);
}

/* At most two ahead: often both sides are about to wait when the other one moves. */
static void feeder_before_wait(struct worker *worker)
{
	struct wake_ends *ends = worker->context;
	uint64_t eaten = atomic_load_explicit(&ends->eaten, memory_order_relaxed);
	uint64_t fed = atomic_load_explicit(&ends->fed, memory_order_relaxed);

	if (eaten == ends->goal)
		worker_stop(worker);
	if (fed == ends->goal || fed - eaten >= 2)
		return;
	atomic_store_explicit(&ends->fed, fed + 1, memory_order_relaxed);
	worker_wake(worker, &ends->eater);
	if (fed + 1 - eaten < 2)
		worker_wake(worker, worker);
}

static void *eater_run(void *argument)
{
	struct wake_ends *ends = argument;

	ends->eater_result = worker_run(&ends->eater);
	return NULL;
}

static void *feeder_run(void *argument)
{
	struct wake_ends *ends = argument;

	ends->feeder_result = worker_run(&ends->feeder);
	return NULL;
}

static void a_wake_up_alone_is_never_lost(void **state)
{
	(void)state;
	static struct wake_ends ends;
	static const struct ring_options ring = {.sq_entries = 8, .cq_entries = 64};
	pthread_t feeder, eater;

	ends.goal = 100000;
	rig_worker_init(&ends.feeder, 0, &ring);
	rig_worker_init(&ends.eater, 127, &ring);
	ends.feeder.before_wait = feeder_before_wait;
	ends.eater.before_wait = eater_before_wait;
	ends.feeder.context = ends.eater.context = &ends;
	alarm(240);
	assert_int_equal(pthread_create(&eater, NULL, eater_run, &ends), 0);
	assert_int_equal(pthread_create(&feeder, NULL, feeder_run, &ends), 0);
	assert_int_equal(pthread_join(feeder, NULL), 0);
	assert_int_equal(pthread_join(eater, NULL), 0);
	alarm(0);
	assert_int_equal(ends.feeder_result, 0);
	assert_int_equal(ends.eater_result, 0);
	assert_int_equal(ends.eaten, ends.goal);
	print_message("%lu + %lu wakes\n",
		      (unsigned long)metric_value(&ends.feeder.metrics.wakes_sent),
		      (unsigned long)metric_value(&ends.eater.metrics.wakes_sent));
	worker_finish(&ends.eater);
	worker_finish(&ends.feeder);
}

/* ── on one thread, turn by turn ── */

struct note {
	struct letter letter;
	unsigned delivered;
	struct worker *post_again_from; /* from within the delivery, to the same worker */
};

static void note_deliver(struct worker *to, struct letter *letter)
{
	struct note *note = CONTAINER_OF(letter, struct note, letter);
	struct worker *from = note->post_again_from;

	note->delivered++;
	note->post_again_from = NULL;
	if (from)
		letter_post(from, to, letter);
}

static const struct ring_options small_ring = {.sq_entries = 8, .cq_entries = 64};

static void a_letter_to_oneself_comes_next_turn_without_a_wait(void **state)
{
	(void)state;
	static struct worker worker;
	struct note note = {.letter.deliver = note_deliver, .post_again_from = &worker};

	rig_worker_init(&worker, 0, &small_ring);
	letter_post(&worker, &worker, &note.letter);
	alarm(10);
	assert_int_equal(worker_turn(&worker, RING_WAIT_FOREVER), 0);
	assert_int_equal(note.delivered, 1);
	assert_int_equal(worker_turn(&worker, 0), 0);
	assert_int_equal(note.delivered, 2);
	worker_wake(&worker, &worker);
	assert_int_equal(worker_turn(&worker, RING_WAIT_FOREVER), 0);
	alarm(0);
	assert_int_equal(metric_value(&worker.metrics.wakes_sent), 0);
	worker_finish(&worker);
}

static void many_letters_of_a_turn_need_one_wake(void **state)
{
	(void)state;
	static struct worker from, to;
	struct note notes[50];

	rig_worker_init(&from, 0, &small_ring);
	rig_worker_init(&to, 1, &small_ring);
	assert_int_equal(worker_turn(&to, 0), 0);
	mpsc_init(&to.mailbox);
	atomic_store(&to.asleep_hint, true); /* as if it waited */
	for (size_t i = 0; i < ARRAY_LEN(notes); i++) {
		notes[i] = (struct note){.letter.deliver = note_deliver};
		letter_post(&from, &to, &notes[i].letter);
	}
	assert_int_equal(worker_turn(&from, 0), 0);
	assert_int_equal(metric_value(&from.metrics.wakes_sent), 1);
	/* It comes out of its wait; the letters are there. (Waiting is all it does here: before kernel
	 * 6.3 or so the wake-up is in its ring already, and a turn would reap it before it waits.) */
	alarm(10);
	assert_int_equal(ring_enter(to.ring, RING_WAIT_FOREVER), 0);
	alarm(0);
	assert_int_equal(worker_turn(&to, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(notes); i++)
		assert_int_equal(notes[i].delivered, 1);
	assert_int_equal(metric_value(&to.metrics.letters), ARRAY_LEN(notes));
	worker_finish(&from);
	worker_finish(&to);
}

static void a_worker_that_is_awake_is_not_woken(void **state)
{
	(void)state;
	static struct worker from, to;
	struct note note = {.letter.deliver = note_deliver};

	rig_worker_init(&from, 0, &small_ring);
	rig_worker_init(&to, 1, &small_ring);
	letter_post(&from, &to, &note.letter);
	assert_int_equal(worker_turn(&from, 0), 0);
	assert_int_equal(metric_value(&from.metrics.wakes_sent), 0);
	assert_int_equal(worker_turn(&to, 0), 0);
	assert_int_equal(note.delivered, 1);
	worker_finish(&from);
	worker_finish(&to);
}

static void a_refused_wake_is_repeated_until_it_is_taken(void **state)
{
	(void)state;
	static struct worker from, to;
	struct note note = {.letter.deliver = note_deliver};

	rig_worker_init(&from, 0, &small_ring);
	rig_worker_init(&to, 1, &small_ring);
	/* A ring that is not enabled refuses messages (EBADFD). */
	atomic_store(&to.asleep_hint, true);
	letter_post(&from, &to, &note.letter);
	alarm(20);
	while (metric_value(&from.metrics.wakes_failed) < 3)
		assert_int_equal(worker_turn(&from, RING_WAIT_FOREVER), 0);
	assert_true(from.wake_retry_us > 0);
	/* A worker that stops sees it through. */
	worker_stop(&from);
	to.started = true;
	assert_int_equal(ring_enable(to.ring), 0);
	assert_int_equal(worker_run(&from), 0);
	assert_int_equal(from.wake_retry_us, 0);
	assert_int_equal(ring_enter(to.ring, RING_WAIT_FOREVER), 0);
	alarm(0);
	assert_int_equal(worker_turn(&to, 0), 0);
	assert_int_equal(note.delivered, 1);
	worker_finish(&from);
	worker_finish(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(letters_to_oneself_arrive),
		cmocka_unit_test(letters_of_two_threads_arrive_once_and_in_order),
		cmocka_unit_test(letters_of_four_threads_arrive_once_and_in_order),
		cmocka_unit_test(a_wake_up_alone_is_never_lost),
		cmocka_unit_test(a_letter_to_oneself_comes_next_turn_without_a_wait),
		cmocka_unit_test(many_letters_of_a_turn_need_one_wake),
		cmocka_unit_test(a_worker_that_is_awake_is_not_woken),
		cmocka_unit_test(a_refused_wake_is_repeated_until_it_is_taken),
	};
	return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
