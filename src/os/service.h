/* service: what systemd gives and wants (sd_notify, sockets by name), by libsystemd. Thread: main. */
#ifndef OS_SERVICE_H
#define OS_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

/* Each does nothing outside systemd. */
void service_notify_ready(const char *status);
void service_notify_stopping(const char *status);
void service_notify_extend(uint64_t usec); /* EXTEND_TIMEOUT_USEC */

/*
 * The listening descriptor passed under this FileDescriptorName, or -1. LISTEN_FDS is read once; the descriptors are
 * close-on-exec then. Returns -EINVAL in `*error` when the same name was passed twice.
 */
int service_take_socket(const char *name, int *error);

#endif
