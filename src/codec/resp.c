#include "codec/resp.h"

#include "base/check.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

#define DEPTH_MAX	 7  /* hiredis 0.14 refuses arrays nested deeper */
#define NUMBER_BYTES_MAX 20 /* "-9223372036854775808" */

/* createArray's count, which 1.0 widened. */
#if HIREDIS_MAJOR >= 1
#define ARRAY_COUNT size_t
#else
#define ARRAY_COUNT int
#endif

enum walk_state {
	WALK_TYPE,    /* before the type byte */
	WALK_NUMBER,  /* in the digits of an integer or a length, up to CR */
	WALK_LINE,    /* in the text of a status or an error, up to CR */
	WALK_LINE_LF, /* behind the CR of a number or text */
	WALK_BODY,    /* in the bytes of a bulk string */
	WALK_BODY_CR,
	WALK_BODY_LF,
};

/*
 * The own walk: follows the lengths of one reply over bytes cut anywhere, each looked at once. What
 * it lets through is bounded, complete and well-formed, so hiredis never has to wait or to refuse.
 */
struct walk {
	enum walk_state state;
	uint8_t type; /* '+' '-' ':' '$' '*' */
	uint8_t number[NUMBER_BYTES_MAX];
	uint8_t number_len;
	uint64_t body_left;		/* bytes of the bulk string still to come */
	size_t memory;			/* what the reply will take, announced parts included */
	uint32_t depth;			/* arrays open */
	uint64_t items_left[DEPTH_MAX]; /* by depth */
};

struct queued_value {
	struct queued_value *next;
	struct resp_value *value;
};

struct resp_reader {
	struct resp_limits limits;
	redisReader *hiredis;
	struct walk walk;
	struct queued_value *first, **last;
	int error; /* sticks */
};

/* ---- values, built by hiredis ---- */

static void *attach(const redisReadTask *task, struct resp_value *value)
{
	if (value && task->parent) {
		struct resp_value *parent = task->parent->obj;

		parent->items[task->idx] = value;
	}
	return value;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
	struct resp_value *value = malloc(sizeof(*value) + len + 1);

	if (!value)
		return NULL;

	uint8_t *copy = (uint8_t *)(value + 1);

	memcpy(copy, text, len);
	copy[len] = 0;
	*value = (struct resp_value){.type = RESP_STRING, .text = span_make(copy, len)};
	if (task->type == REDIS_REPLY_STATUS)
		value->type = RESP_STATUS;
	else if (task->type == REDIS_REPLY_ERROR)
		value->type = RESP_ERROR;
	return attach(task, value);
}

static void *create_array(const redisReadTask *task, ARRAY_COUNT count)
{
	struct resp_value *value =
		calloc(1, sizeof(*value) + (size_t)count * sizeof(struct resp_value *));

	if (!value)
		return NULL;
	value->type = RESP_ARRAY;
	value->count = (size_t)count;
	value->items = (struct resp_value **)(void *)(value + 1);
	return attach(task, value);
}

static struct resp_value *create_plain(enum resp_type type, int64_t integer)
{
	struct resp_value *value = calloc(1, sizeof(*value));

	if (value) {
		value->type = type;
		value->integer = integer;
	}
	return value;
}

static void *create_integer(const redisReadTask *task, long long integer)
{
	return attach(task, create_plain(RESP_INTEGER, integer));
}

static void *create_nil(const redisReadTask *task)
{
	return attach(task, create_plain(RESP_NIL, 0));
}

/* Depth is bounded by DEPTH_MAX. */
void resp_value_free(struct resp_value *value)
{
	if (!value)
		return;
	for (size_t i = 0; i < value->count; i++)
		resp_value_free(value->items[i]);
	free(value);
}

static void free_object(void *object)
{
	resp_value_free(object);
}

/* hiredis 1.x has more members, for types of RESP3 that the walk refuses. */
static redisReplyObjectFunctions functions = {
	.createString = create_string,
	.createArray = create_array,
	.createInteger = create_integer,
	.createNil = create_nil,
	.freeObject = free_object,
};

/* ---- the walk ---- */

/* Counts memory that the reply will need. */
static bool charge(struct resp_reader *reader, uint64_t bytes)
{
	if (bytes > reader->limits.value_bytes_max - reader->walk.memory)
		return false;
	reader->walk.memory += (size_t)bytes;
	return true;
}

