#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/signer.h"
#include "base/check.h"
#include "gateway/auth_form.h"

#include <stdlib.h>

#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

struct read {
	struct buf forward, identity;
	const char *why;
	enum err err;
};

static struct read read_form(enum auth_form form, struct span body)
{
	struct read read;

	buf_init(&read.forward, AUTH_FORM_BYTES_MAX);
	buf_init(&read.identity, AUTH_FORM_BYTES_MAX);
	read.err = auth_form_read(form, body, &read.forward, &read.identity, &read.why);
	assert_true((read.err == ERR_BAD_REQUEST) == (read.why != NULL));
	return read;
}

static void read_finish(struct read *read)
{
	buf_finish(&read->forward);
	buf_finish(&read->identity);
}

static void good_bodies_are_written_anew(void **state)
{
	const struct {
		enum auth_form form;
		const char *body, *forward, *identity;
	} rows[] = {
		{AUTH_SEND_CODE, "{\"email\":\"a@b.c\"}", "{\"email\":\"a@b.c\"}", "a@b.c"},
		{AUTH_SEND_CODE, " { \"x\" : [1] , \"email\" : \" \\u0041+T@B.Cc\\t\" } ",
		 "{\"email\":\"A+T@B.Cc\"}", "a+t@b.cc"},
		{AUTH_CONFIRM_CODE,
		 "{\"client_public_key\":\"" KEY
		 "\",\"code\":\"12 \\\"4\",\"challenge_id\":\"aB-7{}\"}",
		 "{\"challenge_id\":\"aB-7{}\",\"code\":\"12 \\\"4\",\"client_public_key\":\"" KEY
		 "\"}",
		 "ab7"},
		{AUTH_CONFIRM_CODE,
		 "{\"client_public_key\":\"" KEY
		 "\",\"code\":\"1\",\"challenge_id\":\"c\",\"time_zone\":\"Z/A_b\"}",
		 "{\"challenge_id\":\"c\",\"code\":\"1\",\"client_public_key\":\"" KEY
		 "\",\"time_zone\":\"Z/A_b\"}",
		 "c"},
		{AUTH_CONFIRM_CODE,
		 "{\"client_public_key\":\"" KEY
		 "\",\"code\":\"1\",\"challenge_id\":\"-\",\"time_zone\":\"\"}",
		 "{\"challenge_id\":\"-\",\"code\":\"1\",\"client_public_key\":\"" KEY "\"}", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct read read = read_form(rows[i].form, span_from_cstr(rows[i].body));

		assert_int_equal(read.err, ERR_NONE);
		assert_true(span_equal(buf_span(&read.forward), span_from_cstr(rows[i].forward)));
		assert_true(span_equal(buf_span(&read.identity), span_from_cstr(rows[i].identity)));
		read_finish(&read);
	}
}

static void bodies_cut_anywhere_are_refused(void **state)
{
	static const char *const bodies[AUTH_FORM_COUNT] = {
		[AUTH_SEND_CODE] = "{\"email\":\"a@b.c\"}",
		[AUTH_CONFIRM_CODE] =
			"{\"challenge_id\":\"c\",\"code\":\"1\",\"client_public_key\":\"" KEY "\"}",
	};

	(void)state;
	for (int form = 0; form < AUTH_FORM_COUNT; form++) {
		for (size_t len = 0; len < strlen(bodies[form]); len++) {
			char *part = malloc(len + 1); /* nothing behind it may be read */

			assert_non_null(part);
			memcpy(part, bodies[form], len);
			part = realloc(part, len > 0 ? len : 1);

			struct read read = read_form((enum auth_form)form, span_make(part, len));

			assert_int_equal(read.err, ERR_BAD_REQUEST);
			assert_string_equal(read.why, "body must be a JSON object");
			read_finish(&read);
			free(part);
		}
	}
}

static void longest_members_fit(void **state)
{
	(void)state;

	struct buf out;

	buf_init(&out, 2048);
	buf_append(&out, SPAN("{\"challenge_id\":\""));
	for (size_t i = 0; i < 128; i++)
		buf_append(&out, SPAN("\\\\"));
	buf_append(&out, SPAN("\",\"code\":\""));
	for (size_t i = 0; i < 64; i++)
		buf_append(&out, SPAN("\\\""));
	buf_append(&out, SPAN("\",\"client_public_key\":\"" KEY "\",\"time_zone\":\""));
	for (size_t i = 0; i < 64; i++)
		buf_append(&out, SPAN("\\\\"));
	buf_append(&out, SPAN("\"}"));

	struct read read = read_form(AUTH_CONFIRM_CODE, buf_span(&out));

	assert_int_equal(read.err, ERR_NONE);
	assert_true(span_equal(buf_span(&read.forward), buf_span(&out)));
	read_finish(&read);
	buf_finish(&out);
}

static void no_room_is_told_apart_from_a_bad_body(void **state)
{
	struct buf forward, identity;
	const char *why;

	(void)state;
	buf_init(&forward, 8);
	buf_init(&identity, AUTH_FORM_BYTES_MAX);
	assert_int_equal(auth_form_read(AUTH_SEND_CODE, SPAN("{\"email\":\"a@b.c\"}"), &forward,
					&identity, &why),
			 ERR_OUT_OF_MEMORY);
	assert_null(why);
	buf_finish(&forward);
	buf_finish(&identity);
}

static void only_safe_texts_pass(void **state)
{
	char long_code[65], long_message[513];

	(void)state;
	memset(long_code, 'a', sizeof(long_code));
	memset(long_message, 'm', sizeof(long_message));
	assert_true(auth_code_is_safe(SPAN("code_expired")));
	assert_true(auth_code_is_safe(span_make(long_code, 64)));
	assert_false(auth_code_is_safe(span_make(long_code, 65)));
	assert_false(auth_code_is_safe(SPAN_EMPTY));
	for (int byte = 0; byte < 256; byte++) {
		uint8_t text = (uint8_t)byte;
		bool is_safe = (text >= 'a' && text <= 'z') || text == '_';

		assert_int_equal(auth_code_is_safe(span_make(&text, 1)), is_safe);
		assert_int_equal(auth_message_is_safe(span_make(&text, 1)),
				 text >= 0x20 && text < 0x7f);
	}
	assert_true(auth_message_is_safe(span_make(long_message, 512)));
	assert_false(auth_message_is_safe(span_make(long_message, 513)));
	assert_false(auth_message_is_safe(SPAN_EMPTY));
	assert_true(auth_message_is_safe(SPAN("\xc2\xa0\xc3\xbc\xe2\x82\xac")));
	assert_false(auth_message_is_safe(SPAN("a\xc2\x85")));
	assert_false(auth_message_is_safe(SPAN("a\xc2")));
}

static int setup(void **state)
{
	(void)state;
	return auth_init();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_bodies_are_written_anew),
		cmocka_unit_test(bodies_cut_anywhere_are_refused),
		cmocka_unit_test(longest_members_fit),
		cmocka_unit_test(no_room_is_told_apart_from_a_bad_body),
		cmocka_unit_test(only_safe_texts_pass),
	};

	return cmocka_run_group_tests_name("gateway/auth_form", tests, setup, NULL);
}
