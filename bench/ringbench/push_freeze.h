/* push_freeze: the servers stand still for a while. Any thread. */
#ifndef RINGBENCH_PUSH_FREEZE_H
#define RINGBENCH_PUSH_FREEZE_H

#include "options.h"

/* SIGSTOP to all of them. Returns once every thread of theirs has stopped, or -ETIMEDOUT. */
int servers_freeze(const struct options *options);

/* SIGCONT. */
void servers_thaw(const struct options *options);

#endif
