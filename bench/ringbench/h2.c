/* h2: the cheapest calls over HTTP/2: the gRPC health Check, a GET, or a call with a given message. */
#include "calls.h"
#include "works.h"

#include "codec/grpc.h"

#include <pthread.h>

#define MESSAGE_BYTES_MAX (8u << 20)

struct h2_work {
	struct buf message; /* of a call, with its prefix */
	/* given, or the first answer says what the others must be; locked when lanes share it */
	pthread_mutex_t lock;
	struct buf expected;
	bool is_known;
};

/* HealthCheckRequest without a service; HealthCheckResponse: SERVING. With their gRPC prefixes. */
#define CHECK_REQUEST  SPAN("\0\0\0\0\0")
#define CHECK_RESPONSE SPAN("\0\0\0\0\x02\x08\x01")

static bool check_next(struct lane *lane, struct call *call, struct span *body)
{
	(void)lane;
	(void)call;
	*body = CHECK_REQUEST;
	return true;
}

static enum calls_verdict check_judge(struct lane *lane, struct call *call)
{
	(void)lane;
	return span_equal(buf_span(&call->body), CHECK_RESPONSE) ? CALLS_RIGHT : CALLS_WRONG;
}

static bool get_next(struct lane *lane, struct call *call, struct span *body)
{
	(void)lane;
	(void)call;
	*body = SPAN_EMPTY;
	return true;
}

static bool call_next(struct lane *lane, struct call *call, struct span *body)
{
	const struct h2_work *work = calls_of(lane)->work;

	(void)call;
	*body = buf_span(&work->message);
	return true;
}

/* Of a GET or a call. */
static enum calls_verdict same_judge(struct lane *lane, struct call *call)
{
	struct h2_work *work = calls_of(lane)->work;
	bool is_equal;

	if (lane->run->lane_count > 1)
		pthread_mutex_lock(&work->lock);
	if (!work->is_known) {
		work->is_known = true;
		buf_append(&work->expected, buf_span(&call->body));
	}
	is_equal = span_equal(buf_span(&call->body), buf_span(&work->expected));
	if (lane->run->lane_count > 1)
		pthread_mutex_unlock(&work->lock);
	return is_equal ? CALLS_RIGHT : CALLS_WRONG;
}

static const struct calls_kind check_kind = {
	.name = "h2",
	.is_grpc = true,
	.next = check_next,
	.judge = check_judge,
};

static const struct calls_kind get_kind = {
	.name = "h2",
	.next = get_next,
	.judge = same_judge,
};

static const struct calls_kind call_kind = {
	.name = "h2",
	.is_grpc = true,
	.next = call_next,
	.judge = same_judge,
};

static const struct {
	const char *name;
	const struct calls_kind *kind;
} methods[] = {{"health", &check_kind}, {"get", &get_kind}, {"call", &call_kind}};

static const struct calls_kind *kind_of(const char *method)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		if (strcmp(method, methods[i].name) == 0)
			return methods[i].kind;
	tell("--method is health, get or call");
	return NULL;
}

static void put_message(struct buf *out, struct span message)
{
	uint8_t prefix[GRPC_PREFIX_BYTES];

	grpc_write_prefix(prefix, (uint32_t)message.len);
	buf_append(out, span_make(prefix, sizeof(prefix)));
	if (message.len > 0)
		buf_append(out, message);
}

/* Returns whether there was memory. */
static bool work_init(struct h2_work *work, const struct options *options, bool is_grpc)
{
	*work = (struct h2_work){
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.is_known = options->answer.data != NULL,
	};
	buf_init(&work->message, MESSAGE_BYTES_MAX);
	buf_init(&work->expected, MESSAGE_BYTES_MAX);
	put_message(&work->message, options->body);
	if (work->is_known && is_grpc)
		put_message(&work->expected, options->answer);
	else if (work->is_known)
		buf_append(&work->expected, options->answer);
	if (!work->message.failed && !work->expected.failed)
		return true;
	tell("--body or --answer is too long");
	return false;
}

int h2_run(const struct options *options)
{
	const struct calls_kind *kind = kind_of(options->method);
	struct h2_work work;
	struct calls calls;
	int code = 2;

	if (!kind)
		return 2;
	if (work_init(&work, options, kind->is_grpc) &&
	    calls_init(&calls, options, kind,
		       kind == &check_kind ? "/grpc.health.v1.Health/Check" : options->path) == 0) {
		calls.work = &work;
		code = calls_run(&calls, options);
	}
	buf_finish(&work.message);
	buf_finish(&work.expected);
	return code;
}
