#include "codec/pb.h"
#include "upstream/grpc_internal.h"

/* HealthCheckResponse of proto/grpc/health/v1/health.proto */
#define FIELD_STATUS   1
#define STATUS_SERVING 1

/* A check that could not be sent, of an address that calls wait for: without memory. */
#define CHECK_AGAIN_MS 100

static void check(struct backend *backend);

static void judge(struct backend *backend, enum health health, const char *why)
{
	if (health == HEALTH_BAD && backend->health != HEALTH_BAD)
		backend_log(backend, LOG_WARN, "unhealthy", why);
	else if (health == HEALTH_GOOD && backend->health == HEALTH_BAD)
		backend_log(backend, LOG_INFO, "healthy again", "");
	backend->health = health;
	backend_show(backend);
}

/* The interval, a tenth more or less: workers must not check all at once. */
static void check_later(struct backend *backend)
{
	struct upstream *upstream = backend->upstream;
	uint64_t interval_ms = upstream->config->health_interval_ms;

	deadline_arm(upstream->worker, &backend->check_deadline,
		     interval_ms - interval_ms / 10 +
			     backoff_random(&upstream->jitter, interval_ms / 5 + 1));
}

static void check_again(struct backend *backend)
{
	if (backend->health == HEALTH_UNKNOWN)
		deadline_arm(backend->upstream->worker, &backend->check_deadline, CHECK_AGAIN_MS);
	else
		check_later(backend);
}

static bool is_serving(struct span message)
{
	struct pb_reader reader = {message};
	struct pb_field field;
	uint64_t status = 0;
	int code;

	while ((code = pb_next(&reader, &field)) == 1)
		if (field.number == FIELD_STATUS && field.wire == PB_VARINT)
			status = field.value;
	return code == 0 && status == STATUS_SERVING;
}

/* NULL: healthy. */
static const char *find_fault(const struct upstream_result *result)
{
	switch (result->outcome) {
	case UPSTREAM_OK:
		return is_serving(result->message) ? NULL : "it does not serve";
	case UPSTREAM_STATUS:
		return result->status == GRPC_UNIMPLEMENTED ? NULL
							    : grpc_status_name((int)result->status);
	case UPSTREAM_TIMEOUT:
		return "no answer in time";
	case UPSTREAM_UNAVAILABLE:
		return "connection lost";
	case UPSTREAM_BUSY:
	case UPSTREAM_MALFORMED:
	case UPSTREAM_OUTCOME_COUNT:
		break;
	}
	return "what it answered is no gRPC";
}

static void checked(struct upstream_call *call, const struct upstream_result *result)
{
	struct backend *backend = CONTAINER_OF(call, struct backend, check);
	const char *fault = find_fault(result);

	if (backend->ready_count == 0)
		return; /* forgotten: asked again once connected */
	if (result->outcome == UPSTREAM_UNAVAILABLE && !backend->check_is_repeated) {
		/* that connection is gone or going: the next one may tell */
		backend->check_is_repeated = true;
		check(backend);
		return;
	}
	backend->check_is_repeated = false;
	judge(backend, fault ? HEALTH_BAD : HEALTH_GOOD, fault);
	check_later(backend);
}

static void check(struct backend *backend)
{
	struct upstream *upstream = backend->upstream;
	const struct upstream_request request = {
		.path = HEALTH_CHECK_PATH,
		.message = upstream->check_message,
		.deadline_ms = upstream->config->health_interval_ms,
	};
	struct upstream_link *link = backend_pick(backend, 0);
	struct upstream_stream *stream = link ? stream_create(upstream, &request) : NULL;

	/* connections full of calls that are answered need no check */
	if (!stream) {
		check_again(backend);
		return;
	}
	stream->pinned = backend;
	if (stream_send(stream, link) != 0) {
		stream_free(stream);
		check_again(backend);
		return;
	}
	backend->check.done = checked;
	backend->check.stream = stream;
	stream->call = &backend->check;
}

static void check_due(struct deadline *deadline)
{
	check(CONTAINER_OF(deadline, struct backend, check_deadline));
}

void health_init(struct backend *backend)
{
	deadline_init(&backend->check_deadline, check_due);
	health_forget(backend);
}

void health_begin(struct backend *backend)
{
	if (backend->upstream->config->health)
		check(backend);
}

void health_forget(struct backend *backend)
{
	health_stop(backend);
	backend->health = backend->upstream->config->health ? HEALTH_UNKNOWN : HEALTH_GOOD;
	backend->check_is_repeated = false;
}

void health_stop(struct backend *backend)
{
	deadline_disarm(backend->upstream->worker, &backend->check_deadline);
	upstream_call_cancel(&backend->check);
}
