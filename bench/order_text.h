/*
 * order_text: the message that the transcoding benchmarks send, as JSON of ringway.test.Order
 * (tests/conformance/proto/ringway/wide.proto). Read by C and by C++.
 */
#ifndef BENCH_ORDER_TEXT_H
#define BENCH_ORDER_TEXT_H

#include <stdio.h>
#include <stdlib.h>

#define ORDER_LINE_BYTES_MAX 512

/* A page with this many lines: 3 are about 1 KB of text, 450 about 100 KB. Freed by the caller;
 * NULL without memory. */
static inline char *order_text(unsigned line_count, size_t *len)
{
	size_t room = (line_count + 4) * (size_t)ORDER_LINE_BYTES_MAX;
	char *text = (char *)malloc(room);
	size_t at = 0;

	if (!text)
		return NULL;
	at += (size_t)snprintf(
		text + at, room - at,
		"{\"orderId\":\"order-7f3a9c\",\"customerId\":\"902341175501\",\"status\":"
		"\"SHIPPED\","
		"\"createdAt\":\"2025-06-06T12:34:56.789Z\",\"billingAddress\":{\"street\":"
		"\"Hauptstra\xc3\x9f"
		"e 17\",\"city\":\"K\xc3\xb6ln\",\"countryCode\":\"DE\","
		"\"latitude\":50.937531,\"longitude\":6.960279},\"lines\":[");
	for (unsigned i = 0; i < line_count; i++)
		at += (size_t)snprintf(
			text + at, room - at,
			"%s{\"sku\":\"SKU-%06u-%c\",\"quantity\":%u,\"price\":%u.%02u,\"tags\":"
			"[\"fragile\",\"warehouse-%u\",\"say "
			"\\\"please\\\"\"],\"shipTo\":{\"street\":"
			"\"%u Long Acre Road\",\"city\":\"London\",\"countryCode\":\"GB\","
			"\"latitude\":51.5%05u,\"longitude\":-0.1%05u}}",
			i ? "," : "", i * 7919 % 1000000, 'A' + (int)(i % 26), i % 90 + 1,
			i * 37 % 900 + 1, i * 13 % 99 + 1, i % 12, i % 300 + 1,
			i * 7717 % 89999 + 10001, i * 5531 % 89999 + 10001);
	at += (size_t)snprintf(
		text + at, room - at,
		"],\"labels\":{\"channel\":\"web\",\"campaign\":\"spring-sale\",\"locale\":\"de-"
		"DE\"},"
		"\"scores\":[3,14,159,2653,58979,-1],\"token\":\"3q2+78r+AAECAwQFBgcICQ==\","
		"\"paid\":true,\"weightKg\":12.75,\"voucher\":{\"code\":\"WELCOME10\","
		"\"cents\":\"1050\"}}");
	*len = at;
	return text;
}

#endif
