/*
 * sink: the other end of a fan-out: many connections that only count what comes. For `floor` and
 * for the servers that the gateway's push is compared with.
 *
 *   sink --target ADDR:PORT --connections N [--request TEXT] [--marker C] [--source-addresses K]
 *   sink --target ADDR:PORT --connections N --storm ROUNDS --request-bytes N --reply-bytes N
 *
 * TEXT (with \r and \n written so) is sent once on each connection, and the first bytes that come
 * back are its answer, not counted. "ready N" is printed when every connection is there (and
 * answered); from then on bytes are counted, and messages by the byte C that each holds once, until
 * standard input ends and SETTLE_MS have brought nothing more; one JSON line. --storm: connect,
 * send, await the reply, close all at once, ROUNDS times. All connects are under way at once.
 * Client addresses are 127.0.0.2 and on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX	  512
#define READ_BYTES	  (256u << 10)
#define SETTLE_MS	  300
#define PATIENCE_MS	  30000 /* for connections and first answers */
#define STDIN_SLOT	  UINT32_MAX
#define REQUEST_BYTES_MAX 4096

struct peer {
	int fd;
	bool is_connected, is_answered;
	unsigned reply_bytes;
};

struct sink {
	struct sockaddr_in target;
	unsigned connections, source_addresses, rounds, reply_bytes;
	char request[REQUEST_BYTES_MAX];
	size_t request_len;
	int marker; /* -1: messages are not counted, and the bytes are thrown away in the kernel */

	int epoll;
	struct peer *peers;
	uint8_t *buffer;
	unsigned connected, answered, failed;
	uint64_t bytes, messages;
	bool is_counting, is_input_over;
};

static void fail(const char *what)
{
	fprintf(stderr, "sink: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void connect_one(struct sink *sink, unsigned number)
{
	struct peer *peer = &sink->peers[number];
	struct sockaddr_in from = {.sin_family = AF_INET};
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.u32 = number};
	int one = 1;

	*peer = (struct peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
	if (peer->fd < 0)
		fail("socket");
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number % sink->source_addresses);
	/* the port is chosen at connect, so that it need only be free towards this target */
	if (setsockopt(peer->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) ||
	    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) ||
	    bind(peer->fd, (struct sockaddr *)&from, sizeof(from)) ||
	    epoll_ctl(sink->epoll, EPOLL_CTL_ADD, peer->fd, &event))
		fail("prepare a connection");
	if (connect(peer->fd, (struct sockaddr *)&sink->target, sizeof(sink->target)) &&
	    errno != EINPROGRESS)
		fail("connect");
}

static void came_up(struct sink *sink, struct peer *peer)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(peer->fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		errno = error;
		fail("connect");
	}
	peer->is_connected = true;
	sink->connected++;
	if (sink->request_len > 0 && send(peer->fd, sink->request, sink->request_len,
					  MSG_NOSIGNAL) != (ssize_t)sink->request_len)
		fail("send");
	if (sink->request_len == 0) {
		peer->is_answered = true;
		sink->answered++;
	}
}

static void count(struct sink *sink, struct peer *peer, size_t len)
{
	peer->reply_bytes += (unsigned)len;
	if (!peer->is_answered && peer->reply_bytes >= sink->reply_bytes) {
		peer->is_answered = true;
		sink->answered++;
		return;
	}
	if (!sink->is_counting)
		return;
	sink->bytes += len;
	for (const uint8_t *at = sink->buffer, *end = at + len; sink->marker >= 0;) {
		at = memchr(at, sink->marker, (size_t)(end - at));
		if (!at)
			break;
		sink->messages++;
		at++;
	}
}

static void read_all(struct sink *sink, struct peer *peer)
{
	bool is_counting = sink->is_counting || !peer->is_answered;
	int flags = sink->marker < 0 && is_counting ? MSG_TRUNC : 0;

	while (true) {
		ssize_t got = recv(peer->fd, sink->buffer, READ_BYTES, flags);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return;
		if (got <= 0) { /* the server ends: its work is over, or it failed */
			sink->failed++;
			epoll_ctl(sink->epoll, EPOLL_CTL_DEL, peer->fd, NULL);
			return;
		}
		count(sink, peer, (size_t)got);
		if (got < (ssize_t)READ_BYTES)
			return;
	}
}

