/* explain: why something failed, as a sentence for the operator. Thread: any. Pure. */
#ifndef BASE_EXPLAIN_H
#define BASE_EXPLAIN_H

#include <stddef.h>

/*
 * Writes the sentence into `why`, cut to `why_size` (0: nowhere). Returns `error`, so that a
 * failure is told and returned in one line.
 */
__attribute__((format(printf, 4, 5))) int explain(char *why, size_t why_size, int error,
						  const char *format, ...);

/*
 * "Connection refused" of ECONNREFUSED. Never NULL, never a buffer that threads share, always
 * English.
 */
const char *errno_text(int error);

#endif
