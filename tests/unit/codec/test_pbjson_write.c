#include "pbjson_harness.h"

static const struct {
	const char *type;
	struct span wire;
	const char *json;
} rows[] = {
	/* what is overridden may have no text */
	{"google.protobuf.Value", SPAN("\x11\x00\x00\x00\x00\x00\x00\xf8\x7f\x20\x01"), "true"},
	{ALL, SPAN(""), "{}"},
	{ODD, SPAN(""), "{}"},
	/* scalars: the default is left out, everything else is there */
	{ALL, SPAN("\x08\x7b"), "{\"optionalInt32\":123}"},
	{ALL, SPAN("\x08\x00"), "{}"},
	{ALL, SPAN("\x08\x80\x80\x80\x80\x10"), "{}"},
	{ALL, SPAN("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "{\"optionalInt32\":-1}"},
	{ALL, SPAN("\x08\x80\x80\x80\x80\xf8\xff\xff\xff\xff\x01"),
	 "{\"optionalInt32\":-2147483648}"},
	{ALL, SPAN("\x10\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
	 "{\"optionalInt64\":\"-9223372036854775808\"}"},
	{ALL, SPAN("\x18\xff\xff\xff\xff\x0f"), "{\"optionalUint32\":4294967295}"},
	{ALL, SPAN("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	 "{\"optionalUint64\":\"18446744073709551615\"}"},
	{ALL, SPAN("\x28\x01"), "{\"optionalSint32\":-1}"},
	{ALL, SPAN("\x30\x02"), "{\"optionalSint64\":\"1\"}"},
	{ALL, SPAN("\x3d\x01\x02\x00\x00"), "{\"optionalFixed32\":513}"},
	{ALL, SPAN("\x41\x01\x00\x00\x00\x00\x00\x00\x80"),
	 "{\"optionalFixed64\":\"9223372036854775809\"}"},
	{ALL, SPAN("\x4d\xff\xff\xff\xff"), "{\"optionalSfixed32\":-1}"},
	{ALL, SPAN("\x51\xfe\xff\xff\xff\xff\xff\xff\xff"), "{\"optionalSfixed64\":\"-2\"}"},
	{ALL, SPAN("\x5d\xcd\xcc\xcc\x3d"), "{\"optionalFloat\":0.1}"},
	{ALL, SPAN("\x5d\x00\x00\xc0\x7f"), "{\"optionalFloat\":\"NaN\"}"},
	{ALL, SPAN("\x5d\x00\x00\x00\x80"), "{\"optionalFloat\":-0.0}"},
	{ALL, SPAN("\x61\x9a\x99\x99\x99\x99\x99\xb9\x3f"), "{\"optionalDouble\":0.1}"},
	{ALL, SPAN("\x61\x00\x00\x00\x00\x00\x00\xf0\x7f"), "{\"optionalDouble\":\"Infinity\"}"},
	{ALL, SPAN("\x61\x00\x00\x00\x00\x00\x00\xf0\xff"), "{\"optionalDouble\":\"-Infinity\"}"},
	{ALL, SPAN("\x68\x01"), "{\"optionalBool\":true}"},
	{ALL, SPAN("\x68\x80\x01"), "{\"optionalBool\":true}"},
	{ALL, SPAN("\x72\x02hi"), "{\"optionalString\":\"hi\"}"},
	{ALL, SPAN("\x72\x07\"\\/\x08\n\x01\x7f"),
	 "{\"optionalString\":\"\\\"\\\\/\\b\\n\\u0001\x7f\"}"},
	{ALL, SPAN("\x72\x09\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"),
	 "{\"optionalString\":\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"}"},
	{ALL, SPAN("\x7a\x03\xfb\xff\x00"), "{\"optionalBytes\":\"+/8A\"}"},
	{ALL, SPAN("\x7a\x01\xfb"), "{\"optionalBytes\":\"+w==\"}"},
	{ALL, SPAN("\xa8\x01\x01"), "{\"optionalNestedEnum\":\"BAR\"}"},
	{ALL, SPAN("\xa8\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	 "{\"optionalNestedEnum\":\"NEG\"}"},
	{ALL, SPAN("\xa8\x01\x09"), "{\"optionalNestedEnum\":9}"},
	{ALL, SPAN("\xb8\x01\x02"), "{\"optionalAliasedEnum\":\"ALIAS_BAZ\"}"},
	/* messages are there even when they are empty */
	{ALL, SPAN("\x92\x01\x00"), "{\"optionalNestedMessage\":{}}"},
	{ALL, SPAN("\x92\x01\x02\x08\x05"), "{\"optionalNestedMessage\":{\"a\":5}}"},
	/* lists, packed and not, and both at once */
	{ALL, SPAN("\xfa\x01\x03\x01\x00\x02"), "{\"repeatedInt32\":[1,0,2]}"},
	{ALL, SPAN("\xf8\x01\x01\xf8\x01\x02"), "{\"repeatedInt32\":[1,2]}"},
	{ALL, SPAN("\xf8\x01\x01\xfa\x01\x02\x02\x03\xf8\x01\x04"),
	 "{\"repeatedInt32\":[1,2,3,4]}"},
	{ALL, SPAN("\xfa\x01\x00"), "{}"},
	{ALL, SPAN("\xfa\x01\x00\xf8\x01\x04"), "{\"repeatedInt32\":[4]}"},
	{ALL,
	 SPAN("\xe2\x02\x00\xe2\x02\x01"
	      "a"),
	 "{\"repeatedString\":[\"\",\"a\"]}"},
	{ALL, SPAN("\xb2\x06\x02\x00\x01"), "{\"unpackedNestedEnum\":[\"FOO\",\"BAR\"]}"},
	/* maps: absent keys and values are defaults, the last of a key counts */
	{ALL, SPAN("\xc2\x03\x04\x08\x01\x10\x02"), "{\"mapInt32Int32\":{\"1\":2}}"},
	{ALL, SPAN("\xc2\x03\x00"), "{\"mapInt32Int32\":{\"0\":0}}"},
	{ALL, SPAN("\xc2\x03\x04\x10\x02\x08\x01"), "{\"mapInt32Int32\":{\"1\":2}}"},
	{ALL,
	 SPAN("\xc2\x03\x04\x08\x01\x10\x02\xc2\x03\x04\x08\x02\x10\x02\xc2\x03\x04\x08\x01\x10"
	      "\x03"),
	 "{\"mapInt32Int32\":{\"2\":2,\"1\":3}}"},
	{ALL, SPAN("\xa2\x04\x04\x08\x01\x10\x01"), "{\"mapBoolBool\":{\"true\":true}}"},
	{ALL, SPAN("\xaa\x04\x06\x0a\x01\"\x12\x01x"), "{\"mapStringString\":{\"\\\"\":\"x\"}}"},
	{ALL, SPAN("\xba\x04\x03\x0a\x01k"), "{\"mapStringNestedMessage\":{\"k\":{}}}"},
	{ALL, SPAN("\xca\x04\x03\x0a\x01k"), "{\"mapStringNestedEnum\":{\"k\":\"FOO\"}}"},
	{ALL, SPAN("\xca\x03\x04\x08\x01\x10\x02"), "{\"mapInt64Int64\":{\"1\":\"2\"}}"},
	/* oneofs: a default is there; the last member counts */
	{ALL, SPAN("\xf8\x06\x00"), "{\"oneofUint32\":0}"},
	{ALL, SPAN("\xf8\x06\x01\x8a\x07\x01x"), "{\"oneofString\":\"x\"}"},
	{ALL, SPAN("\x8a\x07\x01x\xf8\x06\x01"), "{\"oneofUint32\":1}"},
	{ALL, SPAN("\xc0\x07\x00"), "{\"oneofNullValue\":null}"},
	/* out of order, twice, merged */
	{ALL, SPAN("\x10\x02\x08\x01"), "{\"optionalInt32\":1,\"optionalInt64\":\"2\"}"},
	{ALL, SPAN("\x08\x01\x10\x02\x08\x03"), "{\"optionalInt32\":3,\"optionalInt64\":\"2\"}"},
	{ALL, SPAN("\x08\x01\x08\x00"), "{}"},
	{ALL, SPAN("\xf8\x01\x01\x08\x05\xf8\x01\x02"),
	 "{\"optionalInt32\":5,\"repeatedInt32\":[1,2]}"},
	{ALL, SPAN("\x92\x01\x02\x08\x05\x92\x01\x04\x12\x02\x08\x06"),
	 "{\"optionalNestedMessage\":{\"a\":5,\"corecursive\":{\"optionalInt32\":6}}}"},
	{ALL, SPAN("\x82\x07\x02\x08\x05\xf8\x06\x01\x82\x07\x00"), "{\"oneofNestedMessage\":{}}"},
	{ALL, SPAN("\x82\x07\x02\x08\x05\x82\x07\x00"), "{\"oneofNestedMessage\":{\"a\":5}}"},
	/* unknown numbers, wrong wire types, groups */
	{ALL, SPAN("\x98\x3f\x05\x08\x01"), "{\"optionalInt32\":1}"},
	{ALL, SPAN("\x0d\x01\x02\x03\x04\x10\x01"), "{\"optionalInt64\":\"1\"}"},
	{ALL, SPAN("\x9b\x3f\x08\x01\x9b\x3f\x9c\x3f\x9c\x3f\x08\x01"), "{\"optionalInt32\":1}"},
	{ALL, SPAN("\xf8\x01\x01\x98\x3f\x05\xf8\x01\x02"), "{\"repeatedInt32\":[1,2]}"},
	/* presence, far numbers, names */
	{ODD, SPAN("\x08\x00\x12\x00"), "{\"maybeNumber\":0,\"maybeText\":\"\"}"},
	{ODD, SPAN("\xf8\xff\xff\xff\x0f\x07"), "{\"far\":7}"},
	{ODD, SPAN("\x2a\x01x"), "{\"other-name\":\"x\"}"},
	/* well-known types */
	{ALL, SPAN("\xf2\x12\x00"), "{\"optionalTimestamp\":\"1970-01-01T00:00:00Z\"}"},
	{"google.protobuf.Timestamp", SPAN("\x08\x80\x92\xb8\xc3\x98\xfe\xff\xff\xff\x01"),
	 "\"0001-01-01T00:00:00Z\""},
	{"google.protobuf.Timestamp", SPAN("\x08\xff\x82\xd1\xff\xaf\x07\x10\xff\x93\xeb\xdc\x03"),
	 "\"9999-12-31T23:59:59.999999999Z\""},
	{"google.protobuf.Timestamp", SPAN("\x10\xc0\x84\x3d"), "\"1970-01-01T00:00:00.001Z\""},
	{"google.protobuf.Timestamp", SPAN("\x10\xe8\x07"), "\"1970-01-01T00:00:00.000001Z\""},
	{"google.protobuf.Timestamp", SPAN("\x08\x80\xdf\x88\xc2\x06"), "\"2025-06-06T00:00:00Z\""},
	{"google.protobuf.Duration", SPAN(""), "\"0s\""},
	{"google.protobuf.Duration", SPAN("\x08\x01\x10\x80\xca\xb5\xee\x01"), "\"1.500s\""},
	{"google.protobuf.Duration", SPAN("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	 "\"-0.000000001s\""},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x07"
	      "foo_bar\x0a\x05"
	      "a.b_c"),
	 "\"fooBar,a.bC\""},
	{"google.protobuf.FieldMask", SPAN(""), "\"\""},
	{"google.protobuf.Struct", SPAN(""), "{}"},
	{"google.protobuf.Struct",
	 SPAN("\x0a\x07\x0a\x01"
	      "a\x12\x02\x08\x00"),
	 "{\"a\":null}"},
	{"google.protobuf.Value", SPAN("\x11\x00\x00\x00\x00\x00\x00\xf8\x3f"), "1.5"},
	{"google.protobuf.Value", SPAN("\x1a\x01x"), "\"x\""},
	{"google.protobuf.Value", SPAN("\x20\x01"), "true"},
	{"google.protobuf.Value", SPAN("\x20\x01\x08\x00"), "null"},
	{"google.protobuf.Value", SPAN("\x2a\x00"), "{}"},
	{"google.protobuf.Value", SPAN(""), "null"},
	{"google.protobuf.ListValue", SPAN("\x0a\x02\x20\x00\x0a\x02\x32\x00"), "[false,[]]"},
	{"google.protobuf.Int64Value", SPAN("\x08\x05"), "\"5\""},
	{"google.protobuf.Int64Value", SPAN(""), "\"0\""},
	{"google.protobuf.Int64Value", SPAN("\x08\x05\x08\x06"), "\"6\""},
	{"google.protobuf.BytesValue", SPAN(""), "\"\""},
	{"google.protobuf.BoolValue", SPAN("\x08\x00"), "false"},
	{"google.protobuf.Empty", SPAN("\x08\x01"), "{}"},
	{ALL, SPAN("\xfa\x12\x00"), "{\"optionalFieldMask\":\"\"}"},
	{ALL, SPAN("\x8a\x13\x00"), "{\"optionalAny\":{}}"},
	{ALL, SPAN("\x92\x13\x00"), "{\"optionalValue\":null}"},
	{ALL, SPAN("\xca\x0c\x00"), "{\"optionalBoolWrapper\":false}"},
	{ODD, SPAN("\x8a\x01\x00"), "{\"empty\":{}}"},
};

static void wire_becomes_text(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		expect_json(rows[i].type, rows[i].wire, rows[i].json);
}

/* An Any of this type and value. */
static void put_any(struct buf *out, const char *type, struct span value)
{
	char url[128];
	int len = snprintf(url, sizeof(url), "type.googleapis.com/%s", type);

	assert_int_equal(pb_put_bytes(out, 1, span_make(url, (size_t)len)), 0);
	assert_int_equal(pb_put_bytes(out, 2, value), 0);
}

static const struct {
	const char *type;
	struct span value;
	const char *json;
} anys[] = {
	{"ringway.test.Order.Line", SPAN("\x0a\x01s"),
	 "{\"@type\":\"type.googleapis.com/ringway.test.Order.Line\",\"sku\":\"s\"}"},
	{"ringway.test.Order.Line", SPAN(""),
	 "{\"@type\":\"type.googleapis.com/ringway.test.Order.Line\"}"},
	{"google.protobuf.Duration", SPAN("\x08\x03"),
	 "{\"@type\":\"type.googleapis.com/google.protobuf.Duration\",\"value\":\"3s\"}"},
	{"google.protobuf.Struct", SPAN(""),
	 "{\"@type\":\"type.googleapis.com/google.protobuf.Struct\",\"value\":{}}"},
	{"google.protobuf.Int32Value", SPAN("\x08\x03"),
	 "{\"@type\":\"type.googleapis.com/google.protobuf.Int32Value\",\"value\":3}"},
	{"google.protobuf.Empty", SPAN(""),
	 "{\"@type\":\"type.googleapis.com/google.protobuf.Empty\"}"},
};

static void any_of_a_known_type_is_written_by_its_type(void **state)
{
	struct buf wire;

	(void)state;
	buf_init(&wire, 4096);
	for (size_t i = 0; i < ARRAY_LEN(anys); i++) {
		buf_clear(&wire, 4096);
		put_any(&wire, anys[i].type, anys[i].value);
		expect_json("google.protobuf.Any", buf_span(&wire), anys[i].json);
		expect_round("google.protobuf.Any", anys[i].json, anys[i].json);
	}
	buf_clear(&wire, 4096);
	put_any(&wire, "ringway.test.None", SPAN(""));
	expect_no_json("google.protobuf.Any", buf_span(&wire), -EINVAL, "type that is not known");
	expect_no_json("google.protobuf.Any", SPAN("\x12\x01x"), -EINVAL, "type that is not known");
	expect_no_json("google.protobuf.Any", SPAN("\x0a\x13ringway.test.Order/"), -EINVAL,
		       "type that is not known");
	buf_finish(&wire);
}

static const struct {
	const char *type;
	struct span wire;
	int code;
	const char *words;
} bad[] = {
	{"google.protobuf.FieldMask", SPAN("\x0a\x00"), -EINVAL, "a path"},
	/* parts of a merged message do not go on in each other */
	{ALL, SPAN("\x92\x01\x02\x08\x80\x92\x01\x01\x08"), -EPROTO, "malformed"},
	{ALL, SPAN("\x08"), -EPROTO, "malformed"},
	{ALL, SPAN("\x00\x00"), -EPROTO, "malformed"},
	{ALL, SPAN("\x0e\x00"), -EPROTO, "malformed"},
	{ALL, SPAN("\x0c"), -EPROTO, "malformed"},
	{ALL, SPAN("\x0b\x08\x01"), -EPROTO, "malformed"},
	{ALL, SPAN("\x80\x80\x80\x80\x80\x01\x00"), -EPROTO, "malformed"},
	{ALL, SPAN("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), -EPROTO, "malformed"},
	{ALL,
	 SPAN("\x72\x05"
	      "abc"),
	 -EPROTO, "malformed"},
	{ALL, SPAN("\x92\x01\x01\x08"), -EPROTO, "optionalNestedMessage: malformed"},
	{ALL, SPAN("\xfa\x01\x01\x80"), -EPROTO, "repeatedInt32: malformed"},
	{ALL, SPAN("\xc2\x03\x01\x08"), -EPROTO, "mapInt32Int32: malformed"},
	{ALL, SPAN("\x72\x01\xff"), -EILSEQ, "optionalString: invalid UTF-8"},
	{ALL, SPAN("\x72\x02\xc3"), -EPROTO, "malformed"},
	{ALL, SPAN("\x72\x03\xed\xa0\x80"), -EILSEQ, "optionalString: invalid UTF-8"},
	{ALL,
	 SPAN("\xe2\x02\x01"
	      "a\xe2\x02\x01\xff"),
	 -EILSEQ, "repeatedString[1]: invalid UTF-8"},
	{ALL, SPAN("\xaa\x04\x06\x0a\x01k\x12\x01\xff"), -EILSEQ,
	 "mapStringString[\"k\"]: invalid"},
	{ALL, SPAN("\xaa\x04\x03\x0a\x01\xff"), -EILSEQ, "mapStringString: invalid"},
	{ALL, SPAN("\xf2\x12\x06\x10\x80\x94\xeb\xdc\x03"), -EINVAL,
	 "optionalTimestamp: timestamp"},
	{"google.protobuf.Timestamp", SPAN("\x10\x80\x94\xeb\xdc\x03"), -EINVAL, "out of range"},
	{"google.protobuf.Timestamp", SPAN("\x08\x80\x83\xd1\xff\xaf\x07"), -EINVAL,
	 "out of range"},
	{"google.protobuf.Duration", SPAN("\x08\x01\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
	 -EINVAL, "out of range"},
	{"google.protobuf.Duration", SPAN("\x08\x81\xbc\xae\xce\x97\x09"), -EINVAL, "out of range"},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x01"
	      "A"),
	 -EINVAL, "a path"},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x02"
	      "_3"),
	 -EINVAL, "a path"},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x02"
	      "a_"),
	 -EINVAL, "a path"},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x03"
	      "a__"),
	 -EINVAL, "a path"},
	{"google.protobuf.FieldMask",
	 SPAN("\x0a\x03"
	      "a\"b"),
	 -EINVAL, "a path"},
	{"google.protobuf.Value", SPAN("\x11\x00\x00\x00\x00\x00\x00\xf8\x7f"), -EINVAL,
	 "no number"},
	{"google.protobuf.Value", SPAN("\x11\x00\x00\x00\x00\x00\x00\xf0\xff"), -EINVAL,
	 "no number"},
};

static void wire_that_has_no_text_is_refused_by_name(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_no_json(bad[i].type, bad[i].wire, bad[i].code, bad[i].words);
}

/* Cut anywhere, every row is refused or is a shorter message: never read beyond its end. */
static void cut_wire_is_never_read_beyond(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t len = 0; len < rows[i].wire.len; len++) {
			write_json(&options, rows[i].type, span_first(rows[i].wire, len), &out,
				   &error);
			buf_finish(&out);
		}
	}
}

