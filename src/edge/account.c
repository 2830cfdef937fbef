#include "edge/account.h"

#include "base/check.h"
#include "base/hash.h"
#include "net/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LABELS_BYTES_MAX  512
#define REGISTER_AGAIN_MS 1000 /* after the registry had no room, or no memory */

static const struct metric_family family_open = {"gateway_connections_open",
						 "Connections open now.", METRIC_GAUGE};
static const struct metric_family family_connections = {
	"gateway_connections_total", "Connections closed, by how they ended.", METRIC_COUNTER};
static const struct metric_family family_received = {
	"gateway_connection_received_bytes_total", "Bytes received from clients.", METRIC_COUNTER};
static const struct metric_family family_sent = {"gateway_connection_sent_bytes_total",
						 "Bytes sent to clients.", METRIC_COUNTER};
static const struct metric_family family_http = {"http_requests_total", "HTTP requests answered.",
						 METRIC_COUNTER};
static const struct metric_family family_http_latency = {
	"http_request_latency_seconds",
	"From a request's header to its answer, to the head of one that is streamed.",
	METRIC_HISTOGRAM};
static const struct metric_family family_grpc = {"gateway_grpc_calls_total", "gRPC calls ended.",
						 METRIC_COUNTER};
static const struct metric_family family_grpc_latency = {"gateway_grpc_call_latency_seconds",
							 "From a call's header to its status.",
							 METRIC_HISTOGRAM};

static const struct metric_family family_http1_refusals = {
	"gateway_http1_refusals_total",
	"HTTP/1.1 requests refused for their framing, by the rule they broke; the connection ends.",
	METRIC_COUNTER};

static const struct metric_family family_h2_memory = {
	"gateway_http2_memory_bytes",
	"Memory that HTTP/2 framing (nghttp2) has asked for, its frame buffers left out.",
	METRIC_GAUGE};

static const struct metric_family family_accept_failures = {
	"gateway_accept_failures_total",
	"Accepts that gave no connection: no place in the ring's table, no descriptor, no memory.",
	METRIC_COUNTER};

static const char *const outcome_names[OUTCOME_COUNT] = {
	[OUTCOME_CLOSED] = "closed",	 [OUTCOME_PEER] = "peer",
	[OUTCOME_RESET] = "reset",	 [OUTCOME_TIMEOUT] = "timeout",
	[OUTCOME_PROTOCOL] = "protocol", [OUTCOME_RESOURCE] = "resource",
	[OUTCOME_REFUSED] = "refused",	 [OUTCOME_PEER_LIMIT] = "peer_limit",
	[OUTCOME_CUT] = "cut",
};

static const char *const methods[] = {
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "other",
};
#define METHOD_OTHER (ARRAY_LEN(methods) - 1)

struct series {
	struct series *next;
	uint32_t key; /* method and status; STATUS_OTHER is past every status */
	struct metric_counter calls;
};
#define STATUS_OTHER 1000

struct route_account {
	const struct route *route; /* NULL: a label's, or none's */
	const char *path;	   /* as it is shown */
	enum route_kind kind;
	bool is_label;
	struct series *series;
	uint32_t series_count;
	bool latency_registered;
	struct metric_histogram latency;
};

/* What a service has named a path: request_set_label. */
struct label {
	struct hash_node node;
	struct list link; /* in account->labels_by_use */
	uint64_t used_ms; /* give or take a second */
	struct route_account calls;
	char text[];
};

struct account {
	const char *listener;
	enum access_log access_log;
	struct metric_registry *registry; /* may be NULL */
	struct worker *worker;
	uint64_t no_room_until_ms;	      /* the registry: it is not asked before */
	const struct metric_gauge *h2_memory; /* NULL: not watched */
	const struct metric_counter *accept_failures; /* as h2_memory */
	struct metric_gauge open;
	struct metric_counter outcomes[OUTCOME_COUNT];
	struct metric_counter glitches[GLITCH_COUNT];
	struct metric_counter http1_faults[HTTP1_FAULT_COUNT];
	struct conn_counters conn_counters;
	bool is_ending;
	uint64_t stream_lines_ms; /* since when they are counted */
	uint32_t stream_lines;
	uint64_t held_back; /* lines, not yet told */
	size_t route_count;
	enum route_kind unmatched_kind;	   /* what a call without a route mostly is here */
	struct route_account unmatched[2]; /* by enum route_kind */
	struct hash_table labels;
	struct list labels_by_use;	/* least recently first */
	struct route_account other;	/* labels that found no room */
	struct route_account routes[];	   /* by route's address */
};

