#include "push_store.h"

#include "base/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_MS 5000
#define TURN_US	   10000

int push_store_open(struct push_store *store, struct worker *worker,
		    const struct endpoint *endpoint)
{
	const struct redis_options options = {
		.endpoint = *endpoint, .role = REDIS_SESSION, .connect_timeout_ms = CONNECT_MS};
	uint64_t due_ms = worker->now_ms + CONNECT_MS;

	*store = (struct push_store){
		.worker = worker,
		.calls = calloc(PUSH_STORE_CALLS, sizeof(*store->calls)),
	};
	if (!store->calls || redis_client_create(&store->client, worker, &options) != 0) {
		store->client = NULL;
		push_store_close(store);
		return -ENOMEM;
	}
	for (size_t i = 0; i < PUSH_STORE_CALLS; i++) {
		store->calls[i].store = store;
		store->calls[i].next_free = store->free_calls;
		store->free_calls = &store->calls[i];
	}
	redis_client_start(store->client, NULL, NULL);
	while (!redis_client_is_ready(store->client) && worker->now_ms < due_ms &&
	       !*redis_client_last_error(store->client))
		if (worker_turn(worker, TURN_US) != 0)
			return -EIO;
	if (redis_client_is_ready(store->client))
		return 0;
	snprintf(store->why, sizeof(store->why), "%s", redis_client_last_error(store->client));
	return -ENOTCONN;
}

static void answered(struct redis_call *call, enum redis_outcome outcome,
		     const struct resp_value *value)
{
	struct push_call *mine = CONTAINER_OF(call, struct push_call, call);
	struct push_store *store = mine->store;

	mine->next_free = store->free_calls;
	store->free_calls = mine;
	store->waiting--;
	if (outcome == REDIS_REPLY || store->failed++ > 0)
		return;

	struct span text = value ? value->text : SPAN("the connection was lost");

	snprintf(store->why, sizeof(store->why), "Redis: %.*s", SPAN_ARGS(text));
}

int push_store_send(struct push_store *store, const struct span *args, size_t count)
{
	const struct redis_command command = {
		.args = args, .count = count, .role = REDIS_SESSION};
	struct push_call *mine = store->free_calls;

	if (!mine)
		return -EAGAIN;

	int code = redis_call_start(store->client, &mine->call, answered, &command);

	if (code == 0) {
		store->free_calls = mine->next_free;
		store->waiting++;
		return 0;
	}
	if (code == -ENOBUFS)
		return -EAGAIN;
	if (store->failed++ == 0)
		snprintf(store->why, sizeof(store->why), "Redis: %s", strerrordesc_np(-code));
	return 0;
}

int push_store_send_all(struct push_store *store, const struct span *args, size_t count)
{
	int code;

	while ((code = push_store_send(store, args, count)) == -EAGAIN)
		if ((code = worker_turn(store->worker, TURN_US)) != 0)
			break;
	return code;
}

int push_store_settle(struct push_store *store)
{
	while (store->waiting > 0) {
		int code = worker_turn(store->worker, TURN_US);

		if (code)
			return code;
	}
	return store->failed ? -EIO : 0;
}

static void client_stopped(void *context)
{
	((struct push_store *)context)->stopped = true;
}

void push_store_close(struct push_store *store)
{
	if (store->client) {
		redis_client_stop(store->client, client_stopped, store);
		while (!store->stopped && worker_turn(store->worker, TURN_US) == 0)
			;
		redis_client_destroy(store->client);
	}
	free(store->calls);
	*store = (struct push_store){0};
}
