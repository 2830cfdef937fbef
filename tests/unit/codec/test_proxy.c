/* proxy: headers of the PROXY protocol, whole, cut anywhere, and wrong in every way. */
#include "codec/proxy.h"

#include "base/check.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4_BLOCK                                                                                   \
	"\300\000\002\007\012\000\000\001\234\100\001\273" /* 192.0.2.7:40000 → 10.0.0.1:443 */
#define V6_ADDRESS "\040\001\015\270\0\0\0\0\0\0\0\0\0\0\0\011" /* 2001:db8::9 */
#define V6_BLOCK   V6_ADDRESS V6_ADDRESS "\0\120\001\273"
#define ZEROS_27   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define UNIX_BLOCK ZEROS_27 ZEROS_27 ZEROS_27 ZEROS_27 ZEROS_27 ZEROS_27 ZEROS_27 ZEROS_27 /* 216  \
											    */

#define ROW(name, text, ...)                                                                       \
	{                                                                                          \
		name, SPAN(text), __VA_ARGS__                                                      \
	}

static const struct good {
	const char *name;
	struct span bytes;
	enum proxy_source source;
	uint16_t port;
} good[] = {
	ROW("TCP over IPv4", SIG "\x21\x11\0\x0c" V4_BLOCK, PROXY_V4, 40000),
	ROW("UDP over IPv4", SIG "\x21\x12\0\x0c" V4_BLOCK, PROXY_V4, 40000),
	ROW("no transport over IPv4", SIG "\x21\x10\0\x0c" V4_BLOCK, PROXY_V4, 40000),
	ROW("TCP over IPv6", SIG "\x21\x21\0\x24" V6_BLOCK, PROXY_V6, 80),
	ROW("unix", SIG "\x21\x31\0\xd8" UNIX_BLOCK, PROXY_UNIX, 0),
	ROW("unspecified", SIG "\x21\0\0\0", PROXY_NONE, 0),
	ROW("unspecified, with something", SIG "\x21\0\0\3abc", PROXY_NONE, 0),
	ROW("local", SIG "\x20\0\0\0", PROXY_NONE, 0),
	ROW("local, its addresses ignored", SIG "\x20\x11\0\x0c" V4_BLOCK, PROXY_NONE, 0),
	ROW("local, its family ignored", SIG "\x20\xff\0\2ab", PROXY_NONE, 0),
	ROW("local, of a family without addresses", SIG "\x20\x11\0\0", PROXY_NONE, 0),
	ROW("TLVs", SIG "\x21\x11\0\x17" V4_BLOCK "\4\0\2ab\xee\0\0\1\0\0", PROXY_V4, 40000),
	ROW("its checksum", SIG "\x21\x11\0\x18" V4_BLOCK "\4\0\2ab\3\0\4\002\301\024\226",
	    PROXY_V4, 40000),
};

static const struct bad {
	const char *name;
	struct span bytes;
	size_t known_at; /* bytes that tell it; 0: all */
} bad[] = {
	ROW("version 1", "PROXY TCP4 192.0.2.7 10.0.0.1 40000 443\r\n", 1),
	ROW("HTTP", "GET / HTTP/1.1\r\n\r\n", 1),
	ROW("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1),
	ROW("blank line", "\r\n\r\nGET / HTTP/1.1\r\n", 5),
	ROW("wrong end of the signature", "\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c" V4_BLOCK, 12),
	ROW("version 1 in binary", SIG "\x11\x11\0\x0c" V4_BLOCK, 13),
	ROW("version 3", SIG "\x31\x11\0\x0c" V4_BLOCK, 13),
	ROW("unknown command", SIG "\x22\x11\0\x0c" V4_BLOCK, 13),
	ROW("unknown family", SIG "\x21\x41\0\x0c" V4_BLOCK, 14),
	ROW("unknown transport", SIG "\x21\x13\0\x0c" V4_BLOCK, 14),
	ROW("block too short for IPv4", SIG "\x21\x11\0\x0b" V4_BLOCK, 16),
	ROW("block too short for IPv6", SIG "\x21\x21\0\x23" V6_BLOCK, 16),
	ROW("block too short for unix", SIG "\x21\x31\0\xd7" UNIX_BLOCK, 16),
	ROW("no block", SIG "\x21\x11\0\0", 16),
	ROW("TLV without its length", SIG "\x21\x11\0\x0e" V4_BLOCK "\4\0", 0),
	ROW("TLV longer than the header", SIG "\x21\x11\0\x11" V4_BLOCK "\4\0\3ab", 0),
	ROW("checksum of another header", SIG "\x21\x11\0\x13" V4_BLOCK "\3\0\4abcd", 0),
	ROW("checksum of a wrong size", SIG "\x21\x11\0\x12" V4_BLOCK "\3\0\3abc", 0),
};

/* Freed memory behind the last byte, so that a sanitizer sees a read past it. */
static ptrdiff_t parse_exactly(struct span bytes, struct proxy_header *header)
{
	uint8_t *copy = malloc(bytes.len + (bytes.len == 0));

	assert_non_null(copy);
	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);

	ptrdiff_t taken = proxy_parse(span_make(copy, bytes.len), header);

	free(copy);
	return taken;
}

