#include "sim/fake_redis.h"

#include "base/check.h"
#include "codec/resp.h"
#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct redis_peer {
	struct list link;
	struct conn conn;
	struct resp_reader *reader;
};

static void redis_answer(struct redis_peer *peer, const struct resp_value *command)
{
	char text[64];

	CHECK(command->type == RESP_ARRAY && command->count > 0);
	if (span_equal(command->items[0]->text, SPAN("PING"))) {
		(void)conn_send(&peer->conn, SPAN("+PONG\r\n"));
		return;
	}
	/* GET: what the key says, so that an answer to another's question shows. */
	CHECK(command->count == 2 && span_equal(command->items[0]->text, SPAN("GET")));
	struct span key = command->items[1]->text;
	int len = snprintf(text, sizeof(text), "$%zu\r\n%.*s\r\n", key.len, SPAN_ARGS(key));

	if (conn_send(&peer->conn, span_make(text, (size_t)len)) == -ENOBUFS)
		conn_close(&peer->conn);
}

static void redis_received(struct conn *conn, struct span bytes)
{
	struct redis_peer *peer = CONTAINER_OF(conn, struct redis_peer, conn);
	struct resp_value *value;

	CHECK(resp_reader_feed(peer->reader, bytes) == 0);
	while (resp_reader_next(peer->reader, &value) == 1) {
		redis_answer(peer, value);
		resp_value_free(value);
	}
}

static void redis_closed(struct conn *conn, enum conn_end end, int error)
{
	struct redis_peer *peer = CONTAINER_OF(conn, struct redis_peer, conn);

	(void)end, (void)error;
	list_remove(&peer->link);
	resp_reader_destroy(peer->reader);
	free(peer);
}

static const struct conn_options conn_options = {.queue_bytes_max = 1 << 20,
						 .queue_bytes_room = 64 << 10};

static void redis_accepted(struct listener *listener, struct file_ref file,
			   const struct address *from)
{
	static const struct conn_handler handler = {.received = redis_received,
						    .closed = redis_closed};
	struct redis_peer *peer = calloc(1, sizeof(*peer));

	struct fake_redis *redis = listener->context;

	(void)from;
	CHECK(peer);
	list_init(&peer->link);
	if (conn_open(&peer->conn, listener->worker, file, &handler, &conn_options) != 0) {
		free(peer); /* no room for the receive: a hostile ring's */
		return;
	}
	peer->reader = resp_reader_create(&(struct resp_limits){
		.value_bytes_max = 1u << 16, .items_max = 16, .depth_max = 7});
	CHECK(peer->reader);
	list_push_back(&redis->peers, &peer->link);
}

static void redis_stopped(struct listener *listener)
{
	struct fake_redis *redis = listener->context;

	redis->stopped(redis);
}

void fake_redis_start(struct fake_redis *redis, struct worker *worker, int fd)
{
	list_init(&redis->peers);
	redis->listener = (struct listener){.name = "redis",
					    .accepted = redis_accepted,
					    .stopped = redis_stopped,
					    .context = redis};
	CHECK(listener_start(&redis->listener, worker, fd, false) == 0);
}

void fake_redis_stop(struct fake_redis *redis, void (*stopped)(void *context))
{
	redis->stopped = stopped;
	listener_stop(&redis->listener);
	LIST_FOR_EACH (&redis->peers, link)
		conn_close(&CONTAINER_OF(link, struct redis_peer, link)->conn);
}
