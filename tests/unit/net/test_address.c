#include "unit/net/harness.h"

#include "base/check.h"

#include <sys/un.h>

static const struct {
	const char *host;
	uint16_t port;
	const char *text;
	size_t key_len;
	uint8_t key[ADDRESS_KEY_MAX];
	bool loopback;
} rows[] = {
	{"127.0.0.1", 80, "127.0.0.1:80", 4, {127, 0, 0, 1}, true},
	{"127.9.9.9", 1, "127.9.9.9:1", 4, {127, 9, 9, 9}, true},
	{"192.0.2.7", 65535, "192.0.2.7:65535", 4, {192, 0, 2, 7}, false},
	{"::ffff:192.0.2.7", 9, "192.0.2.7:9", 4, {192, 0, 2, 7}, false},
	{"::ffff:127.0.0.1", 9, "127.0.0.1:9", 4, {127, 0, 0, 1}, true},
	{"::1", 80, "[::1]:80", 8, {0}, true},
	{"::2", 80, "[::2]:80", 8, {0}, false},
	{"2001:db8:1:2:3:4:5:6",
	 80,
	 "[2001:db8:1:2:3:4:5:6]:80",
	 8,
	 {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2},
	 false},
	{"2001:db8:1:2:ffff::",
	 80,
	 "[2001:db8:1:2:ffff::]:80",
	 8,
	 {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2},
	 false},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	 65535,
	 "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
	 8,
	 {255, 255, 255, 255, 255, 255, 255, 255},
	 false},
};

static void address_has_text_key_and_port(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct address address;
		char text[ADDRESS_TEXT_MAX];
		uint8_t key[ADDRESS_KEY_MAX];

		assert_true(address_from_text(&address, rows[i].host, rows[i].port));
		assert_int_equal(address_format(&address, text), strlen(rows[i].text));
		assert_string_equal(text, rows[i].text);
		assert_int_equal(address_budget_key(&address, key), rows[i].key_len);
		assert_memory_equal(key, rows[i].key, rows[i].key_len);
		assert_int_equal(address_is_loopback(&address), rows[i].loopback);
		assert_int_equal(address_port(&address), rows[i].port);
		address_set_port(&address, 4711);
		assert_int_equal(address_port(&address), 4711);
	}
}

static void unix_peer_is_local_and_has_no_key(void **state)
{
	struct sockaddr_storage unnamed = {.ss_family = AF_UNIX};
	const struct address addresses[] = {
		address_from_path("/run/x.sock"),
		address_make(&unnamed, sizeof(sa_family_t)), /* what accept gives */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		char text[ADDRESS_TEXT_MAX];
		uint8_t key[ADDRESS_KEY_MAX];

		assert_int_equal(address_format(&addresses[i], text), 4);
		assert_string_equal(text, "unix");
		assert_int_equal(address_budget_key(&addresses[i], key), 0);
		assert_true(address_is_loopback(&addresses[i]));
		assert_int_equal(address_port(&addresses[i]), 0);
	}
}

static void unknown_address_is_harmless(void **state)
{
	struct sockaddr_storage v4 = {.ss_family = AF_INET};
	const struct address addresses[] = {
		{.len = 0},
		address_make(&v4, sizeof(v4) + 1),		   /* longer than any */
		address_make(&v4, sizeof(struct sockaddr_in) - 1), /* cut off */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
		char text[ADDRESS_TEXT_MAX];
		uint8_t key[ADDRESS_KEY_MAX];

		address_format(&addresses[i], text);
		assert_string_equal(text, "unknown");
		assert_int_equal(address_budget_key(&addresses[i], key), 0);
		assert_false(address_is_loopback(&addresses[i]));
	}
}

static void names_are_no_addresses(void **state)
{
	static const char *const names[] = {"",	   "localhost", "1.2.3", "1.2.3.4.5",
					    "::g", "[::1]",	"::1%lo"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct address address;

		assert_false(address_from_text(&address, names[i], 1));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(address_has_text_key_and_port),
		cmocka_unit_test(unix_peer_is_local_and_has_no_key),
		cmocka_unit_test(unknown_address_is_harmless),
		cmocka_unit_test(names_are_no_addresses),
	};

	return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
