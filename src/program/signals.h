/*
 * signals: reads those that the process is told by (a signalfd) through the ring, one after the
 * other until it is stopped. They are blocked, so nothing else would hear of them: a read that
 * failed, or found no room, is made again. Thread: main's.
 */
#ifndef PROGRAM_SIGNALS_H
#define PROGRAM_SIGNALS_H

#include "uring/deadline.h"
#include "uring/op.h"

#include <sys/signalfd.h>

struct signals;

/* `number`: SIGTERM, … It may stop `signals`. */
typedef void signals_fn(struct signals *signals, int number);

struct signals {
	struct worker *control;
	struct file_ref file;
	signals_fn *received;
	struct op read, cancel;
	struct deadline retry;
	struct signalfd_siginfo next;
	bool is_failing, is_stopped;
};

/* Lifetime: control outlives it; the file stays the caller's. */
void signals_start(struct signals *signals, struct worker *control, struct file_ref file,
		   signals_fn *received);

/* No call of `received` comes after this one. The read ends in one of the next turns. */
void signals_stop(struct signals *signals);

#endif
