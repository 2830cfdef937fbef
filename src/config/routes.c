#include "config/routes.h"

#include "base/arena.h"
#include "base/check.h"
#include "base/explain.h"
#include "config/file.h"
#include "config/option.h"
#include "config/rest_internal.h"
#include "config/tree.h"

#include <errno.h>
#include <stdlib.h>

#define MESSAGE_TYPE_MAX 128 /* edge.md §2.2 */

#define DEADLINE_MS_MAX        3600000
#define HEALTH_INTERVAL_MS_MIN 10
#define HEALTH_INTERVAL_MS_MAX 3600000
#define CONNECTIONS_MAX        64      /* per worker and address: streams share a connection */
#define IN_FLIGHT_MAX          1000000
#define BREAKER_CALLS_MAX      1000000
#define BREAKER_WINDOW_MS_MIN  100
#define BREAKER_OPEN_MS_MIN    10
#define BREAKER_MS_MAX         3600000

/* A command as the file has it, in the file's order. */
struct draft {
	struct config_command command;
	const yaml_node_t *type_node; /* NULL: no usable message_type */
	const struct draft *earlier;  /* the same pattern, before this one */
	bool has_upstream;
};

struct routes {
	struct tree tree;
	struct config_file *file;
	const yaml_node_t *upstreams, *commands, *descriptor_sets, *rest;
	struct draft *drafts;
	size_t draft_count;
	bool no_memory;
};

static struct routes *routes_of(struct tree *tree)
{
	return CONTAINER_OF(tree, struct routes, tree);
}

static void *routes_alloc(struct routes *routes, size_t count, size_t size)
{
	void *memory = arena_alloc(routes->file->memory, count * size);

	if (!memory)
		routes->no_memory = true;
	return memory;
}

/* --- an upstream --- */

static bool has_address(const struct config_upstream *upstream, const struct endpoint *endpoint)
{
	for (size_t i = 0; i < upstream->address_count; i++)
		if (endpoint_equal(&upstream->addresses[i], endpoint))
			return true;
	return false;
}

static void take_address(struct tree *tree, const yaml_node_t *node,
			 struct config_upstream *upstream)
{
	struct endpoint *endpoint = &upstream->addresses[upstream->address_count];
	struct span text;

	if (!tree_text(tree, node, "an address", &text))
		return;
	if (endpoint_parse(text, endpoint) != 0)
		tree_mistake(tree, node, "%s is no address (host:port, [v6]:port, unix:/path)",
			     quoted_make(text).text);
	else if (endpoint->kind == ENDPOINT_ANY)
		tree_mistake(tree, node, "%s needs a host before the port",
			     quoted_make(text).text);
	else if (endpoint->kind == ENDPOINT_HOST && endpoint->port == 0)
		tree_mistake(tree, node, "%s: port 0 cannot be connected to",
			     quoted_make(text).text);
	else if (has_address(upstream, endpoint))
		tree_mistake(tree, node, "address %s is here twice", quoted_make(text).text);
	else
		upstream->address_count++;
}

static void take_addresses(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;

	if (!tree_is_sequence(tree, node, "addresses"))
		return;

	const yaml_node_item_t *item = node->data.sequence.items.start;
	size_t count = (size_t)(node->data.sequence.items.top - item);

	if (count == 0) {
		tree_mistake(tree, node, "addresses must not be empty");
		return;
	}
	if (count > UPSTREAM_ADDRESSES_MAX) {
		tree_mistake(tree, node, "more than %d addresses", UPSTREAM_ADDRESSES_MAX);
		return;
	}
	upstream->addresses = routes_alloc(routes_of(tree), count, sizeof(struct endpoint));
	for (size_t i = 0; upstream->addresses && i < count; i++)
		take_address(tree, tree_node(tree, item[i]), upstream);
}

static void take_deadline(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;

	tree_duration(tree, node, (struct tree_number){ "deadline", 1, DEADLINE_MS_MAX },
		      &upstream->deadline_ms);
}

static void take_connections(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;
	uint64_t value;

	if (tree_count(tree, node, (struct tree_number){ "connections", 1, CONNECTIONS_MAX },
		       &value))
		upstream->connections = (uint32_t)value;
}

static void take_max_in_flight(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;
	uint64_t value;

	if (tree_count(tree, node, (struct tree_number){ "max_in_flight", 1, IN_FLIGHT_MAX },
		       &value))
		upstream->max_in_flight = (uint32_t)value;
}

static void take_health(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;

	tree_bool(tree, node, "health", &upstream->health);
}

static void take_health_interval(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;

	tree_duration(tree, node,
		      (struct tree_number){ "health_interval", HEALTH_INTERVAL_MS_MIN,
					    HEALTH_INTERVAL_MS_MAX },
		      &upstream->health_interval_ms);
}

