#include "pbjson_harness.h"

/* Text in one of the forms that are taken, and how it is written. */
static const struct {
	const char *type, *json, *back;
} rounds[] = {
	{ALL, "{}", "{}"},
	{ALL, " \t\r\n{ } \n", "{}"},
	/* names */
	{ALL, "{\"optional_int32\":1}", "{\"optionalInt32\":1}"},
	{ALL, "{ \"optionalInt32\" : 1 , \"optionalInt64\" : 2 }",
	 "{\"optionalInt32\":1,\"optionalInt64\":\"2\"}"},
	{ALL, "{\"optional\\u0049nt32\":1}", "{\"optionalInt32\":1}"},
	{ODD, "{\"other-name\":\"a\"}", "{\"other-name\":\"a\"}"},
	{ODD, "{\"renamed\":\"a\"}", "{\"other-name\":\"a\"}"},
	{ALL, "{\"FieldName3\":1}", "{\"FieldName3\":1}"},
	{ALL, "{\"_field_name3\":1}", "{\"FieldName3\":1}"},
	/* numbers and their forms */
	{ALL, "{\"optionalInt32\":-2147483648}", "{\"optionalInt32\":-2147483648}"},
	{ALL, "{\"optionalInt32\":\"2147483647\"}", "{\"optionalInt32\":2147483647}"},
	{ALL, "{\"optionalInt32\":1e3}", "{\"optionalInt32\":1000}"},
	{ALL, "{\"optionalInt32\":1.50e1}", "{\"optionalInt32\":15}"},
	{ALL, "{\"optionalInt32\":100000e-5}", "{\"optionalInt32\":1}"},
	{ALL, "{\"optionalInt32\":-0}", "{}"},
	{ALL, "{\"optionalInt32\":0.0}", "{}"},
	{ALL, "{\"optionalUint32\":4294967295}", "{\"optionalUint32\":4294967295}"},
	{ALL, "{\"optionalInt64\":-9223372036854775808}",
	 "{\"optionalInt64\":\"-9223372036854775808\"}"},
	{ALL, "{\"optionalInt64\":\"9223372036854775807\"}",
	 "{\"optionalInt64\":\"9223372036854775807\"}"},
	{ALL, "{\"optionalUint64\":18446744073709551615}",
	 "{\"optionalUint64\":\"18446744073709551615\"}"},
	{ALL, "{\"optionalSint32\":-2147483648}", "{\"optionalSint32\":-2147483648}"},
	{ALL, "{\"optionalSint64\":\"-9223372036854775808\"}",
	 "{\"optionalSint64\":\"-9223372036854775808\"}"},
	{ALL, "{\"optionalFixed32\":4294967295,\"optionalFixed64\":\"1\"}",
	 "{\"optionalFixed32\":4294967295,\"optionalFixed64\":\"1\"}"},
	{ALL, "{\"optionalSfixed32\":-1,\"optionalSfixed64\":-1}",
	 "{\"optionalSfixed32\":-1,\"optionalSfixed64\":\"-1\"}"},
	{ALL, "{\"optionalFloat\":3.4028235e38,\"optionalDouble\":1.7976931348623157e308}",
	 "{\"optionalFloat\":3.4028235e38,\"optionalDouble\":1.7976931348623157e308}"},
	{ALL, "{\"optionalFloat\":\"NaN\",\"optionalDouble\":\"-Infinity\"}",
	 "{\"optionalFloat\":\"NaN\",\"optionalDouble\":\"-Infinity\"}"},
	{ALL, "{\"optionalFloat\":\"1.5\",\"optionalDouble\":\"-0\"}",
	 "{\"optionalFloat\":1.5,\"optionalDouble\":-0.0}"},
	{ALL, "{\"optionalDouble\":1e-400}", "{}"},
	{ALL, "{\"optionalBool\":true}", "{\"optionalBool\":true}"},
	{ALL, "{\"optionalBool\":false}", "{}"},
	/* strings */
	{ALL, "{\"optionalString\":\"\"}", "{}"},
	{ALL, "{\"optionalString\":\"a\\n\\u00e4\\ud83d\\ude00\\\"\\/\\u0000\"}",
	 "{\"optionalString\":\"a\\n\xc3\xa4\xf0\x9f\x98\x80\\\"/\\u0000\"}"},
	{ALL, "{\"optionalBytes\":\"-_8\"}", "{\"optionalBytes\":\"+/8=\"}"},
	{ALL, "{\"optionalBytes\":\"+/8=\"}", "{\"optionalBytes\":\"+/8=\"}"},
	{ALL, "{\"optionalBytes\":\"AQ\"}", "{\"optionalBytes\":\"AQ==\"}"},
	{ALL, "{\"optionalBytes\":\"AQ==\"}", "{\"optionalBytes\":\"AQ==\"}"},
	{ALL, "{\"optionalBytes\":\"\\/w\"}", "{\"optionalBytes\":\"/w==\"}"},
	/* enums */
	{ALL, "{\"optionalNestedEnum\":\"BAZ\"}", "{\"optionalNestedEnum\":\"BAZ\"}"},
	{ALL, "{\"optionalNestedEnum\":-1}", "{\"optionalNestedEnum\":\"NEG\"}"},
	{ALL, "{\"optionalNestedEnum\":1e1}", "{\"optionalNestedEnum\":10}"},
	{ALL, "{\"optionalAliasedEnum\":\"moo\"}", "{\"optionalAliasedEnum\":\"ALIAS_BAZ\"}"},
	/* null is nothing, but for what it is a value of */
	{ALL,
	 "{\"optionalInt32\":null,\"repeatedInt32\":null,\"mapInt32Int32\":null,"
	 "\"optionalNestedMessage\":null,\"optionalTimestamp\":null,\"repeatedValue\":null}",
	 "{}"},
	{ALL, "{\"optionalValue\":null}", "{\"optionalValue\":null}"},
	{ALL, "{\"repeatedValue\":[null,1]}", "{\"repeatedValue\":[null,1]}"},
	{ALL, "{\"optionalNullValue\":null}", "{}"},
	{ALL, "{\"oneofNullValue\":null}", "{\"oneofNullValue\":null}"},
	{ALL, "{\"oneofNullValue\":\"NULL_VALUE\"}", "{\"oneofNullValue\":null}"},
	{ALL, "{\"oneofUint32\":null,\"oneofString\":\"x\"}", "{\"oneofString\":\"x\"}"},
	{ODD, "{\"nulls\":[null,0]}", "{\"nulls\":[null,null]}"},
	{ODD, "{\"values\":{\"a\":null}}", "{\"values\":{\"a\":null}}"},
	/* presence */
	{ODD, "{\"maybeNumber\":0,\"maybeText\":\"\"}", "{\"maybeNumber\":0,\"maybeText\":\"\"}"},
	{ALL, "{\"oneofUint32\":0}", "{\"oneofUint32\":0}"},
	{ALL, "{\"optionalNestedMessage\":{}}", "{\"optionalNestedMessage\":{}}"},
	/* lists and maps */
	{ALL, "{\"repeatedInt32\":[]}", "{}"},
	{ALL, "{\"repeatedInt32\":[1,\"2\",3e0]}", "{\"repeatedInt32\":[1,2,3]}"},
	{ALL, "{\"repeatedString\":[\"\",\"a\"]}", "{\"repeatedString\":[\"\",\"a\"]}"},
	{ALL, "{\"unpackedInt32\":[0,1]}", "{\"unpackedInt32\":[0,1]}"},
	{ALL, "{\"repeatedNestedMessage\":[{},{\"a\":1}]}",
	 "{\"repeatedNestedMessage\":[{},{\"a\":1}]}"},
	{ALL, "{\"mapInt32Int32\":{\"1\":2,\"-3\":\"4\"}}",
	 "{\"mapInt32Int32\":{\"1\":2,\"-3\":4}}"},
	{ALL, "{\"mapBoolBool\":{\"true\":true,\"false\":false}}",
	 "{\"mapBoolBool\":{\"true\":true,\"false\":false}}"},
	{ALL, "{\"mapStringBytes\":{\"\":\"AA\"}}", "{\"mapStringBytes\":{\"\":\"AA==\"}}"},
	{ALL, "{\"mapStringNestedMessage\":{\"k\":{\"a\":1}}}",
	 "{\"mapStringNestedMessage\":{\"k\":{\"a\":1}}}"},
	{ALL, "{\"mapInt32Int32\":{}}", "{}"},
	/* well-known types */
	{ALL, "{\"optionalTimestamp\":\"1996-12-19T16:39:57.123456-08:00\"}",
	 "{\"optionalTimestamp\":\"1996-12-20T00:39:57.123456Z\"}"},
	{ALL, "{\"optionalTimestamp\":\"2000-02-29T23:59:59.1Z\"}",
	 "{\"optionalTimestamp\":\"2000-02-29T23:59:59.100Z\"}"},
	{ALL, "{\"optionalTimestamp\":\"0001-01-01T00:00:00Z\"}",
	 "{\"optionalTimestamp\":\"0001-01-01T00:00:00Z\"}"},
	{ALL, "{\"optionalDuration\":\"-1.5s\"}", "{\"optionalDuration\":\"-1.500s\"}"},
	{ALL, "{\"optionalDuration\":\"-0.000000001s\"}",
	 "{\"optionalDuration\":\"-0.000000001s\"}"},
	{ALL, "{\"optionalDuration\":\"315576000000.999999999s\"}",
	 "{\"optionalDuration\":\"315576000000.999999999s\"}"},
	{ALL, "{\"optionalFieldMask\":\"a.bC,d\"}", "{\"optionalFieldMask\":\"a.bC,d\"}"},
	{ALL, "{\"optionalFieldMask\":\"\"}", "{\"optionalFieldMask\":\"\"}"},
	{ALL, "{\"optionalStruct\":{\"a\":[1,\"x\",{\"b\":null}],\"c\":true}}",
	 "{\"optionalStruct\":{\"a\":[1,\"x\",{\"b\":null}],\"c\":true}}"},
	{ALL, "{\"optionalValue\":[[],{}]}", "{\"optionalValue\":[[],{}]}"},
	{ALL, "{\"optionalInt64Wrapper\":\"0\",\"optionalStringWrapper\":\"\"}",
	 "{\"optionalInt64Wrapper\":\"0\",\"optionalStringWrapper\":\"\"}"},
	{ALL, "{\"repeatedBoolWrapper\":[true,false]}", "{\"repeatedBoolWrapper\":[true,false]}"},
	{ODD, "{\"empty\":{}}", "{\"empty\":{}}"},
	{"google.protobuf.Value", "\"x\"", "\"x\""},
	{"google.protobuf.ListValue", "[1]", "[1]"},
	{"google.protobuf.DoubleValue", "\"NaN\"", "\"NaN\""},
	{"google.protobuf.Any", "{}", "{}"},
	/* an Any's type may come last, and in escapes */
	{"google.protobuf.Any", "{\"sku\":\"s\",\"\\u0040type\":\"a.b\\/ringway.test.Order.Line\"}",
	 "{\"@type\":\"a.b/ringway.test.Order.Line\",\"sku\":\"s\"}"},
	{"google.protobuf.Any", "{\"value\":\"1s\",\"@type\":\"x/google.protobuf.Duration\"}",
	 "{\"@type\":\"x/google.protobuf.Duration\",\"value\":\"1s\"}"},
	{"google.protobuf.Any",
	 "{\"@type\":\"x/google.protobuf.Any\",\"value\":{\"@type\":\"x/google.protobuf.Value\","
	 "\"value\":[1]}}",
	 "{\"@type\":\"x/google.protobuf.Any\",\"value\":{\"@type\":\"x/google.protobuf.Value\","
	 "\"value\":[1]}}"},
	{"google.protobuf.Any", "{\"@type\":\"x/google.protobuf.Empty\",\"value\":{}}",
	 "{\"@type\":\"x/google.protobuf.Empty\"}"},
};

