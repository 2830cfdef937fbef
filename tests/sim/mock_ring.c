#include "sim/mock_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

/* ── completions ── */

static struct ring_completion *complete(struct ring *ring, const struct sim_op *op, int32_t result)
{
	if (ring->completion_count == ring->completion_cap) {
		size_t cap = ring->completion_cap ? ring->completion_cap * 2 : 64;
		struct ring_completion *grown = zeroed(cap, sizeof(*grown));

		for (size_t i = 0; i < ring->completion_count; i++)
			grown[i] = ring->completions[(ring->completion_start + i) %
						     ring->completion_cap];
		free(ring->completions);
		ring->completions = grown;
		ring->completion_start = 0;
		ring->completion_cap = cap;
	}
	struct ring_completion *completion =
		&ring->completions[(ring->completion_start + ring->completion_count++) %
				   ring->completion_cap];

	/* What does not fit waits outside until the next enter, as in the kernel. */
	if (ring->visible + 1 == ring->completion_count && ring->visible < queue_bound(ring))
		ring->visible++;
	else
		sim.counts.cq_overflows++;
	*completion = (struct ring_completion){
		.user_data = op ? op->submission.user_data : 0,
		.result = result,
		.buffer_id = -1,
	};
	return completion;
}

static void op_delay(struct sim_op *op)
{
	op->not_before_us = sim.now_us + sim_random((uint64_t)sim.options.delay_us_max + 1);
}

static void op_start(struct ring *ring, struct sim_op *op)
{
	/* As the kernel: the file is looked up when the operation begins, and held until it ends.
	 */
	if (op->submission.opcode != RING_CANCEL && op->submission.opcode != RING_MESSAGE &&
	    op->submission.opcode != RING_CLOSE) {
		op->file = file_find(ring, op->submission.file);
		if (op->file)
			op->file->references++;
	}
	op_delay(op);
	list_push_back(&ring->active, &op->link);
}

/* The op is over; its completion, if any, was made. */
static void op_end(struct ring *ring, struct sim_op *op)
{
	struct sim_op *then = op->then;

	if (op->file)
		file_put(op->file);
	list_remove(&op->link);
	free(op);
	if (then)
		op_start(ring, then);
}

static void op_finish(struct ring *ring, struct sim_op *op, int32_t result)
{
	if (result < 0 || !op->submission.quiet)
		complete(ring, op, result);
	op_end(ring, op);
}

/* ── what operations do: each returns whether it did something ── */

static bool find_reset(struct sim_op *op)
{
	struct connection *connection = op->file->connection;

	if (connection && !connection->reset && sim_chance(sim.options.reset_chance)) {
		connection->reset = true;
		sim.counts.resets++;
	}
	return connection && connection->reset;
}

static size_t shorten(size_t len)
{
	if (len <= 1 || !sim_chance(sim.options.short_chance))
		return len;
	sim.counts.shorts++;
	return 1 + sim_random(len - 1);
}

static int32_t buffer_take(struct ring *ring)
{
	uint32_t count = ring->options.buffer_count;
	uint32_t from = (uint32_t)sim_random(count);

	for (uint32_t i = 0; i < count; i++) {
		uint32_t id = (from + i) % count;

		if (ring->buffer_free[id]) {
			ring->buffer_free[id] = false;
			ring->buffers_free--;
			return (int32_t)id;
		}
	}
	UNREACHABLE("asked only while one is free");
}