struct sink {
	struct buf all;
	size_t flushes;
	size_t fail_at;
};

static int flush(void *context, struct buf *out)
{
	struct sink *sink = context;

	if (++sink->flushes == sink->fail_at)
		return -EPIPE;
	assert_int_equal(buf_append(&sink->all, buf_span(out)), 0);
	buf_clear(out, OUT_MAX);
	return 0;
}

static int write_to_sink(struct sink *sink, const struct schema_message *message, struct span wire,
			 size_t chunk)
{
	struct pbjson_sink to = {.flush = flush, .context = sink, .chunk_bytes = chunk};
	struct pbjson_options options = {.schema = test_schema, .sink = &to};
	struct pbjson_error error;
	struct buf out;

	buf_init(&out, OUT_MAX);

	int code = pbjson_write(&options, message, wire, &out, &error);

	if (!code)
		assert_int_equal(buf_append(&sink->all, buf_span(&out)), 0);
	buf_finish(&out);
	return code;
}

/* Through a sink nothing can be taken back: what is out of order has to be seen before. */
static void sink_gets_the_same_text_in_pieces(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sink sink = {0};
		struct buf whole;
		int code = write_json(&options, rows[i].type, rows[i].wire, &whole, &error);
		int sunk;

		buf_init(&sink.all, OUT_MAX);
		sunk = write_to_sink(&sink, type_of(rows[i].type), rows[i].wire, 1);
		assert_int_equal(sunk, code);
		/* members come sorted instead of as they were: same bytes in another order */
		assert_true(code || sink.all.len == whole.len);
		buf_finish(&sink.all);
		buf_finish(&whole);
	}
}