static void every_form_is_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rounds); i++)
		expect_round(rounds[i].type, rounds[i].json, rounds[i].back);
}

static void wire_is_the_shortest_there_is(void **state)
{
	(void)state;
	expect_wire(ALL, "{\"optionalInt32\":-1}",
		    SPAN("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
	expect_wire(ALL, "{\"optionalUint32\":4294967295}", SPAN("\x18\xff\xff\xff\xff\x0f"));
	expect_wire(ALL, "{\"optionalSint32\":-1}", SPAN("\x28\x01"));
	expect_wire(ALL, "{\"repeatedInt32\":[1,0]}", SPAN("\xfa\x01\x02\x01\x00"));
	expect_wire(ALL, "{\"unpackedInt32\":[1,0]}", SPAN("\xc8\x05\x01\xc8\x05\x00"));
	expect_wire(ALL, "{\"optionalInt64Wrapper\":0}", SPAN("\xda\x0c\x00"));
	expect_wire(ALL, "{\"optionalNestedEnum\":\"NEG\"}",
		    SPAN("\xa8\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"));
	expect_wire("google.protobuf.Value", "[null]", SPAN("\x32\x04\x0a\x02\x08\x00"));
}

static const struct {
	const char *type;
	struct span json;
	const char *words;
	long offset; /* -1: anywhere */
} refusals[] = {
	/* syntax */
	{ALL, SPAN(""), "expected {", 0},
	{ALL, SPAN("null"), "expected {", 0},
	{ALL, SPAN("[]"), "expected {", 0},
	{ALL, SPAN("\xef\xbb\xbf{}"), "expected {", 0},
	{ALL, SPAN("{"), "expected a string", 1},
	{ALL, SPAN("{}x"), "more text", 2},
	{ALL, SPAN("{}\0"), "more text", 2},
	{ALL, SPAN("{} {}"), "more text", 3},
	{ALL, SPAN("{\"optionalInt32\":1,}"), "a comma too many", 19},
	{ALL, SPAN("{,}"), "expected a string", 1},
	{ALL, SPAN("{\"optionalInt32\" 1}"), "expected :", 17},
	{ALL, SPAN("{\"optionalInt32\":1 \"optionalInt64\":1}"), "expected , or }", 19},
	{ALL, SPAN("{optionalInt32:1}"), "expected a string", 1},
	{ALL, SPAN("{'optionalInt32':1}"), "expected a string", 1},
	{ALL, SPAN("{\"repeatedInt32\":[1 2]}"), "repeatedInt32[1]: expected , or ]", -1},
	{ALL, SPAN("{\"repeatedInt32\":[1,]}"), "a comma too many", 20},
	{ALL, SPAN("{\"repeatedInt32\":[,1]}"), "repeatedInt32[0]: expected a number", 18},
	{ALL, SPAN("{\"repeatedInt32\":[1,null]}"), "repeatedInt32[1]: null in a list", 20},
	{ALL, SPAN("{\"mapInt32Int32\":{\"1\":null}}"), "mapInt32Int32[\"1\"]: null in a map", 22},
	{ALL, SPAN("{\"optionalInt32\":nul}"), "expected a value", -1},
	{ALL, SPAN("{/**/}"), "expected a string", 1},
	/* types */
	{ALL, SPAN("{\"optionalInt32\":true}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":{}}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":[]}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":\"\"}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":\" 1\"}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":\"1 \"}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":\"0x1\"}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":01}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":+1}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalInt32\":\"NaN\"}"), "optionalInt32: expected a number", 17},
	{ALL, SPAN("{\"optionalBool\":\"true\"}"), "optionalBool: expected true or false", 16},
	{ALL, SPAN("{\"optionalBool\":1}"), "optionalBool: expected true or false", 16},
	{ALL, SPAN("{\"optionalString\":1}"), "optionalString: expected a string", 18},
	{ALL, SPAN("{\"optionalBytes\":1}"), "optionalBytes: expected base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"A\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"AQ=\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"AQ===\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"A=Q=\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"+_AA\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalBytes\":\"A A\"}"), "optionalBytes: malformed base64", 17},
	{ALL, SPAN("{\"optionalNestedEnum\":\"foo\"}"), "optionalNestedEnum: no value", 22},
	{ALL, SPAN("{\"optionalNestedEnum\":\"1\"}"), "optionalNestedEnum: no value", 22},
	{ALL, SPAN("{\"optionalNestedEnum\":2147483648}"), "no number of an enum", 22},
	{ALL, SPAN("{\"optionalNestedEnum\":1.5}"), "no number of an enum", 22},
	{ALL, SPAN("{\"optionalNestedEnum\":true}"), "expected a name or a number", 22},
	{ALL, SPAN("{\"optionalNestedMessage\":1}"), "optionalNestedMessage: expected {", 25},
	{ALL, SPAN("{\"optionalNestedMessage\":[]}"), "optionalNestedMessage: expected {", 25},
	{ALL, SPAN("{\"repeatedInt32\":1}"), "repeatedInt32: expected [", 17},
	{ALL, SPAN("{\"repeatedInt32\":{}}"), "repeatedInt32: expected [", 17},
	{ALL, SPAN("{\"mapInt32Int32\":[]}"), "mapInt32Int32: expected {", 17},
	/* ranges */
	{ALL, SPAN("{\"optionalInt32\":2147483648}"), "optionalInt32: number out of range", 17},
	{ALL, SPAN("{\"optionalInt32\":-2147483649}"), "optionalInt32: number out of range", 17},
	{ALL, SPAN("{\"optionalInt32\":1.5}"), "optionalInt32: not a whole number", 17},
	{ALL, SPAN("{\"optionalInt32\":1e400}"), "optionalInt32: number out of range", 17},
	{ALL, SPAN("{\"optionalUint32\":-1}"), "optionalUint32: number out of range", 18},
	{ALL, SPAN("{\"optionalUint32\":4294967296}"), "optionalUint32: number out of range", 18},
	{ALL, SPAN("{\"optionalFixed32\":-1}"), "number out of range", -1},
	{ALL, SPAN("{\"optionalInt64\":9223372036854775808}"), "number out of range", -1},
	{ALL, SPAN("{\"optionalInt64\":\"-9223372036854775809\"}"), "number out of range", -1},
	{ALL, SPAN("{\"optionalUint64\":18446744073709551616}"), "number out of range", -1},
	{ALL, SPAN("{\"optionalUint64\":\"-1\"}"), "number out of range", -1},
	{ALL, SPAN("{\"optionalFloat\":3.5e38}"), "optionalFloat: number out of range", 17},
	{ALL, SPAN("{\"optionalDouble\":1e309}"), "optionalDouble: number out of range", 18},
	{ALL, SPAN("{\"optionalDouble\":NaN}"), "optionalDouble: expected a number", 18},
	{ALL, SPAN("{\"mapInt32Int32\":{\"2147483648\":1}}"), "number out of range", 18},
	{ALL, SPAN("{\"mapInt32Int32\":{\"x\":1}}"), "expected a number", 18},
	{ALL, SPAN("{\"mapInt32Int32\":{1:1}}"), "expected a string", 18},
	{ALL, SPAN("{\"mapBoolBool\":{\"True\":true}}"), "expected true or false", 16},
	/* twice */
	{ALL, SPAN("{\"optionalInt32\":1,\"optionalInt32\":2}"), "optionalInt32: is there twice",
	 19},
	{ALL, SPAN("{\"optionalInt32\":1,\"optional_int32\":2}"), "optionalInt32: is there twice",
	 19},
	{ALL, SPAN("{\"optionalInt32\":null,\"optionalInt32\":2}"), "is there twice", 22},
	{ALL, SPAN("{\"oneofUint32\":1,\"oneofString\":\"\"}"), "oneofString: another field", 17},
	{ALL, SPAN("{\"oneofNullValue\":null,\"oneofUint32\":1}"), "oneofUint32: another", 23},
	{ALL, SPAN("{\"mapInt32Int32\":{\"1\":1,\"2\":2,\"1.0\":3}}"), "a key is there twice", 30},
	{ALL, SPAN("{\"mapStringString\":{\"a\":\"\",\"\\u0061\":\"\"}}"), "a key is there twice",
	 27},
	{ALL, SPAN("{\"optionalStruct\":{\"a\":1,\"a\":2}}"), "optionalStruct: a key is there", 25},
	/* names that are not there */
	{ALL, SPAN("{\"nope\":1}"), "nope: no such field", 1},
	{ALL, SPAN("{\"\":1}"), "no such field", 1},
	{ALL, SPAN("{\"optionalNestedMessage\":{\"b\":1}}"),
	 "optionalNestedMessage.b: no such field", 26},
	{ALL, SPAN("{\"OptionalInt32\":1}"), "OptionalInt32: no such field", 1},
	/* strings */
	{ALL, SPAN("{\"optionalString\":\"abc"), "a string without its end", 22},
	{ALL, SPAN("{\"optionalString\":\"a\nb\"}"), "a control character", 20},
	{ALL, SPAN("{\"optionalString\":\"\\x\"}"), "a malformed escape", 19},
	{ALL, SPAN("{\"optionalString\":\"\\u12\"}"), "a malformed escape", 19},
	{ALL, SPAN("{\"optionalString\":\"\\ud800\"}"), "a lone surrogate", 19},
	{ALL, SPAN("{\"optionalString\":\"\\ud800\\u0041\"}"), "a lone surrogate", 19},
	{ALL, SPAN("{\"optionalString\":\"\\udc00\"}"), "a lone surrogate", 19},
	{ALL, SPAN("{\"optionalString\":\"\xff\"}"), "invalid UTF-8", 19},
	{ALL, SPAN("{\"optionalString\":\"a\xc3\"}"), "invalid UTF-8", 20},
	{ALL, SPAN("{\"optionalString\":\"\xed\xa0\x80\"}"), "invalid UTF-8", 19},
	{ALL, SPAN("{\"optionalString\":\"\xc0\x80\"}"), "invalid UTF-8", 19},
	/* well-known types */
	{ALL, SPAN("{\"optionalTimestamp\":1}"), "optionalTimestamp: expected a string", 21},
	{ALL, SPAN("{\"optionalTimestamp\":\"\"}"), "not a timestamp", 21},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-02-29T00:00:00Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-00-01T00:00:00Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T24:00:00Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:60Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01t00:00:00Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:00z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:00\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:00.Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:00.1234567890Z\"}"), "not a", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"2001-01-01T00:00:00+24:00\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"0000-12-31T00:00:00Z\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"0001-01-01T00:00:00+00:01\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalTimestamp\":\"9999-12-31T23:59:59-00:01\"}"), "not a timestamp", -1},
	{ALL, SPAN("{\"optionalDuration\":\"1\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"1.s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\".5s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"+1s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"1.1234567890s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"315576000001s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalDuration\":\"-315576000001s\"}"), "not a duration", -1},
	{ALL, SPAN("{\"optionalFieldMask\":\"a_b\"}"), "not a path", -1},
	{ALL, SPAN("{\"optionalFieldMask\":\"a,,b\"}"), "an empty path", -1},
	{ALL, SPAN("{\"optionalFieldMask\":\"a,\"}"), "an empty path", -1},
	{ALL, SPAN("{\"optionalStruct\":[]}"), "optionalStruct: expected {", 18},
	{ALL, SPAN("{\"optionalValue\":nope}"), "optionalValue: expected a value", -1},
	{ALL, SPAN("{\"optionalValue\":1e999}"), "optionalValue: number out of range", -1},
	{ALL, SPAN("{\"optionalValue\":NaN}"), "optionalValue: expected a value", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"x/no.Type\"}}"), "type that is not known", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"\"}}"), "type that is not known", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"ringway.test.Order\"}}"), "not known", -1},
	{ALL, SPAN("{\"optionalAny\":{\"a\":1}}"), "an Any without \"@type\"", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":1}}"), "optionalAny: expected a string", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"x/ringway.test.Odd\",\"@type\":\"y\"}}"),
	 "@type: is there twice", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"x/google.protobuf.Duration\"}}"),
	 "an Any without \"value\"", -1},
	{ALL, SPAN("{\"optionalAny\":{\"@type\":\"x/google.protobuf.Duration\",\"v\":1}}"),
	 "an Any of this type has", -1},
};