static bool do_receive(struct ring *ring, struct sim_op *op)
{
	if (op->file->kind != FILE_STREAM) {
		op_finish(ring, op, -ENOTCONN);
		return true;
	}
	/* An empty buffer ring fails at once, also without data. */
	if (ring->buffers_free == 0 || sim_chance(sim.options.starve_chance)) {
		sim.counts.starvations++;
		op_finish(ring, op, -ENOBUFS);
		return true;
	}
	if (find_reset(op)) {
		op_finish(ring, op, -ECONNRESET);
		return true;
	}
	struct stream *in = file_in(op->file);

	if (in->len == 0) {
		if (!in->ended && !op->file->receive_shut)
			return false;
		/* So late now and then that its place has a new file by then. */
		if (!op->late && sim_chance(200)) {
			op->late = true;
			op->not_before_us = sim.now_us + 20 * (uint64_t)sim.options.delay_us_max;
			return false;
		}
		op_finish(ring, op, 0);
		return true;
	}
	size_t len = in->len < ring->options.buffer_bytes ? in->len : ring->options.buffer_bytes;

	len = shorten(len);
	int32_t id = buffer_take(ring);

	stream_read(in, ring->bytes + (size_t)id * ring->options.buffer_bytes, len);
	/* A multishot receive ends where its completion finds no place. */
	bool ends = sim_chance(sim.options.multishot_chance) ||
		    ring->completion_count >= queue_bound(ring);
	struct ring_completion *completion = complete(ring, op, (int32_t)len);

	completion->buffer_id = id;
	completion->more = !ends;
	sim.counts.multishot_ends += ends;
	if (ends)
		op_end(ring, op);
	return true;
}

static size_t message_len(const struct msghdr *message)
{
	size_t len = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		len += message->msg_iov[i].iov_len;
	return len;
}

/* FNV-1a of all bytes: memory lent to a zero-copy send must not change. */
static uint64_t message_sum(const struct msghdr *message)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const uint8_t *bytes = message->msg_iov[i].iov_base;

		for (size_t k = 0; k < message->msg_iov[i].iov_len; k++)
			sum = (sum ^ bytes[k]) * UINT64_C(0x100000001b3);
	}
	return sum;
}

static void message_write(struct stream *out, const struct msghdr *message, size_t len)
{
	for (size_t i = 0; i < message->msg_iovlen && len > 0; i++) {
		size_t part = message->msg_iov[i].iov_len;

		part = part < len ? part : len;
		stream_write(out, message->msg_iov[i].iov_base, part);
		len -= part;
	}
}

static void finish_send(struct ring *ring, struct sim_op *op, int32_t result)
{
	if (op->submission.opcode == RING_SEND) {
		op_finish(ring, op, result);
		return;
	}
	/* Also a failed zero-copy send is followed by its notification. */
	complete(ring, op, result)->more = true;
	op->sent = true;
	op->sum = message_sum(op->submission.message);
	op_delay(op);
	if (sim.options.notify_us_max > 0)
		op->not_before_us =
			sim.now_us + sim_random((uint64_t)sim.options.notify_us_max + 1);
}

/* Whether the kernel would not have this one. Its result may come alone. */
static bool refuse_zerocopy(struct ring *ring, struct sim_op *op)
{
	static const int32_t errors[] = {-ENOBUFS, -ENOMEM, -ENOBUFS, -EOPNOTSUPP};

	if (op->submission.opcode != RING_SEND_ZC || !sim_chance(sim.options.refused_chance))
		return false;
	int32_t error = errors[sim_random(ARRAY_LEN(errors))];

	sim.counts.zerocopy_refused++;
	if (sim_chance(500))
		finish_send(ring, op, error);
	else
		op_finish(ring, op, error);
	return true;
}

static bool do_send(struct ring *ring, struct sim_op *op)
{
	const struct msghdr *message = op->submission.message;

	if (op->sent) {
		CHECK(message_sum(message) == op->sum);
		struct ring_completion *completion = complete(ring, op, 0);

		completion->notification = true;
		completion->zc_copied = sim_chance(sim.options.copied_chance);
		sim.counts.zerocopy_notified++;
		op_end(ring, op);
		return true;
	}
	if (op->file->kind != FILE_STREAM) {
		finish_send(ring, op, -EPIPE);
		return true;
	}
	if (refuse_zerocopy(ring, op))
		return true;
	if (find_reset(op) || file_out(op->file)->ended) {
		finish_send(ring, op, file_out(op->file)->ended ? -EPIPE : -ECONNRESET);
		return true;
	}
	struct stream *out = file_out(op->file);
	size_t room = out->cap - out->len, len = message_len(message);

	if (room == 0 && len > 0)
		return false;
	len = shorten(len < room ? len : room);
	message_write(out, message, len);
	finish_send(ring, op, (int32_t)len);
	return true;
}

