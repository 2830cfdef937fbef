#include "uring/ring_internal.h"

#include "base/check.h"
#include "base/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Always asked for: all are older than kernel 6.1. */
#define SETUP_BASE                                                                                 \
	(IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |                      \
	 IORING_SETUP_SUBMIT_ALL)
#define FEATURES_NEEDED (IORING_FEAT_NODROP | IORING_FEAT_EXT_ARG | IORING_FEAT_CQE_SKIP)

/*
 * Of the table, for files we bring ourselves: upstreams and Redis, few beside accepted ones. An
 * eighth of a small table; of a large one no more than what GATEWAY_MAX_CONNECTIONS keeps back.
 * Beyond it they stay plain descriptors.
 */
#define ADOPTED_SHARE 8
#define ADOPTED_MAX   256
#define FILES_MAX     (1u << 20) /* the kernel's bound, IORING_MAX_FIXED_FILES */

#define HELPER_WAIT_S 5 /* until the kernel has made a thread, on a host that is busy */

static const uint8_t operations_used[] = {
	IORING_OP_ACCEPT,	IORING_OP_RECV,	    IORING_OP_SEND,	IORING_OP_SENDMSG,
	IORING_OP_SENDMSG_ZC,	IORING_OP_CONNECT,  IORING_OP_SHUTDOWN, IORING_OP_CLOSE,
	IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD, IORING_OP_READ,	IORING_OP_MSG_RING,
};

/* How to leave set-up, and what may change later: ring_adopt. */
static const uint8_t registers_used[] = {
	IORING_REGISTER_ENABLE_RINGS,
	IORING_REGISTER_RING_FDS,
	IORING_UNREGISTER_RING_FDS,
	IORING_REGISTER_FILES_UPDATE,
};

/* Returns the value of kernel.io_uring_disabled, or -1 where the kernel has no such setting. */
static int read_disabled_setting(void)
{
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	char digit = 0;
	ssize_t got = read(fd, &digit, 1);

	close(fd);
	return got == 1 && digit >= '0' && digit <= '9' ? digit - '0' : -1;
}

/* Writes cause and remedy for a failed set-up; returns `code`. */
static int explain_step(int code, const char *step, char *why, size_t size)
{
	int setting;

	switch (code) {
	case -EPERM:
	case -EACCES:
		setting = read_disabled_setting();
		if (setting > 0)
			snprintf(why, size,
				 "io_uring is disabled on this host (kernel.io_uring_disabled = "
				 "%d): set it to 0 "
				 "with sysctl, or, where it is 1, add this user's group to "
				 "kernel.io_uring_group",
				 setting);
		else
			snprintf(why, size,
				 "io_uring is forbidden to this process (%s: %s), most likely by a "
				 "container's "
				 "seccomp profile: allow io_uring_setup, io_uring_enter and "
				 "io_uring_register",
				 step, errno_text(-code));
		break;
	case -ENOSYS:
		snprintf(why, size,
			 "this kernel has no usable io_uring (%s): Linux 6.1 or newer is needed, "
			 "and "
			 "a seccomp profile that does not hide it",
			 step);
		break;
	case -ENOMEM:
		snprintf(why, size,
			 "not enough memory for the ring (%s): raise RLIMIT_MEMLOCK (LimitMEMLOCK= "
			 "in the unit, "
			 "ulimit -l), or use fewer workers or buffers",
			 step);
		break;
	case -EMFILE:
	case -ENFILE:
		snprintf(why, size,
			 "no file descriptor left for the ring (%s): raise RLIMIT_NOFILE", step);
		break;
	case -EAGAIN:
		snprintf(why, size, "no thread may be made beside the ring (%s): %s", step,
			 RING_THREADS_REMEDY);
		break;
	default:
		snprintf(why, size, "the ring could not be set up (%s: %s)", step,
			 errno_text(-code));
	}
	return code;
}

/*
 * The best mode the kernel takes: each next row gives up one flag (DEFER_TASKRUN and SINGLE_ISSUER
 * are Linux 6.1 and 6.0, COOP_TASKRUN 5.19).
 */
static int init_best(struct io_uring *uring, const struct ring_options *options,
		     struct ring_features *features)
{
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int code = -EINVAL;

	for (size_t i = 0; i < ARRAY_LEN(modes) && code == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = SETUP_BASE | modes[i],
			.cq_entries = options->cq_entries,
		};

