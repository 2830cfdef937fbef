/* When our first SETTINGS leave: with the first answer, or as soon as somebody may wait for them.
 */
#include "unit/edge/h2_client.h"

#define BOTH (SERVER_HTTP1 | SERVER_HTTP2)

#define SETTINGS "\0\0\0\4\0\0\0\0\0"
#define PING	 "\0\0\x08\6\0\0\0\0\0alive???"
#define GET	 "\x82\x86\x04\x06/later\x01\x01x"
#define POST	 "\x83\x86\x04\x05/echo\x01\x01x"

#define OPENING H2_PREFACE SETTINGS
/* Stream 1, whole. */
#define REQUEST "\0\0\x0d\1\5\0\0\0\1" GET
/* Stream 1, whose body is to come. */
#define BODILESS "\0\0\x0c\1\4\0\0\0\1" POST

struct ends {
	struct rig rig;
	struct client client;
};

static void ends_open(struct ends *ends)
{
	rig_open(&ends->rig, BOTH);
	client_open(&ends->client, &ends->rig);
}

static void ends_close(struct ends *ends)
{
	client_close(&ends->client);
	rig_close(&ends->rig);
}

static bool has(const struct client *client, struct span bytes)
{
	return client->in.len >= bytes.len &&
	       memmem(client->in.data, client->in.len, bytes.data, bytes.len);
}

static void expect(struct client *client, struct span bytes)
{
	for (unsigned i = 0; i < RIG_TURNS_MAX && !has(client, bytes); i++) {
		rig_turn(client->rig);
		client_receive(client);
	}
	assert_true(has(client, bytes));
}

/* RFC 9113 §3.4: before all other frames. */
static void expect_settings_first(struct client *client)
{
	for (unsigned i = 0; i < RIG_TURNS_MAX && client->in.len < 9; i++) {
		rig_turn(client->rig);
		client_receive(client);
	}
	assert_true(client->in.len >= 9);
	assert_int_equal(client->in.data[3], 4);
	assert_int_equal(client->in.data[4], 0);
}

static void expect_silence(struct client *client)
{
	rig_turns(client->rig, 10);
	client_receive(client);
	assert_int_equal(client->in.len, 0);
	assert_false(client->ended);
}

static void answer(struct rig *rig)
{
	struct request *request = rig->held[--rig->held_count];

	request_reply(request, &(struct reply){.status = 200,
					       .content_type = "text/plain",
					       .body = SPAN("the answer")});
}

static void settings_leave_with_the_first_answer(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	client_send(&ends.client, SPAN(OPENING REQUEST));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
	rig_advance(&ends.rig, 99);
	expect_silence(&ends.client);
	answer(&ends.rig);
	expect_settings_first(&ends.client);
	/* one send brought all of it */
	assert_true(has(&ends.client, SPAN("\0\0\0\4\1\0\0\0\0")));
	assert_true(has(&ends.client, SPAN("the answer")));
	ends_close(&ends);
}

static void settings_do_not_wait_longer_than_a_tenth_of_a_second(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	client_send(&ends.client, SPAN(OPENING REQUEST));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
	expect_silence(&ends.client);
	rig_advance(&ends.rig, 101);
	expect_settings_first(&ends.client);
	expect(&ends.client, SPAN("\0\0\0\4\1\0\0\0\0"));
	answer(&ends.rig);
	expect(&ends.client, SPAN("the answer"));
	ends_close(&ends);
}

/* Time stands still here: they come without any of it passing. */
static void settings_leave_at_once_for_a_client_that_may_wait_for_them(void **state)
{
	const struct span rows[] = {
		SPAN(H2_PREFACE),
		SPAN(OPENING),
		SPAN(OPENING BODILESS),
		SPAN(OPENING PING),
		SPAN(OPENING REQUEST PING),
		SPAN(OPENING PING REQUEST),
		/* a second request, not whole yet */
		SPAN(OPENING REQUEST "\0\0\x0c\1\4\0\0\0\3" POST),
		/* given up by itself: there is no call */
		SPAN(OPENING REQUEST "\0\0\4\3\0\0\0\0\1\0\0\0\x08"),
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ends ends;

		ends_open(&ends);
		client_send(&ends.client, rows[i]);
		expect_settings_first(&ends.client);
		ends_close(&ends);
	}
}

static void settings_leave_with_the_next_bytes_at_the_latest(void **state)
{
	const struct span rows[] = {
		SPAN(PING), SPAN("\0"), /* of a frame's head */
		SPAN("\0\0\x0d\1\5\0\0\0\3" GET),
		SPAN("\0\0\4\3\0\0\0\0\1\0\0\0\x08"), /* RST_STREAM */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ends ends;

		ends_open(&ends);
		client_send(&ends.client, SPAN(OPENING REQUEST));
		RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
		expect_silence(&ends.client);
		client_send(&ends.client, rows[i]);
		expect_settings_first(&ends.client);
		ends_close(&ends);
	}
}

