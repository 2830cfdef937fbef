/*
 * floor: the least a server on this kernel can do for the same bytes, on a raw ring. It knows no
 * protocol but the end of a request; what it costs is the kernel's price, and the gateway is
 * measured against it. One program, four pieces of work:
 *
 *   floor http    [--bytes N]                   a fixed reply of N bytes to each request
 *   floor storm   [--bytes N] --connections N   accept, first receive, first send, close; N closes
 *   floor fanout  [--bytes N] --connections N --rate R     R times a second, N bytes to all of them
 *   floor gather  [--bytes N] --connections N   64 messages of N bytes in each send, without pause
 *
 * All take [--port P] [--duration S] [--warmup S]. "listening PORT" comes first, "ready" when all
 * connections are there; all but http end by themselves with one JSON line. `sink` is the other
 * end.
 */
#include <liburing.h>

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SQ_ENTRIES	4096
#define CQ_ENTRIES	32768 /* multishot operations complete without having been submitted */
#define BUFFER_COUNT	1024  /* a power of two: the kernel's rule */
#define BUFFER_BYTES	2048  /* more than any request of the load generators */
#define BUFFER_GROUP	1
#define REPLIES_MAX	16  /* pipelined requests answered by one send */
#define GATHER_MESSAGES 64  /* BENCH.md, W5 */
#define CHUNK		128 /* sends submitted before completions are looked at */
#define PEERS_MAX	60000

enum kind { KIND_ACCEPT = 1, KIND_RECEIVE, KIND_SEND, KIND_CLOSE };

struct peer {
	uint16_t owed;	 /* replies not sent yet */
	uint8_t matched; /* bytes of the request's end seen so far */
	bool is_sending;
	bool is_leaving; /* end of stream seen: closed after the last send */
	bool is_receiving;
};

struct options {
	uint16_t port;
	unsigned bytes, connections;
	double rate, duration, warmup;
};

struct floor {
	struct options options;
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	uint8_t *memory;
	struct peer *peers;
	uint32_t *slots; /* of the accepted, in their order */
	uint8_t *out;	 /* REPLIES_MAX or GATHER_MESSAGES times the bytes of one message */
	unsigned slot_count, accepted, closed, in_flight;
	int listener;
	bool takes_any; /* storm: whatever comes first is the request */
};

static void fail(const char *what, int error)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
	exit(1);
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- the ring ---- */

static void open_ring(struct floor *floor)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CQSIZE,
		.cq_entries = CQ_ENTRIES,
	};
	struct rlimit files;
	int code = io_uring_queue_init_params(SQ_ENTRIES, &floor->ring, &params);

	if (code)
		fail("io_uring", -code);
	io_uring_register_ring_fd(&floor->ring);
	getrlimit(RLIMIT_NOFILE, &files);
	floor->slot_count = files.rlim_cur < PEERS_MAX ? (unsigned)files.rlim_cur : PEERS_MAX;
	code = io_uring_register_files_sparse(&floor->ring, floor->slot_count);
	if (code)
		fail("direct descriptors", -code);
	floor->peers = calloc(floor->slot_count, sizeof(*floor->peers));
	floor->slots = calloc(floor->slot_count, sizeof(*floor->slots));
	if (!floor->peers || !floor->slots)
		fail("memory", ENOMEM);
}

static void open_buffers(struct floor *floor)
{
	size_t ring_bytes = BUFFER_COUNT * sizeof(struct io_uring_buf);
	int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;

	floor->buffers = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, anonymous, -1, 0);
	floor->memory = malloc(BUFFER_COUNT * BUFFER_BYTES);
	if (floor->buffers == MAP_FAILED || !floor->memory)
		fail("memory", ENOMEM);

	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)floor->buffers,
		.ring_entries = BUFFER_COUNT,
		.bgid = BUFFER_GROUP,
	};
	int code = io_uring_register_buf_ring(&floor->ring, &reg, 0);

	if (code)
		fail("provided buffers", -code);
	io_uring_buf_ring_init(floor->buffers);
	for (unsigned i = 0; i < BUFFER_COUNT; i++)
		io_uring_buf_ring_add(floor->buffers, floor->memory + i * BUFFER_BYTES,
				      BUFFER_BYTES, (unsigned short)i, BUFFER_COUNT - 1, (int)i);
	io_uring_buf_ring_advance(floor->buffers, BUFFER_COUNT);
}

static void return_buffer(struct floor *floor, unsigned id)
{
	io_uring_buf_ring_add(floor->buffers, floor->memory + id * BUFFER_BYTES, BUFFER_BYTES,
			      (unsigned short)id, BUFFER_COUNT - 1, 0);
	io_uring_buf_ring_advance(floor->buffers, 1);
}