static void long_text_is_flushed_as_it_grows_and_a_failing_sink_ends_it(void **state)
{
	struct buf wire;
	struct sink sink = {0};
	char text[1000];

	(void)state;
	memset(text, 'x', sizeof(text));
	buf_init(&wire, OUT_MAX);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(pb_put_bytes(&wire, 44, span_make(text, sizeof(text))), 0);
	buf_init(&sink.all, OUT_MAX);
	assert_int_equal(write_to_sink(&sink, type_of(ALL), buf_span(&wire), 4096), 0);
	assert_true(sink.flushes > 100);
	assert_int_equal(sink.all.len, 21 + 1000 * 1003 - 1);
	sink.fail_at = sink.flushes + 5;
	assert_int_equal(write_to_sink(&sink, type_of(ALL), buf_span(&wire), 4096), -EPIPE);
	buf_finish(&sink.all);
	buf_finish(&wire);
}

static void text_beyond_the_bound_is_refused_and_takes_nothing(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;

	(void)state;
	for (size_t max = 5; max < 60; max++) {
		struct span wire = SPAN("\x08\x7b\x72\x11hello\nhello hello\xfa\x01\x02\x01\x02");

		buf_init(&out, max);
		assert_int_equal(buf_append(&out, SPAN("start")), 0);
		assert_int_equal(pbjson_write(&options, type_of(ALL), wire, &out, &error),
				 -EMSGSIZE);
		assert_true(span_equal(buf_span(&out), SPAN("start")));
		buf_finish(&out);
	}
}