/* Returns whether anything came. */
static bool turn(struct sink *sink, int patience_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int ready = epoll_wait(sink->epoll, events, EVENTS_MAX, patience_ms);

	for (int i = 0; i < ready; i++) {
		if (events[i].data.u32 == STDIN_SLOT) {
			char word[64];

			if (read(STDIN_FILENO, word, sizeof(word)) <= 0) {
				sink->is_input_over = true;
				epoll_ctl(sink->epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
			}
			continue;
		}
		struct peer *peer = &sink->peers[events[i].data.u32];

		if (!peer->is_connected)
			came_up(sink, peer);
		if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			read_all(sink, peer);
	}
	return ready > 0;
}

static void open_all(struct sink *sink)
{
	sink->connected = sink->answered = 0;
	for (unsigned i = 0; i < sink->connections; i++) {
		connect_one(sink, i);
		if (i % 256 == 255)
			turn(sink, 0);
	}
	while (sink->answered < sink->connections && sink->failed == 0) {
		if (!turn(sink, PATIENCE_MS)) {
			errno = ETIMEDOUT;
			fail("connections and answers");
		}
	}
}

static void close_all(struct sink *sink)
{
	for (unsigned i = 0; i < sink->connections; i++)
		close(sink->peers[i].fd);
}

static int run_storm(struct sink *sink)
{
	double start = seconds(CLOCK_MONOTONIC);

	for (unsigned i = 0; i < sink->rounds; i++) {
		open_all(sink);
		close_all(sink);
	}
	printf("{\"units\":%u,\"failed\":%u,\"seconds\":%.3f}\n", sink->connections * sink->rounds,
	       sink->failed, seconds(CLOCK_MONOTONIC) - start);
	return sink->failed != 0;
}

static int run_count(struct sink *sink)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = STDIN_SLOT};

	open_all(sink);
	sink->is_counting = true;
	/* a file or /dev/null cannot be polled: then there is no word to wait for */
	if (epoll_ctl(sink->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
		sink->is_input_over = true;
	printf("ready %u\n", sink->answered);
	fflush(stdout);

	double start = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

	while (!sink->is_input_over)
		turn(sink, -1);
	while (turn(sink, SETTLE_MS))
		;
	printf("{\"connections\":%u,\"bytes\":%lu,\"messages\":%lu,\"ended\":%u,\"seconds\":%.3f,"
	       "\"cpu_us\":%.0f}\n",
	       sink->connections, sink->bytes, sink->messages, sink->failed,
	       seconds(CLOCK_MONOTONIC) - start, (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) * 1e6);
	close_all(sink);
	return 0;
}

/* ---- the program ---- */

static int usage(void)
{
	fputs("usage: sink --target ADDR:PORT [--connections N] [--request TEXT] [--marker C]\n"
	      "            [--source-addresses K]\n"
	      "            [--storm ROUNDS] [--request-bytes N] [--reply-bytes N]\n",
	      stderr);
	return 2;
}

static bool read_number(const char *text, unsigned most, unsigned *out)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	*out = (unsigned)value;
	return *text && !*end && value > 0 && value <= most;
}

static bool read_target(char *text, struct sockaddr_in *target)
{
	char *colon = strrchr(text, ':');
	unsigned port;

	if (!colon || !read_number(colon + 1, UINT16_MAX, &port))
		return false;
	*colon = '\0';
	*target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	return inet_pton(AF_INET, text, &target->sin_addr) == 1;
}

static bool read_request(struct sink *sink, const char *text)
{
	size_t len = 0;

	for (; *text && len < sizeof(sink->request); text++) {
		char next = *text;

		if (next == '\\' && (text[1] == 'r' || text[1] == 'n'))
			next = *++text == 'r' ? '\r' : '\n';
		sink->request[len++] = next;
	}
	sink->request_len = len;
	return len > 0 && !*text;
}

static bool read_options(struct sink *sink, int argc, char **argv)
{
	static const struct option names[] = {
		{"target", required_argument, NULL, 't'},
		{"connections", required_argument, NULL, 'c'},
		{"request", required_argument, NULL, 'r'},
		{"marker", required_argument, NULL, 'm'},
		{"source-addresses", required_argument, NULL, 's'},
		{"storm", required_argument, NULL, 'o'},
		{"request-bytes", required_argument, NULL, 'q'},
		{"reply-bytes", required_argument, NULL, 'a'},
		{0},
	};
	unsigned request_bytes;
	bool is_ok = true;

	for (int option; is_ok && (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		if (option == 't')
			is_ok = read_target(optarg, &sink->target);
		else if (option == 'c')
			is_ok = read_number(optarg, 65000, &sink->connections);
		else if (option == 'r')
			is_ok = read_request(sink, optarg);
		else if (option == 'm')
			sink->marker = (unsigned char)*optarg;
		else if (option == 's')
			is_ok = read_number(optarg, 200, &sink->source_addresses);
		else if (option == 'o')
			is_ok = read_number(optarg, 1000, &sink->rounds);
		else if (option == 'a')
			is_ok = read_number(optarg, 65536, &sink->reply_bytes);
		else if (option == 'q') {
			is_ok = read_number(optarg, REQUEST_BYTES_MAX, &request_bytes);
			sink->request_len = request_bytes;
		} else
			is_ok = false;
	}
	return is_ok && optind == argc && sink->target.sin_port != 0;
}

int main(int argc, char **argv)
{
	struct sink sink = {
		.connections = 1,
		.source_addresses = 8,
		.reply_bytes = 1,
		.marker = -1,
		.request = "",
	};

	if (!read_options(&sink, argc, argv))
		return usage();
	if (sink.rounds > 0 && sink.request_len == 0)
		return usage();
	sink.epoll = epoll_create1(EPOLL_CLOEXEC);
	sink.peers = calloc(sink.connections, sizeof(*sink.peers));
	sink.buffer = malloc(READ_BYTES);
	if (sink.epoll < 0 || !sink.peers || !sink.buffer)
		fail("start");
	int code = sink.rounds > 0 ? run_storm(&sink) : run_count(&sink);

	close(sink.epoll);
	free(sink.buffer);
	free(sink.peers);
	return code;
}
