#include "program/listeners.h"

#include "log/log.h"
#include "os/service.h"

#define WHY_BYTES 512

/* By their FileDescriptorName in systemd's socket units. */
static const char *const names[] = {"public", "grpc", "admin"};

static int open_one(struct listeners *listeners, enum listener_kind kind,
		    const struct config_endpoint *address, const char *variable, uint32_t count)
{
	const char *name = names[kind];
	struct listen_socket *sockets = &listeners->sockets[kind];
	char why[WHY_BYTES] = "passed twice by systemd";
	int error = 0;
	int fd = service_take_socket(name, &error);

	if (fd >= 0) {
		error = listen_socket_inherit(sockets, fd, why, sizeof(why));
		if (!error)
			LOG(LOG_INFO, "main",
			    "listener comes from systemd; its variable is ignored",
			    LOG_TEXT("listener", name), LOG_TEXT("variable", variable));
	} else if (!error && address->set) {
		error = listen_socket_open(sockets, &address->endpoint, count, why, sizeof(why));
	} else if (!error) {
		return 0;
	}
	listeners->bound[kind] = !error;
	if (error)
		LOG(LOG_ERROR, "main", "cannot listen", LOG_TEXT("listener", name),
		    LOG_TEXT("variable", variable), LOG_TEXT("error", why));
	return error;
}

int listeners_open(struct listeners *listeners, const struct config *config, uint32_t count)
{
	int error = open_one(listeners, LISTENER_PUBLIC, &config->public_http_addr,
			     "GATEWAY_PUBLIC_HTTP_ADDR", count);

	if (!error && config_has_edge(config))
		error = open_one(listeners, LISTENER_GRPC, &config->authenticated_grpc_addr,
				 "GATEWAY_AUTHENTICATED_GRPC_ADDR", count);
	if (!error)
		error = open_one(listeners, LISTENER_ADMIN, &config->admin_http_addr,
				 "GATEWAY_ADMIN_HTTP_ADDR", 1);
	if (!error)
		service_close_untaken();
	return error;
}

void listeners_log(const struct listeners *listeners, const char *response_key)
{
	for (int kind = 0; kind < LISTENER_COUNT; kind++) {
		if (!listeners->bound[kind])
			continue;
		if (kind == LISTENER_GRPC)
			LOG(LOG_INFO, "main", "listening", LOG_TEXT("listener", names[kind]),
			    LOG_TEXT("address", listeners->sockets[kind].text),
			    LOG_TEXT("response_key", response_key));
		else
			LOG(LOG_INFO, "main", "listening", LOG_TEXT("listener", names[kind]),
			    LOG_TEXT("address", listeners->sockets[kind].text));
	}
}

void listeners_close(struct listeners *listeners, enum listener_kind kind)
{
	if (listeners->bound[kind])
		listen_socket_close(&listeners->sockets[kind]);
	listeners->bound[kind] = false;
}

void listeners_close_all(struct listeners *listeners)
{
	for (int kind = 0; kind < LISTENER_COUNT; kind++)
		listeners_close(listeners, (enum listener_kind)kind);
}
