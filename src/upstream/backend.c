#include "base/check.h"
#include "base/fsm.h"
#include "log/log.h"
#include "upstream/grpc_internal.h"

#include <errno.h>
#include <stdlib.h>

/* TCP and the HTTP/2 greeting together: the upstream's deadline, within these. */
#define CONNECT_MS_MIN 500
#define CONNECT_MS_MAX 5000

static const char *const state_names[DIALER_STATES] = {
	[DIALER_OFF] = "off",
	[DIALER_DIALING] = "dialing",
	[DIALER_CONNECTED] = "connected",
	[DIALER_WAITING] = "waiting",
	[DIALER_STOPPING] = "stopping",
};

static const uint32_t state_moves[DIALER_STATES] = {
	[DIALER_OFF] = FSM_TO(DIALER_DIALING),
	[DIALER_DIALING] =
		FSM_TO(DIALER_CONNECTED) | FSM_TO(DIALER_WAITING) | FSM_TO(DIALER_STOPPING),
	[DIALER_CONNECTED] = FSM_TO(DIALER_WAITING) | FSM_TO(DIALER_OFF),
	[DIALER_WAITING] = FSM_TO(DIALER_DIALING) | FSM_TO(DIALER_WAITING) | FSM_TO(DIALER_OFF),
	[DIALER_STOPPING] = FSM_TO(DIALER_OFF),
};

static const struct fsm dialer_fsm = {
	.name = "upstream dialer",
	.state_count = DIALER_STATES,
	.state_names = state_names,
	.moves = state_moves,
};

static void dialer_move(struct dialer *dialer, enum dialer_state next)
{
	fsm_move(&dialer_fsm, &dialer->state, (uint8_t)next);
}

void backend_log(const struct backend *backend, enum log_level level, const char *message,
		 const char *why)
{
	const char *name = backend->upstream->config->name;

	if (*why)
		LOG(level, "upstream", message, LOG_TEXT("upstream", name),
		    LOG_TEXT("address", backend->text), LOG_TEXT("reason", why));
	else
		LOG(level, "upstream", message, LOG_TEXT("upstream", name),
		    LOG_TEXT("address", backend->text));
}

/* ---- one connection, again and again ---- */

static void dialer_wait(struct dialer *dialer, uint32_t after_ms)
{
	struct upstream *upstream = dialer->backend->upstream;

	dialer_move(dialer, DIALER_WAITING);
	deadline_arm(upstream->worker, &dialer->retry, after_ms);
	/* those that waited for this connection may have lost hope */
	upstream_pump_later(upstream);
}

static void dialer_fail(struct dialer *dialer, int error)
{
	link_destroy(dialer->link);
	dialer->link = NULL;
	dialer->was_silent = error == -ETIMEDOUT;
	dialer->calls_wait = false;
	dialer->backoff.failed_tries++;
	backend_log(dialer->backend, LOG_WARN, "cannot connect",
		    endpoint_error_text(dialer->backend->endpoint, error));
	dialer_wait(dialer, backoff_wait_ms(&dialer->backoff));
}

static uint32_t connect_ms(const struct dialer *dialer)
{
	uint64_t deadline_ms = dialer->backend->upstream->config->deadline_ms;

	if (deadline_ms < CONNECT_MS_MIN)
		return CONNECT_MS_MIN;
	return deadline_ms > CONNECT_MS_MAX ? CONNECT_MS_MAX : (uint32_t)deadline_ms;
}

static void dialer_dialed(struct dial *dial, int error, struct file_ref file,
			  const struct address *peer)
{
	struct dialer *dialer = CONTAINER_OF(dial, struct dialer, dial);
	uint64_t due_ms = dialer->dial_started_ms + connect_ms(dialer);
	uint64_t now_ms = dialer->backend->upstream->worker->now_ms;

	(void)peer;
	if (!error)
		error = link_open(dialer->link, file,
				  due_ms > now_ms ? (uint32_t)(due_ms - now_ms) : 1);
	if (error)
		dialer_fail(dialer, error);
	else
		dialer_move(dialer, DIALER_CONNECTED);
}

static void dialer_dial(struct dialer *dialer)
{
	struct upstream *upstream = dialer->backend->upstream;

	dialer->link = link_create(dialer);
	if (!dialer->link) {
		dialer->calls_wait = false;
		dialer->backoff.failed_tries++;
		if (dialer->state == DIALER_OFF)
			dialer_move(dialer, DIALER_DIALING);
		dialer_wait(dialer, backoff_wait_ms(&dialer->backoff));
		return;
	}
	if (dialer->dialed_before)
		metric_add(&upstream->metrics.reconnects, 1);
	dialer->dialed_before = true;
	dialer->dial_started_ms = upstream->worker->now_ms;
	dialer_move(dialer, DIALER_DIALING);
	dial_start(&dialer->dial, upstream->worker, upstream->options.dns,
		   dialer->backend->endpoint, connect_ms(dialer), dialer_dialed);
}

static void dialer_retry(struct deadline *deadline)
{
	dialer_dial(CONTAINER_OF(deadline, struct dialer, retry));
}

