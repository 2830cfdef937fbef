#include "codec/http1_internal.h"

#include "base/check.h"

#define VERSION_BYTES 8		/* "HTTP/1.1" */
#define LENGTH_MAX    INT64_MAX /* so that no sum of a length and a few bytes overflows */

/* ---- faults: in here each function that judges returns 0 or -HTTP1_FAULT_… ---- */

static const struct {
	const char *name;
	enum err err;
} faults[HTTP1_FAULT_COUNT] = {
#define FAULT(NAME, label, row) [HTTP1_FAULT_##NAME] = {label, row},
	HTTP1_FAULTS(FAULT)
#undef FAULT
};

const char *http1_fault_name(enum http1_fault fault)
{
	return faults[fault].name;
}

int http1_fault_code(enum http1_fault fault)
{
	return -(int)faults[fault].err;
}

/* ---- the end of the head ---- */

/*
 * Finds the empty line. Returns the head's bytes with it, 0 when it has not come, or
 * -HTTP1_FAULT_LINE_END for a line without CR: another parser may take that for the end. One line
 * too many is refused at once: a head that comes line by line is looked through with each of them.
 */
static ptrdiff_t find_head_end(struct span bytes)
{
	size_t line = 0;

	for (size_t before = 0;; before++) {
		ptrdiff_t lf = span_find_byte(span_from(bytes, line), '\n');

		if (lf < 0)
			return 0;
		if (lf == 0 || bytes.data[line + (size_t)lf - 1] != '\r')
			return -HTTP1_FAULT_LINE_END;
		line += (size_t)lf + 1;
		if (lf == 1)
			return (ptrdiff_t)line;
		if (before > HTTP1_HEADERS_MAX)
			return -HTTP1_FAULT_FIELD_COUNT;
	}
}

/* Whether a head, or as much of it as has come, is too long. */
static bool is_too_long(struct span bytes, const struct http1_limits *limits)
{
	ptrdiff_t lf = span_find_byte(bytes, '\n');
	size_t line = lf < 0 ? bytes.len : (size_t)lf;

	/* a line's end is no part of it */
	if (bytes.len > 0 && line > 0 && bytes.data[line - 1] == '\r')
		line--;
	return bytes.len > limits->head_bytes_max || line > limits->line_bytes_max;
}

/* What can be said of a head that is not whole: 0 to wait, or what is wrong already. */
static ptrdiff_t judge_part(struct span bytes, const struct http1_limits *limits)
{
	if (is_too_long(bytes, limits))
		return -HTTP1_FAULT_HEAD_SIZE;

	/* who speaks another protocol would wait for an answer, and we for an empty line */
	size_t i = 0;

	while (i < bytes.len && (is_token_byte(bytes.data[i]) || bytes.data[i] == '/'))
		i++;
	return i < bytes.len && (bytes.data[i] != ' ' || i == 0) ? -HTTP1_FAULT_NOT_HTTP : 0;
}

/* Cuts the head out of `bytes`, one empty line before it skipped (RFC 9112 §2.2). Returns
 * bytes taken, 0 or a fault. */
static ptrdiff_t cut_head(struct span bytes, const struct http1_limits *limits, struct span *text)
{
	size_t skipped = 0;

	if (bytes.len > 0 && bytes.data[0] == '\r') {
		if (bytes.len > 1 && bytes.data[1] != '\n')
			return -HTTP1_FAULT_LINE_END;
		skipped = bytes.len > 1 ? 2 : 1;
	}
	bytes = span_from(bytes, skipped);

	ptrdiff_t len = find_head_end(bytes);

	if (len == 0)
		return judge_part(bytes, limits);
	if (len < 0)
		return len;
	/* a second empty line is no head */
	if (len == 2)
		return -HTTP1_FAULT_LINE_END;
	*text = span_first(bytes, (size_t)len);
	if (is_too_long(*text, limits))
		return -HTTP1_FAULT_HEAD_SIZE;
	return len + (ptrdiff_t)skipped;
}

/* Takes the line at the start of `text`, without its CRLF. There is one. */
static struct span take_line(struct span *text)
{
	ptrdiff_t lf = span_find_byte(*text, '\n');

	CHECK(lf > 0);

	struct span line = span_first(*text, (size_t)lf - 1);

	*text = span_from(*text, (size_t)lf + 1);
	return line;
}

/* ---- parts of lines ---- */