static void mistake_is_named_with_field_and_place(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++)
		expect_refusal(refusals[i].type, refusals[i].json, refusals[i].words,
			       refusals[i].offset);
}

static void path_goes_through_lists_and_maps(void **state)
{
	(void)state;
	expect_refusal(ORDER, SPAN("{\"lines\":[{},{\"shipTo\":{\"latitude\":\"x\"}}]}"),
		       "lines[1].shipTo.latitude: expected a number", -1);
	expect_refusal(ODD, SPAN("{\"byNumber\":{\"7\":{\"children\":[{},{},{\"far\":-1e9999}]}}}"),
		       "byNumber[\"7\"].children[2].far: number out of range", -1);
	expect_refusal(ALL, SPAN("{\"optionalStruct\":{\"a\":[0,{\"b\":1e999}]}}"),
		       "optionalStruct[\"a\"][1][\"b\"]: number out of range", -1);
	expect_refusal(ODD, SPAN("{\"child\":{\"byNumber\":{\"1\":{\"a\":1,\"b\":{}}}}}"),
		       "child.byNumber[\"1\"].b: another field of its oneof", -1);
}

/* However long the way there is: what was wrong is in the error, whole. */
static void words_come_after_a_path_that_is_cut(void **state)
{
	struct pbjson_options options = plain_options();

	(void)state;
	for (int depth = 1; depth < 31; depth++) {
		struct pbjson_error error;
		struct buf text, out;

		buf_init(&text, OUT_MAX);
		for (int i = 0; i < depth; i++)
			buf_printf(&text,
				   "{\"children\":[{},{\"byNumber\":{\"%d\":", 2000000000 + i);
		buf_printf(&text, "{\"a-name-that-nobody-would-ever-give-to-a-field\\n\":1}");
		assert_int_equal(read_json(&options, ODD, buf_span(&text), &out, &error), -EINVAL);
		assert_true(strlen(error.text) < sizeof(error.text));
		assert_non_null(strstr(error.text, ": no such field"));
		buf_finish(&out);
		buf_finish(&text);
	}
}

