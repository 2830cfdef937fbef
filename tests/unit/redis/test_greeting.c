#include "unit/redis/client_rig.h"

static void client_greets_as_it_is_told(void **state)
{
	static const struct {
		const char *user, *password;
		uint32_t db;
		const char *error; /* NULL: ready */
	} rows[] = {
		{"", "secret-one", 0, NULL},
		{"default", "secret-one", 0, NULL},
		{"gateway", "secret-two", 0, NULL},
		{"gateway", "secret-two", 3, NULL},
		{"free", "", 0, NULL},
		{"", "wrong-secret", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"gateway", "wrong-secret", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"nobody", "secret-one", 0,
		 "Redis refused the user name or the password (AUTH: WRONGPASS)"},
		{"", "", 0, "Redis asks for a password and none is configured (PING: NOAUTH)"},
		{"", "secret-one", 99, "Redis has no database 99"},
		{"narrow", "secret-three", 0, "the Redis user lacks permission (PING: NOPERM)"},
		{"narrow", "secret-three", 3, "the Redis user lacks permission (SELECT: NOPERM)"},
	};

	(void)state;
	NEEDS_REDIS_SERVER();
	redis_server_start(&server);
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "gateway", "on", ">secret-two", "+get",
				"+set", "+ping", "+select", "~*"),
			    "OK");
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "narrow", "on", ">secret-three", "+get"),
			    "OK");
	assert_string_equal(ASK(&server, "ACL", "SETUSER", "free", "on", "nopass", "+ping"), "OK");
	assert_string_equal(ASK(&server, "CONFIG", "SET", "requirepass", "secret-one"), "OK");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct redis_options options = options_for(redis_server_endpoint(&server));

		options.username = span_from_cstr(rows[i].user);
		options.password = span_from_cstr(rows[i].password);
		options.db = rows[i].db;
		client_begin(options);
		if (!rows[i].error) {
			struct asked *asked = take(1);

			TURN_UNTIL(&worker, redis_client_is_ready(client));
			if (rows[i].db) {
				assert_int_equal(START(asked, 1000, "SET", "here", "yes"), 0);
				TURN_UNTIL(&worker, asked->answers == 1);
				assert_string_equal(asked->text, "OK");
				assert_string_equal(ASK(&server, "SELECT", "3"), "OK");
				assert_string_equal(ASK(&server, "GET", "here"), "yes");
				assert_string_equal(ASK(&server, "SELECT", "0"), "OK");
			}
		} else {
			TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
			assert_string_equal(redis_client_last_error(client), rows[i].error);
			/* It goes on trying. */
			TURN_UNTIL(&worker, metric_value(&client->metrics.reconnects) >= 2);
			assert_int_equal(ready_count, 0);
			assert_int_equal(lost_count, 0);
		}
		client_end();
	}
}

static void client_gives_up_a_greeting_in_its_time(void **state)
{
	struct redis_options options;

	(void)state;
	fake_open(&fake, &worker);
	options = options_for(fake_endpoint(&fake));
	options.connect_timeout_ms = 100;
	client_begin(options);
	fake_accept(&fake);

	uint64_t accepted_ms = steady_ms();

	TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
	assert_in_range(steady_ms() - accepted_ms, 50, 300);
	assert_string_equal(redis_client_last_error(client),
			    "Redis accepted the connection but did not answer in time");
	client_end();
	fake_close(&fake);
}

static void client_refuses_a_greeting_that_is_none(void **state)
{
	static const struct {
		const char *said, *error;
	} rows[] = {
		{"HTTP/1.1 400 Bad Request\r\n\r\n",
		 "Redis sent what is no answer, or one over the limit"},
		{"+HELLO\r\n", "what answers there is not Redis"},
		{":1\r\n", "what answers there is not Redis"},
		{"-LOADING Redis is loading the dataset in memory\r\n",
		 "Redis is loading its data (PING: LOADING)"},
		{"-ERR max number of clients reached\r\n", "Redis refused PING (ERR)"},
		{"-DENIED Redis is running in protected mode\r\n",
		 "Redis is in protected mode (PING: DENIED)"},
		{"-ERR unknown command `PING`, with args beginning with: `secret`\r\n",
		 "Redis refused PING (ERR)"},
	};

	(void)state;
	fake_open(&fake, &worker);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		client_begin(options_for(fake_endpoint(&fake)));
		fake_accept(&fake);
		fake_expect(&fake, "PING\r\n");
		fake_say(&fake, rows[i].said);
		TURN_UNTIL(&worker, redis_client_last_error(client)[0]);
		assert_string_equal(redis_client_last_error(client), rows[i].error);
		assert_int_equal(ready_count, 0);
		client_end();
	}
	fake_close(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(client_greets_as_it_is_told),
		CLIENT_TEST(client_gives_up_a_greeting_in_its_time),
		CLIENT_TEST(client_refuses_a_greeting_that_is_none),
	};

	return cmocka_run_group_tests_name("redis greeting", tests, NULL, NULL);
}
