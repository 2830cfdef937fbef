/* loop: the one worker of a command, and its name look-ups. */
#ifndef CLIENT_LOOP_H
#define CLIENT_LOOP_H

#include "net/dns.h"

struct loop {
	struct worker *worker;
	struct dns *dns;
	int exit_code;
	bool is_ending;
};

/* Returns 0, or an exit code with a sentence on standard error. */
int loop_create(struct loop *loop);

/* Until loop_end was called. Returns its exit code. */
int loop_run(struct loop *loop);

/* Once is enough; the first exit code counts. */
void loop_end(struct loop *loop, int exit_code);

/* What is still closing ends here; nothing may begin any more. Safe after loop_create failed. */
void loop_destroy(struct loop *loop);

#endif