/* `depth` messages in each other, the innermost empty. */
/* What one byte of a string is in JSON. */
static void put_escaped(struct buf *json, uint8_t byte)
{
	if (byte == '"' || byte == '\\')
		assert_int_equal(buf_printf(json, "\\%c", byte), 0);
	else if (byte == '\n')
		assert_int_equal(buf_append(json, SPAN("\\n")), 0);
	else if (byte < 0x20)
		assert_int_equal(buf_printf(json, "\\u%04x", byte), 0);
	else
		assert_int_equal(buf_append_byte(json, byte), 0);
}

/* An Order with this id, both ways; read with its end right behind the string, and far from it. */
static void expect_id(struct span id)
{
	struct buf wire, json;

	buf_init(&wire, OUT_MAX);
	buf_init(&json, OUT_MAX);
	assert_int_equal(pb_put_bytes(&wire, 1, id), 0);
	assert_int_equal(buf_append(&json, SPAN("{\"orderId\":\"")), 0);
	for (size_t i = 0; i < id.len; i++)
		put_escaped(&json, id.data[i]);
	assert_int_equal(buf_append(&json, SPAN("\"}\0")), 0);
	expect_json(ORDER, buf_span(&wire), (const char *)json.data);
	expect_wire(ORDER, (const char *)json.data, buf_span(&wire));
	json.len--;
	for (int i = 0; i < 200; i++)
		assert_int_equal(buf_append_byte(&json, ' '), 0);
	assert_int_equal(buf_append_byte(&json, 0), 0);
	expect_wire(ORDER, (const char *)json.data, buf_span(&wire));
	buf_finish(&wire);
	buf_finish(&json);
}