static bool do_accept(struct ring *ring, struct sim_op *op)
{
	if (op->file->kind != FILE_LISTENER || op->file->receive_shut) {
		op_finish(ring, op, -EINVAL);
		return true;
	}
	struct list *link = list_pop_front(&op->file->waiting);

	if (!link)
		return false;
	struct sim_file *end = CONTAINER_OF(link, struct sim_file, waiting_link);
	int32_t index = table_place(ring, end);

	if (sim_chance(sim.options.accept_chance)) {
		if (index >= 0)
			ring->table[index] = NULL;
		index = sim_chance(500) ? -ECONNABORTED : -ENFILE;
		sim.counts.accept_failures++;
	}
	if (index < 0) {
		end->connection->reset = true;
		file_put(end);
	} else {
		memcpy(op->submission.address, &end->address, end->address_len);
		*op->submission.address_len = end->address_len;
	}
	op_finish(ring, op, index);
	return true;
}

static bool do_connect(struct ring *ring, struct sim_op *op)
{
	struct sim_file *listener =
		listener_find(op->submission.address, op->submission.connect_len);

	if (op->submission.address->sa_family == AF_UNSPEC) {
		/* Lets go of the peer at once (connect(2)), and of what is on its way. */
		if (op->file->connection)
			op->file->connection->reset = true;
		op_finish(ring, op, 0);
		return true;
	}
	if (op->file->kind == FILE_STREAM) {
		op_finish(ring, op, -EISCONN);
		return true;
	}
	if (!listener || sim_chance(sim.options.connect_chance)) {
		sim.counts.connect_failures += listener != NULL;
		op_finish(ring, op, listener && sim_chance(500) ? -ETIMEDOUT : -ECONNREFUSED);
		return true;
	}
	struct sim_file *end = file_new(FILE_SOCKET);
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)(32768 + sim_random(28232))),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	memcpy(&end->address, &from, sizeof(from));
	end->address_len = sizeof(from);
	connect_files(op->file, end);
	list_push_back(&listener->waiting, &end->waiting_link);
	op_finish(ring, op, 0);
	return true;
}

static bool do_shutdown(struct ring *ring, struct sim_op *op)
{
	struct sim_file *file = op->file;
	int how = op->submission.how;

	if (file->kind == FILE_SOCKET) {
		op_finish(ring, op, -ENOTCONN);
		return true;
	}
	if (how != SHUT_WR)
		file->receive_shut = true;
	if (how != SHUT_RD && file->connection)
		file_out(file)->ended = true;
	op_finish(ring, op, 0);
	return true;
}

static bool do_close(struct ring *ring, struct sim_op *op)
{
	struct file_ref reference = op->submission.file;
	struct sim_file *file = file_find(ring, reference);

	if (!file) {
		op_finish(ring, op, -EBADF);
		return true;
	}
	if (reference.direct)
		ring->table[ring->last_freed = reference.index] = NULL;
	file_put(file);
	op_finish(ring, op, fault_draw(ring, op));
	return true;
}

static void op_cancelled(struct ring *ring, struct sim_op *op)
{
	if (op->submission.opcode == RING_SEND_ZC)
		finish_send(ring, op, -ECANCELED);
	else
		op_finish(ring, op, -ECANCELED);
}

