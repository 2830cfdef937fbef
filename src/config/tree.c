#include "config/tree.h"

#include "base/check.h"
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define PLACE_MAX  4400 /* a path (4096) and two numbers */
#define REASON_MAX 512

struct place {
	char text[PLACE_MAX];
};

/* libyaml counts lines and columns from 0. */
static struct place place_at(const struct tree *tree, size_t line, size_t column)
{
	struct place place;

	snprintf(place.text, sizeof(place.text), "%s:%zu:%zu", tree->path, line + 1, column + 1);
	return place;
}

void tree_mistake(struct tree *tree, const yaml_node_t *node, const char *format, ...)
{
	struct place place = place_at(tree, node->start_mark.line, node->start_mark.column);
	char reason[REASON_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	report_mistake(tree->report, place.text, "%s", reason);
}

/* The reader gives an offset in bytes only. */
static struct place place_of_offset(const struct tree *tree, struct span text, size_t offset)
{
	size_t line = 0, start = 0;

	for (size_t i = 0; i < offset && i < text.len; i++) {
		if (text.data[i] != '\n')
			continue;
		line++;
		start = i + 1;
	}
	return place_at(tree, line, offset - start);
}

static int parser_failed(struct tree *tree, const yaml_parser_t *parser, struct span text)
{
	const char *problem = parser->problem ? parser->problem : "cannot be parsed";
	struct place place =
		parser->error == YAML_READER_ERROR
			? place_of_offset(tree, text, parser->problem_offset)
			: place_at(tree, parser->problem_mark.line, parser->problem_mark.column);

	if (parser->error == YAML_MEMORY_ERROR)
		return -ENOMEM;
	report_mistake(tree->report, place.text, "%s%s%s", problem, parser->context ? " " : "",
		       parser->context ? parser->context : "");
	return -EINVAL;
}

static int parse_documents(struct tree *tree, yaml_parser_t *parser, struct span text)
{
	yaml_document_t second;

	if (!yaml_parser_load(parser, &tree->document))
		return parser_failed(tree, parser, text);
	tree->has_document = true;
	if (!yaml_document_get_root_node(&tree->document))
		return 0;
	if (!yaml_parser_load(parser, &second))
		return parser_failed(tree, parser, text);

	const yaml_node_t *more = yaml_document_get_root_node(&second);

	if (more)
		tree_mistake(tree, more, "only one document may be here");
	yaml_document_delete(&second);
	return 0;
}

int tree_parse(struct tree *tree, const char *path, struct span text, struct report *report)
{
	yaml_parser_t parser;

	*tree = (struct tree){ .path = path, .report = report };
	if (!yaml_parser_initialize(&parser))
		return -ENOMEM;
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, text.data ? text.data : (const uint8_t *)"",
				     text.len);

	int error = parse_documents(tree, &parser, text);

	yaml_parser_delete(&parser);
	return error;
}

void tree_finish(struct tree *tree)
{
	if (tree->has_document)
		yaml_document_delete(&tree->document);
	tree->has_document = false;
}

static bool is_null(const yaml_node_t *node)
{
	struct span text = span_make(node->data.scalar.value, node->data.scalar.length);

	return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (text.len == 0 || span_equal(text, SPAN("~")) ||
		span_equal_nocase(text, SPAN("null")));
}

const yaml_node_t *tree_root(struct tree *tree)
{
	const yaml_node_t *root = yaml_document_get_root_node(&tree->document);

	/* "---" alone makes a null. */
	return root && root->type == YAML_SCALAR_NODE && is_null(root) ? NULL : root;
}

const yaml_node_t *tree_node(struct tree *tree, int index)
{
	const yaml_node_t *node = yaml_document_get_node(&tree->document, index);

	CHECK(node); /* the indices are libyaml's own */
	return node;
}

/* Whether the node has this type, and no tag that would mean another. */
static bool is_of(const yaml_node_t *node, yaml_node_type_t type, const char *tag)
{
	return node->type == type && strcmp((const char *)node->tag, tag) == 0;
}

bool tree_is_mapping(struct tree *tree, const yaml_node_t *node, const char *what)
{
	if (is_of(node, YAML_MAPPING_NODE, YAML_MAP_TAG))
		return true;
	tree_mistake(tree, node, "%s must be a mapping", what);
	return false;
}

bool tree_is_sequence(struct tree *tree, const yaml_node_t *node, const char *what)
{
	if (is_of(node, YAML_SEQUENCE_NODE, YAML_SEQ_TAG))
		return true;
	tree_mistake(tree, node, "%s must be a sequence", what);
	return false;
}