/* Cut at each byte, every text is refused; nothing is read beyond the cut. */
static void cut_text_is_refused_at_every_byte(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf out;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rounds); i++) {
		struct span json = span_from_cstr(rounds[i].json);

		for (size_t len = 0; len < json.len; len++) {
			int code = read_json(&options, rounds[i].type, span_first(json, len), &out,
					     &error);

			/* blanks may be cut */
			assert_true(code == -EINVAL || json.data[json.len - 1] == '\n');
			buf_finish(&out);
		}
	}
}

static const struct {
	const char *json, *back;
} unknowns[] = {
	{"{\"nope\":1,\"optionalInt32\":1}", "{\"optionalInt32\":1}"},
	{"{\"nope\":{\"a\":[1,{\"b\":\"\\u0041\"},[],{}],\"c\":null},\"optionalInt32\":1}",
	 "{\"optionalInt32\":1}"},
	{"{\"nope\":1,\"nope\":1}", "{}"},
	{"{\"optionalNestedEnum\":\"NOPE\",\"optionalInt32\":1}", "{\"optionalInt32\":1}"},
	{"{\"repeatedNestedEnum\":[\"NOPE\",\"BAR\",\"NOPE\"]}",
	 "{\"repeatedNestedEnum\":[\"BAR\"]}"},
	{"{\"repeatedNestedEnum\":[\"NOPE\"]}", "{}"},
	{"{\"unpackedNestedEnum\":[\"NOPE\",\"BAR\"]}", "{\"unpackedNestedEnum\":[\"BAR\"]}"},
	{"{\"mapStringNestedEnum\":{\"a\":\"NOPE\",\"b\":\"BAR\"}}",
	 "{\"mapStringNestedEnum\":{\"b\":\"BAR\"}}"},
	{"{\"oneofEnum\":\"NOPE\",\"oneofUint32\":1}", "{\"oneofUint32\":1}"},
	{"{\"optionalAny\":{\"@type\":\"x/google.protobuf.Duration\",\"v\":[1],\"value\":\"1s\"}}",
	 "{\"optionalAny\":{\"@type\":\"x/google.protobuf.Duration\",\"value\":\"1s\"}}"},
};