static struct io_uring_sqe *next_sqe(struct floor *floor)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&floor->ring);

	while (!sqe) {
		io_uring_submit(&floor->ring);
		sqe = io_uring_get_sqe(&floor->ring);
	}
	return sqe;
}

static void mark(struct io_uring_sqe *sqe, enum kind kind, unsigned slot)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)kind << 32 | slot);
}

static void open_listener(struct floor *floor)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET,
		.sin_port = htons(floor->options.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(at);
	int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* what is set on the listener is inherited: no call per connection */
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&at, len) || listen(fd, 65535) ||
	    getsockname(fd, (struct sockaddr *)&at, &len))
		fail("listen", errno);
	floor->listener = fd;
	printf("listening %u\n", ntohs(at.sin_port));
	fflush(stdout);
}

/* ---- operations ---- */

static void arm_accept(struct floor *floor)
{
	struct io_uring_sqe *sqe = next_sqe(floor);

	io_uring_prep_multishot_accept_direct(sqe, floor->listener, NULL, NULL, 0);
	mark(sqe, KIND_ACCEPT, 0);
}

static void arm_receive(struct floor *floor, unsigned slot)
{
	struct io_uring_sqe *sqe = next_sqe(floor);

	io_uring_prep_recv_multishot(sqe, (int)slot, NULL, 0, 0);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	mark(sqe, KIND_RECEIVE, slot);
	floor->peers[slot].is_receiving = true;
}

static void send_bytes(struct floor *floor, unsigned slot, size_t len)
{
	struct io_uring_sqe *sqe = next_sqe(floor);

	io_uring_prep_send(sqe, (int)slot, floor->out, len, MSG_WAITALL | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE;
	mark(sqe, KIND_SEND, slot);
	floor->in_flight++;
}

/* A peer is closed when nothing of its own is under way: slots are used again at once. */
static void leave(struct floor *floor, unsigned slot)
{
	struct peer *peer = &floor->peers[slot];

	peer->is_leaving = true;
	if (peer->is_sending || peer->is_receiving)
		return;
	struct io_uring_sqe *sqe = next_sqe(floor);

	io_uring_prep_close_direct(sqe, slot);
	mark(sqe, KIND_CLOSE, slot);
}

static void accepted(struct floor *floor, const struct io_uring_cqe *cqe)
{
	if (cqe->res < 0)
		fail("accept", -cqe->res);
	if (!(cqe->flags & IORING_CQE_F_MORE))
		arm_accept(floor);

	unsigned slot = (unsigned)cqe->res;

	floor->peers[slot] = (struct peer){0};
	floor->slots[floor->accepted++ % floor->slot_count] = slot;
	if (floor->buffers)
		arm_receive(floor, slot);
}

/* ---- http and storm ---- */

static unsigned count_requests(struct peer *peer, const uint8_t *bytes, size_t len)
{
	static const uint8_t end[4] = {'\r', '\n', '\r', '\n'};
	unsigned count = 0;

	if (peer->matched == 0 && len >= 4 && memmem(bytes, len, end, 4) == bytes + len - 4)
		return 1;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] == end[peer->matched])
			peer->matched++;
		else
			peer->matched = bytes[i] == '\r';
		if (peer->matched == 4) {
			peer->matched = 0;
			count++;
		}
	}
	return count;
}

static void reply(struct floor *floor, unsigned slot)
{
	struct peer *peer = &floor->peers[slot];
	unsigned count = peer->owed < REPLIES_MAX ? peer->owed : REPLIES_MAX;

	if (peer->is_sending || count == 0)
		return;
	peer->is_sending = true;
	peer->owed = (uint16_t)(peer->owed - count);
	send_bytes(floor, slot, (size_t)count * floor->options.bytes);
}

static void received(struct floor *floor, const struct io_uring_cqe *cqe, unsigned slot)
{
	struct peer *peer = &floor->peers[slot];

	peer->is_receiving = cqe->flags & IORING_CQE_F_MORE;
	if (cqe->res > 0) {
		unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
		const uint8_t *bytes = floor->memory + id * BUFFER_BYTES;
		unsigned count =
			floor->takes_any ? 1 : count_requests(peer, bytes, (size_t)cqe->res);

		peer->owed = (uint16_t)(peer->owed + count);
		return_buffer(floor, id);
		reply(floor, slot);
	} else if (cqe->res != -ENOBUFS) {
		leave(floor, slot);
		return;
	}
	if (!peer->is_receiving && !peer->is_leaving)
		arm_receive(floor, slot);
}

static void sent(struct floor *floor, const struct io_uring_cqe *cqe, unsigned slot)
{
	struct peer *peer = &floor->peers[slot];

	floor->in_flight--;
	peer->is_sending = false;
	if (peer->is_leaving)
		leave(floor, slot);
	else if (cqe->res > 0)
		reply(floor, slot);
}