/* A value is complete: back to the nearest array that still wants one. Returns true at the end of
 * the reply. */
static bool end_value(struct walk *walk)
{
	walk->state = WALK_TYPE;
	while (walk->depth > 0 && --walk->items_left[walk->depth - 1] == 0)
		walk->depth--;
	return walk->depth == 0;
}

/* Strict: no leading zeros, no "-0", no '+'. Returns false if it is not an int64. */
static bool parse_number(const struct walk *walk, int64_t *number)
{
	struct span text = span_make(walk->number, walk->number_len);
	size_t sign = text.len > 0 && text.data[0] == '-';

	if (text.len > sign && text.data[sign] == '0' && text.len > 1)
		return false;
	return span_to_int64(text, number);
}

static bool open_bulk(struct resp_reader *reader, int64_t len, bool *is_end)
{
	struct walk *walk = &reader->walk;

	if (len == -1) {
		*is_end = end_value(walk);
		return true;
	}
	if (len < 0 || (uint64_t)len >= SIZE_MAX - 1 || !charge(reader, (uint64_t)len + 1))
		return false;
	walk->body_left = (uint64_t)len;
	walk->state = len > 0 ? WALK_BODY : WALK_BODY_CR;
	return true;
}

static bool open_array(struct resp_reader *reader, int64_t count, bool *is_end)
{
	struct walk *walk = &reader->walk;
	uint64_t each = sizeof(struct resp_value) + sizeof(struct resp_value *);

	/* an array that is nil or empty counts in depth too: hiredis sees the nesting before the
	 * length */
	if (walk->depth >= reader->limits.depth_max)
		return false;
	if (count == -1 || count == 0) {
		*is_end = end_value(walk);
		return true;
	}
	if (count < 0 || (uint64_t)count > reader->limits.items_max ||
	    !charge(reader, (uint64_t)count * each))
		return false;
	walk->items_left[walk->depth++] = (uint64_t)count;
	walk->state = WALK_TYPE;
	return true;
}

/* A line has ended. Returns false when it is malformed or over a limit. */
static bool end_line(struct resp_reader *reader, bool *is_end)
{
	struct walk *walk = &reader->walk;
	int64_t number = 0;

	if (walk->type != '+' && walk->type != '-' && !parse_number(walk, &number))
		return false;
	if (walk->type == '$')
		return open_bulk(reader, number, is_end);
	if (walk->type == '*')
		return open_array(reader, number, is_end);
	*is_end = end_value(walk);
	return true;
}

static bool begin_value(struct resp_reader *reader, uint8_t type)
{
	struct walk *walk = &reader->walk;

	walk->type = type;
	walk->number_len = 0;
	/* an array has counted its items */
	if (walk->depth == 0) {
		walk->memory = 0;
		if (!charge(reader, sizeof(struct resp_value)))
			return false;
	}
	switch (type) {
	case '+':
	case '-':
		walk->state = WALK_LINE;
		return charge(reader, 1);
	case ':':
	case '$':
	case '*':
		walk->state = WALK_NUMBER;
		return true;
	}
	return false;
}

static bool add_to_line(struct resp_reader *reader, uint8_t byte)
{
	struct walk *walk = &reader->walk;

	if (byte == '\r') {
		walk->state = WALK_LINE_LF;
		return true;
	}
	if (walk->state == WALK_LINE)
		return byte != '\n' && charge(reader, 1);
	/* at once, not at the line's end: the peer may not send one */
	if (walk->number_len == NUMBER_BYTES_MAX || (byte != '-' && (byte < '0' || byte > '9')))
		return false;
	walk->number[walk->number_len++] = byte;
	return true;
}

/* Takes one byte that is not of a bulk string's body. */
static bool walk_byte(struct resp_reader *reader, uint8_t byte, bool *is_end)
{
	struct walk *walk = &reader->walk;

	switch (walk->state) {
	case WALK_TYPE:
		return begin_value(reader, byte);
	case WALK_NUMBER:
	case WALK_LINE:
		return add_to_line(reader, byte);
	case WALK_LINE_LF:
		return byte == '\n' && end_line(reader, is_end);
	case WALK_BODY_CR:
		walk->state = WALK_BODY_LF;
		return byte == '\r';
	case WALK_BODY_LF:
		*is_end = end_value(walk);
		return byte == '\n';
	case WALK_BODY:
		break;
	}
	UNREACHABLE("the body is taken whole by walk_reply");
}

