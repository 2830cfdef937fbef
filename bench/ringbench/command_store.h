/*
 * command_store: what a run of commands needs before it begins: sessions in Redis and signed
 * envelopes in memory. Made by the main thread, then read only.
 */
#ifndef RINGBENCH_COMMAND_STORE_H
#define RINGBENCH_COMMAND_STORE_H

#include "options.h"

#include "auth/signer.h"
#include "base/payload.h"

#define COMMAND_ID_MAX 48

struct command_store {
	const struct options *options;
	struct signer *signer; /* of all sessions: to the gateway it is a key like any other */
	uint64_t run;	       /* in every id: nobody else's */
	uint32_t sessions;
	uint8_t *payload;	    /* options->payload_bytes, of every command */
	struct payload **envelopes; /* with their gRPC prefixes */
	uint64_t envelope_count;
};

/* Returns 0, or a negative code with a sentence. */
int command_store_init(struct command_store *store, const struct options *options);
void command_store_finish(struct command_store *store);

/* The request id of envelope `index`. Returns its length. */
size_t command_request_id(const struct command_store *store, uint64_t index,
			  char text[COMMAND_ID_MAX]);

#endif