/* ---- life ---- */

static void count_route(const struct route *route, void *context)
{
	size_t *count = context;

	(void)route;
	++*count;
}

static void add_route(const struct route *route, void *context)
{
	struct account *account = context;

	account->routes[account->route_count++] =
		(struct route_account){.route = route, .path = route->path, .kind = route->kind};
}

static int compare_routes(const void *a, const void *b)
{
	uintptr_t left = (uintptr_t)((const struct route_account *)a)->route;
	uintptr_t right = (uintptr_t)((const struct route_account *)b)->route;

	return left < right ? -1 : left > right;
}

/* All threads share the registry, and one that is full looks through all it has to say so. */
static int register_cell(struct account *account, const struct metric_family *family,
			 const char *labels, const void *cell)
{
	int error;

	if (!account->registry)
		return 0;
	if (account->worker->now_ms < account->no_room_until_ms)
		return -ENOMEM;
	error = metric_register(account->registry, family, labels, cell);
	if (error)
		account->no_room_until_ms = account->worker->now_ms + REGISTER_AGAIN_MS;
	return error;
}

/* ---- series ---- */

static uint32_t method_index(struct span method)
{
	for (uint32_t i = 0; i < METHOD_OTHER; i++)
		if (span_equal(method, span_from_cstr(methods[i])))
			return i;
	return METHOD_OTHER;
}

/* A quote or backslash would end the label, and half a letter spoil the whole text; a route has
 * none, but the metrics must hold whatever it is. */
static void clean_path(char *text)
{
	for (; *text != '\0'; text++)
		if (*text == '"' || *text == '\\' || *text < ' ' || *text > '~')
			*text = '_';
}

static void series_labels(char labels[LABELS_BYTES_MAX], const struct route_account *route,
			  uint32_t key)
{
	char path[LABELS_BYTES_MAX / 2];
	uint32_t status = key % (STATUS_OTHER + 1), method = key / (STATUS_OTHER + 1);

	snprintf(path, sizeof(path), "%s", route->path);
	clean_path(path);
	if (route->kind == ROUTE_GRPC)
		snprintf(labels, LABELS_BYTES_MAX, "method=\"%s\",code=\"%s\"", path,
			 grpc_status_name((int)status));
	else if (status == STATUS_OTHER)
		snprintf(labels, LABELS_BYTES_MAX, "path=\"%s\",method=\"%s\",status=\"other\"",
			 path, methods[method]);
	else
		snprintf(labels, LABELS_BYTES_MAX, "path=\"%s\",method=\"%s\",status=\"%u\"", path,
			 methods[method], status);
}

static void register_latency(struct account *account, struct route_account *route)
{
	char labels[LABELS_BYTES_MAX], path[LABELS_BYTES_MAX / 2];

	snprintf(path, sizeof(path), "%s", route->path);
	clean_path(path);
	snprintf(labels, sizeof(labels), "%s=\"%s\"", route->kind == ROUTE_GRPC ? "method" : "path",
		 path);
	route->latency_registered = register_cell(account,
						  route->kind == ROUTE_GRPC ? &family_grpc_latency
									    : &family_http_latency,
						  labels, &route->latency) == 0;
}

static struct series *series_create(struct account *account, struct route_account *route,
				    uint32_t key)
{
	struct series *series = calloc(1, sizeof(*series));
	char labels[LABELS_BYTES_MAX];

	if (!series)
		return NULL;
	series_labels(labels, route, key);
	series->key = key;
	if (register_cell(account, route->kind == ROUTE_GRPC ? &family_grpc : &family_http, labels,
			  &series->calls) != 0) {
		free(series);
		return NULL;
	}
	series->next = route->series;
	route->series = series;
	route->series_count++;
	return series;
}

/* What every call of the route has, and its success: there with 0 before the first call. */
static int register_route(struct account *account, struct route_account *route)
{
	uint32_t method, status = route->route ? 200 : 404;

	if (route->kind == ROUTE_GRPC) {
		method = 0;
		status = route->route ? GRPC_OK : GRPC_UNIMPLEMENTED;
	} else if (route->route) {
		method = method_index(span_from_cstr(route->route->method));
	} else {
		method = method_index(SPAN("GET"));
	}
	register_latency(account, route);
	return series_create(account, route, method * (STATUS_OTHER + 1) + status) ? 0 : -ENOMEM;
}