static void unknown_is_left_out_when_asked_for(void **state)
{
	struct pbjson_options options = plain_options();

	(void)state;
	options.ignore_unknown = true;
	for (size_t i = 0; i < ARRAY_LEN(unknowns); i++) {
		struct pbjson_error error;
		struct buf out;
		int code = read_json(&options, ALL, span_from_cstr(unknowns[i].json), &out, &error);

		if (code)
			fail_msg("%s: %s", unknowns[i].json, error.text);
		expect_json(ALL, buf_span(&out), unknowns[i].back);
		buf_finish(&out);
	}
	for (const char *const *bad =
		     (const char *const[]){"{\"n\":}", "{\"n\":[1,]}", "{\"n\":{1:1}}",
					   "{\"n\":01}", "{\"n\":\"\\ud800\"}", "{\"n\":tru}",
					   "{\"n\" 1}", NULL};
	     *bad; bad++) {
		struct pbjson_error error;
		struct buf out;

		assert_int_equal(read_json(&options, ALL, span_from_cstr(*bad), &out, &error),
				 -EINVAL);
		buf_finish(&out);
	}
}

/* Lengths on both sides of each step of the varint, in messages within messages. */
static void lengths_of_every_size_are_filled_in(void **state)
{
	static const size_t sizes[] = {0,   1,	 60,	100,   110,   118,   119,   120,
				       121, 122, 123,	124,   125,   126,   127,   128,
				       129, 200, 16000, 16370, 16380, 16384, 16390, 70000};
	struct pbjson_options options = plain_options();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes) * 4; i++) {
		struct pbjson_error error;
		struct buf text, wire, back;
		size_t size = sizes[i / 4];

		buf_init(&text, OUT_MAX);
		for (size_t level = 0; level < i % 4; level++)
			buf_printf(&text, "{\"maybeNumber\":1,\"children\":[{},");
		buf_printf(&text, "{\"maybeText\":\"");
		for (size_t at = 0; at < size; at++)
			buf_append_byte(&text, 'x');
		/* an escape: the long way for strings */
		buf_printf(&text, "%s\"}", i % 2 ? "\\n" : "");
		for (size_t level = 0; level < i % 4; level++)
			buf_printf(&text, ",{\"far\":2}]}");
		assert_int_equal(read_json(&options, ODD, buf_span(&text), &wire, &error), 0);
		assert_int_equal(write_json(&options, ODD, buf_span(&wire), &back, &error), 0);
		assert_int_equal(text.len, back.len);
		assert_memory_equal(text.data, back.data, back.len);
		buf_finish(&text);
		buf_finish(&wire);
		buf_finish(&back);
	}
}

