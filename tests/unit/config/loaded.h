/* loaded: config_load for tests, with its report as text. */
#ifndef TEST_CONFIG_LOADED_H
#define TEST_CONFIG_LOADED_H

#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

/* The four variables without which there is nothing to do. */
#define REQUIRED                                                   \
	"GATEWAY_SESSION_CACHE_REDIS_ADDR=redis:6379",             \
	"GATEWAY_SESSION_EVENTS_REDIS_STREAM=sessions",            \
	"GATEWAY_CLIENT_EVENTS_REDIS_STREAM=clients",              \
	"GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH=/etc/key.pem"

#define ENVIRONMENT(...) ((char *const[]){ __VA_ARGS__, NULL })

struct loaded {
	struct config *config; /* NULL: mistakes */
	char *report;          /* NUL-terminated */
};

static inline struct loaded load(char *const *environment)
{
	struct buf report;
	struct loaded loaded;

	buf_init(&report, 1 << 20);
	loaded.config = config_load(environment, NULL, &report);
	buf_append_byte(&report, '\0');
	assert_false(report.failed);
	loaded.report = (char *)report.data; /* taken over: buf's memory is malloc's */
	return loaded;
}

static inline void unload(struct loaded *loaded)
{
	config_destroy(loaded->config);
	free(loaded->report);
}

/* The whole report, with or without a config. */
static inline void assert_report(char *const *environment, bool usable, const char *wanted)
{
	struct loaded loaded = load(environment);

	assert_string_equal(loaded.report, wanted);
	assert_int_equal(loaded.config != NULL, usable);
	unload(&loaded);
}

/* A file with these bytes; `path` is a template "…XXXXXX". */
static inline void put_file(char *path, struct span bytes)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes.data, bytes.len), bytes.len);
	close(fd);
}

/* Loads a file with this text; the report has the path replaced by "F". */
static inline struct loaded load_file(struct span text)
{
	char path[] = "/tmp/test-config-XXXXXX";
	char variable[128];

	put_file(path, text);
	snprintf(variable, sizeof(variable), "GATEWAY_CONFIG_FILE=%s", path);

	struct loaded loaded = load(ENVIRONMENT(REQUIRED, variable));
	size_t len = strlen(path);

	for (char *at = loaded.report; (at = strstr(at, path)) != NULL; at++) {
		*at = 'F';
		memmove(at + 1, at + len, strlen(at + len) + 1);
	}
	unlink(path);
	return loaded;
}

/* The whole report of a file; without one it must be taken. */
static inline void assert_file(const char *text, const char *wanted)
{
	struct loaded loaded = load_file(span_from_cstr(text));

	/* cmocka cuts long texts where they begin to differ. */
	for (const char *a = loaded.report, *b = wanted; *a || *b;) {
		size_t line = strcspn(a, "\n"), other = strcspn(b, "\n");

		if (line != other || memcmp(a, b, line) != 0)
			fail_msg("%.*s instead of %.*s", (int)line, a, (int)other, b);
		a += line + (a[line] == '\n');
		b += other + (b[other] == '\n');
	}
	assert_int_equal(loaded.config == NULL, wanted[0] != '\0');
	unload(&loaded);
}

#endif
