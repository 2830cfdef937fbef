/*
 * table: which route a method and a path take: a radix tree whose edges are path segments. A
 * literal is preferred to "*", "*" to "**", from the left; a path that ends in ":verb" is a verb's
 * if one fits. Built once, then immutable; any thread reads. Pure.
 */
#ifndef REST_TABLE_H
#define REST_TABLE_H

#include "rest/template.h"

#define TABLE_ROUTES_MAX   65536
#define TABLE_SEGMENTS_MAX 256 /* of a path; longer ones are not found */
#define TABLE_ALLOW_MAX	   256 /* bytes of the value of Allow, its NUL included */

struct table;
struct table_route;

/* What is added; the texts and `target` outlive the table. */
struct table_entry {
	struct span method; /* "GET"; "*": any that no other route of the path has */
	const struct template *template;
	void *target;
};

/* Returns NULL without memory. */
struct table *table_create(void);
void table_destroy(struct table *table);

/*
 * Returns 0, -ENOMEM, -ENOSPC (TABLE_ROUTES_MAX), or -EEXIST: a route of this method matches just
 * the same paths, and `*other` is its target.
 */
int table_add(struct table *table, const struct table_entry *entry, void **other);

struct table_match {
	void *target;
	const struct template *template;
	struct span values[TEMPLATE_VARIABLES_MAX]; /* of its variables, still percent-encoded */
};

enum table_outcome { TABLE_FOUND, TABLE_NO_PATH, TABLE_NO_METHOD };

/*
 * `path` begins with '/'. HEAD takes GET's route where it has none. TABLE_NO_METHOD fills `allow`
 * with what the path has, and match->target, nothing else of it, with one of its routes'.
 */
enum table_outcome table_find(const struct table *table, struct span method, struct span path,
			      struct table_match *match, char allow[TABLE_ALLOW_MAX]);

#endif