bool tree_text(struct tree *tree, const yaml_node_t *node, const char *what, struct span *text)
{
	if (!is_of(node, YAML_SCALAR_NODE, YAML_STR_TAG) || is_null(node)) {
		tree_mistake(tree, node, "%s must be a text", what);
		return false;
	}
	*text = span_make(node->data.scalar.value, node->data.scalar.length);
	return true;
}

/* A scalar without quotes: "true" in quotes is a text. */
static bool take_plain(const yaml_node_t *node, struct span *text)
{
	if (!is_of(node, YAML_SCALAR_NODE, YAML_STR_TAG) ||
	    node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	*text = span_make(node->data.scalar.value, node->data.scalar.length);
	return true;
}

bool tree_bool(struct tree *tree, const yaml_node_t *node, const char *what, bool *flag)
{
	struct span text;

	if (take_plain(node, &text)) {
		if (value_parse_bool(text, flag) == 0)
			return true;
	}
	tree_mistake(tree, node, "%s must be true or false", what);
	return false;
}

bool tree_count(struct tree *tree, const yaml_node_t *node, struct tree_number number,
		uint64_t *value)
{
	struct span text;
	uint64_t taken;

	if (take_plain(node, &text) && span_to_uint64(text, &taken) && taken >= number.min &&
	    taken <= number.max) {
		*value = taken;
		return true;
	}
	tree_mistake(tree, node, "%s must be a whole number from %" PRIu64 " to %" PRIu64,
		     number.what, number.min, number.max);
	return false;
}

bool tree_duration(struct tree *tree, const yaml_node_t *node, struct tree_number number,
		   uint64_t *ms)
{
	struct span text;
	uint64_t taken;

	if (is_of(node, YAML_SCALAR_NODE, YAML_STR_TAG)) {
		text = span_make(node->data.scalar.value, node->data.scalar.length);
		if (value_parse_duration(text, &taken) == 0 && taken >= number.min &&
		    taken <= number.max) {
			*ms = taken;
			return true;
		}
	}
	tree_mistake(tree, node, "%s must be a duration (250ms, 5s, 1m30s) from %s to %s",
		     number.what, value_format_duration(number.min).text,
		     value_format_duration(number.max).text);
	return false;
}

static void unknown_key(struct tree *tree, const yaml_node_t *key, const struct tree_key *keys)
{
	struct span text = span_make(key->data.scalar.value, key->data.scalar.length);
	const char *nearest = keys[0].name;
	size_t least = SIZE_MAX;

	for (size_t i = 0; keys[i].name; i++) {
		size_t distance = name_distance(text, span_from_cstr(keys[i].name));

		if (distance >= least)
			continue;
		least = distance;
		nearest = keys[i].name;
	}
	/* A name that shares little with the nearest is no slip of the pen. */
	if (least * 2 <= text.len)
		tree_mistake(tree, key, "unknown key %s; the nearest known one is \"%s\"",
			     quoted_make(text).text, nearest);
	else
		tree_mistake(tree, key, "unknown key %s", quoted_make(text).text);
}

static size_t key_find(const struct tree_key *keys, const yaml_node_t *node)
{
	struct span text = span_make(node->data.scalar.value, node->data.scalar.length);
	size_t i = 0;

	while (keys[i].name && !span_equal(span_from_cstr(keys[i].name), text))
		i++;
	return i;
}

void tree_walk(struct tree *tree, const yaml_node_t *node, const struct tree_key *keys,
	       void *target)
{
	const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	uint32_t seen = 0;

	for (; pair < node->data.mapping.pairs.top; pair++) {
		const yaml_node_t *key = tree_node(tree, pair->key);

		if (!is_of(key, YAML_SCALAR_NODE, YAML_STR_TAG)) {
			tree_mistake(tree, key, "a key must be a text");
			continue;
		}

		size_t i = key_find(keys, key);

		CHECK(i < TREE_KEYS_MAX);
		if (!keys[i].name) {
			unknown_key(tree, key, keys);
		} else if (seen & (1u << i)) {
			tree_mistake(tree, key, "key \"%s\" is here twice", keys[i].name);
		} else {
			seen |= 1u << i;
			keys[i].take(tree, tree_node(tree, pair->value), target);
		}
	}
	for (size_t i = 0; keys[i].name; i++) {
		if (keys[i].required && !(seen & (1u << i)))
			tree_mistake(tree, node, "key \"%s\" is missing", keys[i].name);
	}
}
