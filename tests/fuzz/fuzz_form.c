/*
 * fuzz_form: the body of a public sign-in request. What is taken is forwarded as JSON that is taken
 * again, with the same identity. And a request for server reflection.
 */
#include "codec/reflect.h"
#include "fuzz/fuzz.h"
#include "gateway/auth_form.h"

#define OUT_MAX (1u << 20)

struct outcome {
	enum err err;
	struct buf forward, identity;
};

static struct outcome read_form(enum auth_form form, struct span body)
{
	struct outcome outcome;
	const char *why = NULL;

	buf_init(&outcome.forward, AUTH_FORM_BYTES_MAX);
	buf_init(&outcome.identity, AUTH_FORM_BYTES_MAX);
	outcome.err = auth_form_read(form, body, &outcome.forward, &outcome.identity, &why);
	CHECK(outcome.err == ERR_NONE || (outcome.err == ERR_BAD_REQUEST && why));
	return outcome;
}

static void finish(struct outcome *outcome)
{
	buf_finish(&outcome->forward);
	buf_finish(&outcome->identity);
}

static void check_form(enum auth_form form, struct span body)
{
	struct outcome first = read_form(form, body);

	if (first.err == ERR_NONE) {
		struct outcome again = read_form(form, buf_span(&first.forward));

		CHECK(again.err == ERR_NONE);
		CHECK(span_equal(buf_span(&first.forward), buf_span(&again.forward)));
		CHECK(span_equal(buf_span(&first.identity), buf_span(&again.identity)));
		finish(&again);
	}
	finish(&first);
	(void)auth_code_is_safe(body);
	CHECK(!auth_message_is_safe(body) || span_is_utf8(body));
}

static void check_reflection(struct span request)
{
	static const char *const services[] = {"galaxy.gateway.v1.EdgeGateway",
					       "grpc.health.v1.Health"};
	const struct reflect_source source = {reflect_descriptors(), services, 2};
	struct buf out;

	buf_init(&out, OUT_MAX);
	CHECK(reflect_answer(&source, request, &out) != 0 || out.len > 0);
	buf_finish(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span input = span_make(data, size);
	uint8_t kind = fuzz_byte(&input) % (AUTH_FORM_COUNT + 1);
	uint8_t *copy = fuzz_copy(input);

	if (kind < AUTH_FORM_COUNT)
		check_form((enum auth_form)kind, span_make(copy, input.len));
	else
		check_reflection(span_make(copy, input.len));
	free(copy);
	return 0;
}
