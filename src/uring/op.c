#include "uring/op.h"

#include "log/log.h"
#include "uring/worker_internal.h"

#include <errno.h>
#include <unistd.h>

/* ── arming ── */

static int op_arm(struct worker *worker, struct op *op, struct ring_submission *submission)
{
	CHECK(!op->armed && op->done);
	uint32_t slot = slots_take(&worker->slots, op);

	if (slot == USER_DATA_NO_SLOT)
		return -ENOBUFS;
	op->kind = (uint8_t)submission->opcode;
	submission->user_data = slots_user_data(&worker->slots, slot, op->kind);
	int code = ring_queue(worker->ring, submission);

	if (code < 0) {
		slots_release(&worker->slots, slot);
		return code;
	}
	if (submission->opcode == RING_CLOSE && submission->file.direct)
		worker->slots.table[slot].closing_index = submission->file.index;
	op->slot = slot;
	op->armed = true;
	return 0;
}

int op_accept(struct worker *worker, struct op *op, struct file_ref listener,
	      struct op_address *address)
{
	address->len = sizeof(address->storage);
	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_ACCEPT,
			      .file = listener,
			      .address = (struct sockaddr *)&address->storage,
			      .address_len = &address->len,
		      });
}

int op_receive(struct worker *worker, struct op *op, struct file_ref file)
{
	return op_arm(worker, op, &(struct ring_submission){.opcode = RING_RECEIVE, .file = file});
}

int op_send(struct worker *worker, struct op *op, struct file_ref file,
	    const struct msghdr *message)
{
	return op_arm(
		worker, op,
		&(struct ring_submission){.opcode = RING_SEND, .file = file, .message = message});
}

int op_send_zc(struct worker *worker, struct op *op, struct file_ref file,
	       const struct msghdr *message)
{
	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_SEND_ZC, .file = file, .message = message});
}

int op_connect(struct worker *worker, struct op *op, struct file_ref file,
	       const struct op_address *address)
{
	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_CONNECT,
			      .file = file,
			      /* The kernel only reads it; the field serves accept as well. */
			      .address = (struct sockaddr *)(uintptr_t)&address->storage,
			      .connect_len = address->len,
		      });
}

/* Ahead of a close. Returns 0, with room for the close as well, or a negative errno. */
static int queue_shutdown(struct worker *worker, struct file_ref file)
{
	return ring_queue(worker->ring,
			  &(struct ring_submission){
				  .opcode = RING_SHUTDOWN,
				  .file = file,
				  .user_data = user_data_make(RING_SHUTDOWN, 0, USER_DATA_NO_SLOT),
				  .link = true,
				  .quiet = true,
				  .how = SHUT_RDWR,
			  });
}

int op_shutdown_close(struct worker *worker, struct op *op, struct file_ref file)
{
	struct ring_submission closing = {.opcode = RING_CLOSE, .file = file};

	CHECK(!op->armed && op->done);
	uint32_t slot = slots_take(&worker->slots, op);

	/* What the close needs is there before the shutdown is queued: half a pair would link to a
	 * stranger. */
	if (slot == USER_DATA_NO_SLOT)
		return -ENOBUFS;
	slots_release(&worker->slots, slot);
	int code = queue_shutdown(worker, file);

	if (code < 0)
		return code;
	code = op_arm(worker, op, &closing);
	CHECK(code == 0);
	return 0;
}

int op_shutdown_send(struct worker *worker, struct op *op, struct file_ref file)
{
	return op_arm(
		worker, op,
		&(struct ring_submission){.opcode = RING_SHUTDOWN, .file = file, .how = SHUT_WR});
}

int op_close(struct worker *worker, struct op *op, struct file_ref file)
{
	return op_arm(worker, op, &(struct ring_submission){.opcode = RING_CLOSE, .file = file});
}

int op_cancel(struct worker *worker, struct op *op, const struct op *target)
{
	if (!target->armed)
		return -ENOENT;
	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_CANCEL,
			      .file = FILE_NONE,
			      .target_user_data =
				      slots_user_data(&worker->slots, target->slot, target->kind),
		      });
}

int op_poll(struct worker *worker, struct op *op, struct file_ref file, uint32_t events)
{
	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_POLL, .file = file, .poll_events = events});
}

int op_read(struct worker *worker, struct op *op, struct file_ref file, struct iovec into)
{
	/* A longer read is a short one: the kernel's own limit is below 2 GiB. */
	uint32_t length = into.iov_len > INT32_MAX ? INT32_MAX : (uint32_t)into.iov_len;

	return op_arm(worker, op,
		      &(struct ring_submission){
			      .opcode = RING_READ,
			      .file = file,
			      .buffer = into.iov_base,
			      .length = length,
		      });
}