static inline bool all_bytes(struct span text, bool (*is_allowed)(uint8_t byte))
{
	for (size_t i = 0; i < text.len; i++)
		if (!is_allowed(text.data[i]))
			return false;
	return true;
}

static bool is_token(struct span text)
{
	return text.len > 0 && all_bytes(text, is_token_byte);
}

static bool is_digit(uint8_t byte)
{
	return byte >= '0' && byte <= '9';
}

static bool is_hex_digit(uint8_t byte)
{
	return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* Where a byte may stand. RFC 3986 says less of path and query; what is left out here is left out by
 * browsers as well, or read as another byte by somebody. */
#define IN_PATH	 1u
#define IN_QUERY 2u
#define IN_HOST	 4u /* a name, or an address without brackets: RFC 3986 §3.2.2 */
#define IN_ALL	 (IN_PATH | IN_QUERY | IN_HOST)

/* clang-format off */
static const uint8_t uri_bytes[256] = {
	['0' ... '9'] = IN_ALL, ['A' ... 'Z'] = IN_ALL, ['a' ... 'z'] = IN_ALL,
	['-'] = IN_ALL, ['.'] = IN_ALL, ['_'] = IN_ALL, ['~'] = IN_ALL, ['%'] = IN_ALL,
	['!'] = IN_ALL, ['$'] = IN_ALL, ['&'] = IN_ALL, ['\''] = IN_ALL, ['('] = IN_ALL,
	[')'] = IN_ALL, ['*'] = IN_ALL, ['+'] = IN_ALL, [','] = IN_ALL, [';'] = IN_ALL,
	['='] = IN_ALL,
	['/'] = IN_PATH | IN_QUERY, [':'] = IN_PATH | IN_QUERY, ['?'] = IN_PATH | IN_QUERY,
	['@'] = IN_PATH | IN_QUERY, ['['] = IN_PATH | IN_QUERY, [']'] = IN_PATH | IN_QUERY,
	['^'] = IN_PATH | IN_QUERY, ['|'] = IN_PATH | IN_QUERY,
	['\\'] = IN_QUERY, ['`'] = IN_QUERY, ['{'] = IN_QUERY, ['}'] = IN_QUERY,
};
/* clang-format on */

static inline bool is_path_byte(uint8_t byte)
{
	return uri_bytes[byte] & IN_PATH;
}

static inline bool is_query_byte(uint8_t byte)
{
	return uri_bytes[byte] & IN_QUERY;
}

static inline bool is_host_byte(uint8_t byte)
{
	return uri_bytes[byte] & IN_HOST;
}

static bool is_address_byte(uint8_t byte)
{
	return is_hex_digit(byte) || byte == ':' || byte == '.';
}

static bool has_whole_escapes(struct span text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] != '%')
			continue;
		if (text.len - i < 3 || !is_hex_digit(text.data[i + 1]) ||
		    !is_hex_digit(text.data[i + 2]))
			return false;
	}
	return true;
}

/* host [":" port], without user information. */
static bool is_authority(struct span text, bool port_required)
{
	struct span host = text, port = SPAN_EMPTY;
	bool has_port = false;

	if (text.len > 0 && text.data[0] == '[') {
		ptrdiff_t end = span_find_byte(text, ']');

		if (end < 3 ||
		    !all_bytes(span_make(text.data + 1, (size_t)end - 1), is_address_byte))
			return false;
		port = span_from(text, (size_t)end + 1);
		has_port = port.len > 0;
		if (has_port && port.data[0] != ':')
			return false;
	} else {
		ptrdiff_t colon = span_find_byte(text, ':');

		has_port = colon >= 0;
		if (has_port) {
			host = span_first(text, (size_t)colon);
			port = span_from(text, (size_t)colon);
		}
		if (host.len == 0 || !all_bytes(host, is_host_byte) || !has_whole_escapes(host))
			return false;
	}
	if (!has_port)
		return !port_required;

	uint64_t number;

	return span_to_uint64(span_from(port, 1), &number) && number <= UINT16_MAX;
}

/* The minor version. */
static int parse_version(struct span text, uint8_t *minor)
{
	if (text.len != VERSION_BYTES || !span_starts_with(text, SPAN("HTTP/")) ||
	    !is_digit(text.data[5]) || text.data[6] != '.' || !is_digit(text.data[7]))
		return -HTTP1_FAULT_START_LINE;
	if (text.data[5] != '1')
		return -HTTP1_FAULT_VERSION;
	/* a later minor version is spoken to as 1.1: RFC 9110 §2.5 */
	*minor = text.data[7] > '0';
	return 0;
}