static void proxy_takes_a_header_cut_anywhere_and_nothing_behind_it(void **state)
{
	uint8_t longer[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct span bytes = good[i].bytes;
		struct proxy_header header = {.port = 7};

		for (size_t len = 0; len < bytes.len; len++)
			if (parse_exactly(span_first(bytes, len), &header) != 0)
				fail_msg("%s: %zu bytes", good[i].name, len);
		assert_int_equal(header.port, 7);
		memcpy(longer, bytes.data, bytes.len);
		memset(longer + bytes.len, 0x0d, 32);
		for (size_t more = 0; more <= 32; more++)
			if (parse_exactly(span_make(longer, bytes.len + more), &header) !=
			    (ptrdiff_t)bytes.len)
				fail_msg("%s, %zu more", good[i].name, more);
		assert_int_equal(header.source, good[i].source);
		assert_int_equal(header.port, good[i].port);
		if (header.source == PROXY_V4)
			assert_memory_equal(header.address, V4_BLOCK, 4);
		if (header.source == PROXY_V6)
			assert_memory_equal(header.address, V6_ADDRESS, 16);
	}
}

static void proxy_refuses_at_the_first_wrong_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		size_t known_at = bad[i].known_at ? bad[i].known_at : bad[i].bytes.len;
		struct proxy_header header;

		for (size_t len = 0; len <= bad[i].bytes.len; len++) {
			ptrdiff_t taken = parse_exactly(span_first(bad[i].bytes, len), &header);

			if (taken != (len < known_at ? 0 : -EPROTO))
				fail_msg("%s: %zu bytes: %td", bad[i].name, len, taken);
		}
	}
}

static void proxy_bounds_a_header(void **state)
{
	static uint8_t bytes[PROXY_HEADER_BYTES_MAX + 1];
	struct proxy_header header;
	size_t len = PROXY_HEADER_BYTES_MAX - 16;

	(void)state;
	memcpy(bytes, SIG "\x21\0", 14);
	bytes[14] = (uint8_t)(len >> 8);
	bytes[15] = (uint8_t)len;
	assert_int_equal(proxy_parse(span_make(bytes, PROXY_HEADER_BYTES_MAX - 1), &header), 0);
	assert_int_equal(proxy_parse(span_make(bytes, PROXY_HEADER_BYTES_MAX), &header),
			 PROXY_HEADER_BYTES_MAX);
	bytes[15]++;
	assert_int_equal(proxy_parse(span_make(bytes, 15), &header), 0);
	assert_int_equal(proxy_parse(span_make(bytes, 16), &header), -EMSGSIZE);
}

/* Whatever the bytes: no read past them, and never more taken than there are. */
static void proxy_survives_every_change_of_a_byte(void **state)
{
	uint8_t bytes[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct span original = good[i].bytes;

		for (size_t at = 0; at < original.len; at++) {
			for (unsigned value = 0; value < 256; value += at < 20 ? 1 : 51) {
				struct proxy_header header;

				memcpy(bytes, original.data, original.len);
				bytes[at] = (uint8_t)value;
				assert_true(parse_exactly(span_make(bytes, original.len),
							  &header) <= (ptrdiff_t)original.len);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(proxy_takes_a_header_cut_anywhere_and_nothing_behind_it),
		cmocka_unit_test(proxy_refuses_at_the_first_wrong_byte),
		cmocka_unit_test(proxy_bounds_a_header),
		cmocka_unit_test(proxy_survives_every_change_of_a_byte),
	};

	return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
