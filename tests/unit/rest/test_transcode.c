/* transcode: path, query and body as one message, and answers back. What a request comes to is
 * compared as JSON of its message. */
#include "base/base64.h"
#include "codec/grpc.h"
#include "codec/pbjson.h"
#include "rest/transcode.h"
#include "unit/rest/planned.h"

#define PUT_RPC "ringway.test.Shop/Put, upstream: shop"

static const char config[] =
	"  services: [{ service: ringway.test.Shop, upstream: shop }]\n"
	"  routes:\n"
	"    - { method: GET, path: '/query', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/odd', rpc: ringway.test.Mirror/Same, upstream: shop }\n"
	"    - { method: GET, path: '/at/{billing_address.city}/{order_id}', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/files/{order_id=**}', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/number/{customer_id}', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/status/{status}', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/when/{created_at}', rpc: " PUT_RPC " }\n"
	"    - { method: GET, path: '/card/{card}', rpc: " PUT_RPC " }\n"
	"    - { method: PATCH, path: '/orders/{order_id}', rpc: " PUT_RPC
	", body: billing_address }\n"
	"    - { method: PATCH, path: '/voucher', rpc: " PUT_RPC ", body: voucher }\n"
	"    - { method: POST, path: '/lines', rpc: " PUT_RPC ", body: lines }\n"
	"    - { method: POST, path: '/id', rpc: " PUT_RPC ", body: order_id }\n"
	"    - { method: POST, path: '/orders/{order_id}', rpc: " PUT_RPC ", body: '*' }\n"
	"    - { method: GET, path: '/status-of', rpc: ringway.test.Shop/Get, upstream: shop,"
	" response_body: status }\n"
	"    - { method: GET, path: '/scores-of', rpc: ringway.test.Shop/Get, upstream: shop,"
	" response_body: scores }\n"
	"    - { method: GET, path: '/place-of', rpc: ringway.test.Shop/Get, upstream: shop,"
	" response_body: billing_address }\n";

static struct planned planned;
static char told[TRANSCODE_TEXT_MAX];

static int load(void **state)
{
	(void)state;
	planned = plan_rest(config);
	assert_string_equal(planned.report, "");
	return 0;
}

static int unload(void **state)
{
	(void)state;
	planned_finish(&planned);
	return 0;
}

/* "/path?query" */
static const struct plan_route *find(const char *method, const char *target,
				     struct table_match *match, struct span *query)
{
	struct span whole = span_from_cstr(target);
	ptrdiff_t mark = span_find_byte(whole, '?');
	char allow[TABLE_ALLOW_MAX];

	*query = mark < 0 ? SPAN_EMPTY : span_from(whole, (size_t)mark + 1);
	assert_int_equal(table_find(planned.plan->table, span_from_cstr(method),
				    mark < 0 ? whole : span_first(whole, (size_t)mark), match,
				    allow),
			 TABLE_FOUND);
	return match->target;
}

/* Returns transcode_read's code, with the message as JSON, or what is said of the request, in told. */
static int read_within(const char *method, const char *target, const char *body, size_t bytes_max)
{
	struct table_match match;
	struct buf room;
	struct transcode_request request = {.body = span_from_cstr(body), .room = &room};
	struct payload *message = NULL;
	struct transcode_error error;
	struct buf out;

	request.route = find(method, target, &match, &request.query);
	request.values = match.values;

	buf_init(&room, 0);
	int code = transcode_read(planned.plan, &request, bytes_max, &message, &error);

	assert_int_equal(room.len, 0);
	buf_finish(&room);
	snprintf(told, sizeof(told), "%s", error.text);
	if (code)
		return code;
	assert_true(message->len >= GRPC_PREFIX_BYTES);
	struct span bytes = span_make(message->data, message->len);

	assert_int_equal(bytes.data[0], 0);
	assert_int_equal((bytes.data[1] << 24) + (bytes.data[2] << 16) + (bytes.data[3] << 8) +
				 bytes.data[4],
			 bytes.len - GRPC_PREFIX_BYTES);
	buf_init(&out, 1u << 20);
	const struct pbjson_options options = {.schema = planned.plan->schema};
	struct pbjson_error why;

	assert_int_equal(pbjson_write(&options, request.route->rpc->input,
				      span_from(bytes, GRPC_PREFIX_BYTES), &out, &why),
			 0);
	snprintf(told, sizeof(told), "%.*s", SPAN_ARGS(buf_span(&out)));
	buf_finish(&out);
	payload_put(message);
	return 0;
}

