/* service: what systemd gives and wants (sd_notify, sockets by name), by libsystemd. Thread: main. */
#ifndef OS_SERVICE_H
#define OS_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERVICE_SOCKETS_MAX 64 /* passed descriptors looked at; the units here pass three */

/* Each does nothing outside systemd. */
void service_notify_ready(const char *status);
void service_notify_reloading(const char *status); /* ended by service_notify_ready */
void service_notify_stopping(const char *status);
void service_notify_extend(uint64_t usec); /* EXTEND_TIMEOUT_USEC */

/*
 * The listening descriptor passed under this FileDescriptorName, or -1. LISTEN_FDS is read once;
 * the descriptors are close-on-exec then, and the variables are gone from the environment.
 * Returns in `*error`: 0, -EINVAL when the same name was passed twice, -ENOTSOCK when it is no
 * listening stream socket, or what reading the variables gave.
 * Owns: the caller, from the first call that returns it; asked again it is -1 without an error.
 */
int service_take_socket(const char *name, int *error);

/*
 * Closes the passed descriptors that nobody took, one warning each: a client would wait for ever
 * on a socket that we leave open. Returns how many.
 */
size_t service_close_untaken(void);

#endif
