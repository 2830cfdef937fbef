/*
 * http1: HTTP/1.1 messages, strict, without I/O. One thread at a time.
 * Source: RFC 9112, RFC 9110. Anything that two parsers could read differently is refused.
 */
#ifndef CODEC_HTTP1_H
#define CODEC_HTTP1_H

#include "base/buf.h"
#include "base/err.h"

#define HTTP1_HEADERS_MAX 100

struct http1_header {
	struct span name, value; /* as sent; value without blanks around */
};

struct http1_limits {
	size_t head_bytes_max; /* start line and header block */
	size_t line_bytes_max; /* start line: over it 414 is answered as 431's row */
};

/*
 * Why a message is refused: FAULT(NAME, label, row it is answered by). The label is one of a counter,
 * so that it can be told which rule a flood of refusals broke.
 */
#define HTTP1_FAULTS(FAULT)                                                                        \
	FAULT(NONE, "none", ERR_NONE)                                                              \
	FAULT(NOT_HTTP, "not_http", ERR_BAD_REQUEST)                                               \
	FAULT(LINE_END, "line_end", ERR_BAD_REQUEST)                                               \
	FAULT(START_LINE, "start_line", ERR_BAD_REQUEST)                                           \
	FAULT(VERSION, "version", ERR_HTTP_VERSION)                                                \
	FAULT(TARGET, "target", ERR_BAD_REQUEST)                                                   \
	FAULT(HEAD_SIZE, "head_size", ERR_HEADERS_TOO_LARGE)                                       \
	FAULT(FIELD_COUNT, "field_count", ERR_HEADERS_TOO_LARGE)                                   \
	FAULT(FIELD, "field", ERR_BAD_REQUEST)                                                     \
	FAULT(HOST, "host", ERR_BAD_REQUEST)                                                       \
	FAULT(CONTENT_LENGTH, "content_length", ERR_BAD_REQUEST)                                   \
	FAULT(TRANSFER_ENCODING, "transfer_encoding", ERR_BAD_REQUEST)                             \
	FAULT(TWO_LENGTHS, "two_lengths", ERR_BAD_REQUEST)                                         \
	FAULT(CODING, "transfer_coding", ERR_TRANSFER_CODING)                                      \
	FAULT(EXPECT, "expect", ERR_EXPECTATION)                                                   \
	FAULT(EXPECT_REPEATED, "expect_repeated", ERR_BAD_REQUEST)                                 \
	FAULT(CHUNK, "chunk", ERR_BAD_REQUEST)                                                     \
	FAULT(TRAILER, "trailer", ERR_BAD_REQUEST)

enum http1_fault {
#define FAULT(NAME, label, err) HTTP1_FAULT_##NAME,
	HTTP1_FAULTS(FAULT)
#undef FAULT
		HTTP1_FAULT_COUNT
};

/* Its label. */
const char *http1_fault_name(enum http1_fault fault);

enum http1_body { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_UNTIL_CLOSE };

/* A head, lent: spans point into the bytes given to http1_parse_*. */
struct http1_head {
	enum http1_fault fault; /* of a head that is refused: nothing else is set then */
	struct span method, target; /* request */
	struct span path, query;    /* of the target; query without '?' */
	int status;		    /* response */
	uint8_t minor_version;	    /* 0 or 1 */
	bool keep_alive;	    /* after version and Connection */
	bool expect_continue;
	enum http1_body body;
	uint64_t content_length;
	size_t header_count;
	struct http1_header headers[HTTP1_HEADERS_MAX]; /* those behind the count are not set */
};

/*
 * Parses one request head at the start of `bytes`. After an error the connection is of no more use.
 *
 * Returns bytes taken (> 0), 0 when more are needed, or a negative `enum err` value:
 * -ERR_BAD_REQUEST, -ERR_HEADERS_TOO_LARGE, -ERR_HTTP_VERSION, -ERR_TRANSFER_CODING,
 * -ERR_EXPECTATION.
 */
ptrdiff_t http1_parse_request(struct span bytes, const struct http1_limits *limits,
			      struct http1_head *head);

/* As http1_parse_request, for a response to `request_method` (HEAD has no body). */
ptrdiff_t http1_parse_response(struct span bytes, const struct http1_limits *limits,
			       struct span request_method, struct http1_head *head);

/* The first header of this name (case folded), or NULL. */
const struct http1_header *http1_find_header(const struct http1_head *head, struct span name);

/* Takes a message body apart, chunked or counted, cut anywhere. */
struct http1_body_reader {
	enum http1_body kind;
	uint64_t left; /* bytes of this chunk or body still to come */
	uint8_t state;
	uint8_t line_len;
	uint8_t fault; /* enum http1_fault, of a body that is refused */
	uint32_t overhead; /* chunk headers and trailers since the last body byte; bounded */
	bool finished;
};

void http1_body_init(struct http1_body_reader *reader, const struct http1_head *head);

/*
 * Takes what frames the content, and at most one run of content: `*content`, lent, maybe empty.
 * Call again with the rest. Takes nothing once `finished`. Limits: 255 bytes a chunk line, 8 KiB of
 * trailers.
 *
 * Returns bytes taken, or -ERR_BAD_REQUEST.
 */
ptrdiff_t http1_body_take(struct http1_body_reader *reader, struct span bytes,
			  struct span *content);

/* Standard reason phrase, or "Unknown". */
const char *http1_reason(int status);

#endif
