/*
 * tree: a YAML document walked by tables of keys, every fault reported with its place. Thread: main.
 * A fault never stops the walk: what is wrong is told and left out.
 */
#ifndef CONFIG_TREE_H
#define CONFIG_TREE_H

#include "config/report.h"

#include <yaml.h>

struct tree {
	const char *path;      /* for the report */
	struct report *report;
	yaml_document_t document;
	bool has_document;
};

struct tree_key {
	const char *name;
	bool required;
	void (*take)(struct tree *tree, const yaml_node_t *value, void *target);
};

#define TREE_KEYS_MAX 32 /* keys that one table may have */

/* Returns 0, -EINVAL (reported) or -ENOMEM. Owns: the caller, tree_finish, whatever was returned. */
int tree_parse(struct tree *tree, const char *path, struct span text, struct report *report);
void tree_finish(struct tree *tree);

/* NULL for an empty document. */
const yaml_node_t *tree_root(struct tree *tree);
const yaml_node_t *tree_node(struct tree *tree, int index);

void tree_mistake(struct tree *tree, const yaml_node_t *node, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Each: true, or false with the mistake reported. `what` names the thing: "deadline". */
bool tree_is_mapping(struct tree *tree, const yaml_node_t *node, const char *what);
bool tree_is_sequence(struct tree *tree, const yaml_node_t *node, const char *what);
/* A scalar that is not null. Lifetime: the tree. */
bool tree_text(struct tree *tree, const yaml_node_t *node, const char *what, struct span *text);
/* A plain scalar, true or false. */
bool tree_bool(struct tree *tree, const yaml_node_t *node, const char *what, bool *flag);

/* A number and what it may be. */
struct tree_number {
	const char *what;
	uint64_t min, max;
};

bool tree_count(struct tree *tree, const yaml_node_t *node, struct tree_number number,
		uint64_t *value);
bool tree_duration(struct tree *tree, const yaml_node_t *node, struct tree_number number,
		   uint64_t *ms);

/* Takes every pair by its key's row; reports keys that are unknown, there twice, or missing. */
void tree_walk(struct tree *tree, const yaml_node_t *node, const struct tree_key *keys,
	       void *target);

#endif
