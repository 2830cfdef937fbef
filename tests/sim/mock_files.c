#include "sim/mock_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

struct sim sim;

/* ── chance and time ── */

struct sim_options sim_options_clean(uint64_t seed)
{
	return (struct sim_options){
		.seed = seed,
		.delay_us_max = 300,
		.short_chance = 300,
		.copied_chance = 500,
		.stream_bytes = 16384,
		.idle_us = 1000,
	};
}

struct sim_options sim_options_faulty(uint64_t seed)
{
	struct sim_options options = sim_options_clean(seed);

	options.starve_chance = 30;
	options.multishot_chance = 100;
	options.reset_chance = 2;
	options.accept_chance = 50;
	options.connect_chance = 50;
	options.message_chance = 100;
	return options;
}

/* splitmix64's constants (Steele, Lea, Flood 2014): any seed is as good as another. */
uint64_t sim_random(uint64_t below)
{
	uint64_t mixed = sim.state += UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
	mixed ^= mixed >> 31;
	return below ? mixed % below : 0;
}

bool sim_chance(uint32_t per_thousand)
{
	return per_thousand > 0 && sim_random(1000) < per_thousand;
}

/* What jitters does so by the seed as well. */
ssize_t getrandom(void *bytes, size_t len, unsigned flags)
{
	uint8_t *out = bytes;

	(void)flags;
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)sim_random(256);
	return (ssize_t)len;
}

uint64_t sim_now_us(void)
{
	return sim.now_us;
}

void sim_sleep_us(uint64_t us)
{
	sim.now_us += us;
}

static uint64_t clock_monotonic_us(void *context)
{
	(void)context;
	/* Not from zero: nothing may depend on that. */
	return sim.now_us + 10000000;
}

static int64_t clock_wall_ms(void *context)
{
	(void)context;
	return (int64_t)(sim.now_us / 1000) + INT64_C(1700000000000);
}

const struct worker_clock sim_clock = {
	.monotonic_us = clock_monotonic_us,
	.wall_ms = clock_wall_ms,
};

void sim_begin(const struct sim_options *options)
{
	sim.options = *options;
	sim.counts = (struct sim_counts){0};
	sim.state = options->seed;
	sim.now_us = sim.round = 0;
	sim.next_ring_fd = RING_FD_FIRST;
	list_init(&sim.rings);
	list_init(&sim.files);
}

void sim_change(const struct sim_options *options)
{
	sim.options = *options;
}

void sim_end(void)
{
	CHECK(list_is_empty(&sim.rings));
	CHECK(list_is_empty(&sim.files));
}

struct sim_counts sim_get_counts(void)
{
	return sim.counts;
}

void *zeroed(size_t count, size_t bytes)
{
	void *memory = calloc(count ? count : 1, bytes);

	CHECK(memory != NULL);
	return memory;
}

/* ── streams and files ── */

void stream_write(struct stream *stream, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		stream->bytes[(stream->start + stream->len + i) % stream->cap] = bytes[i];
	stream->len += len;
	sim.counts.bytes += len;
}

void stream_read(struct stream *stream, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = stream->bytes[(stream->start + i) % stream->cap];
	stream->start = (stream->start + len) % stream->cap;
	stream->len -= len;
}

struct sim_file *file_new(enum file_kind kind)
{
	struct sim_file *file = zeroed(1, sizeof(*file));

	file->kind = kind;
	file->fd = -1;
	file->references = 1;
	list_init(&file->waiting);
	list_init(&file->waiting_link);
	list_push_back(&sim.files, &file->link);
	return file;
}

struct stream *file_in(struct sim_file *file)
{
	return &file->connection->streams[file->end];
}

struct stream *file_out(struct sim_file *file)
{
	return &file->connection->streams[1 - file->end];
}

void connect_files(struct sim_file *a, struct sim_file *b)
{
	struct connection *connection = zeroed(1, sizeof(*connection));

	for (unsigned i = 0; i < 2; i++) {
		struct stream *stream = &connection->streams[i];

		stream->cap = sim.options.stream_bytes;
		stream->bytes = zeroed(stream->cap, 1);
	}
	connection->ends = 2;
	a->kind = b->kind = FILE_STREAM;
	a->connection = b->connection = connection;
	a->end = 0;
	b->end = 1;
}

/* The last reference is gone: the peer learns it now, not earlier. */
static void file_end(struct sim_file *file)
{
	struct connection *connection = file->connection;
	struct list *link;

	while ((link = list_pop_front(&file->waiting)) != NULL) {
		struct sim_file *end = CONTAINER_OF(link, struct sim_file, waiting_link);

		end->connection->reset = true;
		file_put(end);
	}
	if (connection) {
		file_out(file)->ended = true;
		/* Bytes that nobody will read are a reset for the peer (RFC 1122 §4.2.2.13). */
		if (file_in(file)->len > 0 && !file->receive_shut)
			connection->reset = true;
		if (--connection->ends == 0) {
			free(connection->streams[0].bytes);
			free(connection->streams[1].bytes);
			free(connection);
		}
	}
	if (file->fd >= 0)
		close(file->fd);
	list_remove(&file->link);
	free(file);
}