/* Its length is filled in last: until then there is a zero, which the tag's copy left behind it. */
static void long_text_of_nothing_but_nul_is_no_default(void **state)
{
	struct pbjson_options options = plain_options();

	(void)state;
	for (size_t size = 1; size < 300; size++) {
		struct pbjson_error error;
		struct buf text, wire, back;

		buf_init(&text, OUT_MAX);
		buf_printf(&text, "{\"optionalString\":\"");
		for (size_t at = 0; at < size; at++)
			buf_printf(&text, "\\u0000");
		buf_printf(&text, "\"}");
		buf_init(&wire, OUT_MAX);
		assert_int_equal(
			pbjson_read(&options, type_of(ALL), buf_span(&text), &wire, &error), 0);
		assert_int_equal(write_json(&options, ALL, buf_span(&wire), &back, &error), 0);
		assert_int_equal(text.len, back.len);
		assert_memory_equal(text.data, back.data, back.len);
		buf_finish(&text);
		buf_finish(&wire);
		buf_finish(&back);
	}
}

static void wire_beyond_the_bound_is_refused_and_takes_nothing(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct span text =
		SPAN("{\"optionalString\":\"hello hello\",\"repeatedInt32\":[1,2,3],"
		     "\"optionalNestedMessage\":{\"a\":5},\"mapStringString\":{\"a\":\"b\"}}");
	struct buf out;

	(void)state;
	for (size_t max = 5; max < 37; max++) {
		buf_init(&out, max);
		assert_int_equal(buf_append(&out, SPAN("start")), 0);
		assert_int_equal(pbjson_read(&options, type_of(ALL), text, &out, &error),
				 -EMSGSIZE);
		assert_true(span_equal(buf_span(&out), SPAN("start")));
		buf_finish(&out);
	}
}

