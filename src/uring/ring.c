#include "uring/ring_internal.h"

#include "base/check.h"

#include <errno.h>
#include <unistd.h>

const struct ring_features *ring_get_features(const struct ring *ring)
{
	return &ring->features;
}

int ring_fd(const struct ring *ring)
{
	return ring->fd;
}

struct ring_counts ring_get_counts(const struct ring *ring)
{
	return ring->counts;
}

/* ── submissions ── */

static void prepare_accept(struct ring *ring, struct io_uring_sqe *sqe,
			   const struct ring_submission *from)
{
	bool direct = ring->features.direct_files;

	/* A direct file has no descriptor that could be inherited; with the flag it is EINVAL. */
	io_uring_prep_accept(sqe, from->file.index, from->address, from->address_len,
			     direct ? 0 : SOCK_CLOEXEC);
	/* By hand: liburing 2.3's accept_direct adds one to this constant and so asks for a normal
	 * descriptor. */
	if (direct)
		sqe->file_index = IORING_FILE_INDEX_ALLOC;
}

static void prepare_receive(struct ring *ring, struct io_uring_sqe *sqe,
			    const struct ring_submission *from)
{
	if (ring->features.multishot_receive)
		io_uring_prep_recv_multishot(sqe, from->file.index, NULL, 0, 0);
	else
		io_uring_prep_recv(sqe, from->file.index, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RING_BUFFER_GROUP;
}

/* One piece needs no message header, which the kernel would have to copy and check. */
static void prepare_send(struct io_uring_sqe *sqe, const struct ring_submission *from)
{
	const struct msghdr *message = from->message;
	const int flags = MSG_WAITALL | MSG_NOSIGNAL;

	if (message->msg_iovlen == 1 && !message->msg_name && message->msg_controllen == 0)
		io_uring_prep_send(sqe, from->file.index, message->msg_iov->iov_base,
				   message->msg_iov->iov_len, flags);
	else
		io_uring_prep_sendmsg(sqe, from->file.index, message, (unsigned)flags);
}

static void prepare_send_zc(struct ring *ring, struct io_uring_sqe *sqe,
			    const struct ring_submission *from)
{
	io_uring_prep_sendmsg_zc(sqe, from->file.index, from->message, MSG_WAITALL | MSG_NOSIGNAL);
	if (ring->features.send_zc_report)
		sqe->ioprio |= IORING_SEND_ZC_REPORT_USAGE;
}

static void prepare(struct ring *ring, struct io_uring_sqe *sqe, const struct ring_submission *from)
{
	int file = from->file.index;

	switch (from->opcode) {
	case RING_ACCEPT:
		prepare_accept(ring, sqe, from);
		break;
	case RING_RECEIVE:
		prepare_receive(ring, sqe, from);
		break;
	case RING_SEND:
		prepare_send(sqe, from);
		break;
	case RING_SEND_ZC:
		prepare_send_zc(ring, sqe, from);
		break;
	case RING_CONNECT:
		io_uring_prep_connect(sqe, file, from->address, from->connect_len);
		break;
	case RING_SHUTDOWN:
		io_uring_prep_shutdown(sqe, file, from->how);
		break;
	case RING_CLOSE:
		if (from->file.direct)
			io_uring_prep_close_direct(sqe, (unsigned)file);
		else
			io_uring_prep_close(sqe, file);
		return; /* a direct close names its file elsewhere: no FIXED_FILE */
	case RING_CANCEL:
		io_uring_prep_cancel64(sqe, from->target_user_data, 0);
		return;
	case RING_POLL:
		io_uring_prep_poll_add(sqe, file, from->poll_events);
		break;
	case RING_READ:
		io_uring_prep_read(sqe, file, from->buffer, from->length, (uint64_t)-1);
		break;
	case RING_MESSAGE:
		io_uring_prep_msg_ring(sqe, from->message_fd, 0, from->target_user_data, 0);
		return;
	case RING_OPCODE_COUNT:
		UNREACHABLE("not an opcode");
	}
	if (from->file.direct)
		sqe->flags |= IOSQE_FIXED_FILE;
}

int ring_queue(struct ring *ring, const struct ring_submission *submission)
{
	/* A link does not reach over the end of a submit: both its halves must fit. */
	unsigned need = submission->link ? 2 : 1;

	if (submission->opcode == RING_RECEIVE && !ring->features.buffer_ring)
		return -EOPNOTSUPP;
	if (submission->opcode == RING_SEND_ZC && !ring->features.sendmsg_zc)
		return -EOPNOTSUPP;
	if (io_uring_sq_space_left(&ring->uring) < need) {
		int code = io_uring_submit(&ring->uring);

		if (code < 0)
			return code;
		if (io_uring_sq_space_left(&ring->uring) < need)
			return -EBUSY;
	}
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);

	CHECK(sqe != NULL);
	prepare(ring, sqe, submission);
	if (submission->link)
		sqe->flags |= IOSQE_IO_HARDLINK;
	if (submission->quiet)
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
	io_uring_sqe_set_data64(sqe, submission->user_data);
	ring->counts.submissions++;
	return 0;
}