static void complete(struct floor *floor, const struct io_uring_cqe *cqe)
{
	unsigned slot = (unsigned)cqe->user_data;

	switch ((enum kind)(cqe->user_data >> 32)) {
	case KIND_ACCEPT:
		accepted(floor, cqe);
		break;
	case KIND_RECEIVE:
		received(floor, cqe, slot);
		break;
	case KIND_SEND:
		sent(floor, cqe, slot);
		break;
	case KIND_CLOSE:
		floor->closed++;
		break;
	}
}

static void turn(struct floor *floor, unsigned wait)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;
	int code = wait ? io_uring_submit_and_wait(&floor->ring, wait)
			: io_uring_submit_and_get_events(&floor->ring);

	if (code < 0 && code != -EINTR && code != -EBUSY)
		fail("submit", -code);
	io_uring_for_each_cqe(&floor->ring, head, cqe)
	{
		complete(floor, cqe);
		count++;
	}
	io_uring_cq_advance(&floor->ring, count);
}

static void report(double units, double wall, double cpu)
{
	printf("{\"units\":%.0f,\"seconds\":%.3f,\"server_cpu_us\":%.0f,"
	       "\"server_cpu_us_per_unit\":%.4f}\n",
	       units, wall, cpu * 1e6, cpu * 1e6 / units);
	fflush(stdout);
}

static int run_http(struct floor *floor)
{
	open_buffers(floor);
	arm_accept(floor);
	while (true)
		turn(floor, 1);
	return 0;
}

static int run_storm(struct floor *floor)
{
	floor->takes_any = true;
	open_buffers(floor);
	arm_accept(floor);

	double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);

	while (floor->closed < floor->options.connections)
		turn(floor, 1);
	report(floor->closed, seconds(CLOCK_MONOTONIC) - wall,
	       seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}

/* ---- fanout and gather: the connections are there, then nothing but sends ---- */

static void await_connections(struct floor *floor)
{
	arm_accept(floor);
	while (floor->accepted < floor->options.connections)
		turn(floor, 1);
	puts("ready");
	fflush(stdout);

	char word[64];

	while (read(STDIN_FILENO, word, sizeof(word)) < 0 && errno == EINTR)
		;
}

