/* ring_internal: what ring.c and ring_setup.c share. */
#ifndef URING_RING_INTERNAL_H
#define URING_RING_INTERNAL_H

#include "uring/ring.h"

#include <liburing.h>

/* Kernel 6.2; liburing 2.3 does not name them. */
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

#define RING_BUFFER_GROUP 0 /* one provided-buffer ring */

/*
 * The file table, split so that the kernel's choice and ours never meet:
 *
 *   0 … adopted_first - 1   the kernel's (accept with IORING_FILE_INDEX_ALLOC)
 *   adopted_first … count   ours (ring_adopt), a stack of free places
 */
struct ring_files {
	uint32_t count;
	uint32_t adopted_first;
	uint32_t *free; /* count - adopted_first entries */
	uint32_t free_count;
};

struct ring_buffers {
	struct io_uring_buf_ring *entries; /* start of the mapping; the bytes follow */
	uint8_t *bytes;
	size_t mapped_bytes;
	uint32_t count, each_bytes;
};

struct ring {
	struct io_uring uring;
	struct ring_features features;
	struct ring_files files;
	struct ring_buffers buffers;
	struct ring_counts counts;
	int fd;
};

#endif
