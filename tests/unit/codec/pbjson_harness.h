/* pbjson_harness: what the tests of pbjson share: the schema, messages as bytes, texts compared. */
#ifndef TESTS_UNIT_CODEC_PBJSON_HARNESS_H
#define TESTS_UNIT_CODEC_PBJSON_HARNESS_H

#include "base/check.h"
#include "codec/pb.h"
#include "codec/pbjson.h"
#include "conformance/descriptors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ALL	"protobuf_test_messages.proto3.TestAllTypesProto3"
#define ODD	"ringway.test.Odd"
#define ORDER	"ringway.test.Order"
#define OUT_MAX (8u << 20)

static struct schema *test_schema;

static inline int harness_set_up(void **state)
{
	struct span set = test_descriptors();
	struct schema_error error;

	(void)state;
	return schema_create(&test_schema, &set, 1, &error);
}

static inline int harness_tear_down(void **state)
{
	(void)state;
	schema_destroy(test_schema);
	return 0;
}

static inline const struct schema_message *type_of(const char *name)
{
	const struct schema_message *message =
		schema_find_message(test_schema, span_from_cstr(name));

	assert_non_null(message);
	return message;
}

static inline struct pbjson_options plain_options(void)
{
	return (struct pbjson_options){.schema = test_schema};
}

/* A copy with nothing behind it, so that a sanitizer finds reads beyond. Freed by the caller. */
static inline struct span exact_copy(struct span bytes)
{
	uint8_t *copy = malloc(bytes.len ? bytes.len : 1);

	assert_non_null(copy);
	if (bytes.len > 0)
		memcpy(copy, bytes.data, bytes.len);
	return span_make(copy, bytes.len);
}

typedef int transcode_fn(const struct pbjson_options *options, const struct schema_message *message,
			 struct span in, struct buf *out, struct pbjson_error *error);

/* Of a copy, into `out`, which is initialised here. */
static inline int transcode_copy(transcode_fn *transcode, const struct pbjson_options *options,
				 const char *type, struct span in, struct buf *out,
				 struct pbjson_error *error)
{
	struct span copy = exact_copy(in);

	buf_init(out, OUT_MAX);

	int code = transcode(options, type_of(type), copy, out, error);

	free((void *)copy.data);
	return code;
}

static inline int write_json(const struct pbjson_options *options, const char *type,
			     struct span wire, struct buf *out, struct pbjson_error *error)
{
	return transcode_copy(pbjson_write, options, type, wire, out, error);
}

static inline int read_json(const struct pbjson_options *options, const char *type,
			    struct span text, struct buf *out, struct pbjson_error *error)
{
	return transcode_copy(pbjson_read, options, type, text, out, error);
}

/* The wire becomes this text, by the fast way and by the one for sinks. */
static inline void expect_json(const char *type, struct span wire, const char *json)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	int code = write_json(&options, type, wire, &out, &error);

	if (code)
		fail_msg("%s: %d %s", json, code, error.text);
	if (!span_equal(buf_span(&out), span_from_cstr(json)))
		fail_msg("\"%.*s\" is not \"%s\"", SPAN_ARGS(buf_span(&out)), json);
	buf_finish(&out);
}

/* The text becomes this wire. */
static inline void expect_wire(const char *type, const char *json, struct span wire)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	int code = read_json(&options, type, span_from_cstr(json), &out, &error);

	if (code)
		fail_msg("%s: %d %s", json, code, error.text);
	if (!span_equal(buf_span(&out), wire)) {
		for (size_t i = 0; i < out.len; i++)
			print_error("%02x ", out.data[i]);
		fail_msg("is the wire of %s", json);
	}
	buf_finish(&out);
}

/* Text to wire to text. */
static inline void expect_round(const char *type, const char *json, const char *back)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	int code = read_json(&options, type, span_from_cstr(json), &out, &error);

	if (code)
		fail_msg("%s: %d %s", json, code, error.text);
	expect_json(type, buf_span(&out), back);
	buf_finish(&out);
}

/* The text is refused with these words in the error, which is at this offset unless it is -1. */
static inline void expect_refusal(const char *type, struct span json, const char *words,
				  long offset)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	int code = read_json(&options, type, json, &out, &error);

	if (code != -EINVAL)
		fail_msg("%.*s: %d", SPAN_ARGS(json), code);
	assert_int_equal(out.len, 0);
	if (!strstr(error.text, words))
		fail_msg("%.*s: \"%s\" is not in \"%s\"", SPAN_ARGS(json), words, error.text);
	if (offset >= 0 && error.offset != (size_t)offset)
		fail_msg("%.*s: at %zu, not %ld", SPAN_ARGS(json), error.offset, offset);
	buf_finish(&out);
}

/* The wire is refused with this code and words. */
static inline void expect_no_json(const char *type, struct span wire, int expected,
				  const char *words)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	int code = write_json(&options, type, wire, &out, &error);

	if (code != expected || !strstr(error.text, words))
		fail_msg("%d \"%s\", not %d \"%s\"", code, error.text, expected, words);
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

#endif