/* ---- the request line ---- */

/* Path and query of origin-form. */
static int parse_origin(struct span target, struct http1_head *head)
{
	ptrdiff_t mark = span_find_byte(target, '?');

	head->path = mark < 0 ? target : span_first(target, (size_t)mark);
	head->query = mark < 0 ? SPAN_EMPTY : span_from(target, (size_t)mark + 1);
	if (head->path.len == 0)
		head->path = SPAN("/");
	if (head->path.data[0] != '/' || !all_bytes(head->path, is_path_byte) ||
	    !has_whole_escapes(head->path) || !all_bytes(head->query, is_query_byte))
		return -HTTP1_FAULT_TARGET;
	return 0;
}

/* absolute-form; `authority` is checked against Host later. RFC 9112 §3.2.2 */
static int parse_absolute(struct span target, struct http1_head *head, struct span *authority)
{
	ptrdiff_t colon = span_find_byte(target, ':');

	if (colon < 0 || !span_starts_with(span_from(target, (size_t)colon), SPAN("://")))
		return -HTTP1_FAULT_TARGET;

	struct span scheme = span_first(target, (size_t)colon),
		    rest = span_from(target, (size_t)colon + 3);
	size_t end = 0;

	if (!span_equal_nocase(scheme, SPAN("http")) && !span_equal_nocase(scheme, SPAN("https")))
		return -HTTP1_FAULT_TARGET;
	while (end < rest.len && rest.data[end] != '/' && rest.data[end] != '?')
		end++;
	*authority = span_first(rest, end);
	return is_authority(*authority, false) ? parse_origin(span_from(rest, end), head)
					       : -HTTP1_FAULT_TARGET;
}

static int parse_target(struct http1_head *head, struct span *authority)
{
	struct span target = head->target;

	if (span_equal(head->method, SPAN("CONNECT"))) {
		*authority = target;
		return is_authority(target, true) ? 0 : -HTTP1_FAULT_TARGET;
	}
	if (span_equal(target, SPAN("*"))) {
		head->path = target;
		return span_equal(head->method, SPAN("OPTIONS")) ? 0 : -HTTP1_FAULT_TARGET;
	}
	if (target.len == 0)
		return -HTTP1_FAULT_TARGET;
	return target.data[0] == '/' ? parse_origin(target, head)
				     : parse_absolute(target, head, authority);
}

static int parse_request_line(struct span line, struct http1_head *head, struct span *authority)
{
	ptrdiff_t first = span_find_byte(line, ' ');

	if (first <= 0)
		return -HTTP1_FAULT_START_LINE;
	head->method = span_first(line, (size_t)first);

	struct span rest = span_from(line, (size_t)first + 1);
	ptrdiff_t second = span_find_byte(rest, ' ');

	if (second <= 0 || !is_token(head->method))
		return -HTTP1_FAULT_START_LINE;
	head->target = span_first(rest, (size_t)second);

	int fault = parse_version(span_from(rest, (size_t)second + 1), &head->minor_version);

	return fault ? fault : parse_target(head, authority);
}

static int parse_status_line(struct span line, struct http1_head *head)
{
	if (line.len < VERSION_BYTES + 4)
		return -HTTP1_FAULT_START_LINE;

	int fault = parse_version(span_first(line, VERSION_BYTES), &head->minor_version);
	const uint8_t *at = line.data + VERSION_BYTES;

	if (fault)
		return fault;
	/* the blank behind the status may be missing with the reason: it hides nothing */
	if (at[0] != ' ' || at[1] < '1' || at[1] > '5' || !is_digit(at[2]) || !is_digit(at[3]) ||
	    (line.len > VERSION_BYTES + 4 && at[4] != ' ') || !all_bytes(line, is_value_byte))
		return -HTTP1_FAULT_START_LINE;
	head->status = (at[1] - '0') * 100 + (at[2] - '0') * 10 + (at[3] - '0');
	return 0;
}

/* ---- header fields ---- */

static int parse_headers(struct span text, struct http1_head *head)
{
	for (;;) {
		struct span line = take_line(&text);
		ptrdiff_t colon = span_find_byte(line, ':');

		if (line.len == 0)
			return 0;
		if (head->header_count == HTTP1_HEADERS_MAX)
			return -HTTP1_FAULT_FIELD_COUNT;
		if (colon < 0)
			return -HTTP1_FAULT_FIELD;

		/* a folded line begins with a blank, a blank before the colon ends the name:
		 * neither is a token */
		struct span name = span_first(line, (size_t)colon);
		struct span value = span_trim(span_from(line, (size_t)colon + 1));

		if (!is_token(name) || !all_bytes(value, is_value_byte))
			return -HTTP1_FAULT_FIELD;
		head->headers[head->header_count++] = (struct http1_header){name, value};
	}
}

