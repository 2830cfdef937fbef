/* h2: the cheapest calls over HTTP/2: the gRPC health Check, or a GET. */
#include "calls.h"
#include "works.h"

#include <pthread.h>

struct h2_work {
	/* of a GET: the first answer says what the others must be; locked when lanes share it */
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

static enum calls_verdict get_judge(struct lane *lane, struct call *call)
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
	.judge = get_judge,
};

int h2_run(const struct options *options)
{
	bool is_get = strcmp(options->method, "get") == 0;
	struct h2_work work = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct calls calls;
	int code;

	if (!is_get && strcmp(options->method, "health") != 0) {
		tell("--method is health or get");
		return 2;
	}
	if (calls_init(&calls, options, is_get ? &get_kind : &check_kind,
		       is_get ? options->path : "/grpc.health.v1.Health/Check") != 0)
		return 2;
	buf_init(&work.expected, 8u << 20);
	calls.work = &work;
	code = calls_run(&calls, options);
	buf_finish(&work.expected);
	return code;
}