		code = io_uring_queue_init_params(options->sq_entries, uring, &params);
		if (code != 0)
			continue;
		if ((params.features & FEATURES_NEEDED) != FEATURES_NEEDED) {
			io_uring_queue_exit(uring);
			return -ENOSYS;
		}
		features->single_issuer = modes[i] & IORING_SETUP_SINGLE_ISSUER;
		features->defer_taskrun = modes[i] & IORING_SETUP_DEFER_TASKRUN;
		features->coop_taskrun = modes[i] & IORING_SETUP_COOP_TASKRUN;
	}
	return code;
}

static int probe_operations(struct io_uring *uring, struct ring_features *features)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(uring);

	if (!probe)
		return -ENOSYS;
	features->send_zc = io_uring_opcode_supported(probe, IORING_OP_SEND_ZC);
	features->sendmsg_zc = io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC);
	features->msg_ring = io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
	io_uring_free_probe(probe);
	return features->msg_ring ? 0 : -ENOSYS;
}

/* After everything was registered, before the ring is enabled. */
static int restrict_operations(struct io_uring *uring)
{
	struct io_uring_restriction
		rows[ARRAY_LEN(operations_used) + ARRAY_LEN(registers_used) + 1] = {
			{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
			 .sqe_flags = IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK | IOSQE_BUFFER_SELECT |
				      IOSQE_CQE_SKIP_SUCCESS},
		};
	unsigned count = 1;

	for (size_t i = 0; i < ARRAY_LEN(operations_used); i++)
		rows[count++] = (struct io_uring_restriction){.opcode = IORING_RESTRICTION_SQE_OP,
							      .sqe_op = operations_used[i]};
	for (size_t i = 0; i < ARRAY_LEN(registers_used); i++)
		rows[count++] = (struct io_uring_restriction){
			.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = registers_used[i]};
	return io_uring_register_restrictions(uring, rows, count);
}

static int files_init(struct ring *ring, uint32_t wanted, uint32_t adopted)
{
	struct ring_files *files = &ring->files;
	struct rlimit limit;

	/* Cut first: liburing would raise the process's soft limit by itself. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && wanted > limit.rlim_cur)
		wanted = (uint32_t)limit.rlim_cur;
	if (wanted > FILES_MAX)
		wanted = FILES_MAX;
	if (wanted == 0)
		return 0;
	int code = io_uring_register_files_sparse(&ring->uring, wanted);

	if (code == -EINVAL) /* older than 5.19: do without */
		return 0;
	if (code < 0)
		return code;
	files->count = files->adopted_first = wanted;
	ring->features.direct_files = true;

	if (adopted == 0)
		adopted =
			wanted / ADOPTED_SHARE < ADOPTED_MAX ? wanted / ADOPTED_SHARE : ADOPTED_MAX;
	if (adopted > wanted)
		adopted = wanted;
	if (adopted == 0 ||
	    io_uring_register_file_alloc_range(&ring->uring, 0, wanted - adopted) != 0)
		return 0; /* ring_adopt then keeps descriptors */
	files->free = calloc(adopted, sizeof(*files->free));
	if (!files->free)
		return -ENOMEM;
	files->adopted_first = wanted - adopted;
	while (files->free_count < adopted) {
		files->free[files->free_count] = files->count - 1 - files->free_count;
		files->free_count++;
	}
	return 0;
}

static int buffers_init(struct ring *ring, const struct ring_options *options)
{
	struct ring_buffers *buffers = &ring->buffers;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t head = options->buffer_count * sizeof(struct io_uring_buf);

	if (options->buffer_count == 0)
		return 0;
	head = (head + page - 1) / page * page;
	buffers->mapped_bytes = head + (size_t)options->buffer_count * options->buffer_bytes;
	void *memory = mmap(NULL, buffers->mapped_bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		buffers->mapped_bytes = 0;
		return -ENOMEM;
	}
	buffers->entries = memory;
	buffers->bytes = (uint8_t *)memory + head;
	buffers->count = options->buffer_count;
	buffers->each_bytes = options->buffer_bytes;
	io_uring_buf_ring_init(buffers->entries);

	struct io_uring_buf_reg registration = {
		.ring_addr = (uint64_t)(uintptr_t)memory,
		.ring_entries = options->buffer_count,
		.bgid = RING_BUFFER_GROUP,
	};
	int code = io_uring_register_buf_ring(&ring->uring, &registration, 0);

	if (code < 0)
		return code;
	ring->features.buffer_ring = true;
	for (uint32_t id = 0; id < buffers->count; id++)
		ring_buffer_return(ring, (uint16_t)id);
	return 0;
}