static bool do_cancel(struct ring *ring, struct sim_op *op)
{
	LIST_FOR_EACH (&ring->active, link) {
		struct sim_op *target = CONTAINER_OF(link, struct sim_op, link);

		if (target == op || target->submission.user_data != op->submission.target_user_data)
			continue;
		/* What has begun cannot be stopped: a zero-copy send's memory, a close. */
		if (target->sent || target->submission.opcode == RING_CLOSE) {
			op_finish(ring, op, -EALREADY);
			return true;
		}
		/* It may run just now, and either be in time or not. */
		if (sim_chance(400)) {
			target->doomed = true;
			op_finish(ring, op, sim_chance(500) ? -EALREADY : 0);
			return true;
		}
		op_cancelled(ring, target);
		op_finish(ring, op, 0);
		return true;
	}
	sim.counts.cancel_races++;
	op_finish(ring, op, -ENOENT);
	return true;
}

static bool do_poll(struct ring *ring, struct sim_op *op)
{
	struct sim_file *file = op->file;
	uint32_t events = 0;

	if (file->kind == FILE_LISTENER && !list_is_empty(&file->waiting))
		events |= POLLIN;
	if (file->kind == FILE_STREAM) {
		struct stream *in = file_in(file), *out = file_out(file);

		if (in->len > 0 || in->ended || file->receive_shut)
			events |= POLLIN;
		if (out->len < out->cap)
			events |= POLLOUT;
		if (file->connection->reset)
			events |= POLLIN | POLLOUT | POLLERR | POLLHUP;
	}
	events &= op->submission.poll_events | POLLERR | POLLHUP;
	if (events == 0)
		return false;
	op_finish(ring, op, (int32_t)events);
	return true;
}

static bool do_read(struct ring *ring, struct sim_op *op)
{
	if (op->file->kind != FILE_STREAM) {
		op_finish(ring, op, -EINVAL);
		return true;
	}
	struct stream *in = file_in(op->file);
	size_t len = in->len < op->submission.length ? in->len : op->submission.length;

	if (find_reset(op)) {
		op_finish(ring, op, -ECONNRESET);
		return true;
	}
	if (len == 0 && !in->ended && !op->file->receive_shut)
		return false;
	len = shorten(len);
	stream_read(in, op->submission.buffer, len);
	op_finish(ring, op, (int32_t)len);
	return true;
}

static bool do_message(struct ring *ring, struct sim_op *op)
{
	if (sim_chance(sim.options.message_chance)) {
		sim.counts.messages_refused++;
		op_finish(ring, op, -EOVERFLOW);
		return true;
	}
	LIST_FOR_EACH (&sim.rings, link) {
		struct ring *target = CONTAINER_OF(link, struct ring, link);

		if (target->fd != op->submission.message_fd)
			continue;
		complete(target, NULL, 0)->user_data = op->submission.target_user_data;
		op_finish(ring, op, 0);
		return true;
	}
	op_finish(ring, op, -EBADFD);
	return true;
}

/* An errno out of the blue, with what it means for the connection. */
static void op_fail(struct ring *ring, struct sim_op *op, int32_t error)
{
	enum ring_opcode opcode = op->submission.opcode;
	struct connection *connection = op->file ? op->file->connection : NULL;
	enum op_outcome outcome = op_classify((uint8_t)opcode, error);

	/* A file that cannot even be shut down has no peer any more. */
	if (connection && (outcome == OP_PEER_GONE || opcode == RING_SHUTDOWN))
		connection->reset = true;
	if (opcode == RING_ACCEPT && op->file) {
		struct list *link = list_pop_front(&op->file->waiting);

		if (link) {
			struct sim_file *end = CONTAINER_OF(link, struct sim_file, waiting_link);

			end->connection->reset = true;
			file_put(end);
		}
	}
	if (opcode == RING_SEND_ZC) {
		sim.counts.zerocopy_refused +=
			outcome == OP_LOCAL_LIMIT || outcome == OP_UNSUPPORTED;
		finish_send(ring, op, error);
	} else {
		op_finish(ring, op, error);
	}
}

