#include "client/caller.h"

#include "client/print.h"

static bool load_keys(struct caller *caller)
{
	const struct arguments *arguments = caller->arguments;
	const char *gateway_key = argument(arguments, "--gateway-key");
	char why[256] = "";

	if (signer_load(&caller->signer, argument(arguments, "--key"), why, sizeof(why)) != 0) {
		complain("--key: %s", why);
		return false;
	}
	if (!gateway_key)
		return true;
	caller->has_gateway_key =
		public_key_load(caller->gateway_key, gateway_key, why, sizeof(why)) == 0;
	if (!caller->has_gateway_key)
		complain("--gateway-key: %s", why);
	return caller->has_gateway_key;
}

int caller_init(struct caller *caller, const struct arguments *arguments)
{
	const char *request_id = argument(arguments, "--request-id");

	*caller = (struct caller){.arguments = arguments};
	caller->is_json = argument(arguments, "--json") != NULL;
	if (!argument_endpoint(arguments, "--gateway", &caller->gateway) ||
	    !argument_ms(arguments, "--timeout", &caller->timeout_ms) || !load_keys(caller))
		return EXIT_USAGE;
	if (caller->timeout_ms > UINT32_MAX)
		caller->timeout_ms = UINT32_MAX;
	request_id_make(caller->made_id);
	caller->request_id = span_from_cstr(request_id ? request_id : caller->made_id);
	return loop_create(&caller->loop);
}

int caller_send(struct caller *caller, const char *path, const struct request *request,
		uint64_t timeout_ms, const struct stream_handler *handler)
{
	struct stream_target target = {
		.endpoint = caller->gateway,
		.path = path,
		.message = request_write(request, caller->signer),
		.begin_ms = caller->timeout_ms,
		.timeout_ms = timeout_ms,
	};

	if (!target.message) {
		complain("out of memory, or a request that is too large");
		return EXIT_FAILED;
	}
	stream_open(&caller->stream, &caller->loop, &target, handler);
	payload_put(target.message);
	return 0;
}

const uint8_t *caller_gateway_key(const struct caller *caller)
{
	return caller->has_gateway_key ? caller->gateway_key : NULL;
}

void caller_finish(struct caller *caller)
{
	loop_destroy(&caller->loop);
	signer_destroy(caller->signer);
}

static void print_failure_words(const struct stream_end *end)
{
	struct print print;

	print_init(&print, false);
	print_words(&print, "%s ", grpc_status_name((int)end->status));
	print_word_bytes(&print, end->message);
	print_words(&print, "\n");
	if (end->retry_after_ms > 0)
		print_words(&print, "retry after %llu ms\n",
			    (unsigned long long)end->retry_after_ms);
	print_finish_to(&print, stderr);
}

void caller_print_failure(const struct caller *caller, const struct stream_end *end)
{
	struct print print;

	if (!caller->is_json) {
		print_failure_words(end);
		return;
	}
	print_init(&print, true);
	print_text(&print, "code", span_from_cstr(grpc_status_name((int)end->status)));
	print_text(&print, "message", end->message);
	if (end->retry_after_ms > 0)
		print_number(&print, "retry_after_ms", (int64_t)end->retry_after_ms);
	print_finish(&print);
}