static void nest_text(struct buf *text, const char *open, int depth, const char *close)
{
	buf_clear(text, OUT_MAX);
	for (int i = 0; i < depth; i++)
		buf_printf(text, "%s", open);
	buf_printf(text, "%s", close[0] == '!' ? close + 1 : "{}");
	for (int i = 0; i < depth; i++)
		buf_printf(text, "%c", close[0] == '!' ? ']' : close[0]);
}

static void sixty_four_levels_are_read_and_no_more(void **state)
{
	struct pbjson_options options = plain_options();
	struct pbjson_error error;
	struct buf text, out;
	static const struct {
		const char *type, *open, *close;
	} forms[] = {
		{ODD, "{\"child\":", "}"},
		{"google.protobuf.Value", "[", "![]"},
		{"google.protobuf.Struct", "{\"a\":", "}"},
		{"google.protobuf.Any", "{\"@type\":\"x/google.protobuf.Any\",\"value\":", "}"},
	};

	(void)state;
	buf_init(&text, OUT_MAX);
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		nest_text(&text, forms[i].open, PBJSON_DEPTH_MAX - 1, forms[i].close);
		if (read_json(&options, forms[i].type, buf_span(&text), &out, &error))
			fail_msg("%s: %s", forms[i].type, error.text);
		buf_finish(&out);
		for (int more = 0; more < 1000; more = 10 * more + 1) {
			nest_text(&text, forms[i].open, PBJSON_DEPTH_MAX + more, forms[i].close);
			expect_refusal(forms[i].type, buf_span(&text), "nest too deep", -1);
		}
	}
	/* what is left out nests no deeper either */
	options.ignore_unknown = true;
	buf_clear(&text, OUT_MAX);
	buf_printf(&text, "{\"nope\":");
	for (int i = 0; i < PBJSON_DEPTH_MAX; i++)
		buf_append_byte(&text, '[');
	assert_int_equal(read_json(&options, ALL, buf_span(&text), &out, &error), -EINVAL);
	assert_non_null(strstr(error.text, "nest too deep"));
	buf_finish(&out);
	buf_finish(&text);
}

/* Looking ahead for a type costs what reading the text a few times would, not its square. */
static void type_that_always_comes_last_is_refused_before_it_costs(void **state)
{
	struct buf text;

	(void)state;
	buf_init(&text, OUT_MAX);
	for (int i = 0; i < 40; i++)
		buf_printf(&text, "{\"value\":");
	buf_printf(&text, "{}");
	for (int i = 0; i < 40; i++)
		buf_printf(&text, ",\"@type\":\"x/google.protobuf.Any\"}");
	expect_refusal("google.protobuf.Any", buf_span(&text), "@type must come first", -1);
	buf_finish(&text);
}

static void large_map_with_a_key_twice_is_refused_at_the_second(void **state)
{
	struct buf text;
	size_t at = 0;

	(void)state;
	buf_init(&text, OUT_MAX);
	buf_printf(&text, "{\"mapStringString\":{");
	for (int i = 0; i < 5000; i++)
		buf_printf(&text, "\"key-%d\":\"\",", i);
	at = text.len;
	buf_printf(&text, "\"key-77\":\"\"}}");
	expect_refusal(ALL, buf_span(&text), "mapStringString: a key is there twice", (long)at);
	buf_finish(&text);
}

/* ---- one field, and texts of a URL ---- */