static void ring_free(struct ring *ring)
{
	if (ring->buffers.mapped_bytes)
		munmap(ring->buffers.entries, ring->buffers.mapped_bytes);
	free(ring->files.free);
	free(ring);
}

/* As ring_create, without the look at what only a running ring can tell. */
static int create_bare(struct ring **out, const struct ring_options *options, char *why,
		       size_t size)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	const char *step = "memory";
	int code = -ENOMEM;

	if (!ring)
		return explain_step(code, step, why, size);
	step = "io_uring_setup";
	code = init_best(&ring->uring, options, &ring->features);
	if (code < 0)
		goto free_ring;
	ring->fd = ring->uring.ring_fd;
	step = "operations";
	code = probe_operations(&ring->uring, &ring->features);
	if (code < 0)
		goto exit_ring;
	step = "file table";
	code = files_init(ring, options->file_slots, options->adopted_slots);
	if (code < 0)
		goto exit_ring;
	step = "buffer ring";
	code = buffers_init(ring, options);
	if (code < 0)
		goto exit_ring;
	ring->features.restricted = restrict_operations(&ring->uring) == 0;
	*out = ring;
	return 0;

exit_ring:
	io_uring_queue_exit(&ring->uring);
free_ring:
	ring_free(ring);
	explain_step(code, step, why, size);
	return code;
}

/* Queues one entry by hand and gives back its first completion's result, flags in `flags`. */
static int try_entry(struct ring *ring, uint32_t *flags)
{
	struct io_uring_cqe *cqe;
	int code = io_uring_submit_and_wait(&ring->uring, 1);

	if (code < 0)
		return code;
	code = io_uring_peek_cqe(&ring->uring, &cqe);
	if (code < 0)
		return code;
	code = cqe->res;
	*flags = cqe->flags;
	io_uring_cqe_seen(&ring->uring, cqe);
	return code;
}

/* A byte is there before it is asked for: a kernel that knows multishot gives it and says "more".
 */