/* --- its breaker --- */

static void take_breaker_enabled(struct tree *tree, const yaml_node_t *node, void *target)
{
	tree_bool(tree, node, "enabled", &((struct config_breaker *)target)->enabled);
}

static void take_small(struct tree *tree, const yaml_node_t *node, struct tree_number number,
		       uint32_t *target)
{
	uint64_t value;

	if (tree_count(tree, node, number, &value))
		*target = (uint32_t)value;
}

static void take_breaker_failures(struct tree *tree, const yaml_node_t *node, void *target)
{
	take_small(tree, node, (struct tree_number){ "failures", 1, BREAKER_CALLS_MAX },
		   &((struct config_breaker *)target)->failures);
}

static void take_breaker_ratio(struct tree *tree, const yaml_node_t *node, void *target)
{
	take_small(tree, node, (struct tree_number){ "ratio", 1, 100 },
		   &((struct config_breaker *)target)->ratio);
}

static void take_breaker_calls(struct tree *tree, const yaml_node_t *node, void *target)
{
	take_small(tree, node, (struct tree_number){ "calls", 1, BREAKER_CALLS_MAX },
		   &((struct config_breaker *)target)->calls);
}

static void take_breaker_window(struct tree *tree, const yaml_node_t *node, void *target)
{
	tree_duration(tree, node,
		      (struct tree_number){ "window", BREAKER_WINDOW_MS_MIN, BREAKER_MS_MAX },
		      &((struct config_breaker *)target)->window_ms);
}

static void take_breaker_open(struct tree *tree, const yaml_node_t *node, void *target)
{
	tree_duration(tree, node,
		      (struct tree_number){ "open", BREAKER_OPEN_MS_MIN, BREAKER_MS_MAX },
		      &((struct config_breaker *)target)->open_ms);
}

static const struct tree_key breaker_keys[] = {
	{ "enabled", false, take_breaker_enabled },
	{ "failures", false, take_breaker_failures },
	{ "ratio", false, take_breaker_ratio },
	{ "calls", false, take_breaker_calls },
	{ "window", false, take_breaker_window },
	{ "open", false, take_breaker_open },
	{ NULL, false, NULL },
};

static void take_breaker(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct config_upstream *upstream = target;

	if (tree_is_mapping(tree, node, "breaker"))
		tree_walk(tree, node, breaker_keys, &upstream->breaker);
}

static const struct tree_key upstream_keys[] = {
	{ "addresses", true, take_addresses },
	{ "deadline", false, take_deadline },
	{ "connections", false, take_connections },
	{ "max_in_flight", false, take_max_in_flight },
	{ "health", false, take_health },
	{ "health_interval", false, take_health_interval },
	{ "breaker", false, take_breaker },
	{ NULL, false, NULL },
};

/* Names are metric labels and log fields: letters, digits, '_', '-', '.'. */
static bool is_upstream_name(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t byte = name.data[i];
		bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

		if (!letter && !(byte >= '0' && byte <= '9') && byte != '_' && byte != '-' &&
		    byte != '.')
			return false;
	}
	return name.len > 0 && name.len <= UPSTREAM_NAME_MAX;
}

/* Whether the name may be used; a body under a bad one is examined all the same. */
static bool name_is_usable(struct routes *routes, const yaml_node_t *key, struct span *name)
{
	if (!tree_text(&routes->tree, key, "an upstream's name", name))
		return false;
	if (!is_upstream_name(*name)) {
		tree_mistake(&routes->tree, key,
			     "%s is no upstream name (1 to %d of letters, digits, _ - .)",
			     quoted_make(*name).text, UPSTREAM_NAME_MAX);
		return false;
	}
	if (config_upstream_find(routes->file, *name) >= 0) {
		tree_mistake(&routes->tree, key, "upstream %s is here twice",
			     quoted_make(*name).text);
		return false;
	}
	return true;
}

static void take_upstream(struct routes *routes, const yaml_node_pair_t *pair)
{
	struct config_file *file = routes->file;
	struct config_upstream *upstream = &file->upstreams[file->upstream_count];
	const yaml_node_t *body = tree_node(&routes->tree, pair->value);
	struct span name;
	bool usable = name_is_usable(routes, tree_node(&routes->tree, pair->key), &name);

	*upstream = (struct config_upstream){
		.deadline_ms = 2000,
		.connections = 2,
		.max_in_flight = 1024,
		.health = true,
		.health_interval_ms = 5000,
		.breaker = config_breaker_default,
	};
	if (tree_is_mapping(&routes->tree, body, "an upstream"))
		tree_walk(&routes->tree, body, upstream_keys, upstream);
	if (!usable)
		return;
	memcpy(upstream->name, name.data, name.len);
	file->upstream_count++; /* even with mistakes: commands that name it are right to */
}