static int register_http1_faults(struct account *account)
{
	char labels[LABELS_BYTES_MAX];
	int failed = 0;

	for (size_t i = HTTP1_FAULT_NONE + 1; i < HTTP1_FAULT_COUNT; i++) {
		snprintf(labels, sizeof(labels), "reason=\"%s\"",
			 http1_fault_name((enum http1_fault)i));
		failed |= register_cell(account, &family_http1_refusals, labels,
					&account->http1_faults[i]);
	}
	return failed;
}

static int register_all(struct account *account)
{
	char labels[LABELS_BYTES_MAX];
	int failed = 0;

	snprintf(labels, sizeof(labels), "listener=\"%s\"", account->listener);
	failed |= register_cell(account, &family_open, labels, &account->open);
	failed |= register_cell(account, &family_received, labels,
				&account->conn_counters.received_bytes);
	failed |= register_cell(account, &family_sent, labels, &account->conn_counters.sent_bytes);
	for (size_t i = 0; i < OUTCOME_COUNT; i++) {
		snprintf(labels, sizeof(labels), "listener=\"%s\",outcome=\"%s\"",
			 account->listener, outcome_names[i]);
		failed |=
			register_cell(account, &family_connections, labels, &account->outcomes[i]);
	}
	for (size_t i = 0; i < GLITCH_COUNT; i++) {
		snprintf(labels, sizeof(labels), "kind=\"%s\"", glitch_row((enum glitch)i)->name);
		failed |= register_cell(account, &metric_glitches_family, labels,
					&account->glitches[i]);
	}
	failed |= register_http1_faults(account);
	for (size_t i = 0; i < account->route_count; i++)
		failed |= register_route(account, &account->routes[i]);
	failed |= register_route(account, &account->unmatched[account->unmatched_kind]);
	return failed ? -ENOMEM : 0;
}

static bool label_matches(const struct hash_node *node, struct span key)
{
	return span_equal(span_from_cstr(CONTAINER_OF(node, struct label, node)->text), key);
}

int account_create(struct account **account, struct worker *worker,
		   const struct server_options *options)
{
	size_t count = 0;

	router_each(options->router, count_route, &count);

	struct account *made = calloc(1, sizeof(*made) + count * sizeof(made->routes[0]));

	if (!made)
		return -ENOMEM;
	made->listener = options->name;
	made->access_log = options->config->access_log;
	made->registry = options->metrics;
	made->worker = worker;
	made->conn_counters.copied_bytes = options->copied_bytes;
	made->conn_counters.zerocopy = options->zerocopy;
	made->unmatched_kind = options->protocols & SERVER_GRPC ? ROUTE_GRPC : ROUTE_HTTP;
	made->unmatched[ROUTE_HTTP] =
		(struct route_account){.path = "unmatched", .kind = ROUTE_HTTP};
	made->unmatched[ROUTE_GRPC] =
		(struct route_account){.path = "unmatched", .kind = ROUTE_GRPC};
	made->other = (struct route_account){.path = "other", .kind = ROUTE_HTTP};
	/* no secret: labels are the configuration's, not the peers' */
	hash_init(&made->labels, label_matches, (struct hash_secret){0});
	list_init(&made->labels_by_use);
	router_each(options->router, add_route, made);
	qsort(made->routes, made->route_count, sizeof(made->routes[0]), compare_routes);
	if (register_all(made) != 0) {
		account_destroy(made);
		return -ENOMEM;
	}
	*account = made;
	return 0;
}

int account_watch_h2_memory(struct account *account, const struct metric_gauge *used_bytes)
{
	char labels[LABELS_BYTES_MAX];

	snprintf(labels, sizeof(labels), "listener=\"%s\"", account->listener);
	account->h2_memory = used_bytes;
	return register_cell(account, &family_h2_memory, labels, used_bytes);
}

int account_watch_accepts(struct account *account, const struct metric_counter *failed_count)
{
	char labels[LABELS_BYTES_MAX];

	snprintf(labels, sizeof(labels), "listener=\"%s\"", account->listener);
	account->accept_failures = failed_count;
	return register_cell(account, &family_accept_failures, labels, failed_count);
}

static void free_series(struct account *account, struct route_account *route)
{
	while (route->series) {
		struct series *series = route->series;

		route->series = series->next;
		if (account->registry)
			metric_unregister(account->registry, series, sizeof(*series));
		free(series);
	}
}

static void label_destroy(struct account *account, struct label *label)
{
	free_series(account, &label->calls);
	if (account->registry)
		metric_unregister(account->registry, label, sizeof(*label));
	hash_remove(&account->labels, &label->node);
	list_remove(&label->link);
	free(label);
}

