/* rest_internal: reading the section `rest`. Private to config/rest*.c and config/routes.c. Thread:
 * main. */
#ifndef CONFIG_REST_INTERNAL_H
#define CONFIG_REST_INTERNAL_H

#include "config/config.h"
#include "config/tree.h"

/* What the tables' functions get as their target. */
struct rest_reading {
	struct config_file *file; /* its upstreams are known */
	struct config_rest *rest;
	struct config_rest_service *service; /* the one being read */
	struct config_rest_route *route;
	bool is_absolute; /* of the route: base_path is not for it */
	bool no_memory;
};

/*
 * Reads both nodes (either may be NULL) into file->rest, which stays NULL without a section `rest`.
 * Mistakes go to the tree's report. Returns 0 or -ENOMEM.
 */
int rest_read(struct config_file *file, struct tree *tree, const yaml_node_t *descriptor_sets,
	      const yaml_node_t *rest);

struct config_place rest_place(const yaml_node_t *node);

/* Zeroed, in the file's arena; NULL sets no_memory. */
void *rest_alloc(struct rest_reading *reading, size_t count, size_t size);

/* A text of 1 to REST_TEXT_MAX printable ASCII bytes without spaces. Returns false, reported. */
bool rest_text(struct tree *tree, const yaml_node_t *node, const char *what,
	       struct rest_reading *reading, struct config_text *text);

/* The index of the upstream that the node names. Returns false, reported. */
bool rest_upstream(struct tree *tree, const yaml_node_t *node, struct rest_reading *reading,
		   uint32_t *index);

/* A path relative to the configuration file. Returns false, reported. */
bool rest_file(struct tree *tree, const yaml_node_t *node, const char *what,
	       struct rest_reading *reading, struct config_text *path);

/* A list and what its items are. */
struct rest_list {
	const char *what, *item; /* "grpc_web", "a service" */
	size_t max;
	bool (*take)(struct tree *tree, const yaml_node_t *node, const char *what,
		     struct rest_reading *reading, struct config_text *text);
};

/* Every item that is none is reported and left out, one that is there twice too. */
void rest_texts(struct tree *tree, const yaml_node_t *node, const struct rest_list *list,
		struct rest_reading *reading, struct config_texts *texts);

/* "https://app.example.com", "http://127.0.0.1:3000": scheme and authority alone. */
bool rest_origin(struct tree *tree, const yaml_node_t *node, const char *what,
		 struct rest_reading *reading, struct config_text *text);

/* The parts with a file of their own (rest_sso.c); targets are struct rest_reading. */
void rest_take_sso(struct tree *tree, const yaml_node_t *node, void *target);
void rest_take_cors(struct tree *tree, const yaml_node_t *node, void *target);
void rest_take_allowed_origins(struct tree *tree, const yaml_node_t *node, void *target);

#endif