static void string_of_any_length_is_escaped_wherever_it_must_be(void **state)
{
	static const char *const specials[] = {"\"",   "\\",	   "\n",
					       "\x1f", "\xc3\xa9", "\xf0\x9f\x98\x80"};
	static const size_t lengths[][2] = {{1, 26}, {125, 130}};
	uint8_t text[160];

	(void)state;
	for (size_t row = 0; row < ARRAY_LEN(lengths); row++) {
		for (size_t len = lengths[row][0]; len <= lengths[row][1]; len++) {
			memset(text, 'x', sizeof(text));
			expect_id(span_make(text, len));
			for (size_t i = 0; i < ARRAY_LEN(specials) * len; i++) {
				const char *special = specials[i % ARRAY_LEN(specials)];
				size_t place = i / ARRAY_LEN(specials), bytes = strlen(special);

				memset(text, 'x', sizeof(text));
				memcpy(text + place, special, bytes);
				expect_id(
					span_make(text, place + bytes > len ? place + bytes : len));
			}
		}
	}
}

static void nest(struct buf *wire, int depth, uint32_t number)
{
	struct buf inner;

	buf_init(&inner, OUT_MAX);
	for (int i = 1; i < depth; i++) {
		uint8_t head[12];
		size_t len = 0;

		head[len++] = (uint8_t)(number << 3 | 2);
		for (size_t left = wire->len;; left >>= 7) {
			head[len++] = (uint8_t)(left < 0x80 ? left : left | 0x80);
			if (left < 0x80)
				break;
		}
		buf_clear(&inner, OUT_MAX);
		assert_int_equal(buf_append(&inner, span_make(head, len)), 0);
		assert_int_equal(buf_append(&inner, buf_span(wire)), 0);
		buf_clear(wire, OUT_MAX);
		assert_int_equal(buf_append(wire, buf_span(&inner)), 0);
	}
	buf_finish(&inner);
}