static void sleep_until(double when)
{
	struct timespec at = {.tv_sec = (time_t)when,
			      .tv_nsec = (long)((when - (double)(time_t)when) * 1e9)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static unsigned finish_sends(struct floor *floor, unsigned at_most)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;

	io_uring_for_each_cqe(&floor->ring, head, cqe)
	{
		if (cqe->res != (int)at_most)
			fail("send", cqe->res < 0 ? -cqe->res : EIO);
		count++;
	}
	io_uring_cq_advance(&floor->ring, count);
	floor->in_flight -= count;
	return count;
}

static void send_to_all(struct floor *floor)
{
	unsigned bytes = floor->options.bytes;

	for (unsigned i = 0; i < floor->options.connections; i++) {
		send_bytes(floor, floor->slots[i], bytes);
		if (i % CHUNK == CHUNK - 1) {
			io_uring_submit_and_get_events(&floor->ring);
			finish_sends(floor, bytes);
		}
	}
	while (floor->in_flight > 0) {
		io_uring_submit_and_wait(&floor->ring, 1);
		finish_sends(floor, bytes);
	}
}

static int run_fanout(struct floor *floor)
{
	const struct options *options = &floor->options;
	unsigned warm = (unsigned)(options->rate * options->warmup);
	unsigned all = warm + (unsigned)(options->rate * options->duration);
	double cpu = 0, wall = 0, start;

	await_connections(floor);
	start = seconds(CLOCK_MONOTONIC);
	for (unsigned i = 0; i < all; i++) {
		if (i == warm) {
			cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
			wall = seconds(CLOCK_MONOTONIC);
		}
		sleep_until(start + i / options->rate);
		send_to_all(floor);
	}
	report((double)(all - warm) * options->connections, seconds(CLOCK_MONOTONIC) - wall,
	       seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}

static void gather_send(struct floor *floor, unsigned slot, const struct msghdr *message)
{
	struct io_uring_sqe *sqe = next_sqe(floor);

	io_uring_prep_sendmsg(sqe, (int)slot, message, MSG_WAITALL | MSG_NOSIGNAL);
	sqe->flags |= IOSQE_FIXED_FILE;
	mark(sqe, KIND_SEND, slot);
}

static unsigned gather_turn(struct floor *floor, const struct msghdr *message, int bytes)
{
	struct io_uring_cqe *cqe;
	unsigned head, count = 0;

	io_uring_submit_and_wait(&floor->ring, 1);
	io_uring_for_each_cqe(&floor->ring, head, cqe)
	{
		if (cqe->res != bytes)
			fail("send", cqe->res < 0 ? -cqe->res : EIO);
		gather_send(floor, (unsigned)cqe->user_data, message);
		count++;
	}
	io_uring_cq_advance(&floor->ring, count);
	return count;
}

static int run_gather(struct floor *floor)
{
	const struct options *options = &floor->options;
	struct iovec slices[GATHER_MESSAGES];
	const struct msghdr message = {.msg_iov = slices, .msg_iovlen = GATHER_MESSAGES};
	int bytes = (int)(GATHER_MESSAGES * options->bytes);
	double units = 0, cpu = 0, wall = 0, now;

	for (unsigned i = 0; i < GATHER_MESSAGES; i++)
		slices[i] = (struct iovec){floor->out + i * options->bytes, options->bytes};
	await_connections(floor);
	for (unsigned i = 0; i < options->connections; i++)
		gather_send(floor, floor->slots[i], &message);

	double start = seconds(CLOCK_MONOTONIC);

	do {
		unsigned count = gather_turn(floor, &message, bytes);

		now = seconds(CLOCK_MONOTONIC);
		if (wall == 0 && now - start >= options->warmup) {
			wall = now;
			cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
		} else if (wall != 0) {
			units += (double)count * GATHER_MESSAGES;
		}
	} while (now - start < options->warmup + options->duration);
	report(units, now - wall, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
	return 0;
}

/* ---- the program ---- */

static int usage(void)
{
	fputs("usage: floor http|storm|fanout|gather [--port P] [--bytes N] [--connections N]\n"
	      "             [--rate R] [--duration S] [--warmup S]\n",
	      stderr);
	return 2;
}

static bool read_options(struct options *out, int argc, char **argv)
{
	static const struct option names[] = {
		{"port", required_argument, NULL, 'p'},
		{"bytes", required_argument, NULL, 'b'},
		{"connections", required_argument, NULL, 'c'},
		{"rate", required_argument, NULL, 'r'},
		{"duration", required_argument, NULL, 'd'},
		{"warmup", required_argument, NULL, 'w'},
		{0},
	};

	for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		char *end;
		double value = option == '?' ? -1 : strtod(optarg, &end);

		if (value < 0 || value > 1e7 || *end)
			return false;
		switch (option) {
		case 'p':
			out->port = (uint16_t)value;
			break;
		case 'b':
			out->bytes = (unsigned)value;
			break;
		case 'c':
			out->connections = (unsigned)value;
			break;
		case 'r':
			out->rate = value;
			break;
		case 'd':
			out->duration = value;
			break;
		default:
			out->warmup = value;
		}
	}
	return optind == argc - 1 && out->bytes >= 1 && out->bytes <= 65536 && out->rate > 0;
}

/* For http the gateway's own answer to /healthz, its head filled up to that length; else any bytes.
 */
static void write_message(char *out, unsigned bytes, bool is_http)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
				   "Content-Length: 15\r\nX-Fill: ";
	static const char tail[] = "\r\n\r\n{\"status\":\"ok\"}";
	const size_t head_len = sizeof(head) - 1, tail_len = sizeof(tail) - 1;

	memset(out, 'x', bytes);
	if (is_http) {
		memcpy(out, head, head_len);
		memcpy(out + bytes - tail_len, tail, tail_len);
	}
}

#define HTTP_BYTES_MIN 110 /* head and tail of the reply */

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct floor *floor);
	} works[] = {
		{"http", run_http},
		{"storm", run_storm},
		{"fanout", run_fanout},
		{"gather", run_gather},
	};
	struct floor floor = {
		.options =
			{.bytes = 150, .connections = 1, .rate = 1, .duration = 3, .warmup = 0.5},
	};

	if (!read_options(&floor.options, argc, argv))
		return usage();
	for (size_t i = 0; i < sizeof(works) / sizeof(*works); i++) {
		if (strcmp(argv[optind], works[i].name) != 0)
			continue;
		unsigned bytes = floor.options.bytes;

		if (works[i].run == run_http && bytes < HTTP_BYTES_MIN)
			return usage();
		floor.out = malloc((size_t)bytes * GATHER_MESSAGES);
		if (!floor.out)
			fail("memory", ENOMEM);
		for (unsigned n = 0; n < GATHER_MESSAGES; n++)
			write_message((char *)floor.out + (size_t)n * bytes, bytes,
				      works[i].run == run_http);
		signal(SIGPIPE, SIG_IGN);
		open_ring(&floor);
		if (works[i].run != run_storm && floor.options.connections > floor.slot_count)
			fail("connections", EMFILE);
		open_listener(&floor);
		return works[i].run(&floor);
	}
	return usage();
}
