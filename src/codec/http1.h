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
	size_t head_bytes_max; /* request line and header block */
	size_t line_bytes_max; /* request line: over it 414 is answered as 431's row */
};

enum http1_body { HTTP1_BODY_NONE, HTTP1_BODY_LENGTH, HTTP1_BODY_CHUNKED, HTTP1_BODY_UNTIL_CLOSE };

/* A head, lent: spans point into the bytes given to http1_parse_*. */
struct http1_head {
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