static void sixty_four_levels_are_written_and_no_more(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf wire, out, back;

	(void)state;
	for (int depth = PBJSON_DEPTH_MAX; depth <= PBJSON_DEPTH_MAX + 1; depth++) {
		buf_init(&wire, OUT_MAX);
		nest(&wire, depth, 14);

		int code = write_json(&options, ODD, buf_span(&wire), &out, &error);

		assert_int_equal(code, depth > PBJSON_DEPTH_MAX ? -EINVAL : 0);
		if (!code) {
			assert_int_equal(read_json(&options, ODD, buf_span(&out), &back, &error),
					 0);
			assert_true(span_equal(buf_span(&back), buf_span(&wire)));
			buf_finish(&back);
		} else {
			assert_non_null(strstr(error.text, "nest too deep"));
		}
		buf_finish(&out);
		buf_finish(&wire);
	}
}

static void defaults_are_printed_when_asked_for(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;
	static const char expected[] =
		"{\"orderId\":\"\",\"customerId\":\"7\",\"status\":\"STATUS_UNSPECIFIED\","
		"\"lines\":[],\"labels\":{},\"scores\":[],\"token\":\"\",\"paid\":false,"
		"\"weightKg\":0,\"voucher\":{\"code\":\"\",\"cents\":\"0\"}}";

	(void)state;
	options.print_defaults = true;
	/* in order, with an empty packed list; then out of order */
	assert_int_equal(
		write_json(&options, ORDER, SPAN("\x10\x07\x42\x00\x72\x00"), &out, &error), 0);
	assert_true(span_equal(buf_span(&out), span_from_cstr(expected)));
	buf_finish(&out);
	assert_int_equal(
		write_json(&options, ORDER, SPAN("\x72\x00\x42\x00\x10\x07"), &out, &error), 0);
	assert_true(span_equal(buf_span(&out), span_from_cstr(expected)));
	buf_finish(&out);
}