static void take_upstreams(struct routes *routes)
{
	const yaml_node_t *node = routes->upstreams;
	struct config_file *file = routes->file;

	if (!node || !tree_is_mapping(&routes->tree, node, "upstreams"))
		return;

	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	size_t count = (size_t)(node->data.mapping.pairs.top - pair);

	if (count > UPSTREAMS_MAX) {
		tree_mistake(&routes->tree, tree_node(&routes->tree, pair[UPSTREAMS_MAX].key),
			     "more than %d upstreams", UPSTREAMS_MAX);
		count = UPSTREAMS_MAX;
	}
	if (count > 0)
		file->upstreams = routes_alloc(routes, count, sizeof(file->upstreams[0]));
	for (size_t i = 0; file->upstreams && i < count; i++)
		take_upstream(routes, &pair[i]);
}

/* --- commands --- */

/* What is wrong with a pattern, NULL if nothing. `*text` is then without its '*'. */
static const char *pattern_parse(struct span *text, bool *prefix)
{
	*prefix = text->len > 0 && text->data[text->len - 1] == '*';
	if (*prefix)
		text->len--;
	else if (text->len == 0)
		return "must not be empty";
	if (text->len > MESSAGE_TYPE_MAX)
		return "is longer than 128 bytes";
	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] < 0x20 || text->data[i] > 0x7e)
			return "must be printable ASCII";
		if (text->data[i] == '*')
			return "may have a * only at its end";
	}
	return NULL;
}

static void take_message_type(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct draft *draft = target;
	struct span text;

	if (!tree_text(tree, node, "message_type", &text))
		return;

	struct quoted shown = quoted_make(text);
	const char *wrong = pattern_parse(&text, &draft->command.prefix);

	if (wrong) {
		tree_mistake(tree, node, "message_type %s %s", shown.text, wrong);
		return;
	}

	struct span copy = arena_copy(routes_of(tree)->file->memory, text);

	if (!copy.data) {
		routes_of(tree)->no_memory = true;
		return;
	}
	draft->command.message_type = (char *)(uintptr_t)copy.data;
	draft->type_node = node;
}

static void take_command_upstream(struct tree *tree, const yaml_node_t *node, void *target)
{
	struct draft *draft = target;
	struct span name;

	if (!tree_text(tree, node, "upstream", &name))
		return;

	int index = config_upstream_find(routes_of(tree)->file, name);

	if (index < 0) {
		tree_mistake(tree, node, "upstream %s is not among the upstreams",
			     quoted_make(name).text);
		return;
	}
	draft->command.upstream = (uint32_t)index;
	draft->has_upstream = true;
}

static const struct tree_key command_keys[] = {
	{ "message_type", true, take_message_type },
	{ "upstream", true, take_command_upstream },
	{ NULL, false, NULL },
};

/* By bytes; the prefix before the exact one of the same text. */
static int command_compare(const void *a, const void *b)
{
	const struct config_command *left = a, *right = b;
	int order = strcmp(left->message_type, right->message_type);

	return order ? order : (int)right->prefix - (int)left->prefix;
}

static int draft_compare(const void *a, const void *b)
{
	const struct draft *left = *(const struct draft *const *)a;
	const struct draft *right = *(const struct draft *const *)b;
	int order = command_compare(&left->command, &right->command);

	return order ? order : (left > right) - (left < right);
}

static void report_twice(struct routes *routes)
{
	for (size_t i = 0; i < routes->draft_count; i++) {
		const struct draft *draft = &routes->drafts[i];

		if (!draft->earlier)
			continue;
		tree_mistake(&routes->tree, draft->type_node,
			     "message_type \"%s%s\" is routed already, in line %zu",
			     draft->command.message_type, draft->command.prefix ? "*" : "",
			     draft->earlier->type_node->start_mark.line + 1);
	}
}

/* Finds equal patterns by sorting pointers; the report keeps the file's order. */
static void find_twice(struct routes *routes)
{
	struct draft **sorted = routes_alloc(routes, routes->draft_count, sizeof(sorted[0]));
	size_t count = 0;

	for (size_t i = 0; sorted && i < routes->draft_count; i++) {
		if (routes->drafts[i].type_node)
			sorted[count++] = &routes->drafts[i];
	}
	if (count < 2)
		return;
	qsort(sorted, count, sizeof(sorted[0]), draft_compare);
	for (size_t i = 1; i < count; i++) {
		const struct draft *first = sorted[i - 1]->earlier ? sorted[i - 1]->earlier
								    : sorted[i - 1];

		if (command_compare(&first->command, &sorted[i]->command) == 0)
			sorted[i]->earlier = first;
	}
	report_twice(routes);
}

