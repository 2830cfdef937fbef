/*
 * testee: ringway's codec as a program that the protobuf project's conformance runner can be
 * pointed at. Standard input: 4 bytes of length (little-endian) and a ConformanceRequest, again and
 * again; standard output: the same with ConformanceResponse. Ends with its input. Arguments: files
 * with descriptor sets, instead of the built-in one with TestAllTypesProto3.
 */
#include "base/check.h"
#include "codec/pbjson_internal.h"
#include "conformance/descriptors.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_MAX (64u << 20) /* of a request, an answer, a descriptor set */
#define SETS_MAX    16

/* conformance.proto */
enum {
	REQUEST_PROTOBUF = 1,
	REQUEST_JSON = 2,
	REQUEST_OUTPUT = 3,
	REQUEST_TYPE = 4,
	REQUEST_CATEGORY = 5,
	REQUEST_JSPB = 7,
	REQUEST_TEXT = 8
};
enum {
	RESPONSE_PARSE_ERROR = 1,
	RESPONSE_RUNTIME_ERROR = 2,
	RESPONSE_PROTOBUF = 3,
	RESPONSE_JSON = 4,
	RESPONSE_SKIPPED = 5,
	RESPONSE_SERIALIZE_ERROR = 6
};
enum { FORMAT_PROTOBUF = 1, FORMAT_JSON = 2 };
enum { CATEGORY_JSON_IGNORE_UNKNOWN = 3 };

struct request {
	struct span payload, type;
	uint32_t payload_field;
	uint64_t output, category;
};

static bool request_parse(struct span wire, struct request *request)
{
	struct pb_reader reader = {.rest = wire};
	struct pb_field field;
	int more;

	*request = (struct request){0};
	while ((more = pb_next(&reader, &field)) > 0) {
		switch (field.number) {
		case REQUEST_PROTOBUF:
		case REQUEST_JSON:
		case REQUEST_JSPB:
		case REQUEST_TEXT:
			request->payload = field.bytes;
			request->payload_field = field.number;
			break;
		case REQUEST_OUTPUT:
			request->output = field.value;
			break;
		case REQUEST_TYPE:
			request->type = field.bytes;
			break;
		case REQUEST_CATEGORY:
			request->category = field.value;
			break;
		}
	}
	return more == 0;
}

static void answer_text(struct buf *response, uint32_t field, const char *text)
{
	CHECK(pb_put_bytes(response, field, span_from_cstr(text)) == 0);
}

/* A result of the oneof: there even when it is empty. */
static void answer_bytes(struct buf *response, uint32_t field, struct span bytes)
{
	const uint8_t empty[] = {(uint8_t)(field << 3 | PB_BYTES), 0};

	if (bytes.len == 0)
		CHECK(buf_append(response, span_make(empty, sizeof(empty))) == 0);
	else
		CHECK(pb_put_bytes(response, field, bytes) == 0);
}

/* The fields that the type does not have, as they are. */
static void append_unknown(const struct schema_message *message, struct span wire, struct buf *out)
{
	const uint8_t *at = wire.data, *end = at + wire.len;

	while (at < end) {
		const uint8_t *start = at;
		uint32_t tag;

		at = pbjson_take_tag(at, end, &tag);
		CHECK(at);
		at = pbjson_skip(at, end, tag);
		CHECK(at);
		if (!schema_field_of_number(message, tag >> 3))
			CHECK(buf_append(out, span_make(start, (size_t)(at - start))) == 0);
	}
}

/*
 * Binary to binary is what the codec makes of it on the way to JSON and back: in its shortest form,
 * with the unknown fields of the outermost message. What has no JSON is handed on as it is, which
 * is what the gateway does with everything that it need not translate.
 */
static void answer_wire(const struct pbjson_options *options, const struct schema_message *message,
			struct span wire, struct span json, struct buf *response)
{
	struct pbjson_error error;
	struct buf again;

	buf_init(&again, MESSAGE_MAX);
	if (json.len > 0) {
		CHECK(pbjson_read(options, message, json, &again, &error) == 0);
		append_unknown(message, wire, &again);
		wire = buf_span(&again);
	}
	answer_bytes(response, RESPONSE_PROTOBUF, wire);
	buf_finish(&again);
}