/* Returns the bytes taken, up to the end of the reply (`*is_end`), or -EPROTO. */
static ptrdiff_t walk_reply(struct resp_reader *reader, struct span bytes, bool *is_end)
{
	struct walk *walk = &reader->walk;
	size_t taken = 0;

	*is_end = false;
	while (taken < bytes.len && !*is_end) {
		if (walk->state != WALK_BODY) {
			if (!walk_byte(reader, bytes.data[taken], is_end))
				return -EPROTO;
			taken++;
			continue;
		}

		uint64_t step = bytes.len - taken;

		if (step > walk->body_left)
			step = walk->body_left;
		taken += (size_t)step;
		walk->body_left -= step;
		if (walk->body_left == 0)
			walk->state = WALK_BODY_CR;
	}
	return (ptrdiff_t)taken;
}

/* ---- the reader ---- */

struct resp_reader *resp_reader_create(const struct resp_limits *limits)
{
	CHECK(limits->depth_max <= DEPTH_MAX && limits->items_max <= INT32_MAX);

	struct resp_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->limits = *limits;
	reader->last = &reader->first;
	reader->hiredis = redisReaderCreateWithFunctions(&functions);
	if (!reader->hiredis) {
		free(reader);
		return NULL;
	}
	return reader;
}

void resp_reader_destroy(struct resp_reader *reader)
{
	if (!reader)
		return;
	while (reader->first) {
		struct queued_value *queued = reader->first;

		reader->first = queued->next;
		resp_value_free(queued->value);
		free(queued);
	}
	redisReaderFree(reader->hiredis);
	free(reader);
}

/* hiredis holds just one whole reply: takes the value out of it. */
static int take_reply(struct resp_reader *reader)
{
	struct queued_value *queued = malloc(sizeof(*queued));
	void *reply = NULL;

	if (!queued)
		return -ENOMEM;
	if (redisReaderGetReply(reader->hiredis, &reply) != REDIS_OK || !reply) {
		free(queued);
		return reader->hiredis->err == REDIS_ERR_OOM ? -ENOMEM : -EPROTO;
	}
	*queued = (struct queued_value){.value = reply};
	*reader->last = queued;
	reader->last = &queued->next;
	return 0;
}

int resp_reader_feed(struct resp_reader *reader, struct span bytes)
{
	while (bytes.len > 0 && !reader->error) {
		bool is_end;
		ptrdiff_t taken = walk_reply(reader, bytes, &is_end);

		/*
		 * hiredis gets one reply at a time: with several in its buffer it would move the
		 * rest to the front after each, which is quadratic.
		 */
		if (taken < 0)
			reader->error = (int)taken;
		else if (redisReaderFeed(reader->hiredis, (const char *)bytes.data,
					 (size_t)taken) != REDIS_OK)
			reader->error = -ENOMEM;
		else if (is_end)
			reader->error = take_reply(reader);
		if (!reader->error)
			bytes = span_from(bytes, (size_t)taken);
	}
	return reader->error;
}

int resp_reader_next(struct resp_reader *reader, struct resp_value **value)
{
	struct queued_value *queued = reader->first;

	*value = NULL;
	if (!queued)
		return reader->error;
	reader->first = queued->next;
	if (!reader->first)
		reader->last = &reader->first;
	*value = queued->value;
	free(queued);
	return 1;
}

/* ---- commands ---- */

/* "$5\r\n", "*3\r\n". */
static int append_count(struct buf *out, uint8_t kind, uint64_t count)
{
	int error = buf_append_byte(out, kind);

	if (!error)
		error = buf_append_uint(out, count);
	return error ? error : buf_append(out, SPAN("\r\n"));
}

/* By hand: hiredis would format in memory of its own, and leave a password there. */
int resp_format(struct buf *out, const struct span *args, size_t count)
{
	size_t before = out->len;

	CHECK(count > 0 && count <= INT32_MAX);

	int error = append_count(out, '*', count);

	for (size_t i = 0; i < count && !error; i++) {
		error = append_count(out, '$', args[i].len);
		if (!error)
			error = buf_append(out, args[i]);
		if (!error)
			error = buf_append(out, SPAN("\r\n"));
	}
	if (error)
		out->len = before;
	return error;
}

bool resp_is_status(const struct resp_value *value, const char *text)
{
	return value->type == RESP_STATUS && span_equal(value->text, span_from_cstr(text));
}
