#include "os/service.h"

#include "log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

static struct {
	bool is_read;
	int error;    /* of reading LISTEN_FDS */
	size_t count; /* descriptors from SD_LISTEN_FDS_START on */
	char **names; /* one each, allocated by libsystemd, kept for the process's life */
	bool taken[SERVICE_SOCKETS_MAX];
} service;

static void notify_failed(int code)
{
	if (code < 0)
		LOG(LOG_WARN, "service", "systemd could not be notified", LOG_INT("error", code));
}

void service_notify_ready(const char *status)
{
	notify_failed(sd_notifyf(0, "READY=1\nSTATUS=%s", status));
}

void service_notify_reloading(const char *status)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	/* systemd from 253 tells this reload from an earlier one by the time (sd_notify(3)) */
	notify_failed(sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=%s",
				 (unsigned long long)now.tv_sec * 1000000 +
					 (unsigned long long)now.tv_nsec / 1000,
				 status));
}

void service_notify_stopping(const char *status)
{
	notify_failed(sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status));
}

void service_notify_extend(uint64_t usec)
{
	notify_failed(sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec));
}

static void read_once(void)
{
	if (service.is_read)
		return;
	service.is_read = true;

	int count = sd_listen_fds_with_names(1, &service.names);

	if (count < 0)
		service.error = count;
	else if (count > SERVICE_SOCKETS_MAX)
		service.error = -E2BIG;
	else
		service.count = (size_t)count;
}

static const char *name_of(size_t i)
{
	return service.names && service.names[i] ? service.names[i] : "";
}

int service_take_socket(const char *name, int *error)
{
	int found = -1;

	read_once();
	*error = service.error;
	for (size_t i = 0; i < service.count; i++) {
		if (strcmp(name_of(i), name) != 0)
			continue;
		if (found >= 0) {
			*error = -EINVAL;
			return -1;
		}
		found = (int)i;
	}
	if (found < 0 || service.taken[found])
		return -1;

	int fd = SD_LISTEN_FDS_START + found;

	if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
		*error = -ENOTSOCK;
		return -1;
	}
	service.taken[found] = true;
	return fd;
}

size_t service_close_untaken(void)
{
	size_t closed = 0;

	read_once();
	for (size_t i = 0; i < service.count; i++) {
		if (service.taken[i])
			continue;
		service.taken[i] = true;
		closed++;
		close(SD_LISTEN_FDS_START + (int)i);
		LOG(LOG_WARN, "service", "passed socket is not used", LOG_TEXT("name", name_of(i)));
	}
	return closed;
}