static bool op_try(struct ring *ring, struct sim_op *op)
{
	static bool (*const steps[RING_OPCODE_COUNT])(struct ring *, struct sim_op *) = {
		[RING_ACCEPT] = do_accept,   [RING_RECEIVE] = do_receive,
		[RING_SEND] = do_send,	     [RING_SEND_ZC] = do_send,
		[RING_CONNECT] = do_connect, [RING_SHUTDOWN] = do_shutdown,
		[RING_CLOSE] = do_close,     [RING_CANCEL] = do_cancel,
		[RING_POLL] = do_poll,	     [RING_READ] = do_read,
		[RING_MESSAGE] = do_message,
	};
	enum ring_opcode opcode = op->submission.opcode;

	if (!op->file && opcode != RING_CLOSE && opcode != RING_CANCEL && opcode != RING_MESSAGE) {
		op_finish(ring, op, -EBADF);
		return true;
	}
	int32_t error = opcode == RING_CLOSE ? 0 : fault_draw(ring, op);

	if (error) {
		op_fail(ring, op, error);
		return true;
	}
	if (op->doomed && !op->sent) {
		if (sim_chance(300) && steps[opcode](ring, op)) {
			sim.counts.cancel_races++;
			return true;
		}
		op_cancelled(ring, op);
		return true;
	}
	return steps[opcode](ring, op);
}

/* ── the ring ── */

static void submit(struct ring *ring)
{
	struct list *link;

	while ((link = list_pop_front(&ring->queued)) != NULL)
		op_start(ring, CONTAINER_OF(link, struct sim_op, link));
	ring->queued_count = 0;
}

int ring_queue(struct ring *ring, const struct ring_submission *submission)
{
	if (submission->opcode == RING_RECEIVE && !ring->features.buffer_ring)
		return -EOPNOTSUPP;
	if (!ring->link_head && sim_chance(sim.options.queue_chance)) {
		sim.counts.submissions_refused++;
		return sim_chance(500) ? -EBUSY : -EAGAIN;
	}
	if (ring->queued_count + 2 > ring->options.sq_entries && !ring->link_head)
		submit(ring);
	struct sim_op *op = zeroed(1, sizeof(*op));

	op->submission = *submission;
	list_init(&op->link);
	ring->counts.submissions++;
	ring->queued_count++;
	if (ring->link_head) {
		ring->link_head->then = op;
		ring->link_head = NULL;
	} else {
		list_push_back(&ring->queued, &op->link);
	}
	if (submission->link)
		ring->link_head = op;
	return 0;
}

static struct sim_op *next_due(struct ring *ring, uint64_t round)
{
	LIST_FOR_EACH (&ring->active, link) {
		struct sim_op *op = CONTAINER_OF(link, struct sim_op, link);

		if (op->round != round && op->not_before_us <= sim.now_us)
			return op;
	}
	return NULL;
}

/* One look at each operation that is due; where it then stands in the list decides the next order.
 */
static void progress(struct ring *ring)
{
	uint64_t round = ++sim.round;
	struct sim_op *op;

	while ((op = next_due(ring, round)) != NULL) {
		op->round = round;
		list_remove(&op->link);
		if (sim_chance(500))
			list_push_front(&ring->active, &op->link);
		else
			list_push_back(&ring->active, &op->link);
		op_delay(op);
		op_try(ring, op);
	}
}

int ring_enter(struct ring *ring, uint64_t timeout_us)
{
	CHECK(!ring->link_head);
	ring->counts.enters++;
	ring->counts.cq_overflows += ring->visible < ring->completion_count;
	ring->visible = ring->completion_count < queue_bound(ring) ? ring->completion_count
								   : queue_bound(ring);
	submit(ring);
	progress(ring);
	if (timeout_us == 0 || ring->completion_count > 0)
		return 0;
	uint64_t idle_us = sim.options.idle_us;

	sim.now_us += 1 + sim_random(timeout_us < idle_us ? timeout_us : idle_us);
	progress(ring);
	return 0;
}

