/* store: a few commands to Redis, one after the other, over a connection of their own; session
 * records. */
#ifndef CLIENT_STORE_H
#define CLIENT_STORE_H

#include "client/command.h"

struct store_command {
	const struct span *args;
	size_t count;
};

/*
 * Connects as --redis and its companions say, runs them in order until one fails.
 * Returns an exit code, failures with a sentence on standard error. `last`: the text of the last
 * reply.
 */
int store_run(const struct arguments *arguments, const struct store_command *commands, size_t count,
	      struct buf *last);

#define RECORD_BYTES_MAX 65536

/* What a session record says; made from --session, --user and --key (private or public). */
struct record {
	struct span session, user; /* user empty: not given */
	const char *status;
	int64_t revoked_at_ms; /* 0: left out */
	struct buf key;	       /* base64 of the public key; empty: not given */
	struct buf user_read;  /* of the record in Redis */
};

/* Returns 0, or an exit code with a sentence on standard error. */
int record_init(struct record *record, const struct arguments *arguments, const char *status);
void record_finish(struct record *record);

/* What was not given is read from the session's record in Redis. Returns as record_init. */
int record_complete(struct record *record, const struct arguments *arguments);

/* The JSON of edge.md §3. Returns buf's code. */
int record_write(const struct record *record, struct buf *out);

/* `--prefix` and the session's id. Returns buf's code. */
int record_key(const struct record *record, const struct arguments *arguments, struct buf *out);

#endif
