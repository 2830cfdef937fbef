/* subscribe: the events of a session, each checked, until the stream ends. */
#include "client/caller.h"
#include "client/print.h"

#include "base/check.h"

struct subscribe {
	struct caller caller;
	uint64_t count, count_max; /* events; max 0: no end */
	bool has_bad;
};

static struct subscribe *subscribe_of(struct stream *stream)
{
	return CONTAINER_OF(stream, struct subscribe, caller.stream);
}

static void print_event_json(const struct event *event)
{
	struct print print;
	int64_t server_time_ms;

	print_init(&print, true);
	print_text(&print, "event_type", event->type);
	print_text(&print, "event_id", event->id);
	print_number(&print, "timestamp_ms", event->timestamp_ms);
	if (span_equal(event->type, SPAN("gateway.server_time")) &&
	    server_time_read(event->payload, &server_time_ms))
		print_number(&print, "server_time_ms", server_time_ms);
	else
		print_bytes(&print, "payload", event->payload);
	print_text(&print, "request_id", event->request_id);
	print_text(&print, "trace_id", event->trace_id);
	print_text(&print, "signature", span_from_cstr(verdict_name(event->verdict)));
	print_finish(&print);
}

static void print_event_words(const struct event *event)
{
	struct print print;
	int64_t server_time_ms;

	print_init(&print, false);
	print_word_bytes(&print, event->type);
	if (event->id.len > 0) {
		print_words(&print, " id=");
		print_word_bytes(&print, event->id);
	}
	if (event->timestamp_ms > 0)
		print_words(&print, " timestamp_ms=%lld", (long long)event->timestamp_ms);
	if (event->request_id.len > 0) {
		print_words(&print, " request_id=");
		print_word_bytes(&print, event->request_id);
	}
	if (event->trace_id.len > 0) {
		print_words(&print, " trace_id=");
		print_word_bytes(&print, event->trace_id);
	}
	if (span_equal(event->type, SPAN("gateway.server_time")) &&
	    server_time_read(event->payload, &server_time_ms)) {
		print_words(&print, " server_time_ms=%lld", (long long)server_time_ms);
	} else if (event->payload.len > 0) {
		print_words(&print, " payload=");
		print_word_bytes(&print, event->payload);
	}
	print_words(&print, event->verdict == VERDICT_UNSIGNED ? " %s\n" : " signature %s\n",
		    verdict_name(event->verdict));
	print_finish(&print);
}

/* Who could take a signature off might change what it was for. */
static bool is_bad(const struct event *event)
{
	return event->verdict == VERDICT_BAD ||
	       (event->verdict == VERDICT_UNSIGNED && !event_is_heartbeat(event));
}

static void subscribe_message(struct stream *stream, struct span message)
{
	struct subscribe *subscribe = subscribe_of(stream);
	struct event event;

	if (event_read(&event, message, caller_gateway_key(&subscribe->caller)) != 0) {
		complain("an event is malformed");
		subscribe->has_bad = true;
	} else {
		subscribe->has_bad |= is_bad(&event);
		if (subscribe->caller.is_json)
			print_event_json(&event);
		else
			print_event_words(&event);
	}
	if (++subscribe->count != subscribe->count_max && !ferror(stdout))
		return;
	stream_close(stream);
	loop_end(&subscribe->caller.loop,
		 subscribe->has_bad || ferror(stdout) ? EXIT_FAILED : EXIT_OKAY);
}

static void subscribe_ended(struct stream *stream, const struct stream_end *end)
{
	struct subscribe *subscribe = subscribe_of(stream);
	struct span name = span_from_cstr(grpc_status_name((int)end->status));
	struct print print;

	print_init(&print, subscribe->caller.is_json);
	if (print.is_json) {
		print_text(&print, "ended", name);
		print_text(&print, "message", end->message);
		if (end->retry_after_ms > 0)
			print_number(&print, "retry_after_ms", (int64_t)end->retry_after_ms);
	} else {
		print_words(&print, "stream ended: ");
		print_word_bytes(&print, name);
		if (end->message.len > 0) {
			print_words(&print, " ");
			print_word_bytes(&print, end->message);
		}
		print_words(&print, "\n");
	}
	print_finish(&print);
	loop_end(&subscribe->caller.loop,
		 end->status == GRPC_OK && !subscribe->has_bad ? EXIT_OKAY : EXIT_FAILED);
}

static const struct stream_handler subscribe_handler = {
	.message = subscribe_message,
	.ended = subscribe_ended,
};

int subscribe_run(const struct arguments *arguments)
{
	static struct subscribe subscribe;
	int code = caller_init(&subscribe.caller, arguments);

	if (code == 0 && !argument_count(arguments, "--count", &subscribe.count_max))
		code = EXIT_USAGE;
	if (code == 0) {
		const struct request request = {
			.session = argument_span(arguments, "--session"),
			.message_type = argument_span(arguments, "--type"),
			.request_id = subscribe.caller.request_id,
			.trace_id = argument_span(arguments, "--trace-id"),
			.timestamp_ms = subscribe.caller.loop.worker->wall_ms,
		};

		code = caller_send(&subscribe.caller,
				   "/galaxy.gateway.v1.EdgeGateway/SubscribeEvents", &request, 0,
				   &subscribe_handler);
	}
	if (code == 0)
		code = loop_run(&subscribe.caller.loop);
	caller_finish(&subscribe.caller);
	return code;
}
