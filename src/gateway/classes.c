#include "gateway/classes.h"

#include "gateway/node.h"
#include "gateway/public_auth.h"

#include <stdio.h>

static const struct metric_family limited_family = {
	"gateway_public_limited_total", "Public requests answered 429, by anti-abuse class.",
	METRIC_COUNTER};

static const char *const class_names[CLASS_COUNT] = {
	[CLASS_PUBLIC_AUTH] = "public_auth",	 [CLASS_BROWSER_BOOTSTRAP] = "browser_bootstrap",
	[CLASS_BROWSER_ASSET] = "browser_asset", [CLASS_REST_API] = "rest_api",
	[CLASS_PUBLIC_MISC] = "public_misc",
};

void classes_init(struct class_rule rules[CLASS_COUNT], const struct config *config,
		  uint8_t first_kind)
{
	const struct class_rule configured[CLASS_COUNT] = {
#define RULE(prefix)                                                                               \
	{{config->prefix##_requests, config->prefix##_window_ms, config->prefix##_burst, 0},       \
	 config->prefix##_body_limit}
		[CLASS_PUBLIC_AUTH] = RULE(abuse_auth),
		[CLASS_BROWSER_BOOTSTRAP] = RULE(abuse_bootstrap),
		[CLASS_BROWSER_ASSET] = RULE(abuse_asset),
		[CLASS_REST_API] = RULE(abuse_rest),
		[CLASS_PUBLIC_MISC] = RULE(abuse_misc),
#undef RULE
	};

	for (unsigned i = 0; i < CLASS_COUNT; i++) {
		rules[i] = configured[i];
		rules[i].bucket.kind = (uint8_t)(first_kind + i);
	}
}

static bool is_one_of(struct span text, const char *const names[2])
{
	return span_equal(text, span_from_cstr(names[0])) ||
	       span_equal(text, span_from_cstr(names[1]));
}

/* The path itself, and what is behind its next slash. */
static bool is_below(struct span path, struct span base)
{
	return base.len > 0 && span_starts_with(path, base) &&
	       (path.len == base.len || base.data[base.len - 1] == '/' ||
		path.data[base.len] == '/');
}

enum public_class classes_of(struct span method, struct span path, struct span rest_base)
{
	static const char *const auth[2] = {PUBLIC_AUTH_SEND_PATH, PUBLIC_AUTH_CONFIRM_PATH};
	static const char *const bootstrap[2] = {"/", "/index.html"};
	static const char *const probes[2] = {"/healthz", "/readyz"};

	if (is_one_of(path, auth) && span_equal(method, SPAN("POST")))
		return CLASS_PUBLIC_AUTH;
	if (is_one_of(path, probes))
		return CLASS_EXEMPT;
	if (is_below(path, rest_base))
		return CLASS_REST_API;
	if (is_one_of(path, bootstrap))
		return CLASS_BROWSER_BOOTSTRAP;
	return span_starts_with(path, SPAN("/assets/")) ? CLASS_BROWSER_ASSET : CLASS_PUBLIC_MISC;
}

/* Where the guest answers now; the file may be another tomorrow. */
static struct span rest_base(const struct node *node)
{
	const struct config_file *file = node->upstreams.current.file;

	return file && file->rest ? span_from_cstr(file->rest->base_path) : SPAN_EMPTY;
}

struct server_gate classes_admit(const struct request *request)
{
	struct node *node = request->service;
	struct node_shared *shared = node->shared;
	enum public_class class = classes_of(request->method, request->path, rest_base(node));
	bool is_guests = request->route && request->route->keeps_headers;
	uint8_t key[ADDRESS_KEY_MAX];
	size_t key_len = address_budget_key(request->peer, key);

	/* The guest has paths elsewhere, too: absolute routes, gRPC-Web, and without the edge
	 * gateway those of its two POSTs. */
	if ((class == CLASS_PUBLIC_MISC || class == CLASS_PUBLIC_AUTH) && is_guests)
		class = CLASS_REST_API;
	if (class == CLASS_EXEMPT)
		return (struct server_gate){.body_bytes_max = SIZE_MAX};

	const struct class_rule *rule = &shared->class_rules[class];
	struct server_gate gate = {.body_bytes_max = rule->body_bytes_max};

	if (key_len > 0)
		gate.wait_ms = bucket_charge(shared->buckets, &rule->bucket,
					     span_make(key, key_len), node->worker->now_ms);
	if (gate.wait_ms > 0)
		metric_add(&node->metrics.limited[class], 1);
	return gate;
}

void classes_register(struct node *node)
{
	for (int class = 0; class < CLASS_COUNT; class ++) {
		char labels[64];

		snprintf(labels, sizeof(labels), "class=\"%s\"", class_names[class]);
		metric_register(node->shared->metrics, &limited_family, labels,
				&node->metrics.limited[class]);
	}
}