void dialer_lost(struct dialer *dialer, enum dialer_loss loss)
{
	dialer->link = NULL;
	dialer->was_silent = loss == LOSS_SILENT;
	if (loss == LOSS_FAILED || loss == LOSS_SILENT)
		dial_blame(&dialer->dial);
	if (dialer->backend->upstream->is_stopping) {
		dialer_move(dialer, DIALER_OFF);
		return;
	}
	if (loss == LOSS_GRACEFUL || loss == LOSS_BROKEN)
		dialer->backoff.failed_tries = 0;
	else
		dialer->backoff.failed_tries++;
	dialer->calls_wait = loss != LOSS_FAILED && loss != LOSS_SILENT;
	dialer_wait(dialer, loss == LOSS_GRACEFUL ? 0 : backoff_wait_ms(&dialer->backoff));
}

static void dialer_is_idle(struct dial *dial)
{
	struct dialer *dialer = CONTAINER_OF(dial, struct dialer, dial);

	link_destroy(dialer->link);
	dialer->link = NULL;
	dialer_move(dialer, DIALER_OFF);
	upstream_settle_later(dialer->backend->upstream);
}

static void dialer_stop(struct dialer *dialer)
{
	if (dialer->state == DIALER_WAITING) {
		deadline_disarm(dialer->backend->upstream->worker, &dialer->retry);
		dialer_move(dialer, DIALER_OFF);
	} else if (dialer->state == DIALER_DIALING) {
		dialer_move(dialer, DIALER_STOPPING);
		dial_cancel(&dialer->dial, dialer_is_idle);
	}
}

/* ---- the address ---- */

static void set_authority(struct backend *backend)
{
	/* a socket's path is no authority (RFC 3986 §3.2) */
	const char *text = backend->endpoint->kind == ENDPOINT_UNIX ? "localhost" : backend->text;

	memcpy(backend->authority, text, strlen(text) + 1);
}

void backend_init(struct backend *backend, struct upstream *upstream,
		  const struct endpoint *endpoint)
{
	backend->upstream = upstream;
	backend->endpoint = endpoint;
	endpoint_format(endpoint, backend->text);
	set_authority(backend);
	list_init(&backend->links);
	for (uint32_t i = 0; i < upstream->config->connections; i++) {
		struct dialer *dialer = &backend->dialers[i];

		dialer->backend = backend;
		deadline_init(&dialer->retry, dialer_retry);
		backoff_init(&dialer->backoff);
	}
	health_init(backend);
}

void backend_start(struct backend *backend)
{
	for (uint32_t i = 0; i < backend->upstream->config->connections; i++)
		dialer_dial(&backend->dialers[i]);
}

void backend_stop(struct backend *backend)
{
	health_stop(backend);
	for (uint32_t i = 0; i < backend->upstream->config->connections; i++)
		dialer_stop(&backend->dialers[i]);
	/* their memory stays until they are closed, whatever the callbacks do */
	LIST_FOR_EACH (&backend->links, node)
		link_drop(CONTAINER_OF(node, struct upstream_link, link), "", true);
}

bool backend_is_stopped(const struct backend *backend)
{
	for (uint32_t i = 0; i < backend->upstream->config->connections; i++)
		if (backend->dialers[i].state != DIALER_OFF)
			return false;
	return list_is_empty(&backend->links);
}

struct upstream_link *backend_pick(struct backend *backend, uint64_t avoided_link)
{
	uint32_t count = backend->upstream->config->connections;

	if (backend->ready_count == 0)
		return NULL;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = (backend->dialer_next + i) % count;
		struct dialer *dialer = &backend->dialers[at];

		if (dialer->state != DIALER_CONNECTED || dialer->link->serial == avoided_link ||
		    !link_has_room(dialer->link))
			continue;
		backend->dialer_next = (at + 1) % count;
		return dialer->link;
	}
	return NULL;
}

static bool dialer_is_hopeful(const struct dialer *dialer, uint64_t avoided_link)
{
	switch ((enum dialer_state)dialer->state) {
	case DIALER_CONNECTED:
		return dialer->link->serial != avoided_link && !dialer->was_silent;
	case DIALER_DIALING:
		return !dialer->was_silent;
	case DIALER_WAITING:
		return dialer->calls_wait;
	case DIALER_OFF:
	case DIALER_STOPPING:
	case DIALER_STATES:
		break;
	}
	return false;
}

bool backend_is_hopeful(const struct backend *backend, uint64_t avoided_link)
{
	if (backend->health == HEALTH_BAD)
		return false;
	for (uint32_t i = 0; i < backend->upstream->config->connections; i++)
		if (dialer_is_hopeful(&backend->dialers[i], avoided_link))
			return true;
	return false;
}

void backend_show(struct backend *backend)
{
	bool is_able = backend->health == HEALTH_GOOD && backend->ready_count > 0 &&
		       backend->upstream->is_running;

	if (is_able && metric_gauge_value(&backend->healthy) == 0)
		guard_hope(&backend->upstream->guard);
	metric_gauge_set(&backend->healthy, is_able);
	upstream_pump_later(backend->upstream);
}

void backend_gain(struct backend *backend)
{
	backend->ready_count++;
	if (backend->ready_count == 1)
		health_begin(backend);
	backend_show(backend);
}

void backend_lose(struct backend *backend)
{
	backend->ready_count--;
	if (backend->ready_count == 0)
		health_forget(backend);
	backend_show(backend);
}
