/* file: a whole small file in memory. Thread: main, at start-up. */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include "base/buf.h"

/*
 * Reads `path` into `out`, which it initialises; one allocation, so that no copy of a secret stays.
 * Returns 0, -EFBIG when there are more than `max` bytes, -ENOMEM, or what open or read gave.
 * Owns: the caller, file_forget, whatever was returned.
 */
int file_read(const char *path, size_t max, struct buf *out);

/* Wipes and frees. */
void file_forget(struct buf *bytes);

#endif
