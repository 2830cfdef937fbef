/* messages: what both ways of transcoding are fuzzed with. */
#ifndef FUZZ_MESSAGES_H
#define FUZZ_MESSAGES_H

#include "codec/pbjson.h"
#include "conformance/descriptors.h"
#include "fuzz/fuzz.h"
#include "fuzz/known.h"

static const char *const types[] = {"protobuf_test_messages.proto3.TestAllTypesProto3",
				    "ringway.test.Odd", "ringway.test.Order",
				    "google.protobuf.Struct", "google.protobuf.Any"};

static struct schema *schema;

static void start(void)
{
	struct span set = test_descriptors();
	struct schema_error error;

	CHECK(schema_create(&schema, &set, 1, &error) == 0);
	oracle_start((struct oracle_bytes){set.data, set.len});
}

#endif