/* What the head says about the message, gathered field by field. */
struct framing {
	struct span host, transfer_coding, expectation;
	uint64_t content_length;
	bool has_host, has_length, has_transfer_coding, has_expectation;
	bool says_close, says_keep_alive;
};

/* Takes the next element of a comma-separated list. RFC 9110 §5.6.1 */
static struct span take_element(struct span *list)
{
	ptrdiff_t comma = span_find_byte(*list, ',');
	struct span element = comma < 0 ? *list : span_first(*list, (size_t)comma);

	*list = comma < 0 ? SPAN_EMPTY : span_from(*list, (size_t)comma + 1);
	return span_trim(element);
}

static void read_connection(struct framing *framing, struct span list)
{
	while (list.len > 0) {
		struct span element = take_element(&list);

		framing->says_close |= span_equal_nocase(element, SPAN("close"));
		framing->says_keep_alive |= span_equal_nocase(element, SPAN("keep-alive"));
	}
}

/* A field that may come once; a second one, even the same, is where two parsers part. */
static bool read_once(bool *has, struct span *kept, struct span value)
{
	if (*has)
		return false;
	*has = true;
	*kept = value;
	return true;
}

static int read_length(struct framing *framing, struct span value)
{
	if (framing->has_length || !span_to_uint64(value, &framing->content_length) ||
	    framing->content_length > LENGTH_MAX)
		return -HTTP1_FAULT_CONTENT_LENGTH;
	framing->has_length = true;
	return 0;
}

/* One field. */
static int read_field(struct framing *framing, struct span name, struct span value)
{
	if (span_equal_nocase(name, SPAN("content-length")))
		return read_length(framing, value);
	if (span_equal_nocase(name, SPAN("host")) &&
	    !read_once(&framing->has_host, &framing->host, value))
		return -HTTP1_FAULT_HOST;
	if (span_equal_nocase(name, SPAN("transfer-encoding")) &&
	    !read_once(&framing->has_transfer_coding, &framing->transfer_coding, value))
		return -HTTP1_FAULT_TRANSFER_ENCODING;
	if (span_equal_nocase(name, SPAN("expect")) &&
	    !read_once(&framing->has_expectation, &framing->expectation, value))
		return -HTTP1_FAULT_EXPECT_REPEATED;
	if (span_equal_nocase(name, SPAN("connection")))
		read_connection(framing, value);
	return 0;
}

static int read_framing(const struct http1_head *head, struct framing *framing)
{
	int fault = 0;

	for (size_t i = 0; i < head->header_count && !fault; i++)
		fault = read_field(framing, head->headers[i].name, head->headers[i].value);
	return fault;
}

/*
 * Only "chunked" is understood. With other codings before it the length would be known, the content
 * not: 501; without it at the end the length is not known either: 400 (RFC 9112 §6.3).
 */
static int judge_transfer_coding(struct span list)
{
	size_t chunked_count = 0;
	bool chunked_last = false;

	if (span_equal_nocase(list, SPAN("chunked")))
		return 0;
	while (list.len > 0) {
		chunked_last = span_equal_nocase(take_element(&list), SPAN("chunked"));
		chunked_count += chunked_last;
	}
	return chunked_last && chunked_count == 1 ? -HTTP1_FAULT_CODING
						  : -HTTP1_FAULT_TRANSFER_ENCODING;
}

/* The body by its fields alone. */
static int apply_framing(struct http1_head *head, const struct framing *framing,
			 enum http1_body otherwise)
{
	head->keep_alive =
		!framing->says_close && (head->minor_version > 0 || framing->says_keep_alive);
	head->content_length = framing->content_length;
	head->body = framing->has_length ? HTTP1_BODY_LENGTH : otherwise;
	if (!framing->has_transfer_coding)
		return 0;
	/* 1.0 does not know the field: what stands before us may have passed it on unread */
	if (head->minor_version == 0)
		return -HTTP1_FAULT_TRANSFER_ENCODING;
	if (framing->has_length)
		return -HTTP1_FAULT_TWO_LENGTHS;
	head->body = HTTP1_BODY_CHUNKED;
	return judge_transfer_coding(framing->transfer_coding);
}

