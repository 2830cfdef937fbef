/* works: what ringbench can do, one file each. Main thread. Each prints its report and returns the
 * exit code. */
#ifndef RINGBENCH_WORKS_H
#define RINGBENCH_WORKS_H

#include "options.h"

int http_run(const struct options *options);
int h2_run(const struct options *options);
int command_run(const struct options *options);
int push_run(const struct options *options);
int storm_run(const struct options *options);

#endif
