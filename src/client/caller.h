/* caller: what execute and subscribe have in common: keys, the signed request, the call, its
 * failure. */
#ifndef CLIENT_CALLER_H
#define CLIENT_CALLER_H

#include "client/command.h"
#include "client/message.h"
#include "client/stream.h"

struct caller {
	const struct arguments *arguments;
	struct loop loop;
	struct stream stream;
	struct signer *signer;
	uint8_t gateway_key[ENVELOPE_KEY_BYTES];
	bool has_gateway_key, is_json;
	char made_id[33];
	struct span request_id;
	struct endpoint gateway;
	uint64_t timeout_ms; /* --timeout */
};

/* Reads keys and address, makes the loop. Returns 0, or an exit code with a sentence on standard
 * error. */
int caller_init(struct caller *caller, const struct arguments *arguments);

/* Signs and sends; `timeout_ms` 0: none. Returns 0 or an exit code. */
int caller_send(struct caller *caller, const char *path, const struct request *request,
		uint64_t timeout_ms, const struct stream_handler *handler);

/* NULL without --gateway-key. */
const uint8_t *caller_gateway_key(const struct caller *caller);

void caller_finish(struct caller *caller);

/* "CODE message" on standard error, or a JSON object on standard output. */
void caller_print_failure(const struct caller *caller, const struct stream_end *end);

#endif
