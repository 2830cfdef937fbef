/* process: figures of this process as Prometheus names them (process_*), and gateway_build_info.
 * Any thread. */
#ifndef ADMIN_PROCESS_H
#define ADMIN_PROCESS_H

#include "base/metric.h"

/* Appends the families. Returns buf's code; a figure that /proc does not give is left out. */
int process_render(enum metric_format format, struct buf *out);

#endif
