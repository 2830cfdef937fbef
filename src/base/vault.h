/*
 * vault: pages of their own for a secret that lives long: kept out of core dumps and of children, out
 * of swap where RLIMIT_MEMLOCK allows, wiped at the end. Thread: one at a time.
 *
 *   | header · bytes ──► · | no access |      an overrun of the last page faults
 */
#ifndef BASE_VAULT_H
#define BASE_VAULT_H

#include <stdbool.h>
#include <stddef.h>

#define VAULT_BYTES_MAX ((size_t)1 << 20) /* secrets are small; beyond it somebody miscounted */

/*
 * Returns zeroed memory aligned for any type, or NULL: out of memory, or over VAULT_BYTES_MAX.
 * Memory that cannot be locked is no failure: vault_is_locked tells.
 */
void *vault_alloc(size_t bytes);

/* Wipes and gives back. NULL is allowed. */
void vault_free(void *memory);

/* Whether the kernel keeps it out of swap. False: RLIMIT_MEMLOCK refused it. */
bool vault_is_locked(const void *memory);

/*
 * Clears the vector registers of this thread. memcpy, strlen and their like leave 64 bytes and more of
 * what they went through there, and a thread that then sleeps shows them in a core dump for hours. For
 * whoever has handled a secret and is done with it. x86-64 and arm64; elsewhere nothing.
 */
void vault_clear_registers(void);

#endif
