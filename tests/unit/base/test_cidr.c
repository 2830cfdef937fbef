#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/cidr.h"

#include <arpa/inet.h>

static const struct {
	const char *text, *form;
} good[] = {
	{"10.0.0.0/8", "10.0.0.0/8"},
	{"192.0.2.7", "192.0.2.7/32"},
	{"192.0.2.7/32", "192.0.2.7/32"},
	{"0.0.0.0/0", "0.0.0.0/0"},
	{"128.0.0.0/1", "128.0.0.0/1"},
	{"10.128.0.0/9", "10.128.0.0/9"},
	{"255.255.255.254/31", "255.255.255.254/31"},
	{"fd00::/8", "fd00::/8"},
	{"2001:db8::1", "2001:db8::1/128"},
	{"::/0", "::/0"},
	{"2001:db8:0:8000::/49", "2001:db8:0:8000::/49"},
	{"::ffff:10.0.0.0/104", "10.0.0.0/8"},
	{"::ffff:10.0.0.1", "10.0.0.1/32"},
	{"::ffff:0:0/96", "0.0.0.0/0"},
	{"::/95", "::/95"},
};

static const char *const bad[] = {
	"",
	"/",
	"/8",
	"10.0.0.0/",
	"10.0.0.0/33",
	"10.0.0.0/-1",
	"10.0.0.0/08x",
	"10.0.0.0/ 8",
	"10.0.0.1/8",
	"10.0.0/8",
	"10.0.0.0.0",
	"256.0.0.0",
	"fd00::/129",
	"fd00::1/8",
	"fd00:::/8",
	"[fd00::]/8",
	"localhost",
	"10.0.0.0/8/8",
	" 10.0.0.0/8",
	"10.0.0.0/8 ",
	"fe80::1%lo",
	"10.0.0.0/99999999999999999999",
	"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111",
};

static const struct {
	const char *range, *address;
	bool is_in;
} pairs[] = {
	{"10.0.0.0/8", "10.0.0.0", true},
	{"10.0.0.0/8", "10.255.255.255", true},
	{"10.0.0.0/8", "11.0.0.0", false},
	{"10.0.0.0/8", "9.255.255.255", false},
	{"10.128.0.0/9", "10.127.255.255", false},
	{"10.128.0.0/9", "10.128.0.0", true},
	{"0.0.0.0/0", "203.0.113.1", true},
	{"0.0.0.0/0", "::1", false},
	{"::/0", "203.0.113.1", false},
	{"::/0", "2001:db8::1", true},
	{"192.0.2.7", "192.0.2.7", true},
	{"192.0.2.7", "192.0.2.6", false},
	{"2001:db8::/33", "2001:db8:7fff::1", true},
	{"2001:db8::/33", "2001:db8:8000::1", false},
	{"::1", "::1", true},
	{"::1", "::2", false},
};

static struct cidr cidr_of(const char *text)
{
	struct cidr cidr;

	if (cidr_parse(span_from_cstr(text), &cidr) != 0)
		fail_msg("\"%s\" was refused", text);
	return cidr;
}

static void cidr_reads_and_writes(void **state)
{
	char text[CIDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct cidr cidr = cidr_of(good[i].text), again;
		size_t len = cidr_format(&cidr, text);

		assert_string_equal(text, good[i].form);
		assert_int_equal(len, strlen(text));
		again = cidr_of(text);
		assert_memory_equal(&again, &cidr, sizeof(cidr));
	}
}

static void cidr_refuses_what_is_none(void **state)
{
	struct cidr cidr = {.len = 99}, before = cidr;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (cidr_parse(span_from_cstr(bad[i]), &cidr) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_memory_equal(&cidr, &before, sizeof(cidr));
	}
	assert_int_not_equal(cidr_parse(SPAN("10.0.0.0\0/8"), &cidr), 0);
}

static void cidr_contains_its_addresses_and_no_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		struct cidr cidr = cidr_of(pairs[i].range);
		uint8_t bytes[16];
		size_t len = 4;

		if (inet_pton(AF_INET, pairs[i].address, bytes) != 1) {
			assert_int_equal(inet_pton(AF_INET6, pairs[i].address, bytes), 1);
			len = 16;
		}
		if (cidr_contains(&cidr, span_make(bytes, len)) != pairs[i].is_in)
			fail_msg("%s in %s", pairs[i].address, pairs[i].range);
	}
}

static void cidr_contains_nobody_without_an_address(void **state)
{
	struct cidr all4 = cidr_of("0.0.0.0/0"), all6 = cidr_of("::/0");

	(void)state;
	assert_false(cidr_contains(&all4, SPAN_EMPTY));
	assert_false(cidr_contains(&all6, SPAN_EMPTY));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cidr_reads_and_writes),
		cmocka_unit_test(cidr_refuses_what_is_none),
		cmocka_unit_test(cidr_contains_its_addresses_and_no_others),
		cmocka_unit_test(cidr_contains_nobody_without_an_address),
	};

	return cmocka_run_group_tests_name("cidr", tests, NULL, NULL);
}
