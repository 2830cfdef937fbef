/*
 * departed: the tokens whose sessions ended by a sign-out here, told to all workers: a ring of
 * their SHA-256 that every worker adds to and follows at its own pace. Who falls behind by more
 * than DEPARTED_MAX knows that it did. Adding excludes other adders for the time of a few stores;
 * following waits for nobody. Thread: any.
 */
#ifndef REST_DEPARTED_H
#define REST_DEPARTED_H

#include "auth/digest.h"

#include <stdbool.h>

#define DEPARTED_MAX 1024 /* 32 KiB; a worker follows with every request that brings a token */

struct departed;

/* Returns NULL without memory. */
struct departed *departed_create(void);
void departed_destroy(struct departed *departed); /* NULL is fine */

void departed_add(struct departed *departed, const uint8_t key[SHA256_BYTES]);

/* How many there have been. Whoever acts on what followed an add sees it counted. */
uint64_t departed_count(const struct departed *departed);

/* The one of this number, below departed_count. Returns false when it is no longer there. */
bool departed_get(const struct departed *departed, uint64_t number, uint8_t key[SHA256_BYTES]);

#endif
