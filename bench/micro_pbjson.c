/*
 * micro_pbjson: what transcoding costs, both ways, for messages of about 1 KB and 100 KB.
 * usage: micro_pbjson DESCRIPTOR_SET. Prints one JSON object, in ns of CPU time for a message; the
 * same of libprotobuf's C++ is what bench/reference/pbjson.cc prints.
 * usage: micro_pbjson DESCRIPTOR_SET FOLDER. Writes the message of 1 KB there, as order.json and
 * order.wire, for who sends it.
 */
#include "base/check.h"
#include "codec/pbjson.h"
#include "order_text.h"

#include <time.h>

#define ROUNDS	 9
#define ROUND_NS 20000000 /* of CPU time: what else the machine does is in the outliers */
#define OUT_MAX	 (4u << 20)
#define SET_MAX	 (1u << 20)

static const struct {
	const char *name;
	unsigned line_count;
} sizes[] = {{"1k", 3}, {"100k", 450}};

struct work {
	struct pbjson_options options;
	const struct schema_message *message;
	struct buf text, wire; /* the input of each way */
	struct buf out;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void transcode(struct work *work, bool to_json)
{
	struct pbjson_error error;
	int code;

	buf_clear(&work->out, OUT_MAX);
	code = to_json ? pbjson_write(&work->options, work->message, buf_span(&work->wire),
				      &work->out, &error)
		       : pbjson_read(&work->options, work->message, buf_span(&work->text),
				     &work->out, &error);
	CHECK(code == 0);
}

static double round_ns(struct work *work, bool to_json)
{
	uint64_t started_ns = now_ns(), spent_ns;
	unsigned count = 0;

	do {
		for (int i = 0; i < 16; i++)
			transcode(work, to_json);
		count += 16;
		spent_ns = now_ns() - started_ns;
	} while (spent_ns < ROUND_NS);
	return (double)spent_ns / count;
}

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static void measure(struct work *work, const char *name, bool to_json)
{
	double rounds[ROUNDS];

	for (size_t i = 0; i < ROUNDS; i++)
		rounds[i] = round_ns(work, to_json);
	qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
	printf("\"%s\":{\"min\":%.0f,\"median\":%.0f,\"max\":%.0f}", name, rounds[0],
	       rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
}

/* The inputs, checked: the wire comes back as it was. */
static void prepare(struct work *work, unsigned line_count)
{
	size_t len;
	char *text = order_text(line_count, &len);

	CHECK(text);
	buf_init(&work->text, OUT_MAX);
	buf_init(&work->wire, OUT_MAX);
	buf_init(&work->out, OUT_MAX);
	CHECK(buf_append(&work->text, span_make(text, len)) == 0);
	free(text);
	transcode(work, false);
	CHECK(buf_append(&work->wire, buf_span(&work->out)) == 0);
	transcode(work, true);
	buf_clear(&work->text, OUT_MAX);
	CHECK(buf_append(&work->text, buf_span(&work->out)) == 0);
	transcode(work, false);
	CHECK(span_equal(buf_span(&work->out), buf_span(&work->wire)));
}

static void finish(struct work *work)
{
	buf_finish(&work->text);
	buf_finish(&work->wire);
	buf_finish(&work->out);
}

static struct schema *load(const char *path)
{
	struct schema_error error = {"cannot read the descriptor set"};
	struct schema *schema = NULL;
	uint8_t *bytes = malloc(SET_MAX);
	FILE *file = fopen(path, "rb");

	if (bytes && file) {
		struct span set = span_make(bytes, fread(bytes, 1, SET_MAX, file));

		schema_create(&schema, &set, 1, &error);
	}
	if (file)
		fclose(file);
	free(bytes);
	if (!schema)
		fprintf(stderr, "%s: %s\n", path, error.text);
	return schema;
}

static struct work work_of(struct schema *schema)
{
	struct work work = {
		.options = {.schema = schema},
		.message = schema_find_message(schema, SPAN("ringway.test.Order")),
	};

	CHECK(work.message);
	return work;
}

static int write_file(const char *folder, const char *name, struct span bytes)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	FILE *file = fopen(path, "wb");
	bool good = file && fwrite(bytes.data, 1, bytes.len, file) == bytes.len;

	if (file)
		good = fclose(file) == 0 && good;
	if (!good)
		fprintf(stderr, "%s cannot be written\n", path);
	return good ? 0 : 1;
}

static int write_message(struct schema *schema, const char *folder)
{
	struct work work = work_of(schema);

	prepare(&work, sizes[0].line_count);

	int code = write_file(folder, "order.json", buf_span(&work.text)) +
		   write_file(folder, "order.wire", buf_span(&work.wire));

	finish(&work);
	return code;
}

static void measure_all(struct schema *schema)
{
	printf("{\"work\":\"pbjson\",\"program\":\"ringway\"");
	for (int to_json = 0; to_json < 2; to_json++) {
		printf(",\"%s\":{", to_json ? "wire_to_json_ns" : "json_to_wire_ns");
		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			struct work work = work_of(schema);

			prepare(&work, sizes[i].line_count);
			printf("%s", i ? "," : "");
			measure(&work, sizes[i].name, to_json);
			finish(&work);
		}
		printf("}");
	}
	printf("}\n");
}

int main(int argc, char **argv)
{
	struct schema *schema = argc == 2 || argc == 3 ? load(argv[1]) : NULL;
	int code = 0;

	if (!schema) {
		fprintf(stderr, "usage: micro_pbjson DESCRIPTOR_SET [FOLDER]\n");
		return 2;
	}
	if (argc == 3)
		code = write_message(schema, argv[2]);
	else
		measure_all(schema);
	schema_destroy(schema);
	return code;
}
