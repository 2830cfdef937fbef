/* options: the command line of ringbench, one table for all its works. Main thread; read only
 * afterwards. */
#ifndef RINGBENCH_OPTIONS_H
#define RINGBENCH_OPTIONS_H

#include "base/endpoint.h"
#include "net/address.h"

#include <sys/types.h>

#define SERVER_PIDS_MAX 16
#define THREADS_MAX	16

struct options {
	const char *work;
	/* where */
	struct endpoint target_endpoint, redis;
	struct address target; /* numeric, or a unix socket */
	bool has_redis;
	/* how much */
	uint32_t connections, streams, streams_per_connection;
	uint32_t sessions, users; /* 0: the work's own choice */
	uint32_t payload_bytes;
	uint32_t envelopes; /* signed before the run; 0: by rate or duration */
	double rate;	    /* per second; 0: closed loop */
	double warmup_s, duration_s;
	uint32_t rounds, burst, idle;
	double stall; /* 0…1 */
	uint32_t at_once; /* connections opening at the same time; 0: the work's own choice */
	bool targeted, hold, prefill, steps;
	/* what */
	const char *method, *path;
	struct span body, answer; /* of files; answer.data NULL: the first one says what is right */
	const char *key_prefix, *stream_key, *gateway_key, *message_type;
	/* with what */
	int cpu; /* -1: any */
	uint32_t threads, source_addresses;
	pid_t server_pids[SERVER_PIDS_MAX];
	size_t server_pid_count;
};

/* Returns 0, or a negative code with a sentence on standard error. -ECANCELED: --help was given. */
int options_parse(struct options *options, int argc, char **argv);

void options_help(void);

/* "ringbench: …" and a newline on standard error. Any thread. */
void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