/* ── completions ── */

int ring_enter(struct ring *ring, uint64_t timeout_us)
{
	struct io_uring_cqe *first;
	int code;

	ring->counts.enters++;
	if (timeout_us == 0) {
		code = io_uring_submit_and_get_events(&ring->uring);
	} else if (timeout_us == RING_WAIT_FOREVER) {
		code = io_uring_submit_and_wait(&ring->uring, 1);
	} else {
		struct __kernel_timespec timeout = {
			.tv_sec = (int64_t)(timeout_us / 1000000),
			.tv_nsec = (long long)(timeout_us % 1000000) * 1000,
		};

		code = io_uring_submit_and_wait_timeout(&ring->uring, &first, 1, &timeout, NULL);
	}
	/* Kept by the kernel until there is room again: slow, not lost. */
	if (io_uring_cq_has_overflow(&ring->uring))
		ring->counts.cq_overflows++;
	/* Not kept, for lack of memory: operations that would never end. */
	if (*ring->uring.cq.koverflow != 0)
		return -EOVERFLOW;
	/* EAGAIN, EBUSY: no memory for a request, or completions want to be reaped first; it stays
	 * queued. */
	if (code >= 0 || code == -ETIME || code == -EINTR || code == -EAGAIN || code == -EBUSY)
		return 0;
	return code;
}

uint32_t ring_reap(struct ring *ring, struct ring_completion *completions, uint32_t max)
{
	struct io_uring_cqe *cqe;
	unsigned head;
	uint32_t count = 0;

	io_uring_for_each_cqe(&ring->uring, head, cqe)
	{
		if (count == max)
			break;
		bool notification = cqe->flags & IORING_CQE_F_NOTIF;

		completions[count++] = (struct ring_completion){
			.user_data = cqe->user_data,
			.result = notification ? 0 : cqe->res,
			.more = cqe->flags & IORING_CQE_F_MORE,
			.notification = notification,
			.zc_copied = notification && ring->features.send_zc_report &&
				     ((uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED),
			.buffer_id = cqe->flags & IORING_CQE_F_BUFFER
					     ? (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT)
					     : -1,
		};
	}
	io_uring_cq_advance(&ring->uring, count);
	ring->counts.completions += count;
	return count;
}

/* ── provided buffers ── */

struct span ring_buffer(struct ring *ring, uint16_t buffer_id, uint32_t len)
{
	struct ring_buffers *buffers = &ring->buffers;

	CHECK(buffer_id < buffers->count && len <= buffers->each_bytes);
	return span_make(buffers->bytes + (size_t)buffer_id * buffers->each_bytes, len);
}

void ring_buffer_return(struct ring *ring, uint16_t buffer_id)
{
	struct ring_buffers *buffers = &ring->buffers;

	CHECK(buffer_id < buffers->count);
	io_uring_buf_ring_add(
		buffers->entries, buffers->bytes + (size_t)buffer_id * buffers->each_bytes,
		buffers->each_bytes, buffer_id, io_uring_buf_ring_mask(buffers->count), 0);
	io_uring_buf_ring_advance(buffers->entries, 1);
}

/* ── files ── */

struct file_ref ring_adopt(struct ring *ring, int fd)
{
	struct ring_files *files = &ring->files;

	if (files->free_count == 0)
		return file_from_fd(fd);
	uint32_t index = files->free[files->free_count - 1];

	if (io_uring_register_files_update(&ring->uring, index, &fd, 1) != 1)
		return file_from_fd(fd);
	files->free_count--;
	close(fd); /* the table holds the file now */
	return (struct file_ref){.index = (int32_t)index, .direct = true};
}

void ring_file_closed(struct ring *ring, int32_t index)
{
	struct ring_files *files = &ring->files;

	if ((uint32_t)index < files->adopted_first)
		return;
	CHECK((uint32_t)index < files->count);
	CHECK(files->free_count < files->count - files->adopted_first);
	files->free[files->free_count++] = (uint32_t)index;
}
