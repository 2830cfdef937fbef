#include "rest/rest_internal.h"

#include "base/check.h"

static size_t add(struct reply_header *headers, size_t count, const char *name, struct span value)
{
	headers[count] = (struct reply_header){name, value};
	return count + 1;
}

size_t answer_headers(struct request *request, const struct plan *plan,
		      const struct answer_head *head, struct reply_header *headers)
{
	struct cors cors =
		cors_judge(&plan->rest->cors, request_find_header(request, SPAN("origin")));
	size_t count = 0;

	CHECK(head->more_count <= ARRAY_LEN(head->more));
	count = add(headers, count, "cache-control", SPAN("no-store"));
	if (request->request_id.len > 0)
		count = add(headers, count, "x-request-id", request->request_id);
	if (cors.vary)
		count = add(headers, count, "vary", SPAN("origin"));
	if (cors.allow_origin.len > 0) {
		count = add(headers, count, "access-control-allow-origin", cors.allow_origin);
		if (cors.allow_credentials)
			count = add(headers, count, "access-control-allow-credentials",
				    SPAN("true"));
		count = add(
			headers, count, "access-control-expose-headers",
			SPAN("grpc-status, grpc-message, grpc-status-details-bin, x-request-id"));
	}
	for (size_t i = 0; i < head->more_count; i++)
		headers[count++] = head->more[i];
	return count;
}

void answer_reply(struct request *request, const struct plan *plan, const struct answer_head *head,
		  struct span body)
{
	struct reply_header headers[REPLY_HEADERS_MAX];
	const struct reply reply = {
		.status = head->status,
		.content_type = head->content_type ? head->content_type : "application/json",
		.body = body,
		.headers = headers,
		.header_count = answer_headers(request, plan, head, headers),
	};

	request_reply(request, &reply);
}

void answer_error_as(struct request *request, const struct plan *plan,
		     const struct answer_head *head, struct span message, struct span details)
{
	struct buf body;

	buf_init(&body, REST_ANSWER_BYTES_MAX);
	/* Without memory for a body the status alone has to say it. */
	if (transcode_write_error(plan, head->status, message, details, &body) != 0)
		buf_clear(&body, 0);
	answer_reply(request, plan, head, buf_span(&body));
	buf_finish(&body);
}

void answer_error(struct request *request, const struct plan *plan, int status, const char *message)
{
	answer_error_as(request, plan, &(struct answer_head){.status = status},
			span_from_cstr(message), SPAN_EMPTY);
}
