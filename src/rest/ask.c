#include "rest/rest_internal.h"

#include "codec/grpc.h"
#include "codec/pb.h"

#include <errno.h>
#include <stdlib.h>

#define VALIDATE_PATH	SPAN("/auth.v1.AuthService/ValidateSession")
#define PERMISSION_PATH SPAN("/auth.v1.AuthService/CheckPermission")

/* proto/auth/v1/auth_service.proto */
enum { VALIDATED_USER = 1, VALIDATED_SESSION = 2, VALIDATED_EXPIRES = 3 };
enum { CHECKED_ALLOWED = 1 };

struct question {
	struct list link;
	struct rest *rest;
	struct identity_lookup *lookup;
	struct upstream_call call;
};

struct payload *ask_message(const struct span *texts, size_t count)
{
	size_t len = 0;

	for (size_t i = 0; i < count; i++)
		len += pb_size_bytes((uint32_t)i + 1, texts[i]);

	struct payload *payload = payload_create(GRPC_PREFIX_BYTES + len);

	if (!payload)
		return NULL;
	grpc_write_prefix(payload->data, (uint32_t)len);
	uint8_t *at = payload->data + GRPC_PREFIX_BYTES;

	for (size_t i = 0; i < count; i++)
		at = pb_write_bytes(at, (uint32_t)i + 1, texts[i]);
	return payload;
}

struct upstream *ask_auth_service(const struct rest *rest, const struct config_file *file)
{
	if (!file || !file->rest || !file->rest->auth.set)
		return NULL;
	return upstreams_at(rest->options.upstreams, file, file->rest->auth.upstream);
}

/* ---- ValidateSession ---- */

static uint64_t left_ms(const struct rest *rest, int64_t expires_ms)
{
	int64_t now_ms = rest->options.worker->wall_ms;

	if (expires_ms == 0)
		return UINT64_MAX;
	return expires_ms > now_ms ? (uint64_t)(expires_ms - now_ms) : 0;
}

static void read_session(const struct rest *rest, struct span message, struct identity_facts *facts)
{
	struct pb_reader reader = {.rest = message};
	struct pb_field field;
	int64_t expires_ms = 0;
	int more;

	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == VALIDATED_USER && field.wire == PB_BYTES)
			facts->user = field.bytes;
		else if (field.number == VALIDATED_SESSION && field.wire == PB_BYTES)
			facts->session = field.bytes;
		else if (field.number == VALIDATED_EXPIRES && field.wire == PB_VARINT)
			expires_ms = (int64_t)field.value;
	}
	facts->answer = more < 0 ? IDENTITY_UNAVAILABLE : IDENTITY_FOUND;
	facts->expires_in_ms = left_ms(rest, expires_ms);
}

static void session_told(struct upstream_call *call, const struct upstream_result *result)
{
	struct question *question = CONTAINER_OF(call, struct question, call);
	struct rest *rest = question->rest;
	struct identity_lookup *lookup = question->lookup;
	struct identity_facts facts = {.answer = IDENTITY_UNAVAILABLE};

	if (result->outcome == UPSTREAM_OK)
		read_session(rest, result->message, &facts);
	else if (result->outcome == UPSTREAM_STATUS &&
		 (result->status == GRPC_UNAUTHENTICATED || result->status == GRPC_NOT_FOUND))
		facts.answer = IDENTITY_REFUSED;
	list_remove(&question->link);
	free(question);
	identities_answer(&rest->identities, lookup, &facts, rest->options.worker->now_ms);
}

int ask_session(void *context, struct identity_lookup *lookup, struct span token)
{
	struct rest *rest = context;
	struct upstream *upstream = ask_auth_service(rest, rest->options.upstreams->current.file);
	struct question *question = upstream ? malloc(sizeof(*question)) : NULL;
	struct payload *message = question ? ask_message(&token, 1) : NULL;
	const struct upstream_request request = {.path = VALIDATE_PATH, .message = message};
	int code = -ENOMEM;

	if (message) {
		*question = (struct question){.rest = rest, .lookup = lookup};
		code = upstream_call_start(upstream, &question->call, session_told, &request);
	}
	payload_put(message);
	if (code)
		free(question);
	else
		list_push_back(&rest->questions, &question->link);
	return code;
}

void ask_finish(struct rest *rest)
{
	struct list *link;

	while ((link = list_pop_front(&rest->questions)) != NULL) {
		struct question *question = CONTAINER_OF(link, struct question, link);
		struct identity_lookup *lookup = question->lookup;

		upstream_call_cancel(&question->call);
		free(question);
		identities_answer(&rest->identities, lookup,
				  &(struct identity_facts){.answer = IDENTITY_UNAVAILABLE}, 0);
	}
}

/* ---- CheckPermission ---- */

int ask_permission(struct rest_call *call, upstream_done_fn *done)
{
	struct upstream *upstream = ask_auth_service(call->rest, call->file);
	const struct span texts[] = {identity_user(call->identity), call->route->permission};
	struct payload *message = upstream ? ask_message(texts, ARRAY_LEN(texts)) : NULL;
	const struct upstream_request request = {
		.path = PERMISSION_PATH,
		.message = message,
		.request_id = call->request->request_id,
	};

	if (!message)
		return -ENOMEM;

	int code = upstream_call_start(upstream, &call->upstream, done, &request);

	payload_put(message);
	return code;
}

enum permission permission_of(const struct upstream_result *result)
{
	struct pb_reader reader = {.rest = result->message};
	struct pb_field field;
	enum permission permission = PERMISSION_DENIED;
	int more;

	if (result->outcome == UPSTREAM_STATUS && result->status == GRPC_PERMISSION_DENIED)
		return PERMISSION_DENIED;
	if (result->outcome != UPSTREAM_OK)
		return PERMISSION_UNKNOWN;
	while ((more = pb_next(&reader, &field)) > 0) {
		if (field.number == CHECKED_ALLOWED && field.wire == PB_VARINT)
			permission = field.value ? PERMISSION_GRANTED : PERMISSION_DENIED;
	}
	return more < 0 ? PERMISSION_UNKNOWN : permission;
}