void account_destroy(struct account *account)
{
	if (!account)
		return;
	if (account->held_back > 0)
		log_write(NULL, LOG_INFO, "access", "calls without a line",
			  (const struct log_field[]){LOG_TEXT("listener", account->listener),
						     LOG_UINT("held_back", account->held_back),
						     {0}});
	for (size_t i = 0; i < account->route_count; i++)
		free_series(account, &account->routes[i]);
	for (size_t i = 0; i < ARRAY_LEN(account->unmatched); i++)
		free_series(account, &account->unmatched[i]);
	free_series(account, &account->other);
	LIST_FOR_EACH(&account->labels_by_use, link)
		label_destroy(account, CONTAINER_OF(link, struct label, link));
	hash_finish(&account->labels);
	if (account->registry && account->accept_failures)
		metric_unregister(account->registry, account->accept_failures,
				  sizeof(*account->accept_failures));
	if (account->registry && account->h2_memory)
		metric_unregister(account->registry, account->h2_memory,
				  sizeof(*account->h2_memory));
	if (account->registry)
		metric_unregister(account->registry, account,
				  sizeof(*account) +
					  account->route_count * sizeof(account->routes[0]));
	free(account);
}

/* ---- connections ---- */

void account_opened(struct account *account)
{
	metric_gauge_add(&account->open, 1);
}

void account_closed(struct account *account, enum connection_outcome outcome)
{
	metric_gauge_add(&account->open, -1);
	metric_add(&account->outcomes[outcome], 1);
}

void account_glitch(struct account *account, enum glitch glitch)
{
	metric_add(&account->glitches[glitch], 1);
}

void account_http1_fault(struct account *account, enum http1_fault fault)
{
	account_glitch(account, GLITCH_HTTP1);
	metric_add(&account->http1_faults[fault], 1);
}

void account_note_ending(struct account *account)
{
	account->is_ending = true;
}

struct conn_counters *account_conn_counters(struct account *account)
{
	return &account->conn_counters;
}

/* ---- calls ---- */

/* NULL: no room, no memory. */
static struct label *label_create(struct account *account, struct span text)
{
	if (account->labels.count == ACCOUNT_LABELS_MAX) {
		struct label *oldest =
			CONTAINER_OF(account->labels_by_use.next, struct label, link);

		if (account->worker->now_ms - oldest->used_ms < ACCOUNT_LABEL_IDLE_MS)
			return NULL;
		label_destroy(account, oldest);
	}

	struct label *label = calloc(1, sizeof(*label) + text.len + 1);

	if (!label)
		return NULL;
	memcpy(label->text, text.data, text.len);
	label->calls = (struct route_account){
		.path = label->text, .kind = ROUTE_HTTP, .is_label = true};
	if (hash_insert(&account->labels, &label->node, text) != 0) {
		free(label);
		return NULL;
	}
	label->used_ms = account->worker->now_ms;
	list_push_back(&account->labels_by_use, &label->link);
	return label;
}

static struct route_account *account_label(struct account *account, const char *text)
{
	struct hash_node *node = hash_find(&account->labels, span_from_cstr(text));
	uint64_t now_ms = account->worker->now_ms;
	struct label *label = node ? CONTAINER_OF(node, struct label, node)
				   : label_create(account, span_from_cstr(text));

	if (!label)
		return &account->other;
	if (now_ms - label->used_ms >= 1000) {
		label->used_ms = now_ms;
		list_remove(&label->link);
		list_push_back(&account->labels_by_use, &label->link);
	}
	return &label->calls;
}

static struct route_account *account_route(struct account *account, const struct request *request,
					   enum route_kind kind)
{
	struct route_account key = {.route = request->route};
	struct route_account *found = NULL;

	if (request->label && kind == ROUTE_HTTP)
		return account_label(account, request->label);
	if (request->route && request->route->kind == kind)
		found = bsearch(&key, account->routes, account->route_count, sizeof(key),
				compare_routes);
	return found ? found : &account->unmatched[kind];
}

static struct series *series_find(struct route_account *route, uint32_t key)
{
	for (struct series *series = route->series; series; series = series->next)
		if (series->key == key)
			return series;
	return NULL;
}

/*
 * A rate needs a sample from before: without one the first burst of errors would be none. So what
 * alerts look for is there with 0 once the method has been called. `base`: the method's key.
 */
static void announce_errors(struct account *account, struct route_account *route, uint32_t base)
{
	static const uint32_t statuses[] = {500, 503, 504};

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (!series_find(route, base + statuses[i]))
			(void)series_create(account, route, base + statuses[i]);
}

