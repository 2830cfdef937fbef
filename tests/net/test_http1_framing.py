"""HTTP/1.1 framing (RFC 9112): what is taken, what is refused, and how nginx and Python's library read the same bytes.

Behind each row's bytes comes one more request. A refused row ends the connection: nothing behind it is answered or routed.
"""

import dataclasses
import json
import pathlib
import shutil
import socket
import tempfile

import pytest

import harness
import readings

PROBE = b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
TAKEN, POSTED, REFUSED = ("healthz", "readyz"), ("post", "readyz"), ("refused",)


@dataclasses.dataclass
class Row:
    name: str
    sent: bytes
    ours: tuple
    status: int = 400  # of a refusal
    reason: str = None  # its label in gateway_http1_refusals_total; None: not refused for its framing
    nginx: str = None  # why it reads otherwise; None: it reads as we do
    python: str = None


def get(*fields, line=b"GET /healthz HTTP/1.1", host=b"Host: h"):
    return b"".join(part + b"\r\n" for part in (line, host, *fields) if part is not None) + b"\r\n"


def post(*fields, body=b"", version=b"1.1"):
    return get(*fields, line=b"POST " + readings.POST.encode() + b" HTTP/" + version) + body


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def bad(name, sent, reason, status=400, ours=REFUSED, **why):
    return Row(name, sent, ours, status, reason, **why)


def good(name, sent, ours=TAKEN, **why):
    return Row(name, sent, ours, **why)


# Why others read a row otherwise.
LF = "a bare LF ends a line too, as RFC 9112 §2.2 lets it: beside one that waits for CR LF a request hides in another"
PATH = "the path is decoded, its dots and double slashes resolved, and then looked up; here it is what it says"
FIRST = "fields are those of a mail: of several the first counts, and nobody compares them"
INT = "int() takes signs and underscores"
BOTH = "chunked wins over the length, as RFC 9112 §6.3 lets it: a proxy that believes the length sees another request"
CODING = "no coding but chunked is known, and one unknown counts as none: the body is read as the next request"
CODING_10 = "the coding counts in 1.0 as in 1.1; a 1.0 proxy before it has passed it on without knowing it"
HEX = "int(size, 16) takes signs, blanks, 0x and underscores"
PAD = "blanks around a chunk's size are skipped, for senders that pad"
EXTENSION = "an extension is skipped up to the line's end, whatever it is"
TRAILER = "trailers are skipped up to an empty line, whatever they are"
MAIL = "email.parser takes the fields: what is none is kept, or ends them; no byte is refused"
FOLD = "folded lines are joined, as mails have them"
IGNORED = "a field with such a name is left out and the rest taken (ignore_invalid_headers)"
VALUE = "in values only NUL, CR and LF are looked for"
METHOD = "a method that the handler has no function for is 501, and ends the connection"
ANY_HOST = "http.server does not look at Host"
HOST_BYTES = "in Host only blanks, slashes and control bytes are looked for"
AUTHORITY = "the target's authority wins and Host is forgotten, as RFC 9112 §3.2.2 says; who reads Host sees another host"
ANY_TARGET = "a target is whatever has no blank in it; the handler is left to judge"
ANY_LINE = "the request line is split at any blanks, its words are not looked at"
BLANKS = "several blanks are one, and those at the end none"
LONG = "a line may have 64 KiB"
BODY = "a body is read past whether or not the resource has a use for it"