/* ── completing ── */

/* ── files without an owner ── */

/* user_data has the place where others have a generation. Returns whether it is queued. */
static bool discard_queue(struct worker *worker, uint32_t place)
{
	const struct ring_submission closing = {
		.opcode = RING_CLOSE,
		.file = {.index = (int32_t)place, .direct = true},
		.user_data = user_data_make(RING_CLOSE, place, USER_DATA_NO_SLOT),
	};

	/* Before kernel 6.13 the file itself lives until every operation begun before has ended: its
	 * peer is told at once all the same. */
	if (queue_shutdown(worker, closing.file) < 0)
		return false;
	CHECK(ring_queue(worker->ring, &closing) == 0);
	return true;
}

void op_discard(struct worker *worker, struct file_ref file)
{
	uint32_t place = (uint32_t)file.index;

	if (file.index < 0)
		return;
	if (!file.direct) {
		close(file.index);
		return;
	}
	CHECK(place < 1u << USER_DATA_GENERATION_BITS);
	worker->discards++;
	if (discard_queue(worker, place))
		return;
	worker->unclosed[place / 64] |= UINT64_C(1) << place % 64;
	worker->unclosed_count++;
}

void discards_retry(struct worker *worker)
{
	for (uint32_t word = 0; worker->unclosed_count > 0; word++) {
		while (worker->unclosed[word]) {
			uint32_t bit = (uint32_t)__builtin_ctzll(worker->unclosed[word]);

			if (!discard_queue(worker, word * 64 + bit))
				return;
			worker->unclosed[word] &= ~(UINT64_C(1) << bit);
			worker->unclosed_count--;
		}
	}
}

static void discard_complete(struct worker *worker, uint32_t place, int32_t result)
{
	CHECK(worker->discards > 0);
	worker->discards--;
	ring_file_closed(worker->ring, (int32_t)place);
	if (result < 0)
		LOG(LOG_ERROR, "uring", "close failed", LOG_INT("error", result));
}

/* Its slot has moved on. What it brought must not leak. */
static void complete_late(struct worker *worker, const struct ring_completion *completion)
{
	metric_add(&worker->metrics.late_completions, 1);
	if (completion->buffer_id >= 0)
		ring_buffer_return(worker->ring, (uint16_t)completion->buffer_id);
	if (user_data_kind(completion->user_data) == RING_ACCEPT && completion->result >= 0)
		op_discard(worker, (struct file_ref){
					   .index = completion->result,
					   .direct = ring_get_features(worker->ring)->direct_files,
				   });
}

/* Completions that no op waits for: wake-ups, and the failures of quiet submissions. */
static void complete_unowned(struct worker *worker, const struct ring_completion *completion)
{
	uint8_t kind = user_data_kind(completion->user_data);

	if (kind == RING_MESSAGE)
		wake_refused(worker, user_data_generation(completion->user_data));
	else if (kind == RING_CLOSE)
		discard_complete(worker, user_data_generation(completion->user_data),
				 completion->result);
	/* OP_KIND_WOKEN: being here is its purpose. RING_SHUTDOWN: ENOTCONN, the close comes all
	 * the same. */
}

static void op_release(struct worker *worker, struct op *op,
		       const struct ring_completion *completion)
{
	int32_t closed = worker->slots.table[op->slot].closing_index;

	/* Whatever it says the place is empty (close(2)); but a cancelled close has not run. */
	if (closed >= 0 && completion->result != -ECANCELED)
		ring_file_closed(worker->ring, closed);
	slots_release(&worker->slots, op->slot);
	op->armed = false;
}

void op_complete(struct worker *worker, const struct ring_completion *completion)
{
	if (user_data_slot(completion->user_data) == USER_DATA_NO_SLOT) {
		complete_unowned(worker, completion);
		return;
	}
	struct op *op = slots_find(&worker->slots, completion->user_data);

	if (!op) {
		complete_late(worker, completion);
		return;
	}
	struct completion told = {
		.result = completion->result,
		.more = completion->more,
		.notification = completion->notification,
		.zc_copied = completion->zc_copied,
	};
	int32_t buffer_id = completion->buffer_id;

	if (buffer_id >= 0 && completion->result > 0)
		told.bytes = ring_buffer(worker->ring, (uint16_t)buffer_id,
					 (uint32_t)completion->result);
	if (op->kind == RING_RECEIVE && completion->result == -ENOBUFS)
		metric_add(&worker->metrics.buffer_starvations, 1);
	/* Before `done`, which may arm the op again or free its owner. */
	if (!completion->more)
		op_release(worker, op, completion);
	op->done(op, &told);
	if (buffer_id >= 0)
		ring_buffer_return(worker->ring, (uint16_t)buffer_id);
}