static void count_call(struct account *account, struct route_account *route,
		       const struct request *request)
{
	uint32_t method = route->kind == ROUTE_GRPC ? 0 : method_index(request->method);
	uint32_t status = (uint32_t)request->status;
	uint32_t base = method * (STATUS_OTHER + 1);

	if (route->kind == ROUTE_GRPC && status >= GRPC_STATUS_COUNT)
		status = GRPC_UNKNOWN;

	struct series *series = series_find(route, base + status);

	if (!series && (status >= STATUS_OTHER || route->series_count >= ACCOUNT_SERIES_MAX)) {
		base = METHOD_OTHER * (STATUS_OTHER + 1);
		status = STATUS_OTHER;
		series = series_find(route, base + status);
	}
	/* Without room for its cell this call goes uncounted; a later one tries again. */
	if (!series) {
		series = series_create(account, route, base + status);
		if (route->is_label && method != METHOD_OTHER)
			announce_errors(account, route, base);
	}
	if (series)
		metric_add(&series->calls, 1);
}

static bool is_stream(const struct request *request)
{
	return request->route && request->route->long_lived;
}

/*
 * What the operator should look at: HTTP 5xx of ours, and every gRPC code but OK and CANCELLED (the
 * client's own decision), and but the UNAVAILABLE by which we end streams at the end of the
 * process.
 */
static bool is_error(const struct account *account, const struct request *request,
		     enum route_kind kind)
{
	/* 501 and 505 say what the client asked for, and it may do so without end. */
	if (kind != ROUTE_GRPC)
		return request->status >= 500 && request->status != 501 && request->status != 505;
	if (account->is_ending && is_stream(request) && request->status == GRPC_UNAVAILABLE)
		return false;
	return request->status != GRPC_OK && request->status != GRPC_CANCELLED;
}

/* Whether one more line of a stream may be written in this second. */
static bool take_stream_line(struct account *account)
{
	uint64_t now_ms = account->worker->now_ms;

	if (now_ms - account->stream_lines_ms >= 1000) {
		account->stream_lines_ms = now_ms;
		account->stream_lines = 0;
	}
	if (account->stream_lines >= ACCOUNT_STREAM_LINES_PER_S) {
		account->held_back++;
		return false;
	}
	account->stream_lines++;
	return true;
}

/* The line has its own switch and is the record of a call: its level does not hold it back. */
static bool is_logged(struct account *account, const struct request *request, enum route_kind kind)
{
	bool is_wanted =
		account->access_log == ACCESS_LOG_ALL ||
		(account->access_log == ACCESS_LOG_ERRORS && is_error(account, request, kind));

	return is_wanted && (!is_stream(request) || take_stream_line(account));
}

static void log_call(struct account *account, const struct request *request, const char *path,
		     enum route_kind kind)
{
	uint64_t latency_us = account->worker->now_us - request->started_us;
	struct log_field fields[10] = {
		LOG_TEXT("listener", account->listener),
		LOG_TEXT("method", methods[method_index(request->method)]),
		LOG_TEXT("path", path),
		kind == ROUTE_GRPC ? LOG_TEXT("code", grpc_status_name(request->status))
				   : LOG_INT("status", request->status),
		LOG_MS("latency_ms", latency_us),
		LOG_UINT("bytes", request->sent_bytes),
	};
	size_t count = 6;

	if (request->request_id.len > 0)
		fields[count++] = LOG_BYTES("request_id", request->request_id);
	if (request->trace_id.len > 0)
		fields[count++] = LOG_BYTES("trace_id", request->trace_id);
	if (account->held_back > 0)
		fields[count++] = LOG_UINT("held_back", account->held_back);
	account->held_back = 0;
	log_write(NULL, LOG_INFO, "access", "call", fields);
}

static void observe(struct account *account, struct route_account *route,
		    const struct request *request)
{
	if (!route->latency_registered)
		register_latency(account, route);
	metric_observe_us(&route->latency, account->worker->now_us - request->started_us);
}

void account_begun(struct account *account, const struct request *request)
{
	observe(account, account_route(account, request, ROUTE_HTTP), request);
}

void account_call(struct account *account, const struct request *request, enum route_kind kind)
{
	struct route_account *route = account_route(account, request, kind);

	count_call(account, route, request);
	if (!request->is_begun)
		observe(account, route, request);
	if (is_logged(account, request, kind))
		log_call(account, request, request->label ? request->label : route->path, kind);
}