ROWS = [
    # ---- what is taken ----
    good("plain", get()),
    good("absolute form", get(line=b"GET http://h/healthz HTTP/1.1")),
    good("absolute form, host in other case", get(line=b"GET HTTP://H/healthz HTTP/1.1")),
    good("query", get(line=b"GET /healthz?a=b HTTP/1.1")),
    good("escaped path is not decoded", get(line=b"GET /healt%68z HTTP/1.1"), ("unknown", "readyz"), nginx=PATH),
    good("dots are not resolved", get(line=b"GET /a/../healthz HTTP/1.1"), ("unknown", "readyz"), nginx=PATH),
    good("two slashes are not one", get(line=b"GET //healthz HTTP/1.1"), ("unknown", "readyz"),
        nginx=PATH, python="http.server makes one slash of several at the start, against open redirects"),
    good("empty line before", b"\r\n" + get(),
        python="an empty line is an empty request and ends the connection; RFC 9112 §2.2 wants one skipped"),
    good("value of high bytes", get(b"X: \x80\xff")),
    good("empty value", get(b"X:")),
    good("later minor version", get(line=b"GET /healthz HTTP/1.2")),
    good("http 1.0", get(line=b"GET /healthz HTTP/1.0"), ("healthz",)),
    good("http 1.0 without host", get(line=b"GET /healthz HTTP/1.0", host=None), ("healthz",)),
    good("connection close", get(b"Connection: close"), ("healthz",)),
    good("counted body", post(b"Content-Length: 5", body=b"hello"), POSTED),
    good("counted body of none", post(b"Content-Length: 0"), POSTED),
    good("leading zeros of a length", post(b"Content-Length: 0005", body=b"hello"), POSTED),
    good("body of a get", get(b"Content-Length: 5", line=b"GET /nowhere HTTP/1.1") + b"hello", ("unknown", "readyz")),
    bad("body where none is wanted", get(b"Content-Length: 5") + b"hello", None, 413, nginx=BODY, python=BODY),
    good("chunked body", chunked(b"5\r\nhello\r\n0\r\n\r\n"), POSTED),
    good("chunked in other case", post(b"Transfer-Encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), POSTED),
    good("chunk size in capitals and with zeros", chunked(b"00A\r\n0123456789\r\n000\r\n\r\n"), POSTED),
    good("chunk extension", chunked(b"5;a=b;c=\"d;e\"\r\nhello\r\n0;z\r\n\r\n"), POSTED),
    good("trailers", chunked(b"5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n"), POSTED),
    good("trailer that would frame", chunked(b"0\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\n\r\n"), POSTED),
    good("upgrade to h2c", get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")),
    good("upgrade to nonsense", get(b"Connection: upgrade", b"Upgrade: \"<x>\", /,,")),
    good("upgrade to a websocket", get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: x")),
    good("asterisk form", get(line=b"OPTIONS * HTTP/1.1"), ("unknown", "readyz"),
        nginx="* is no path to it: RFC 9110 §9.3.7 has it for OPTIONS; here it is a resource that is not there"),
    good("authority form", get(line=b"CONNECT h:80 HTTP/1.1", host=b"Host: h:80"), ("unknown", "readyz"),
        nginx="CONNECT ends the connection; here it is a resource that is not there, and nothing is tunnelled"),
    good("method in small letters", get(line=b"get /nowhere HTTP/1.1"), ("unknown", "readyz"),
        python=METHOD, nginx="a method is capital letters, - and _; by RFC 9110 §9.1 it is any token"),
    good("unknown method", get(line=b"BREW /nowhere HTTP/1.1"), ("unknown", "readyz"), python=METHOD),
    good("expectation without a body", get(b"Expect: 100-continue")),
    # ---- no body is announced: what follows is the next request ----
    bad("body without a length", post(body=b"hello\r\n"), "start_line", ours=("post", "refused")),
    bad("body longer than its length", post(b"Content-Length: 3", body=b"hello\r\n"), "start_line", ours=("post", "refused")),
    # ---- two opinions on the body's length ----
    bad("length and coding", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "two_lengths",
        python=BOTH),
    bad("coding and length", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), "two_lengths",
        python=BOTH),
    bad("length and another coding", post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"), "two_lengths",
        python="a coding that is not known does not count: the length does"),
    bad("two lengths", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), "content_length", python=FIRST),
    bad("one length twice", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), "content_length",
        python=FIRST),
    bad("list of one length", post(b"Content-Length: 5, 5", body=b"hello"), "content_length"),
    bad("list of lengths", post(b"Content-Length: 5, 6", body=b"hello"), "content_length"),
    bad("length with plus", post(b"Content-Length: +5", body=b"hello"), "content_length", python=INT),
    bad("length with minus", post(b"Content-Length: -5", body=b"hello"), "content_length",
        python="int() takes signs, and read(-1) reads all there is: the next request too"),
    bad("length in hex", post(b"Content-Length: 0x5", body=b"hello"), "content_length"),
    bad("length with a blank", post(b"Content-Length: 5 0", body=b"hello"), "content_length"),
    bad("length with an underscore", post(b"Content-Length: 1_0", body=b"0123456789"), "content_length", python=INT),
    bad("length in other digits", post(b"Content-Length: \xd9\xa5", body=b"hello"), "content_length"),
    bad("empty length", post(b"Content-Length:"), "content_length"),
    bad("length of 2^63", post(b"Content-Length: 9223372036854775808"), "content_length"),
    bad("length of 2^64+5", post(b"Content-Length: 18446744073709551621", body=b"hello"), "content_length"),
    bad("coding in http 1.0", post(b"Transfer-Encoding: chunked", version=b"1.0", body=b"0\r\n\r\n"), "transfer_encoding",
        python=CODING_10),
    bad("coding twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "transfer_encoding",
        python=FIRST),
    bad("chunked twice", post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), "transfer_encoding",
        python=CODING),
    bad("chunked not last", post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), "transfer_encoding",
        python=CODING),
    bad("gzip alone", post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"), "transfer_encoding", python=CODING),
    bad("identity", post(b"Transfer-Encoding: identity"), "transfer_encoding",
        python="a coding that is not known does not count; there is no body then"),
    bad("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), "transfer_coding", 501,
        python=CODING),
    bad("xchunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), "transfer_encoding", python=CODING),
    bad("chunked with a parameter", post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"), "transfer_encoding",
        python=CODING),
    bad("chunked in quotes", post(b"Transfer-Encoding: \"chunked\"", body=b"0\r\n\r\n"), "transfer_encoding",
        python=CODING),
    bad("vertical tab before chunked", post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"), "field",
        python=CODING),
    bad("empty coding", post(b"Transfer-Encoding:"), "transfer_encoding",
        python="a coding that is not known does not count; there is no body then"),
    # ---- chunks ----
    bad("chunk size overflows", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), "chunk"),
    bad("chunk size of 2^63", chunked(b"8000000000000000\r\nhello\r\n0\r\n\r\n"), "chunk"),
    bad("chunk size with plus", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), "chunk", python=HEX),
    bad("chunk size with minus", chunked(b"-5\r\nhello\r\n0\r\n\r\n"), "chunk"),
    bad("chunk size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), "chunk", python=HEX),
    bad("chunk size with an underscore", chunked(b"0_5\r\nhello\r\n0\r\n\r\n"), "chunk", python=HEX),
    bad("blank before a chunk size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), "chunk", python=HEX),
    bad("blank behind a chunk size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), "chunk", nginx=PAD, python=HEX),
    bad("blank before an extension", chunked(b"5 ;a\r\nhello\r\n0\r\n\r\n"), "chunk", nginx=PAD, python=EXTENSION),
    bad("empty chunk size", chunked(b"\r\nhello\r\n0\r\n\r\n"), "chunk"),
    bad("chunk size that is none", chunked(b"xyz\r\nhello\r\n0\r\n\r\n"), "chunk"),
    bad("bare LF behind a chunk size", chunked(b"5\nhello\r\n0\r\n\r\n"), "chunk", nginx=LF, python=LF),
    bad("bare LF in an extension", chunked(b"5;a\nhello\r\n0\r\n\r\n"), "chunk", nginx=LF, python=LF),
    bad("bare CR in an extension", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), "chunk", python=EXTENSION),
    bad("empty extension", chunked(b"5;\r\nhello\r\n0\r\n\r\n"), "chunk", nginx=EXTENSION, python=EXTENSION),
    bad("long extension", chunked(b"5;" + b"a" * 300 + b"\r\nhello\r\n0\r\n\r\n"), "chunk",
        nginx=EXTENSION, python=EXTENSION),
    bad("chunk longer than its size", chunked(b"5\r\nhello!\r\n0\r\n\r\n"), "chunk"),
    bad("chunk shorter than its size", chunked(b"6\r\nhello\r\n0\r\n\r\n"), "chunk", nginx=LF),
    bad("chunk ended by a bare LF", chunked(b"5\r\nhello\n0\r\n\r\n"), "chunk", nginx=LF),
    bad("last chunk ended by a bare LF", chunked(b"5\r\nhello\r\n0\n\r\n"), "chunk", nginx=LF, python=LF),
    bad("trailers ended by a bare LF", chunked(b"0\r\n\n"), "trailer", nginx=LF, python=LF),
    bad("trailer without a colon", chunked(b"0\r\nX\r\n\r\n"), "trailer", nginx=TRAILER, python=TRAILER),
    bad("trailer with a blank before its colon", chunked(b"0\r\nX : y\r\n\r\n"), "trailer",
        nginx=TRAILER, python=TRAILER),
    bad("folded trailer", chunked(b"0\r\nX: y\r\n z\r\n\r\n"), "trailer", nginx=TRAILER, python=TRAILER),
    bad("many trailers", chunked(b"0\r\n" + b"X: y\r\n" * 2000 + b"\r\n"), "trailer", nginx=TRAILER, python=TRAILER),
    # ---- lines ----
    bad("bare LF everywhere", b"GET /healthz HTTP/1.1\nHost: h\n\n", "line_end", nginx=LF, python=LF),
    bad("bare LF behind the request line", b"GET /healthz HTTP/1.1\nHost: h\r\n\r\n", "line_end", nginx=LF, python=LF),
    bad("bare LF behind a field", b"GET /healthz HTTP/1.1\r\nHost: h\n\r\n", "line_end", nginx=LF, python=LF),
    bad("bare LF for the empty line", b"GET /healthz HTTP/1.1\r\nHost: h\r\n\n", "line_end", nginx=LF, python=LF),
    bad("bare LF before", b"\n" + get(), "line_end",
        nginx="any number of empty lines is skipped",
        python="an empty line is an empty request and ends the connection unanswered"),
    bad("two empty lines before", b"\r\n\r\n" + get(), "line_end",
        nginx="any number of empty lines is skipped",
        python="an empty line is an empty request and ends the connection unanswered"),
    bad("bare CR in a value", get(b"X: a\rb"), "field",
        python="a bare CR ends a line, too: what is behind it is a field of its own"),
    bad("bare CR before a field", get(b"\rX: a"), "field",
        python="a bare CR ends a line, too: what is behind it is a field of its own"),
    bad("two CR behind the request line", b"GET /healthz HTTP/1.1\r\r\nHost: h\r\n\r\n", "start_line",
        python="all CR and LF at the end of the request line are cut off"),
    bad("bare CR as a line's end", b"GET /healthz HTTP/1.1\rHost: h\r\r" + get(), "start_line"),
    # ---- fields ----
    bad("folded field", get(b"X: a", b" b"), "field", python=FOLD),
    bad("field folded by a tab", get(b"X: a", b"\tb"), "field", python=FOLD),
    bad("folded host", b"GET /healthz HTTP/1.1\r\nHost:\r\n h\r\n\r\n", "field", python=FOLD),
    bad("folded first field", get(host=b" Host: h"), "field", python=MAIL),
    bad("blank before the colon", get(b"X : a"), "field", python=MAIL),
    bad("blank before the length's colon", post(b"Content-Length : 5", body=b"hello"), "field",
        python="the field is kept with the blank in its name: no length, and the body is read as the next request"),
    bad("tab before the coding's colon", post(b"Transfer-Encoding\t: chunked", body=b"0\r\n\r\n"), "field",
        python="the field is kept with the tab in its name: no coding, and the body is read as the next request"),
    bad("field without a colon", get(b"X"), "field", nginx=IGNORED, python=MAIL),
    bad("field without a name", get(b": a"), "field", python=MAIL),
    bad("blank in a name", get(b"Bad Name: a"), "field", python=MAIL),
    bad("high byte in a name", get(b"X\xc3: a"), "field", nginx=IGNORED, python=MAIL),
    bad("NUL in a name", get(b"X\0: a"), "field", python=MAIL),
    bad("NUL in a value", get(b"X: a\0b"), "field", python=MAIL),
    bad("control byte in a value", get(b"X: a\x01b"), "field", nginx=VALUE, python=MAIL),
    bad("DEL in a value", get(b"X: a\x7fb"), "field", nginx=VALUE, python=MAIL),
    bad("101 fields", get(*[b"X: a"] * 100), "field_count", 431,
        nginx="fields are bounded by their bytes, not by their count"),
    bad("field of 20 KiB", get(b"X: " + b"a" * 20480), "head_size", 431, python=LONG),
    # ---- Host ----
    bad("no host", get(host=None), "host", python=ANY_HOST),
    bad("empty host", get(host=b"Host:"), "host", python=ANY_HOST),
    bad("two hosts", get(b"Host: i"), "host", python=ANY_HOST),
    bad("one host twice", get(b"Host: h"), "host", python=ANY_HOST),
    bad("one host twice in http 1.0", get(b"Host: h", line=b"GET /healthz HTTP/1.0"), "host", python=ANY_HOST),
    bad("list of hosts", get(host=b"Host: h, i"), "host", python=ANY_HOST),
    bad("host with a blank", get(host=b"Host: h i"), "host", python=ANY_HOST),
    bad("host with a path", get(host=b"Host: h/healthz"), "host", python=ANY_HOST),
    bad("host with a user", get(host=b"Host: u@h"), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("host with a wrong port", get(host=b"Host: h:port"), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("host with a port of 65536", get(host=b"Host: h:65536"), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("host with a high byte", get(host=b"Host: \xc3\xa4"), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("host with a quote", get(host=b"Host: \"h\""), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("host with an open bracket", get(host=b"Host: [::1"), "host", nginx=HOST_BYTES, python=ANY_HOST),
    bad("absolute form without host", get(line=b"GET http://h/healthz HTTP/1.1", host=None), "host", python=ANY_HOST),
    bad("absolute form of another host", get(line=b"GET http://i/healthz HTTP/1.1"), "host",
        nginx=AUTHORITY, python=ANY_HOST),
    bad("absolute form of another port", get(line=b"GET http://h:81/healthz HTTP/1.1"), "host",
        nginx=AUTHORITY, python=ANY_HOST),
    bad("authority form of another host", get(line=b"CONNECT i:80 HTTP/1.1", host=b"Host: h:80"), "host",
        python=ANY_HOST),
    # ---- the request line ----
    bad("absolute form of another scheme", get(line=b"GET ftp://h/healthz HTTP/1.1"), "target",
        nginx="the scheme is skipped", python=ANY_TARGET),
    bad("absolute form with a user", get(line=b"GET http://u@h/healthz HTTP/1.1"), "target", python=ANY_TARGET),
    bad("absolute form without an authority", get(line=b"GET http:///healthz HTTP/1.1"), "target", python=ANY_TARGET),
    bad("authority form without a port", get(line=b"CONNECT h HTTP/1.1"), "target", python=ANY_TARGET),
    bad("authority form for a get", get(line=b"GET h:80 HTTP/1.1"), "target", python=ANY_TARGET),
    bad("asterisk form for a get", get(line=b"GET * HTTP/1.1"), "target", python=ANY_TARGET),
    bad("relative target", get(line=b"GET healthz HTTP/1.1"), "target", python=ANY_TARGET),
    bad("fragment", get(line=b"GET /healthz#a HTTP/1.1"), "target",
        nginx="a fragment is cut off; no client sends one", python=ANY_TARGET),
    bad("NUL in the target", get(line=b"GET /healthz\0 HTTP/1.1"), "target", python=ANY_TARGET),
    bad("control byte in the target", get(line=b"GET /healthz\x01 HTTP/1.1"), "target", python=ANY_TARGET),
    bad("high byte in the target", get(line=b"GET /\xc3\xa4 HTTP/1.1"), "target",
        nginx="bytes that a URI cannot have are passed on as they are", python=ANY_TARGET),
    bad("half an escape", get(line=b"GET /healthz%4 HTTP/1.1"), "target", python=ANY_TARGET),
    bad("escape that is none", get(line=b"GET /healthz%zz HTTP/1.1"), "target", python=ANY_TARGET),
    bad("backslash", get(line=b"GET /\\healthz HTTP/1.1"), "target",
        nginx="bytes that a URI cannot have are passed on as they are", python=ANY_TARGET),
    bad("two blanks", get(line=b"GET  /healthz HTTP/1.1"), "start_line", nginx=BLANKS, python=ANY_LINE),
    bad("blank in the target", get(line=b"GET /healthz x HTTP/1.1"), "start_line"),
    bad("tab for a blank", get(line=b"GET\t/healthz\tHTTP/1.1"), "start_line", python=ANY_LINE),
    bad("blank before the method", get(line=b" GET /healthz HTTP/1.1"), "start_line", python=ANY_LINE),
    bad("blank behind the version", get(line=b"GET /healthz HTTP/1.1 "), "start_line", nginx=BLANKS, python=ANY_LINE),
    bad("method with a byte that is no token's", get(line=b"G(T /healthz HTTP/1.1"), "start_line"),
    bad("method with a NUL", get(line=b"G\0T /healthz HTTP/1.1"), "start_line"),
    bad("method of 20 KiB", get(line=b"G" * 20480 + b" /healthz HTTP/1.1"), "head_size", 431),
    bad("target of 20 KiB", get(line=b"GET /" + b"a" * 20480 + b" HTTP/1.1"), "head_size", 431, python=LONG),
    bad("no version", get(line=b"GET /healthz"), "start_line",
        nginx="it is HTTP/0.9, answered by a body without a head",
        python="it is HTTP/0.9, answered by a body without a head"),
    bad("version of two digits", get(line=b"GET /healthz HTTP/1.10"), "start_line",
        nginx="the minor version is a number of any length", python="the minor version is a number of any length"),
    bad("version without a minor", get(line=b"GET /healthz HTTP/1"), "start_line"),
    bad("version in small letters", get(line=b"GET /healthz http/1.1"), "start_line"),
    bad("http 2 in text", get(line=b"GET /healthz HTTP/2.0"), "version", 505),
    bad("http 0.9", get(line=b"GET /healthz HTTP/0.9"), "version", 505,
        python="any version that begins with 0 is taken; it ends the connection, as 1.0 does"),
    bad("another protocol", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", "start_line"),
    # ---- Expect ----
    bad("unknown expectation", get(b"Expect: wonders"), "expect", 417,
        nginx="an expectation that is not known is overlooked; RFC 9110 §10.1.1 lets it be refused",
        python="an expectation that is not known is overlooked; RFC 9110 §10.1.1 lets it be refused"),
    bad("expectation twice", get(b"Expect: 100-continue", b"Expect: 100-continue"), "expect_repeated", python=FIRST),
]


@pytest.fixture(scope="module")
def folder():
    path = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def gateway(folder):
    server = harness.Redis(folder)
    with harness.Gateway(folder, server, env={"GATEWAY_LOG_LEVEL": "info"}) as gateway:
        yield gateway
    server.stop()


@pytest.fixture(scope="module")
def nginx(folder):
    server = readings.Nginx(folder)
    yield server
    server.stop()


def name_of(answer):
    status, _, body = answer
    if status == 200:
        return {"ok": "healthz", "ready": "readyz"}[json.loads(body)["status"]]
    return {404: "unknown", 405: "unknown", 503: "post"}.get(status, "refused")


def read(gateway, sent):
    with harness.connect(gateway.public) as connection:
        return readings.exchange(connection, sent)


def refusals(values):
    return {name.split('"')[1]: value for name, value in values.items()
            if name.startswith("gateway_http1_refusals_total") and value}


def routed(values):
    return sum(value for name, value in values.items() if name.startswith("http_requests_total{path=\"/readyz\""))


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row_is_read_as_it_says(gateway, nginx, row):
    before = gateway.metrics()
    answers = read(gateway, row.sent + PROBE)
    assert tuple(map(name_of, answers)) == row.ours
    after = gateway.metrics()
    counts = {name: value - refusals(before).get(name, 0) for name, value in refusals(after).items()
              if value != refusals(before).get(name, 0)}
    assert counts == ({row.reason: 1} if row.reason else {})
    assert routed(after) - routed(before) == row.ours.count("readyz")
    if row.ours[-1] == "refused":
        assert answers[-1][0] == row.status and answers[-1][1]["connection"] == "close"
    for name, theirs in (("nginx", nginx.read(row.sent + PROBE)), ("python", readings.python(row.sent + PROBE))):
        why = getattr(row, name)
        if theirs == row.ours:
            assert why is None, f"{name} reads it as we do: {theirs}"
        else:
            assert why, f"{name} reads it otherwise, and nothing says why: {theirs}"


def read_slowly(gateway, sent):
    """As `read`, but every byte is a send of its own."""
    with harness.connect(gateway.public) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for byte in sent:
                connection.send(bytes([byte]))
        except OSError:
            pass  # refused before its end
        return readings.exchange(connection, b"")


def test_rows_are_read_the_same_byte_by_byte(gateway):
    for row in ROWS:
        if len(row.sent) < 400:
            assert tuple(map(name_of, read_slowly(gateway, row.sent + PROBE))) == row.ours, row.name


def test_request_sent_after_a_refusal_is_not_answered(gateway):
    refused = [row for row in ROWS if row.ours == REFUSED and len(row.sent) < 400]
    before = routed(gateway.metrics())
    for row in refused:
        with harness.connect(gateway.public) as connection:
            connection.sendall(row.sent)
            text = connection.recv(4096)  # the refusal, or its beginning
            try:
                connection.sendall(PROBE)
                while data := connection.recv(4096):
                    text += data
            except OSError:
                pass  # it is over already
        assert text.startswith(b"HTTP/1.1 %d " % row.status) and text.count(b"HTTP/1.1 ") == 1, row.name
    assert routed(gateway.metrics()) == before
    assert len(refused) > 100