static void keep_commands(struct routes *routes)
{
	struct config_file *file = routes->file;

	file->commands = routes_alloc(routes, routes->draft_count, sizeof(file->commands[0]));
	for (size_t i = 0; file->commands && i < routes->draft_count; i++) {
		const struct draft *draft = &routes->drafts[i];

		if (draft->type_node && !draft->earlier && draft->has_upstream)
			file->commands[file->command_count++] = draft->command;
	}
	routes_link(file->commands, file->command_count);
}

static void take_commands(struct routes *routes)
{
	const yaml_node_t *node = routes->commands;

	if (!node || !tree_is_sequence(&routes->tree, node, "commands"))
		return;

	const yaml_node_item_t *item = node->data.sequence.items.start;
	size_t count = (size_t)(node->data.sequence.items.top - item);

	if (count > COMMANDS_MAX) {
		tree_mistake(&routes->tree, tree_node(&routes->tree, item[COMMANDS_MAX]),
			     "more than %d commands", COMMANDS_MAX);
		count = COMMANDS_MAX;
	}
	if (count == 0)
		return;
	routes->file->commands_place = rest_place(node);
	routes->drafts = routes_alloc(routes, count, sizeof(routes->drafts[0]));
	if (!routes->drafts)
		return;
	for (; routes->draft_count < count; routes->draft_count++) {
		const yaml_node_t *body = tree_node(&routes->tree, item[routes->draft_count]);

		if (tree_is_mapping(&routes->tree, body, "a command"))
			tree_walk(&routes->tree, body, command_keys,
				  &routes->drafts[routes->draft_count]);
	}
	find_twice(routes);
	keep_commands(routes);
}

void routes_link(struct config_command *commands, size_t count)
{
	if (count > 1)
		qsort(commands, count, sizeof(commands[0]), command_compare);
	for (size_t i = 0; i < count; i++) {
		/* Sorted: whatever prefixes this one are its neighbour or that one's own prefixes. */
		int32_t at = (int32_t)i - 1;

		while (at >= 0 && !(commands[at].prefix &&
				    span_starts_with(span_from_cstr(commands[i].message_type),
						     span_from_cstr(commands[at].message_type))))
			at = commands[at].shorter;
		commands[i].shorter = at;
	}
}

/* --- the file --- */

/* What the root's keys take: upstreams first, whatever their order in the file. */
static void keep_upstreams_node(struct tree *tree, const yaml_node_t *node, void *target)
{
	(void)tree;
	((struct routes *)target)->upstreams = node;
}

static void keep_commands_node(struct tree *tree, const yaml_node_t *node, void *target)
{
	(void)tree;
	((struct routes *)target)->commands = node;
}

static void keep_descriptor_sets_node(struct tree *tree, const yaml_node_t *node, void *target)
{
	(void)tree;
	((struct routes *)target)->descriptor_sets = node;
}

static void keep_rest_node(struct tree *tree, const yaml_node_t *node, void *target)
{
	(void)tree;
	((struct routes *)target)->rest = node;
}

static const struct tree_key root_keys[] = {
	{ "upstreams", false, keep_upstreams_node },
	{ "commands", false, keep_commands_node },
	{ "descriptor_sets", false, keep_descriptor_sets_node },
	{ "rest", false, keep_rest_node },
	{ NULL, false, NULL },
};

int routes_parse(struct config_file *file, const char *path, struct span text, struct report *report)
{
	struct routes routes = { .file = file };
	int error = tree_parse(&routes.tree, path, text, report);
	const yaml_node_t *root = error ? NULL : tree_root(&routes.tree);

	if (root && tree_is_mapping(&routes.tree, root, "the file")) {
		tree_walk(&routes.tree, root, root_keys, &routes);
		take_upstreams(&routes);
		take_commands(&routes);
		if (rest_read(file, &routes.tree, routes.descriptor_sets, routes.rest) != 0)
			routes.no_memory = true;
	}
	tree_finish(&routes.tree);
	return error == -ENOMEM || routes.no_memory ? -ENOMEM : 0;
}

int routes_load(struct config_file *file, const char *path, struct report *report)
{
	struct buf bytes;
	int error = file_read(path, ROUTES_FILE_MAX, &bytes);

	if (error == -EFBIG)
		report_mistake(report, "GATEWAY_CONFIG_FILE", "%s is larger than 4 MiB",
			       quoted_make(span_from_cstr(path)).text);
	else if (error && error != -ENOMEM)
		report_mistake(report, "GATEWAY_CONFIG_FILE", "cannot read %s: %s",
			       quoted_make(span_from_cstr(path)).text,
			       errno_text(-error));
	else if (!error)
		error = routes_parse(file, path, buf_span(&bytes), report);
	file_forget(&bytes);
	return error == -ENOMEM ? error : 0;
}