static void a_client_that_says_nothing_hears_nothing(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	expect_silence(&ends.client);
	rig_advance(&ends.rig, 5001);
	client_expect_end(&ends.client);
	assert_int_equal(ends.client.in.len, 0);
	ends_close(&ends);
}

/* What comes in two parts is answered as what comes in one; between the parts of a request they do
 * not wait. */
static void settings_and_answer_come_wherever_the_opening_is_cut(void **state)
{
	const struct span whole = SPAN(OPENING REQUEST);
	const size_t preface = strlen(H2_PREFACE);

	(void)state;
	for (size_t cut = 1; cut < whole.len; cut++) {
		struct ends ends;

		ends_open(&ends);
		client_send(&ends.client, span_first(whole, cut));
		if (cut >= preface)
			expect_settings_first(&ends.client);
		else
			expect_silence(&ends.client);
		client_send(&ends.client, span_from(whole, cut));
		RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
		if (cut < preface)
			expect_silence(&ends.client);
		answer(&ends.rig);
		expect_settings_first(&ends.client);
		expect(&ends.client, SPAN("the answer"));
		ends_close(&ends);
	}
}

static void an_opening_byte_by_byte_is_answered(void **state)
{
	const struct span whole = SPAN(OPENING REQUEST);
	struct ends ends;

	(void)state;
	ends_open(&ends);
	for (size_t i = 0; i < whole.len; i++)
		client_send(&ends.client, span_make(whole.data + i, 1));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
	expect_settings_first(&ends.client);
	answer(&ends.rig);
	expect(&ends.client, SPAN("the answer"));
	ends_close(&ends);
}

/* Two calls: the one that is answered first takes the SETTINGS along, the other waits on. */
static void the_first_answer_of_two_takes_the_settings_along(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	client_send(&ends.client, SPAN(OPENING REQUEST "\0\0\x0d\1\5\0\0\0\3" GET));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 2);
	expect_silence(&ends.client);
	answer(&ends.rig);
	expect_settings_first(&ends.client);
	expect(&ends.client, SPAN("the answer"));
	client_forget(&ends.client);
	answer(&ends.rig);
	expect(&ends.client, SPAN("the answer"));
	ends_close(&ends);
}

static void settings_come_before_the_goaway_of_a_shutdown(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	client_send(&ends.client, SPAN(OPENING REQUEST));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
	expect_silence(&ends.client);
	server_drain(ends.rig.server, rig_note_stopped, &ends.rig);
	expect_settings_first(&ends.client);
	expect(&ends.client, SPAN("\0\0\x08\7\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"));
	answer(&ends.rig);
	expect(&ends.client, SPAN("the answer"));
	client_close(&ends.client);
	rig_wait_stopped(&ends.rig);
	rig_close(&ends.rig);
}

static void settings_come_before_the_goaway_of_a_broken_connection(void **state)
{
	struct ends ends;

	(void)state;
	ends_open(&ends);
	client_send(&ends.client, SPAN(OPENING REQUEST));
	RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
	expect_silence(&ends.client);
	/* SETTINGS on a stream */
	client_send(&ends.client, SPAN("\0\0\0\4\0\0\0\0\1"));
	client_expect_end(&ends.client);
	expect_settings_first(&ends.client);
	assert_true(has(&ends.client, SPAN("\7\0\0\0\0\0")));
	assert_int_equal(ends.rig.cancelled, 1);
	ends_close(&ends);
}

static void a_client_that_leaves_meanwhile_is_let_go(void **state)
{
	struct ends ends;

	(void)state;
	for (unsigned aborts = 0; aborts < 2; aborts++) {
		ends_open(&ends);
		client_send(&ends.client, SPAN(OPENING REQUEST));
		RIG_UNTIL(&ends.rig, ends.rig.held_count == 1);
		if (aborts)
			client_abort(&ends.client);
		else
			client_close(&ends.client);
		RIG_UNTIL(&ends.rig, server_connection_count(ends.rig.server) == 0);
		assert_int_equal(ends.rig.cancelled, 1);
		rig_close(&ends.rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_leave_with_the_first_answer),
		cmocka_unit_test(settings_do_not_wait_longer_than_a_tenth_of_a_second),
		cmocka_unit_test(settings_leave_at_once_for_a_client_that_may_wait_for_them),
		cmocka_unit_test(settings_leave_with_the_next_bytes_at_the_latest),
		cmocka_unit_test(a_client_that_says_nothing_hears_nothing),
		cmocka_unit_test(settings_and_answer_come_wherever_the_opening_is_cut),
		cmocka_unit_test(an_opening_byte_by_byte_is_answered),
		cmocka_unit_test(the_first_answer_of_two_takes_the_settings_along),
		cmocka_unit_test(settings_come_before_the_goaway_of_a_shutdown),
		cmocka_unit_test(settings_come_before_the_goaway_of_a_broken_connection),
		cmocka_unit_test(a_client_that_leaves_meanwhile_is_let_go),
	};

	return cmocka_run_group_tests_name("edge hold", tests, NULL, NULL);
}
