#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/check.h"
#include "codec/reflect.h"
#include "grpc/reflection/v1/reflection.pb-c.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* protobuf-c reads what we write, and writes what we read. */

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

static const char *const served[] = {"galaxy.gateway.v1.EdgeGateway", "grpc.health.v1.Health"};

static struct reflect_source source(void)
{
	return (struct reflect_source){reflect_descriptors(), served, ARRAY_LEN(served)};
}

static response_message *ask(request_message *request)
{
	uint8_t bytes[256];
	size_t len = grpc__reflection__v1__server_reflection_request__pack(request, bytes);
	struct reflect_source all = source();
	struct buf out;

	buf_init(&out, 1 << 20);
	assert_int_equal(reflect_answer(&all, span_make(bytes, len), &out), 0);
	response_message *response =
		grpc__reflection__v1__server_reflection_response__unpack(NULL, out.len, out.data);

	assert_non_null(response);
	assert_string_equal(response->valid_host, request->host);
	assert_int_equal(response->original_request->message_request_case,
			 request->message_request_case);
	buf_finish(&out);
	return response;
}

static void done(response_message *response)
{
	grpc__reflection__v1__server_reflection_response__free_unpacked(response, NULL);
}

static request_message request_of(int kind, const char *text)
{
	request_message request = GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;

	request.host = (char *)"example.org";
	request.message_request_case =
		(Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)kind;
	request.list_services = (char *)(uintptr_t)text; /* all the texts share the union */
	return request;
}

enum { BY_NAME = 3, BY_SYMBOL = 4, NUMBERS = 6, LIST = 7 };

static void what_is_served_is_listed(void **state)
{
	(void)state;
	request_message request = request_of(LIST, "*");
	response_message *response = ask(&request);

	assert_int_equal(response->message_response_case, 6);
	assert_int_equal(response->list_services_response->n_service, ARRAY_LEN(served));
	for (size_t i = 0; i < ARRAY_LEN(served); i++)
		assert_string_equal(response->list_services_response->service[i]->name, served[i]);
	done(response);
}

static void symbols_are_found_in_their_files(void **state)
{
	(void)state;
	static const char *const symbols[] = {
		"galaxy.gateway.v1.EdgeGateway",
		"galaxy.gateway.v1.EdgeGateway.ExecuteCommand",
		"galaxy.gateway.v1.ExecuteCommandRequest",
		"grpc.health.v1.HealthCheckResponse.ServingStatus",
		"grpc.health.v1.HealthListResponse.StatusesEntry",
		"grpc.reflection.v1.ServerReflectionRequest",
	};

	for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
		request_message request = request_of(BY_SYMBOL, symbols[i]);
		response_message *response = ask(&request);

		assert_int_equal(response->message_response_case, 4);
		assert_int_equal(response->file_descriptor_response->n_file_descriptor_proto, 1);
		assert_true(response->file_descriptor_response->file_descriptor_proto[0].len > 50);
		done(response);
	}
}

static void file_is_found_by_its_name(void **state)
{
	(void)state;
	request_message request = request_of(BY_NAME, "galaxy/gateway/v1/edge_gateway.proto");
	response_message *response = ask(&request);

	assert_int_equal(response->message_response_case, 4);
	done(response);
}

static void what_is_not_there_is_an_error_inside_the_answer(void **state)
{
	(void)state;
	static const struct {
		int kind;
		const char *text;
		int32_t code;
	} rows[] = {
		{BY_NAME, "nothing.proto", 5},
		{BY_NAME, "", 5},
		{BY_SYMBOL, "galaxy.gateway.v1", 5},
		{BY_SYMBOL, "galaxy.gateway.v1.", 5},
		{BY_SYMBOL, "galaxy.gateway.v1.EdgeGatewayX", 5},
		{BY_SYMBOL, "galaxy.gateway.v1.EdgeGateway.Nothing", 5},
		{BY_SYMBOL, "", 5},
		{NUMBERS, "galaxy.gateway.v1.Nothing", 5},
		{0, NULL, 3},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		request_message request = request_of(rows[i].kind, rows[i].text);
		response_message *response = ask(&request);

		assert_int_equal(response->message_response_case, 7);
		assert_int_equal(response->error_response->error_code, rows[i].code);
		done(response);
	}
}

static void type_that_cannot_be_extended_has_no_extension_numbers(void **state)
{
	(void)state;
	request_message request = request_of(NUMBERS, "galaxy.gateway.v1.GatewayEvent");
	response_message *response = ask(&request);

	assert_int_equal(response->message_response_case, 5);
	assert_string_equal(response->all_extension_numbers_response->base_type_name,
			    request.list_services);
	assert_int_equal(response->all_extension_numbers_response->n_extension_number, 0);
	done(response);
}

static void malformed_request_is_refused(void **state)
{
	(void)state;
	static const uint8_t rows[][3] = {{7 << 3 | 2, 5, 'x'}, {7 << 3 | 0, 1, 0}, {0, 1, 0}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct reflect_source all = source();
		struct buf out;

		buf_init(&out, 1 << 20);
		assert_int_equal(reflect_answer(&all, span_make(rows[i], 3), &out), -EPROTO);
		buf_finish(&out);
	}
}

static void answer_over_the_limit_is_refused(void **state)
{
	(void)state;
	static const uint8_t list[] = {7 << 3 | 2, 1, '*'};
	struct reflect_source all = source();
	struct buf out;

	buf_init(&out, 40);
	assert_int_equal(reflect_answer(&all, span_make(list, 3), &out), -EMSGSIZE);
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_served_is_listed),
		cmocka_unit_test(symbols_are_found_in_their_files),
		cmocka_unit_test(file_is_found_by_its_name),
		cmocka_unit_test(what_is_not_there_is_an_error_inside_the_answer),
		cmocka_unit_test(type_that_cannot_be_extended_has_no_extension_numbers),
		cmocka_unit_test(malformed_request_is_refused),
		cmocka_unit_test(answer_over_the_limit_is_refused),
	};

	return cmocka_run_group_tests_name("reflect", tests, NULL, NULL);
}
