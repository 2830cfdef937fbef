/* list: intrusive, doubly linked, circular. One thread at a time. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/check.h"

#include <stdbool.h>

struct list {
	struct list *next, *prev; /* itself when unlinked or empty */
};

static inline void list_init(struct list *list)
{
	list->next = list->prev = list;
}

/* For a head: empty. For a node: not in any list. */
static inline bool list_is_empty(const struct list *list)
{
	return list->next == list;
}

static inline void list_insert_before(struct list *position, struct list *node)
{
	node->next = position;
	node->prev = position->prev;
	position->prev->next = node;
	position->prev = node;
}

static inline void list_push_back(struct list *head, struct list *node)
{
	list_insert_before(head, node);
}

static inline void list_push_front(struct list *head, struct list *node)
{
	list_insert_before(head->next, node);
}

/* Safe on an unlinked node; leaves it unlinked. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* Returns the first node, removed, or NULL. */
static inline struct list *list_pop_front(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	/* clang-tidy 14 loses sight of a list when it is in a loop that frees its nodes */
	list_remove(node); /* NOLINT(clang-analyzer-unix.Malloc) */
	return node;
}

/* Moves all nodes of `from` to the end of `to`; `from` is then empty. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

/* The current node may be removed in the body; no other may. */
#define LIST_FOR_EACH(head, node)                                                          \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head);  \
	     node = node##_next, node##_next = node->next)

#endif