static const struct {
	const char *field;
	struct span wire;
	const char *json;
} fields[] = {
	{"lines",
	 SPAN("\x0a\x01x\x32\x03\x0a\x01"
	      "a\x32\x03\x0a\x01"
	      "b"),
	 "[{\"sku\":\"a\"},{\"sku\":\"b\"}]"},
	{"lines",
	 SPAN("\x32\x03\x0a\x01"
	      "a\x0a\x01x\x32\x03\x0a\x01"
	      "b"),
	 "[{\"sku\":\"a\"},{\"sku\":\"b\"}]"},
	{"lines", SPAN("\x0a\x01x"), "[]"},
	{"labels", SPAN("\x3a\x03\x0a\x01k"), "{\"k\":\"\"}"},
	{"labels", SPAN(""), "{}"},
	{"order_id", SPAN("\x0a\x01x"), "\"x\""},
	{"order_id", SPAN("\x0a\x01x\x0a\x01y"), "\"y\""},
	{"order_id", SPAN(""), "\"\""},
	{"scores", SPAN("\x42\x00"), "[]"},
	{"created_at", SPAN("\x22\x00"), "\"1970-01-01T00:00:00Z\""},
	{"created_at", SPAN(""), "null"},
	{"status", SPAN("\x18\x07"), "\"RETURNED\""},
};

