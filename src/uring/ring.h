/*
 * ring: one io_uring and what the kernel can do with it. The only border to the kernel's interface:
 * simulation tests link another ring.c behind this header. One thread (the one that enables it),
 * but for ring_create, ring_probe and ring_destroy.
 */
#ifndef URING_RING_H
#define URING_RING_H

#include "base/span.h"

#include <sys/socket.h>

struct ring;

/* A kernel file: an ordinary descriptor, or an index in this ring's own table. */
struct file_ref {
	int32_t index; /* -1: none */
	bool direct;
};

#define FILE_NONE ((struct file_ref){.index = -1})

static inline struct file_ref file_from_fd(int fd)
{
	return (struct file_ref){.index = fd, .direct = false};
}

struct ring_features {
	bool single_issuer, defer_taskrun, coop_taskrun; /* set-up flags accepted */
	bool registered_ring;				 /* enter by registered ring descriptor */
	bool direct_files;				 /* file table registered */
	bool buffer_ring;				 /* provided-buffer ring registered */
	bool multishot_receive;
	bool send_zc, sendmsg_zc;
	bool send_zc_report; /* notifications tell whether the kernel copied (kernel 6.2) */
	bool msg_ring;
	bool prompt_close; /* a closed direct file ends with its own operations (kernel 6.13) */
	bool restricted; /* the ring accepts only the operations of enum ring_opcode */
};

struct ring_options {
	uint32_t sq_entries;   /* submissions per enter, power of two */
	uint32_t cq_entries;   /* 16384…65536, power of two */
	uint32_t file_slots;   /* direct descriptors; cut to the soft RLIMIT_NOFILE; 0 = none */
	uint32_t buffer_count; /* provided buffers, power of two ≤ 32768; 0 = none */
	uint32_t buffer_bytes; /* each */
	uint32_t adopted_slots; /* of file_slots, for ring_adopt; 0: an eighth. For clients' rings */
};

/*
 * Finds out what this kernel allows, without keeping anything.
 * Returns 0, or a negative errno with a sentence for the operator in `why` (cause and remedy:
 * kernel.io_uring_disabled, container seccomp profiles, kernel older than 6.1, RLIMIT_MEMLOCK).
 */
int ring_probe(struct ring_features *features, char *why, size_t why_size);

/* For the log: "single_issuer … no-send_zc". Returns its length, cut to `size`. */
size_t ring_features_describe(const struct ring_features *features, char *text, size_t size);

/* Creates the ring disabled. Returns 0 or a negative errno with `why` as in ring_probe. */
int ring_create(struct ring **ring, const struct ring_options *options, char *why, size_t why_size);

/*
 * Thread: the one that will use it from now on; it gets a thread of the kernel's beside it, which
 * runs shutdowns. Returns 0 or a negative errno; -EAGAIN: that thread may not be made.
 */
int ring_enable(struct ring *ring);

/* What to do when no thread may be made. */
#define RING_THREADS_REMEDY                                                                        \
	"raise RLIMIT_NPROC (LimitNPROC= and TasksMax= in the unit, ulimit -u) or the "            \
	"container's limit of processes"

/* Thread: the one that enabled it, as its last call; ring_destroy is then any thread's. */
void ring_leave(struct ring *ring);

/* Nothing may be in flight. Thread: the one that enabled it, or any after ring_leave. */
void ring_destroy(struct ring *ring);

const struct ring_features *ring_get_features(const struct ring *ring);

/* The descriptor that other rings send messages to. Thread: any, after ring_create. */
int ring_fd(const struct ring *ring);

enum ring_opcode {
	RING_ACCEPT,   /* file, address; result: descriptor or direct index */
	RING_RECEIVE,  /* file; multishot, provided buffers */
	RING_SEND,     /* file, message; MSG_WAITALL | MSG_NOSIGNAL */
	RING_SEND_ZC,  /* as RING_SEND, zero-copy: result, then a notification */
	RING_CONNECT,  /* file, address, address_len */
	RING_SHUTDOWN, /* file, how; hard-linked to the next submission if `link` */
	RING_CLOSE,    /* file */
	RING_CANCEL,   /* target_user_data */
	RING_POLL,     /* file, poll_events; one shot */
	RING_READ,     /* file, buffer, length */
	RING_MESSAGE,  /* message_fd, target_user_data: a completion in that ring */
	RING_OPCODE_COUNT
};

struct ring_submission {
	enum ring_opcode opcode;
	struct file_ref file;
	uint64_t user_data;
	bool link;  /* hard link to the next submission, which runs whatever becomes of this one */
	bool quiet; /* success makes no completion; of a shutdown nor may failure */
	union {
		struct {
			struct sockaddr *address;
			socklen_t *address_len; /* RING_ACCEPT: in and out */
			socklen_t connect_len;	/* RING_CONNECT */
		};
		const struct msghdr *message; /* lives until the result */
		int how;		      /* SHUT_* */
		uint32_t poll_events;
		struct {
			void *buffer;
			uint32_t length;
		};
		struct {
			int message_fd;
			uint64_t target_user_data;
		};
	};
};

/*
 * Queues one submission for the next ring_enter; submits early by itself when the queue is full.
 * Returns 0 or a negative errno of that early submit (the submission is then not queued).
 */
int ring_queue(struct ring *ring, const struct ring_submission *submission);

struct ring_completion {
	uint64_t user_data;
	int32_t result;
	bool more;	   /* F_MORE: the operation will complete again */
	bool notification; /* F_NOTIF: the kernel is done with a zero-copy send's memory */
	bool zc_copied;	   /* with notification: the kernel copied after all */
	int32_t buffer_id; /* provided buffer holding `result` bytes, or -1 */
};

#define RING_WAIT_FOREVER UINT64_MAX

/*
 * Submits what is queued and waits until a completion is there or `timeout_us` has passed (0: does
 * not wait, but fetches what is ready). Returns 0 or a negative errno other than -ETIME, -EINTR,
 * -EAGAIN and -EBUSY (what could not be submitted stays queued). -EOVERFLOW: the kernel lost
 * completions, the ring is not to be trusted.
 */
int ring_enter(struct ring *ring, uint64_t timeout_us);

/* Takes up to `max` completions that are there, without a system call. Returns how many. */
uint32_t ring_reap(struct ring *ring, struct ring_completion *completions, uint32_t max);

/* Provided buffers: `len` bytes at the start of the buffer are the message. */
struct span ring_buffer(struct ring *ring, uint16_t buffer_id, uint32_t len);
void ring_buffer_return(struct ring *ring, uint16_t buffer_id);

/*
 * Moves a descriptor into the ring's table and closes it; where there is no table, or the part of
 * it that is kept for adopted files is full, the reference is the descriptor itself.
 * Owns: `fd` from now on, as the returned reference.
 */
struct file_ref ring_adopt(struct ring *ring, int fd);

/* The close of a direct file has completed. If it was adopted, its place is free again. */
void ring_file_closed(struct ring *ring, int32_t index);

struct ring_counts {
	uint64_t submissions, completions, cq_overflows, enters;
};
struct ring_counts ring_get_counts(const struct ring *ring);

#endif
