/*
 * config: everything the process was told, parsed and checked once, then immutable. Any thread reads.
 * The environment is for life; what GATEWAY_CONFIG_FILE says is a part of its own, counted, which a
 * reload replaces whole.
 * One table (option.def) makes the struct, the defaults, --help, --print-config and the README's table.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/buf.h"
#include "base/cidr.h"
#include "base/endpoint.h"
#include "config/rest.h"
#include "config/url.h"
#include "log/log.h"

enum access_log { ACCESS_LOG_OFF, ACCESS_LOG_ERRORS, ACCESS_LOG_ALL };

struct config_endpoint {
	bool set; /* false: empty */
	struct endpoint endpoint;
};

/* Address ranges; their memory is the config's. */
#define CIDRS_MAX 1024
struct config_cidrs {
	const struct cidr *items;
	size_t count;
};

#define CONFIG_TYPE_STRING const char *
#define CONFIG_TYPE_SECRET const char *
#define CONFIG_TYPE_ENDPOINT struct config_endpoint
#define CONFIG_TYPE_URL struct config_url
#define CONFIG_TYPE_CIDRS struct config_cidrs
#define CONFIG_TYPE_DURATION uint64_t
#define CONFIG_TYPE_SIZE uint64_t
#define CONFIG_TYPE_COUNT uint64_t
#define CONFIG_TYPE_BOOL bool
#define CONFIG_TYPE_LEVEL enum log_level
#define CONFIG_TYPE_FORMAT enum log_format
#define CONFIG_TYPE_ACCESS enum access_log

/* A service behind the gateway (edge.md §2.3). */
#define UPSTREAM_NAME_MAX 64
#define UPSTREAM_ADDRESSES_MAX 64
#define UPSTREAMS_MAX 256
#define COMMANDS_MAX 4096

/* When to leave a failing upstream alone: upstream/breaker.h. */
struct config_breaker {
	bool enabled;	    /* true */
	uint32_t failures;  /* in a row; 10 */
	uint32_t ratio;	    /* failed ones of those that ended, per cent; 80 */
	uint32_t calls;	    /* that must have ended for the ratio to count; 20 */
	uint64_t window_ms; /* over which the ratio is taken; 10s */
	uint64_t open_ms;   /* until a probe; 2s */
};

extern const struct config_breaker config_breaker_default;

struct config_upstream {
	char name[UPSTREAM_NAME_MAX + 1];
	struct endpoint *addresses;
	size_t address_count;
	uint64_t deadline_ms;        /* 2s */
	uint32_t connections;        /* per worker and address; 2 */
	uint32_t max_in_flight;      /* per worker; 1024 */
	bool health;                 /* true */
	uint64_t health_interval_ms; /* 5s */
	struct config_breaker breaker;
};

/* Sorted by message_type's bytes, a prefix before an exact one of the same text. */
struct config_command {
	char *message_type; /* without the trailing '*' when prefix */
	bool prefix;        /* "fleet.*": anything that begins with "fleet." */
	uint32_t upstream;  /* index */
	int32_t shorter;    /* the longest other prefix that message_type begins with: index or -1 */
};

/* What GATEWAY_CONFIG_FILE says. Immutable; freed with its last reference. */
struct config_file {
	struct config_upstream *upstreams;
	size_t upstream_count;
	struct config_command *commands;
	size_t command_count;
	struct config_place commands_place;
	struct config_rest *rest; /* NULL: no API gateway */
	void *compiled;		  /* what config_compile_fn has made of it */
	void (*release)(void *compiled);
	struct arena *memory; /* owns the arrays and strings above */
	_Atomic uint32_t references;
};

struct config {
#define OPTION(field, kind, variable, fallback, min, max, flags, help) CONFIG_TYPE_##kind field;
#include "config/option.def"
#undef OPTION
	struct config_file *file; /* as it was at start-up; never NULL, but it may be empty */
	struct arena *memory;	  /* owns the strings above */
};

/*
 * Makes of a file what only rooms above this one can, into file->compiled and file->release; mistakes
 * go to `report`, beside those of the file itself. Returns 0 or -ENOMEM.
 */
struct report;
typedef int config_compile_fn(struct config_file *file, const char *path, struct report *report);

/* Enough for a report of mistakes, and for what --help shows. */
#define CONFIG_REPORT_BYTES_MAX (1u << 20)
/* Enough for what --print-config shows: a file of 4 MiB, each value named, base_path before each
 * route. */
#define CONFIG_TEXT_BYTES_MAX (16u << 20)

/*
 * Reads the environment (`environ` form), then the file it names. Mistakes and warnings are appended to
 * `report`, one per line, all of them, as "<variable>: <what is wrong>" or
 * "<file>:<line>:<column>: <what is wrong>", warnings as "warning: …". No line tells a secret.
 * An empty variable is as if it were not there, but for strings, where empty is a value.
 * `compile` may be NULL. Returns the config, or NULL when there was a mistake (or no memory).
 * Owns: the caller, config_destroy. Secrets are in base/vault's memory.
 * Limits: the file 4 MiB; UPSTREAMS_MAX, UPSTREAM_ADDRESSES_MAX, COMMANDS_MAX.
 */
struct config *config_load(char *const *environment, config_compile_fn *compile,
			   struct buf *report);

/* As config_load, but it also returns what has mistakes, with their number: for who looks for more
 * of them. NULL: no memory, which is one, too. */
struct config *config_read(char *const *environment, config_compile_fn *compile, struct buf *report,
			   size_t *mistake_count);
void config_destroy(struct config *config);

/*
 * Whether the edge gateway is configured; the API gateway is when a file has `rest`. One of them is
 * (edge.md §7).
 */
bool config_has_edge(const struct config *config);

/* Whether no secret can be swapped out; false where RLIMIT_MEMLOCK refused it. */
bool config_secrets_are_locked(const struct config *config);

/*
 * Puts stars over each secret that the environment itself holds, so that neither a core dump nor
 * /proc/<pid>/environ shows it. After config_load; that there was one can still be told.
 */
void config_forget_environment(char **environment);

/*
 * Reads the file at `path` anew; an empty path gives an empty file. `report` and limits as above.
 * Returns it with one reference, or NULL when there was a mistake (or no memory).
 */
struct config_file *config_file_load(const char *path, config_compile_fn *compile,
				     struct buf *report);
/*
 * The same of the file that `config` names, to be used in place of config->file: a mistake, too, if
 * nothing would be left to do.
 */
struct config_file *config_file_reload(const struct config *config, config_compile_fn *compile,
				       struct buf *report);
struct config_file *config_file_get(struct config_file *file);
void config_file_put(struct config_file *file); /* NULL is fine */

/*
 * The longest match for a message type, exact before prefix.
 * Returns the upstream's index or -1. No allocation; logarithmic in the number of commands.
 */
int config_route(const struct config_file *file, struct span message_type);

/* The index of the upstream with this name, or -1. */
int config_upstream_find(const struct config_file *file, struct span name);

/* Whether two upstreams are the same in everything, so that connections to one serve the other. */
bool config_upstream_equal(const struct config_upstream *a, const struct config_upstream *b);

/* "--help": usage and the whole table. */
int config_write_help(struct buf *out, const char *program);
/*
 * "--print-config": VARIABLE=value lines with origin and default, secrets masked. `environment` is the
 * one it was loaded from.
 */
int config_write_values(const struct config *config, char *const *environment, struct buf *out);
/* What the file says, as comment lines below those. */
int config_write_file(const struct config_file *file, struct buf *out);
/* The table of the README, Markdown. */
int config_write_markdown(struct buf *out);

#endif
