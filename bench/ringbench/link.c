#include "link.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#define QUEUE_BYTES_MAX (64u << 20) /* the works bound what they send by what they wait for */

bool link_source(const struct options *options, uint32_t number, struct address *source)
{
	if (options->source_addresses == 0 || options->target.storage.ss_family != AF_INET)
		return false;

	const uint8_t ip[4] = {127, 0, 0, (uint8_t)(2 + number % options->source_addresses)};

	*source = address_from_ip(span_make(ip, sizeof(ip)), 0);
	return true;
}

/* Returns a descriptor or a negative errno. */
static int link_socket(const struct lane *lane, uint32_t number)
{
	int family = lane->options->target.storage.ss_family, one = 1;
	/* blocking: on a non-blocking socket the ring's operations give EAGAIN */
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct address source;

	if (fd < 0)
		return -errno;
	if (family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (link_source(lane->options, number, &source)) {
		(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(fd, (const struct sockaddr *)&source.storage, source.len) != 0) {
			int code = -errno;

			close(fd);
			return code;
		}
	}
	return fd;
}

static void link_failed(struct link *link, int code)
{
	link->lane->stats.failed++;
	lane_fail(link->lane, "cannot connect: %s", strerrordesc_np(-code));
}

static void link_connected(struct op *op, const struct completion *completion)
{
	static const struct conn_options conn_options = {
		.queue_bytes_max = QUEUE_BYTES_MAX,
		.queue_bytes_room = QUEUE_BYTES_MAX,
	};
	struct link *link = CONTAINER_OF(op, struct link, connect_op);
	struct lane *lane = link->lane;
	int code = completion->result;

	if (code == 0)
		code = conn_open(&link->conn, lane->worker, link->file, &link->handler->conn,
				 &conn_options);
	if (code)
		link_failed(link, code);
	else
		link->handler->connected(link);
}

void link_open(struct link *link, struct lane *lane, uint32_t number,
	       const struct link_handler *handler)
{
	const struct address *target = &lane->options->target;
	int fd = link_socket(lane, number);

	link->lane = lane;
	link->handler = handler;
	link->target = (struct op_address){.storage = target->storage, .len = target->len};
	link->connect_op.done = link_connected;
	if (fd < 0) {
		link_failed(link, fd);
		return;
	}
	link->file = ring_adopt(lane->worker->ring, fd);
	int code = op_connect(lane->worker, &link->connect_op, link->file, &link->target);

	if (code)
		link_failed(link, code);
}

void link_close(struct link *link)
{
	if (link->conn.worker)
		conn_close(&link->conn);
}