uint32_t ring_reap(struct ring *ring, struct ring_completion *completions, uint32_t max)
{
	uint32_t count = 0;

	/* Sometimes only a part, as if the rest came a moment later. */
	if (max > 1 && sim_chance(300))
		max = 1 + (uint32_t)sim_random(max);
	while (count < max && ring->visible > 0) {
		completions[count++] = ring->completions[ring->completion_start];
		ring->completion_start = (ring->completion_start + 1) % ring->completion_cap;
		ring->completion_count--;
		ring->visible--;
	}
	ring->counts.completions += count;
	return count;
}

struct span ring_buffer(struct ring *ring, uint16_t buffer_id, uint32_t len)
{
	CHECK(buffer_id < ring->options.buffer_count && len <= ring->options.buffer_bytes);
	CHECK(!ring->buffer_free[buffer_id]);
	return span_make(ring->bytes + (size_t)buffer_id * ring->options.buffer_bytes, len);
}

void ring_buffer_return(struct ring *ring, uint16_t buffer_id)
{
	CHECK(buffer_id < ring->options.buffer_count && !ring->buffer_free[buffer_id]);
	ring->buffer_free[buffer_id] = true;
	ring->buffers_free++;
	/* Whoever still looks at it shall see it. */
	memset(ring->bytes + (size_t)buffer_id * ring->options.buffer_bytes, 0xdd,
	       ring->options.buffer_bytes);
}

int ring_probe(struct ring_features *features, char *why, size_t why_size)
{
	if (why_size > 0)
		why[0] = '\0';
	*features = (struct ring_features){
		.single_issuer = true,
		.defer_taskrun = true,
		.coop_taskrun = true,
		.registered_ring = true,
		.direct_files = true,
		.buffer_ring = true,
		.multishot_receive = true,
		.send_zc = true,
		.sendmsg_zc = true,
		.send_zc_report = true,
		.msg_ring = true,
		.prompt_close = sim_chance(500),
		.restricted = true,
	};
	return 0;
}

size_t ring_features_describe(const struct ring_features *features, char *text, size_t size)
{
	(void)features;
	int len = snprintf(text, size, "simulated");

	return (size_t)len < size ? (size_t)len : size - 1;
}

int ring_create(struct ring **out, const struct ring_options *options, char *why, size_t why_size)
{
	struct ring *ring = zeroed(1, sizeof(*ring));

	ring_probe(&ring->features, why, why_size);
	ring->options = *options;
	ring->features.direct_files = options->file_slots > 0;
	ring->features.buffer_ring = options->buffer_count > 0;
	ring->table = zeroed(options->file_slots, sizeof(struct sim_file *));
	ring->place_taken = zeroed(options->file_slots, sizeof(bool));
	ring->adopted_first = options->file_slots - options->file_slots / ADOPTED_SHARE;
	ring->bytes = zeroed(options->buffer_count, options->buffer_bytes);
	ring->buffer_free = zeroed(options->buffer_count, sizeof(bool));
	for (uint32_t id = 0; id < options->buffer_count; id++)
		ring->buffer_free[id] = true;
	ring->buffers_free = options->buffer_count;
	ring->fd = sim.next_ring_fd++;
	ring->last_freed = -1;
	list_init(&ring->queued);
	list_init(&ring->active);
	list_push_back(&sim.rings, &ring->link);
	*out = ring;
	return 0;
}

int ring_enable(struct ring *ring)
{
	(void)ring;
	return 0;
}

void ring_leave(struct ring *ring)
{
	(void)ring;
}

void ring_destroy(struct ring *ring)
{
	if (!ring)
		return;
	/* Nothing may be in flight, every buffer is back, every file was closed. */
	CHECK(list_is_empty(&ring->active));
	CHECK(ring->buffers_free == ring->options.buffer_count);
	for (uint32_t i = 0; i < ring->options.file_slots; i++)
		CHECK(ring->table[i] == NULL && !ring->place_taken[i]);
	submit(ring);
	CHECK(list_is_empty(&ring->active));
	list_remove(&ring->link);
	free(ring->completions);
	free(ring->table);
	free(ring->place_taken);
	free(ring->bytes);
	free(ring->buffer_free);
	free(ring);
}

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