static void try_multishot(struct ring *ring)
{
	int pair[2];
	uint32_t flags = 0;

	if (!ring->features.buffer_ring ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return;
	if (write(pair[1], "x", 1) == 1) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

		io_uring_prep_recv_multishot(sqe, pair[0], NULL, 0, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = RING_BUFFER_GROUP;
		ring->features.multishot_receive =
			try_entry(ring, &flags) == 1 && (flags & IORING_CQE_F_MORE);
	}
	close(pair[1]);
	close(pair[0]);
}

/* On a socket that is not connected: a kernel that does not know the flag says EINVAL before it
 * looks. */
static void try_send_zc_report(struct ring *ring)
{
	uint32_t flags = 0;
	struct msghdr message = {0};

	if (!ring->features.sendmsg_zc)
		return;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	io_uring_prep_sendmsg_zc(sqe, fd, &message, MSG_NOSIGNAL);
	sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
	ring->features.send_zc_report = try_entry(ring, &flags) != -EINVAL;
	close(fd);
}

/* Whether `closing`'s peer sees its end at the close, though `receiving` has a receive under way.
 */
static bool closes_promptly(struct ring *ring, struct file_ref closing, int peer,
			    struct file_ref receiving)
{
	static char byte; /* nobody writes to the receiving socket */
	uint32_t flags = 0;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	io_uring_prep_recv(sqe, receiving.index, &byte, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_prep_close_direct(io_uring_get_sqe(&ring->uring), (unsigned)closing.index);
	return try_entry(ring, &flags) == 0 && recv(peer, &byte, 1, MSG_DONTWAIT) == 0;
}

static void try_prompt_close(struct ring *ring)
{
	int pair[2], other[2];

	if (!ring->features.direct_files ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		return;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other) != 0) {
		close(pair[0]);
		close(pair[1]);
		return;
	}
	struct file_ref closing = ring_adopt(ring, pair[0]);
	struct file_ref receiving = ring_adopt(ring, other[0]);

	if (closing.direct && receiving.direct)
		ring->features.prompt_close = closes_promptly(ring, closing, pair[1], receiving);
	if (!closing.direct)
		close(closing.index);
	if (!receiving.direct)
		close(receiving.index);
	close(pair[1]);
	close(other[1]);
}

int ring_probe(struct ring_features *features, char *why, size_t why_size)
{
	const struct ring_options small = {
		.sq_entries = 8,
		.cq_entries = 16,
		.file_slots = 8,
		.adopted_slots = 2,
		.buffer_count = 2,
		.buffer_bytes = 64,
	};
	struct ring *ring;
	int code = create_bare(&ring, &small, why, why_size);

	if (code < 0)
		return code;
	code = ring_enable(ring);
	if (code == 0) {
		try_multishot(ring);
		try_send_zc_report(ring);
		try_prompt_close(ring);
		*features = ring->features;
	} else {
		explain_step(code, "enable", why, why_size);
	}
	ring_destroy(ring);
	return code;
}

int ring_create(struct ring **out, const struct ring_options *options, char *why, size_t why_size)
{
	struct ring_features probed;
	int code = ring_probe(&probed, why, why_size);

	if (code < 0)
		return code;
	code = create_bare(out, options, why, why_size);
	if (code < 0)
		return code;

	struct ring_features *features = &(*out)->features;

	features->multishot_receive = probed.multishot_receive && features->buffer_ring;
	features->send_zc_report = probed.send_zc_report;
	features->prompt_close = probed.prompt_close && features->direct_files;
	features->registered_ring = probed.registered_ring;
	return 0;
}

/* Shuts down a socket that nobody needs. Returns 0 or a negative errno; -EAGAIN: nobody ran it. */
static int try_shutdown(struct io_uring *uring, int fd)
{
	struct __kernel_timespec patience = {.tv_sec = HELPER_WAIT_S};
	struct io_uring_cqe *cqe = NULL;
	int code;

	io_uring_prep_shutdown(io_uring_get_sqe(uring), fd, SHUT_RDWR);
	do
		code = io_uring_submit_and_wait_timeout(uring, &cqe, 1, &patience, NULL);
	while (code == -EINTR);
	if (code >= 0)
		code = io_uring_peek_cqe(uring, &cqe);
	if (code == 0)
		code = cqe->res;
	return code == -ETIME || code == -ECANCELED ? -EAGAIN : code;
}

/*
 * Shutdowns are not run inline: the kernel makes a thread for a thread's first one, whatever its
 * ring, and keeps it. Where it may make none they come to nothing, and connections would not end.
 * So the first is one that nobody waits for, on a ring of its own: in ours others may be queued.
 */
static int start_helper(void)
{
	/* One thread at a time: the next one's ring may get the memory of this one's, by system
	 * calls that a race detector does not see. */
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	struct io_uring uring;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	pthread_mutex_lock(&turn);

	int code = io_uring_queue_init(1, &uring, 0);

	if (code == 0) {
		code = try_shutdown(&uring, fd);
		io_uring_queue_exit(&uring);
	}
	pthread_mutex_unlock(&turn);
	close(fd);
	return code;
}

int ring_enable(struct ring *ring)
{
	/* Belongs to the thread, hence here. Not essential: an unregistered ring only enters
	 * slower. */
	ring->features.registered_ring = io_uring_register_ring_fd(&ring->uring) == 1;

	int code = io_uring_enable_rings(&ring->uring);

	return code < 0 ? code : start_helper();
}

void ring_leave(struct ring *ring)
{
	if (ring->features.registered_ring)
		io_uring_unregister_ring_fd(&ring->uring);
	ring->features.registered_ring = false;
}

void ring_destroy(struct ring *ring)
{
	if (!ring)
		return;
	io_uring_queue_exit(&ring->uring);
	ring_free(ring);
}

size_t ring_features_describe(const struct ring_features *features, char *text, size_t size)
{
	const struct {
		const char *name;
		bool present;
	} rows[] = {
		{"single_issuer", features->single_issuer},
		{"defer_taskrun", features->defer_taskrun},
		{"coop_taskrun", features->coop_taskrun},
		{"registered_ring", features->registered_ring},
		{"direct_files", features->direct_files},
		{"buffer_ring", features->buffer_ring},
		{"multishot_receive", features->multishot_receive},
		{"send_zc", features->send_zc},
		{"sendmsg_zc", features->sendmsg_zc},
		{"send_zc_report", features->send_zc_report},
		{"msg_ring", features->msg_ring},
		{"prompt_close", features->prompt_close},
		{"restricted", features->restricted},
	};
	size_t len = 0;

	if (size == 0)
		return 0;
	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(rows) && len < size - 1; i++) {
		int more = snprintf(text + len, size - len, "%s%s%s", i ? " " : "",
				    rows[i].present ? "" : "no-", rows[i].name);

		len += (size_t)more;
	}
	return len < size ? len : size - 1;
}