/* RFC 9112 §3.2 */
static int judge_host(const struct http1_head *head, const struct framing *framing,
		      struct span authority)
{
	if (!framing->has_host)
		return head->minor_version > 0 ? -HTTP1_FAULT_HOST : 0;
	if (!is_authority(framing->host, false))
		return -HTTP1_FAULT_HOST;
	return authority.len == 0 || span_equal_nocase(authority, framing->host) ? 0
										 : -HTTP1_FAULT_HOST;
}

static int judge_expectation(struct http1_head *head, const struct framing *framing)
{
	if (!framing->has_expectation)
		return 0;
	if (!span_equal_nocase(framing->expectation, SPAN("100-continue")))
		return -HTTP1_FAULT_EXPECT;
	/* 1.0 cannot take a 100: RFC 9110 §10.1.1 */
	head->expect_continue = head->minor_version > 0;
	return 0;
}

/* ---- whole heads ---- */

/* Clears all but the table of fields, whose count says how many there are. */
static ptrdiff_t head_begin(struct span bytes, const struct http1_limits *limits, struct span *text,
			    struct http1_head *head)
{
	ptrdiff_t taken = cut_head(bytes, limits, text);

	if (taken != 0)
		memset(head, 0, offsetof(struct http1_head, headers));
	return taken;
}

/* A refused head says why and nothing else. */
static ptrdiff_t head_end(struct http1_head *head, ptrdiff_t taken)
{
	if (taken >= 0)
		return taken;
	head->fault = (enum http1_fault)-taken;
	return http1_fault_code(head->fault);
}

static int parse_request(struct span text, struct http1_head *head)
{
	struct span authority = SPAN_EMPTY;
	struct framing framing = {.has_host = false};
	int fault = parse_request_line(take_line(&text), head, &authority);

	if (!fault)
		fault = parse_headers(text, head);
	if (!fault)
		fault = read_framing(head, &framing);
	if (!fault)
		fault = judge_host(head, &framing, authority);
	if (!fault)
		fault = apply_framing(head, &framing, HTTP1_BODY_NONE);
	return fault ? fault : judge_expectation(head, &framing);
}

ptrdiff_t http1_parse_request(struct span bytes, const struct http1_limits *limits,
			      struct http1_head *head)
{
	struct span text;
	ptrdiff_t taken = head_begin(bytes, limits, &text, head);
	int fault = taken > 0 ? parse_request(text, head) : 0;

	return head_end(head, fault ? fault : taken);
}

/* Whether a response with this status, to this method, has no body whatever its fields say. RFC
 * 9112 §6.3 */
static bool has_no_body(int status, struct span method)
{
	return status < 200 || status == 204 || status == 304 || span_equal(method, SPAN("HEAD")) ||
	       (status < 300 && span_equal(method, SPAN("CONNECT")));
}

static int parse_response(struct span text, struct span method, struct http1_head *head)
{
	struct framing framing = {.has_host = false};
	int fault = parse_status_line(take_line(&text), head);

	if (!fault)
		fault = parse_headers(text, head);
	if (!fault)
		fault = read_framing(head, &framing);
	if (!fault)
		fault = apply_framing(head, &framing, HTTP1_BODY_UNTIL_CLOSE);
	if (fault)
		return fault;
	if (has_no_body(head->status, method))
		head->body = HTTP1_BODY_NONE;
	head->keep_alive &= head->body != HTTP1_BODY_UNTIL_CLOSE;
	return 0;
}

ptrdiff_t http1_parse_response(struct span bytes, const struct http1_limits *limits,
			       struct span request_method, struct http1_head *head)
{
	struct span text;
	ptrdiff_t taken = head_begin(bytes, limits, &text, head);
	int fault = taken > 0 ? parse_response(text, request_method, head) : 0;

	return head_end(head, fault ? fault : taken);
}

const struct http1_header *http1_find_header(const struct http1_head *head, struct span name)
{
	for (size_t i = 0; i < head->header_count; i++)
		if (span_equal_nocase(head->headers[i].name, name))
			return &head->headers[i];
	return NULL;
}

const char *http1_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} rows[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{206, "Partial Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{402, "Payment Required"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{421, "Misdirected Request"},
		{422, "Unprocessable Content"},
		{425, "Too Early"},
		{426, "Upgrade Required"},
		{428, "Precondition Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{499, "Client Closed Request"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].status == status)
			return rows[i].reason;
	return "Unknown";
}