static void one_field_is_written_alone(void **state)
{
	struct pbjson_options options = plain_options();
	const struct schema_message *order = type_of(ORDER);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		struct pbjson_error error;
		struct buf out;

		buf_init(&out, OUT_MAX);
		assert_int_equal(pbjson_write_field(&options, order,
						    schema_field_of_name(
							    order, span_from_cstr(fields[i].field)),
						    fields[i].wire, &out, &error),
				 0);
		if (!span_equal(buf_span(&out), span_from_cstr(fields[i].json)))
			fail_msg("%.*s is not %s", SPAN_ARGS(buf_span(&out)), fields[i].json);
		buf_finish(&out);
	}
}

/* Many keys, each twice: the second half counts. */
static void large_map_has_each_key_once(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf wire, out, again;

	(void)state;
	buf_init(&wire, OUT_MAX);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t entry[16];
		uint8_t *end = pb_write_varint(entry, 1, i % 10000 + 1);

		end = pb_write_varint(end, 2, i < 10000 ? 1 : 2);
		assert_int_equal(pb_put_bytes(&wire, 56, span_make(entry, (size_t)(end - entry))),
				 0);
	}
	assert_int_equal(write_json(&options, ALL, buf_span(&wire), &out, &error), 0);
	assert_null(memmem(out.data, out.len, ":1,", 3));
	assert_int_equal(read_json(&options, ALL, buf_span(&out), &again, &error), 0);
	assert_int_equal(again.len, wire.len / 2);
	assert_memory_equal(again.data, wire.data + wire.len / 2, again.len);
	buf_finish(&again);
	buf_finish(&out);
	buf_finish(&wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_becomes_text),
		cmocka_unit_test(any_of_a_known_type_is_written_by_its_type),
		cmocka_unit_test(wire_that_has_no_text_is_refused_by_name),
		cmocka_unit_test(cut_wire_is_never_read_beyond),
		cmocka_unit_test(sink_gets_the_same_text_in_pieces),
		cmocka_unit_test(long_text_is_flushed_as_it_grows_and_a_failing_sink_ends_it),
		cmocka_unit_test(text_beyond_the_bound_is_refused_and_takes_nothing),
		cmocka_unit_test(string_of_any_length_is_escaped_wherever_it_must_be),
		cmocka_unit_test(sixty_four_levels_are_written_and_no_more),
		cmocka_unit_test(defaults_are_printed_when_asked_for),
		cmocka_unit_test(one_field_is_written_alone),
		cmocka_unit_test(large_map_has_each_key_once),
	};

	return cmocka_run_group_tests_name("pbjson_write", tests, harness_set_up,
					   harness_tear_down);
}