static void value_of_one_field_is_read_with_its_tag(void **state)
{
	struct pbjson_options options = plain_options();
	const struct schema_message *order = type_of(ORDER);
	struct pbjson_error error;
	struct buf out;

	(void)state;
	buf_init(&out, OUT_MAX);
	assert_int_equal(pbjson_read_field(&options, schema_field_of_name(order, SPAN("lines")),
					   SPAN("[{\"sku\":\"a\"},{}]"), &out, &error),
			 0);
	assert_int_equal(pbjson_read_field(&options,
					   schema_field_of_name(order, SPAN("billing_address")),
					   SPAN(" {\"city\":\"b\"} "), &out, &error),
			 0);
	assert_true(span_equal(buf_span(&out), SPAN("\x32\x03\x0a\x01"
						    "a\x32\x00\x2a\x03\x12\x01"
						    "b")));
	assert_int_equal(pbjson_read_field(&options, schema_field_of_name(order, SPAN("lines")),
					   SPAN("[{\"sku\":1}]"), &out, &error),
			 -EINVAL);
	assert_string_equal(error.text, "lines[0].sku: expected a string");
	assert_int_equal(out.len, 12);
	buf_finish(&out);
}

static const struct {
	const char *type, *path, *text;
	struct span wire;
	const char *words; /* NULL: it is taken */
} texts[] = {
	{ORDER, "order_id", "a\"b",
	 SPAN("\x0a\x03"
	      "a\"b"),
	 NULL},
	{ORDER, "orderId", "", SPAN("\x0a\x00"), NULL},
	{ORDER, "customer_id", "-1", SPAN("\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), NULL},
	{ORDER, "customer_id", "x", SPAN(""), "customerId: expected a number"},
	{ORDER, "customer_id", "9223372036854775808", SPAN(""), "customerId: number out of range"},
	{ORDER, "status", "OPEN", SPAN("\x18\x01"), NULL},
	{ORDER, "status", "7", SPAN("\x18\x07"), NULL},
	{ORDER, "status", "open", SPAN(""), "status: no value"},
	{ORDER, "status", "7x", SPAN(""), "status: "},
	{ORDER, "paid", "true", SPAN("\x50\x01"), NULL},
	{ORDER, "paid", "1", SPAN(""), "paid: expected true or false"},
	{ORDER, "token", "-_8", SPAN("\x4a\x02\xfb\xff"), NULL},
	{ORDER, "created_at", "1970-01-01T00:00:01Z", SPAN("\x22\x02\x08\x01"), NULL},
	{ORDER, "created_at", "x", SPAN(""), "createdAt: not a timestamp"},
	{ORDER, "scores", "5", SPAN("\x42\x01\x05"), NULL},
	{ORDER, "voucher.cents", "5", SPAN("\x72\x02\x10\x05"), NULL},
	{ORDER, "billing_address.latitude", "1",
	 SPAN("\x2a\x09\x21\x00\x00\x00\x00\x00\x00\xf0\x3f"), NULL},
	{ORDER, "billing_address", "x", SPAN(""), "billingAddress: a message is no single value"},
	{ORDER, "labels", "x", SPAN(""), "labels: a map is no single value"},
	{ODD, "e", "x", SPAN("\x6a\x03\x0a\x01x"), NULL},
	{ODD, "child.child.maybe_text", "x", SPAN("\x72\x05\x72\x03\x12\x01x"), NULL},
	{ODD, "child.child.far", "x", SPAN(""), "child.child.far: expected a number"},
	{ODD, "d", "\xff", SPAN(""), "d: invalid UTF-8"},
};

static void text_of_a_url_goes_to_its_field(void **state)
{
	struct pbjson_options options = plain_options();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		const struct schema_field *path[SCHEMA_PATH_MAX];
		size_t count = schema_find_path(type_of(texts[i].type),
						span_from_cstr(texts[i].path), path);
		struct span copy = exact_copy(span_from_cstr(texts[i].text));
		struct pbjson_error error;
		struct buf out;

		assert_true(count > 0);
		buf_init(&out, OUT_MAX);

		int code = pbjson_read_text(&options, path, count, copy, &out, &error);

		if ((code == 0) != !texts[i].words || (code && !strstr(error.text, texts[i].words)))
			fail_msg("%s=%s: %d %s", texts[i].path, texts[i].text, code, error.text);
		if (!span_equal(buf_span(&out), texts[i].wire))
			fail_msg("%s=%s: another wire", texts[i].path, texts[i].text);
		buf_finish(&out);
		free((void *)copy.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_is_read),
		cmocka_unit_test(wire_is_the_shortest_there_is),
		cmocka_unit_test(mistake_is_named_with_field_and_place),
		cmocka_unit_test(path_goes_through_lists_and_maps),
		cmocka_unit_test(words_come_after_a_path_that_is_cut),
		cmocka_unit_test(cut_text_is_refused_at_every_byte),
		cmocka_unit_test(unknown_is_left_out_when_asked_for),
		cmocka_unit_test(lengths_of_every_size_are_filled_in),
		cmocka_unit_test(long_text_of_nothing_but_nul_is_no_default),
		cmocka_unit_test(wire_beyond_the_bound_is_refused_and_takes_nothing),
		cmocka_unit_test(sixty_four_levels_are_read_and_no_more),
		cmocka_unit_test(type_that_always_comes_last_is_refused_before_it_costs),
		cmocka_unit_test(large_map_with_a_key_twice_is_refused_at_the_second),
		cmocka_unit_test(value_of_one_field_is_read_with_its_tag),
		cmocka_unit_test(text_of_a_url_goes_to_its_field),
	};

	return cmocka_run_group_tests_name("pbjson_read", tests, harness_set_up, harness_tear_down);
}
