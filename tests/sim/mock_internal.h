/* mock_internal: what the parts of the simulated ring share. */
#ifndef TESTS_SIM_MOCK_INTERNAL_H
#define TESTS_SIM_MOCK_INTERNAL_H

#include "sim/mock_ring.h"

#define RING_FD_FIRST 1000000 /* no descriptor of this process */
#define ADOPTED_SHARE 8	      /* as in ring_setup.c */

/* ── what there is ── */

/* Bytes on their way in one direction. */
struct stream {
	uint8_t *bytes;
	size_t start, len, cap;
	bool ended; /* no more will be written */
};

struct connection {
	struct stream streams[2]; /* the end `i` reads streams[i] and writes streams[1 - i] */
	unsigned ends;		  /* open */
	bool reset;
};

enum file_kind { FILE_SOCKET, FILE_LISTENER, FILE_STREAM };

struct sim_file {
	struct list link; /* sim.files */
	enum file_kind kind;
	unsigned references; /* a place in a table, each operation in flight */
	struct connection *connection;
	unsigned end;
	bool receive_shut;
	struct sockaddr_storage address; /* listener: bound to; stream: the peer */
	socklen_t address_len;
	struct list waiting; /* listener: ends (struct sim_file) that nobody has accepted */
	struct list waiting_link;
	int fd; /* the real descriptor it was made from and that stays open, or -1 */
};

struct sim_op {
	struct list link; /* ring->queued or ring->active */
	struct ring_submission submission;
	struct sim_file *file;
	struct sim_op *then; /* starts when this one has ended */
	uint64_t not_before_us;
	uint64_t round; /* last looked at in */
	bool sent;	/* zero-copy: the notification is due */
	bool late;	/* its end was put off once */
	bool doomed;	/* a cancel has found it; it ends by that or by what comes first */
	uint64_t sum;
};

struct ring {
	struct list link; /* sim.rings */
	struct ring_options options;
	struct ring_features features;
	struct list queued, active;
	uint32_t queued_count;
	struct sim_op *link_head; /* waits for its second half */
	struct ring_completion *completions;
	size_t completion_start, completion_count, completion_cap;
	size_t visible; /* of completion_count: in the queue; the others wait for ring_enter */
	struct sim_file **table;
	int32_t last_freed; /* place, or -1 */
	uint32_t adopted_first;
	bool *place_taken; /* adopted places: until ring_file_closed */
	uint8_t *bytes;	   /* provided buffers */
	bool *buffer_free;
	uint32_t buffers_free;
	struct ring_counts counts;
	int fd;
};

struct sim {
	struct sim_options options;
	struct sim_counts counts;
	uint64_t state, now_us, round;
	struct list rings, files;
	int next_ring_fd;
};

extern struct sim sim;

/* Zeroed memory; a simulation does not run out of it. */
void *zeroed(size_t count, size_t bytes);

struct stream *file_in(struct sim_file *file);
struct stream *file_out(struct sim_file *file);
void stream_write(struct stream *stream, const uint8_t *bytes, size_t len);
void stream_read(struct stream *stream, uint8_t *bytes, size_t len);

struct sim_file *file_new(enum file_kind kind);
/* Gives up a reference; the peer learns of the end with the last one. */
void file_put(struct sim_file *file);
void connect_files(struct sim_file *a, struct sim_file *b);

/* The file that an operation means, or NULL. */
struct sim_file *file_find(struct ring *ring, struct file_ref reference);

/* The listener of this address, or NULL. */
struct sim_file *listener_find(const struct sockaddr *address, socklen_t len);

/* mock_fault.c: an errno for this attempt, or 0. */
int32_t fault_draw(struct ring *ring, const struct sim_op *op);
size_t queue_bound(const struct ring *ring);

/* A place of the kernel's choice, or -ENFILE. */
int32_t table_place(struct ring *ring, struct sim_file *file);

#endif