void file_put(struct sim_file *file)
{
	CHECK(file->references > 0);
	if (--file->references == 0)
		file_end(file);
}

/* A real socket as a file of the simulation. */
static struct sim_file *file_from_socket(int fd)
{
	struct sim_file *file = file_new(FILE_SOCKET);
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens) {
		file->kind = FILE_LISTENER;
		file->address_len = sizeof(file->address);
		CHECK(getsockname(fd, (struct sockaddr *)&file->address, &file->address_len) == 0);
	}
	return file;
}

/* The file that an operation means, or NULL. */
struct sim_file *file_find(struct ring *ring, struct file_ref reference)
{
	if (reference.index < 0)
		return NULL;
	if (reference.direct)
		return (uint32_t)reference.index < ring->options.file_slots
			       ? ring->table[reference.index]
			       : NULL;
	LIST_FOR_EACH (&sim.files, link) {
		struct sim_file *file = CONTAINER_OF(link, struct sim_file, link);

		if (file->fd == reference.index)
			return file;
	}
	struct sim_file *file = file_from_socket(reference.index);

	file->fd = reference.index;
	return file;
}

/* Whether what was armed for the file that was here has not ended. */
static bool is_haunted(const struct ring *ring, int32_t index)
{
	LIST_FOR_EACH (&ring->active, link) {
		const struct sim_op *op = CONTAINER_OF(link, struct sim_op, link);

		if (op->file && op->submission.file.direct && op->submission.file.index == index)
			return true;
	}
	return false;
}

/* The kernel's choice: any free place below the adopted ones, often the last that was given back.
 */
int32_t table_place(struct ring *ring, struct sim_file *file)
{
	uint32_t count = ring->adopted_first;
	uint32_t from = (uint32_t)sim_random(count);

	if (ring->last_freed >= 0 && (uint32_t)ring->last_freed < count && sim_chance(700))
		from = (uint32_t)ring->last_freed;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t index = (from + i) % count;

		if (!ring->table[index]) {
			ring->table[index] = file;
			sim.counts.slot_reuses += is_haunted(ring, (int32_t)index);
			return (int32_t)index;
		}
	}
	return -ENFILE;
}

static struct file_ref table_adopt(struct ring *ring, struct sim_file *file)
{
	for (uint32_t index = ring->adopted_first; index < ring->options.file_slots; index++) {
		if (!ring->place_taken[index] && !ring->table[index]) {
			ring->place_taken[index] = true;
			ring->table[index] = file;
			return (struct file_ref){.index = (int32_t)index, .direct = true};
		}
	}
	return FILE_NONE;
}

struct file_ref ring_adopt(struct ring *ring, int fd)
{
	struct sim_file *file = file_from_socket(fd);
	struct file_ref reference = table_adopt(ring, file);

	if (reference.index < 0) {
		file->fd = fd;
		return file_from_fd(fd);
	}
	close(fd);
	return reference;
}

void ring_file_closed(struct ring *ring, int32_t index)
{
	if ((uint32_t)index < ring->adopted_first)
		return;
	CHECK((uint32_t)index < ring->options.file_slots && ring->place_taken[index]);
	ring->place_taken[index] = false;
}

static struct file_ref adopt_new(struct ring *ring, struct sim_file *file)
{
	struct file_ref reference = table_adopt(ring, file);

	CHECK(reference.index >= 0);
	return reference;
}

void sim_pair(struct ring *a, struct file_ref *file_a, struct ring *b, struct file_ref *file_b)
{
	struct sim_file *ends[2] = {file_new(FILE_SOCKET), file_new(FILE_SOCKET)};

	connect_files(ends[0], ends[1]);
	*file_a = adopt_new(a, ends[0]);
	*file_b = adopt_new(b, ends[1]);
}

struct file_ref sim_socket(struct ring *ring)
{
	return adopt_new(ring, file_new(FILE_SOCKET));
}

static struct sim_file *listener_new(uint16_t port)
{
	struct sim_file *file = file_new(FILE_LISTENER);
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	memcpy(&file->address, &address, sizeof(address));
	file->address_len = sizeof(address);
	return file;
}

struct file_ref sim_listener(struct ring *ring, uint16_t port)
{
	return adopt_new(ring, listener_new(port));
}

int sim_listener_fd(uint16_t port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	listener_new(port)->fd = fd;
	return fd;
}

void sim_close_fd(int fd)
{
	LIST_FOR_EACH (&sim.files, link) {
		struct sim_file *file = CONTAINER_OF(link, struct sim_file, link);

		if (file->fd == fd) {
			file_put(file);
			return;
		}
	}
	close(fd);
}

struct sim_file *listener_find(const struct sockaddr *address, socklen_t len)
{
	LIST_FOR_EACH (&sim.files, link) {
		struct sim_file *file = CONTAINER_OF(link, struct sim_file, link);

		if (file->kind == FILE_LISTENER && !file->receive_shut &&
		    file->address_len == len && memcmp(&file->address, address, len) == 0)
			return file;
	}
	return NULL;
}