static void convert(const struct pbjson_options *options, const struct schema_message *message,
		    const struct request *request, struct buf *response)
{
	struct buf wire, json;
	struct pbjson_error error;
	int code;

	buf_init(&wire, MESSAGE_MAX);
	buf_init(&json, MESSAGE_MAX);
	code = request->payload_field == REQUEST_JSON
		       ? pbjson_read(options, message, request->payload, &wire, &error)
		       : buf_append(&wire, request->payload);
	if (code) {
		answer_text(response, RESPONSE_PARSE_ERROR, error.text);
		goto out;
	}
	code = pbjson_write(options, message, buf_span(&wire), &json, &error);
	if (code == -EPROTO || code == -EILSEQ)
		answer_text(response, RESPONSE_PARSE_ERROR, error.text);
	else if (request->output == FORMAT_PROTOBUF)
		answer_wire(options, message, buf_span(&wire), buf_span(&json), response);
	else if (code)
		answer_text(response, RESPONSE_SERIALIZE_ERROR, error.text);
	else
		answer_bytes(response, RESPONSE_JSON, buf_span(&json));
out:
	buf_finish(&wire);
	buf_finish(&json);
}

static void serve(const struct schema *schema, struct span wire, struct buf *response)
{
	struct request request;
	struct pbjson_options options = {.schema = schema};

	if (!request_parse(wire, &request)) {
		answer_text(response, RESPONSE_RUNTIME_ERROR, "a malformed ConformanceRequest");
		return;
	}

	const struct schema_message *message = schema_find_message(schema, request.type);

	options.ignore_unknown = request.category == CATEGORY_JSON_IGNORE_UNKNOWN;
	if (span_equal(request.type, SPAN("conformance.FailureSet")))
		answer_bytes(response, RESPONSE_PROTOBUF,
			     SPAN_EMPTY); /* no test is expected to fail */
	else if (!message)
		answer_text(response, RESPONSE_SKIPPED, "a message type that is not known");
	else if (request.payload_field != REQUEST_PROTOBUF && request.payload_field != REQUEST_JSON)
		answer_text(response, RESPONSE_SKIPPED, "neither binary nor JSON");
	else if (request.output != FORMAT_PROTOBUF && request.output != FORMAT_JSON)
		answer_text(response, RESPONSE_SKIPPED, "output neither binary nor JSON");
	else
		convert(&options, message, &request, response);
}

/* Returns false at the end of the input. */
static bool exchange(const struct schema *schema, struct buf *request, struct buf *response)
{
	uint32_t len;

	if (fread(&len, sizeof(len), 1, stdin) != 1)
		return false;
	len = le32toh(len);
	buf_clear(request, MESSAGE_MAX);
	buf_clear(response, MESSAGE_MAX);

	uint8_t *at = buf_reserve(request, len ? len : 1);

	if (!at || fread(at, 1, len, stdin) != len) {
		fprintf(stderr, "testee: a request that is cut or too long\n");
		return false;
	}
	buf_claim(request, len);
	serve(schema, buf_span(request), response);
	len = htole32((uint32_t)response->len);
	fwrite(&len, sizeof(len), 1, stdout);
	fwrite(response->data, 1, response->len, stdout);
	return fflush(stdout) == 0;
}

static bool read_file(const char *path, struct buf *bytes)
{
	FILE *file = fopen(path, "rb");
	uint8_t *at = file ? buf_reserve(bytes, MESSAGE_MAX) : NULL;

	if (at)
		buf_claim(bytes, fread(at, 1, MESSAGE_MAX, file));
	else
		fprintf(stderr, "testee: cannot read %s\n", path);
	if (file)
		fclose(file);
	return at;
}

int main(int argc, char **argv)
{
	struct span sets[SETS_MAX] = {test_descriptors()};
	struct buf files[SETS_MAX], request, response;
	struct schema *schema;
	struct schema_error error;
	size_t count = argc > 1 ? (size_t)argc - 1 : 1;

	if (count > SETS_MAX)
		return 2;
	for (int i = 1; i < argc; i++) {
		buf_init(&files[i - 1], MESSAGE_MAX);
		if (!read_file(argv[i], &files[i - 1]))
			return 2;
		sets[i - 1] = buf_span(&files[i - 1]);
	}
	if (schema_create(&schema, sets, count, &error)) {
		fprintf(stderr, "testee: %s\n", error.text);
		return 2;
	}
	buf_init(&request, MESSAGE_MAX);
	buf_init(&response, MESSAGE_MAX);
	while (exchange(schema, &request, &response))
		;
	buf_finish(&request);
	buf_finish(&response);
	schema_destroy(schema);
	for (int i = 1; i < argc; i++)
		buf_finish(&files[i - 1]);
	return 0;
}