static int read_request(const char *method, const char *target, const char *body)
{
	return read_within(method, target, body, 1u << 20);
}

static void requests_are_messages(void **state)
{
	(void)state;
	static const struct {
		const char *method, *target, *body, *message;
	} rows[] = {
		/* the path */
		{"GET", "/v1/orders/7", "", "{\"name\":\"orders/7\"}"},
		{"GET", "/v1/orders/a%20b+c", "", "{\"name\":\"orders/a b+c\"}"},
		{"GET", "/v1/orders/a%2Fb", "", "{\"name\":\"orders/a%2Fb\"}"}, /* many segments */
		{"GET", "/at/Rome/a%2Fb", "",
		 "{\"orderId\":\"a/b\",\"billingAddress\":{\"city\":\"Rome\"}}"},
		{"GET", "/files/a/b//c", "", "{\"orderId\":\"a/b//c\"}"},
		{"GET", "/files", "", "{}"},
		{"GET", "/number/-5", "", "{\"customerId\":\"-5\"}"},
		{"GET", "/status/SHIPPED", "", "{\"status\":\"SHIPPED\"}"},
		{"GET", "/status/7", "", "{\"status\":\"RETURNED\"}"},
		{"GET", "/when/2024-05-06T07:08:09Z", "", "{\"createdAt\":\"2024-05-06T07:08:09Z\"}"},
		/* the query */
		{"GET", "/query", "", "{}"},
		{"GET", "/query?", "", "{}"},
		{"GET", "/query?&&", "", "{}"},
		{"GET", "/query?order_id=a&customerId=7&paid=true", "",
		 "{\"orderId\":\"a\",\"customerId\":\"7\",\"paid\":true}"},
		{"GET", "/query?order_id=a+b%2b%26", "", "{\"orderId\":\"a b+&\"}"},
		{"GET", "/query?order_id=", "", "{}"},
		{"GET", "/query?order%5Fid=a=b", "", "{\"orderId\":\"a=b\"}"},
		{"GET", "/query?scores=1&order_id=x&scores=-2&scores=3", "",
		 "{\"orderId\":\"x\",\"scores\":[1,-2,3]}"},
		{"GET", "/query?billing_address.city=Rome&billingAddress.street=a", "",
		 "{\"billingAddress\":{\"street\":\"a\",\"city\":\"Rome\"}}"},
		{"GET", "/query?voucher.code=x&voucher.cents=9", "",
		 "{\"voucher\":{\"code\":\"x\",\"cents\":\"9\"}}"},
		{"GET", "/query?token=-_8&weight_kg=NaN&status=2&created_at=1970-01-01T00:00:00Z", "",
		 "{\"status\":\"SHIPPED\",\"createdAt\":\"1970-01-01T00:00:00Z\",\"token\":\"+/8=\","
		 "\"weightKg\":\"NaN\"}"},
		{"GET", "/at/Rome/a?billing_address.street=b&paid=true", "",
		 "{\"orderId\":\"a\",\"billingAddress\":{\"street\":\"b\",\"city\":\"Rome\"},"
		 "\"paid\":true}"},
		/* the body */
		{"PUT", "/v1/orders/7", "{\"paid\":true}", "{\"orderId\":\"7\",\"paid\":true}"},
		{"POST", "/orders/7", "", "{\"orderId\":\"7\"}"},
		{"POST", "/orders/7", " \r\n\t", "{\"orderId\":\"7\"}"},
		{"POST", "/orders/7", "{}", "{\"orderId\":\"7\"}"},
		{"POST", "/orders/7", "{\"orderId\":\"8\",\"card\":\"c\"}", /* the path wins */
		 "{\"orderId\":\"7\",\"card\":\"c\"}"},
		{"PATCH", "/orders/7?paid=true", "{\"city\":\"Rome\"}",
		 "{\"orderId\":\"7\",\"billingAddress\":{\"city\":\"Rome\"},\"paid\":true}"},
		{"PATCH", "/orders/7", "", "{\"orderId\":\"7\"}"},
		{"POST", "/lines?order_id=x", "[{\"sku\":\"a\"},{}]",
		 "{\"orderId\":\"x\",\"lines\":[{\"sku\":\"a\"},{}]}"},
		{"POST", "/id", "\"a\"", "{\"orderId\":\"a\"}"},
		/* additional_bindings */
		{"GET", "/v1/orders:find?name=x", "", "{\"name\":\"x\"}"},
		{"POST", "/v1/orders:find?name=x", "{\"city\":\"Rome\"}",
		 "{\"name\":\"x\",\"near\":{\"city\":\"Rome\"}}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int code = read_request(rows[i].method, rows[i].target, rows[i].body);

		assert_string_equal(told, rows[i].message);
		assert_int_equal(code, 0);
	}
}

static void bad_requests_are_told_with_their_field(void **state)
{
	(void)state;
	static const struct {
		const char *method, *target, *body, *why;
	} rows[] = {
		{"GET", "/number/x", "", "customerId: expected a number"},
		{"GET", "/number/9223372036854775808", "", "customerId: number out of range"},
		{"GET", "/status/LOST", "", "status: no value of this enum has this name"},
		{"GET", "/files/%ff", "", "orderId: invalid UTF-8"},
		{"GET", "/query?nothing=1", "", "unknown parameter nothing"},
		{"GET", "/query?=1", "", "unknown parameter "},
		{"GET", "/query?lines.sku=a", "", "unknown parameter lines.sku"},
		{"GET", "/query?billing_address.city.x=a", "",
		 "unknown parameter billing_address.city.x"},
		{"GET", "/query?billing_address=a", "",
		 "billingAddress: a message is no single value"},
		{"GET", "/query?%4=1", "", "a % without two hexadecimal digits behind it"},
		{"GET", "/query?order_id=%4", "", "a % without two hexadecimal digits behind it"},
		{"GET", "/query?scores=1&scores=x", "", "scores: expected a number"},
		/* twice */
		{"GET", "/query?order_id=a&orderId=a", "", "orderId: is there twice"},
		{"GET", "/query?billing_address.city=a&paid=true&billing_address.city=b", "",
		 "billingAddress.city: is there twice"},
		{"GET", "/query?card=a&iban=b", "", "iban: another field of its oneof is set"},
		{"GET", "/query?voucher.code=a&card=b", "",
		 "card: another field of its oneof is set"},
		{"GET", "/query?card=a&voucher.code=b", "",
		 "voucher.code: another field of its oneof is set"},
		{"GET", "/odd?b.nulls=0&b.nulls=0&a=1", "", "a: another field of its oneof is set"},
		{"GET", "/odd?a=1&b.nulls=0", "", "b.nulls: another field of its oneof is set"},
		{"GET", "/card/a?iban=b", "", "iban: another field of its oneof is set"},
		{"GET", "/card/a?card=b", "",
		 "card: is set by the path or the body, not by the query"},
		{"GET", "/at/Rome/a?billing_address.city=b", "",
		 "billingAddress.city: is set by the path or the body, not by the query"},
		{"PATCH", "/orders/7?billing_address.city=a", "{}",
		 "billingAddress.city: is set by the path or the body, not by the query"},
		{"PATCH", "/voucher?card=a", "{}", "card: another field of its oneof is set"},
		{"PATCH", "/voucher?voucher.code=a", "{}",
		 "voucher.code: is set by the path or the body, not by the query"},
		{"POST", "/orders/7?paid=true", "{}", "unknown parameter paid"},
		/* the body */
		{"GET", "/query", "{}", "this method takes no body"},
		{"POST", "/orders/7", "[]", "expected {"},
		{"POST", "/orders/7", "{\"card\":\"a\",\"iban\":\"b\"}",
		 "iban: another field of its oneof is set"},
		{"PATCH", "/orders/7", "{\"town\":\"Rome\"}", "billingAddress.town: no such field"},
		{"PATCH", "/orders/7", "{\"city\":7}", "billingAddress.city: expected a string"},
		{"POST", "/lines", "{}", "lines: expected ["},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int code = read_request(rows[i].method, rows[i].target, rows[i].body);

		assert_string_equal(told, rows[i].why);
		assert_int_equal(code, -EINVAL);
	}
}

static void parameters_are_bounded(void **state)
{
	char target[16384] = "/query?";
	size_t len = strlen(target);

	(void)state;
	assert_int_equal(read_request("GET", "/odd?b.nulls=0&b.nulls=0&b.far=2&b.nulls=0", ""), 0);
	/* lists as long as one likes */
	for (int i = 0; i < 1000; i++)
		len += (size_t)snprintf(target + len, sizeof(target) - len, "scores=%d&", i % 10);
	assert_int_equal(read_request("GET", target, ""), 0);
}

static void size_is_bounded(void **state)
{
	(void)state;
	static const char *const long_ones[][3] = {
		{"GET", "/query?order_id=abcdefghabcdefghabcdefghabcdefgh", ""},
		{"GET", "/files/abcdefghabcdefghabcdefghabcdefgh", ""},
		{"POST", "/orders/a", "{\"card\":\"abcdefghabcdefghabcdefghabcdefgh\"}"},
	};

	assert_int_equal(read_within("GET", "/query?order_id=abcdefgh", "", 32), 0);
	for (size_t i = 0; i < sizeof(long_ones) / sizeof(long_ones[0]); i++)
		assert_int_equal(
			read_within(long_ones[i][0], long_ones[i][1], long_ones[i][2], 32),
			-EMSGSIZE);
}

static void unknown_names_are_passed_over_if_so_wanted(void **state)
{
	struct planned strict = planned;

	(void)state;
	planned = plan_rest("  json: { ignore_unknown_query: true, ignore_unknown_body: true }\n"
			    "  routes:\n"
			    "    - { method: GET, path: '/query', rpc: " PUT_RPC " }\n"
			    "    - { method: POST, path: '/all', rpc: " PUT_RPC ", body: '*' }\n");
	assert_int_equal(read_request("GET", "/query?nothing=1&paid=true&no.thing=2", ""), 0);
	assert_string_equal(told, "{\"paid\":true}");
	assert_int_equal(read_request("POST", "/all?paid=true",
				      "{\"nothing\":{\"a\":[1]},\"card\":\"c\"}"),
			 0);
	assert_string_equal(told, "{\"card\":\"c\"}");
	assert_int_equal(read_request("GET", "/query?paid=maybe", ""), -EINVAL);
	planned_finish(&planned);
	planned = strict;
}

/* ---- answers ---- */

static int write_answer(const char *target, struct span message)
{
	struct table_match match;
	struct transcode_error error;
	struct span query;
	struct buf out;

	buf_init(&out, sizeof(told) - 1);

	int code = transcode_write(planned.plan, find("GET", target, &match, &query), message, &out,
				   &error);

	snprintf(told, sizeof(told), "%.*s", SPAN_ARGS(buf_span(&out)));
	buf_finish(&out);
	return code;
}

static void answers_are_json_whole_or_one_field(void **state)
{
	/* Order: order_id "a", status SHIPPED, billing_address { city "R" }, scores [1, 2] packed */
	static const char bytes[] = "\x0a\x01"
				    "a\x18\x02\x2a\x03\x12\x01R\x42\x02\x01\x02";
	struct span message = span_make(bytes, sizeof(bytes) - 1);

	(void)state;
	static const struct {
		const char *target, *full, *empty;
	} rows[] = {
		{"/v1/orders/7",
		 "{\"orderId\":\"a\",\"status\":\"SHIPPED\",\"billingAddress\":{\"city\":\"R\"},"
		 "\"scores\":[1,2]}",
		 "{}"},
		{"/status-of", "\"SHIPPED\"", "\"STATUS_UNSPECIFIED\""},
		{"/scores-of", "[1,2]", "[]"},
		{"/place-of", "{\"city\":\"R\"}", "null"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(write_answer(rows[i].target, message), 0);
		assert_string_equal(told, rows[i].full);
		assert_int_equal(write_answer(rows[i].target, SPAN_EMPTY), 0);
		assert_string_equal(told, rows[i].empty);
		assert_int_not_equal(write_answer(rows[i].target, span_first(message, 2)), 0);
	}
}

static const char *error_of(const struct plan *plan, struct span message, const char *details)
{
	struct buf out;

	buf_init(&out, sizeof(told) - 1);
	assert_int_equal(
		transcode_write_error(plan, 404, message, span_from_cstr(details), &out), 0);
	snprintf(told, sizeof(told), "%.*s", SPAN_ARGS(buf_span(&out)));
	buf_finish(&out);
	return told;
}

static void errors_have_code_message_and_details(void **state)
{
	/* google.rpc.Status { code 5, details [ Any { type_url, value } ] } */
	static const char known[] =
		"\x08\x05\x1a\x35\x0a\x2ftype.googleapis.com/google.protobuf.StringValue"
		"\x12\x02\x0a\x00";
	static const char unknown[] = "\x1a\x0c\x0a\x06"
				      "x/no.A\x12\x02\x01\x02";
	struct buf text;

	(void)state;
	assert_string_equal(error_of(NULL, SPAN("no \"such\" thing\n"), ""),
			    "{\"error\":{\"code\":404,\"message\":\"no \\\"such\\\" thing\\n\"}}");
	assert_string_equal(error_of(planned.plan, SPAN("no"), "*no base64*"),
			    "{\"error\":{\"code\":404,\"message\":\"no\"}}");
	buf_init(&text, 1024);
	assert_int_equal(base64_append(&text, span_make(known, sizeof(known) - 1)), 0);
	buf_append_byte(&text, '\0');
	assert_string_equal(error_of(planned.plan, SPAN("no"), (const char *)text.data),
			    "{\"error\":{\"code\":404,\"message\":\"no\",\"details\":[{\"@type\":\""
			    "type.googleapis.com/google.protobuf.StringValue\",\"value\":\"\"}]}}");
	assert_string_equal(error_of(NULL, SPAN("no"), (const char *)text.data),
			    "{\"error\":{\"code\":404,\"message\":\"no\"}}");
	buf_clear(&text, 1024);
	assert_int_equal(base64_append(&text, span_make(unknown, sizeof(unknown) - 1)), 0);
	buf_append_byte(&text, '\0');
	assert_string_equal(error_of(planned.plan, SPAN("no"), (const char *)text.data),
			    "{\"error\":{\"code\":404,\"message\":\"no\",\"details\":[{\"@type\":\""
			    "x/no.A\",\"value\":\"AQI=\"}]}}");
	buf_finish(&text);
}

/* api.md §3 */
static void statuses_are_the_tables(void **state)
{
	(void)state;
	static const int rows[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
				   400, 409, 400, 501, 500, 503, 500, 401};

	assert_int_equal(sizeof(rows) / sizeof(rows[0]), GRPC_STATUS_COUNT);
	for (int i = 0; i < GRPC_STATUS_COUNT; i++)
		assert_int_equal(transcode_http_status((enum grpc_status)i), rows[i]);
	assert_int_equal(transcode_http_status((enum grpc_status)99), 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_messages),
		cmocka_unit_test(bad_requests_are_told_with_their_field),
		cmocka_unit_test(parameters_are_bounded),
		cmocka_unit_test(size_is_bounded),
		cmocka_unit_test(unknown_names_are_passed_over_if_so_wanted),
		cmocka_unit_test(answers_are_json_whole_or_one_field),
		cmocka_unit_test(errors_have_code_message_and_details),
		cmocka_unit_test(statuses_are_the_tables),
	};

	return cmocka_run_group_tests_name("transcode", tests, load, unload);
}
