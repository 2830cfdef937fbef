#include "config/environment.h"

#include "base/check.h"
#include "base/explain.h"
#include "base/vault.h"
#include "config/file.h"

#include <errno.h>
#include <stdio.h>

#define VARIABLE_MAX 128 /* longest name that we know, with _FILE and NUL */
#define PREFIX       SPAN("GATEWAY_")

/* The value of `name`, the first if there are several (as getenv); data NULL when there is none. */
static struct span find(char *const *environment, struct span name)
{
	for (char *const *entry = environment; *entry; entry++) {
		struct span text = span_from_cstr(*entry);

		if (text.len > name.len && text.data[name.len] == '=' && span_starts_with(text, name))
			return span_from(text, name.len + 1);
	}
	return SPAN_EMPTY;
}

struct file_name {
	char text[VARIABLE_MAX];
};

static struct file_name file_name_of(const struct option_row *row)
{
	struct file_name name;
	int len = snprintf(name.text, sizeof(name.text), "%s_FILE", row->variable);

	CHECK(len > 0 && (size_t)len < sizeof(name.text));
	return name;
}

/* The path that <variable>_FILE gives; empty for rows that are no secret. */
static struct span file_of(char *const *environment, const struct option_row *row)
{
	if (row->kind != OPTION_KIND_SECRET)
		return SPAN_EMPTY;
	return find(environment, span_from_cstr(file_name_of(row).text));
}

static bool is_given(char *const *environment, const struct option_row *row)
{
	struct span value = find(environment, span_from_cstr(row->variable));

	return row->kind == OPTION_KIND_STRING ? value.data != NULL : value.len > 0;
}

enum environment_origin environment_origin(char *const *environment, const struct option_row *row)
{
	if (file_of(environment, row).len > 0)
		return ORIGIN_FILE;
	return is_given(environment, row) ? ORIGIN_ENVIRONMENT : ORIGIN_DEFAULT;
}

static int set_from_file(const struct option_row *row, struct config *config, struct span path,
			 struct report *report)
{
	struct buf bytes;
	int error = file_read((const char *)path.data, row->max + 2, &bytes); /* and "\r\n" */

	if (error) {
		report_mistake(report, file_name_of(row).text, "cannot read %s: %s",
			       quoted_make(path).text, errno_text(-error));
	} else {
		struct span text = buf_span(&bytes);

		if (text.len > 0 && text.data[text.len - 1] == '\n')
			text.len--;
		if (text.len > 0 && text.data[text.len - 1] == '\r')
			text.len--;
		error = option_set(row, config, text, report);
	}
	file_forget(&bytes);
	return error;
}

/* Returns 0 or -ENOMEM; mistakes are in the report. */
static int load_row(const struct option_row *row, char *const *environment, struct config *config,
		    struct report *report)
{
	struct span path = file_of(environment, row);
	struct report none = { .out = report->out };
	int error = option_set(row, config, span_from_cstr(row->fallback), &none);

	CHECK(none.mistake_count == 0); /* the table's own defaults */
	if (error)
		return error;
	if (path.len > 0 && is_given(environment, row))
		report_mistake(report, row->variable, "is set, and so is %s: only one may be",
			       file_name_of(row).text);
	else if (path.len > 0)
		error = set_from_file(row, config, path, report);
	else if (is_given(environment, row))
		error = option_set(row, config, find(environment, span_from_cstr(row->variable)),
				   report);
	return error == -ENOMEM ? error : 0;
}

/* The required rows: none, or all. */
static void check_required(const struct config *config, struct report *report)
{
	const char *present = NULL;

	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		if ((row->flags & OPTION_REQUIRED) && option_is_filled(row, config))
			present = row->variable;
	}
	for (size_t i = 0; i < option_count() && present; i++) {
		const struct option_row *row = option_row(i);

		if ((row->flags & OPTION_REQUIRED) && !option_is_filled(row, config))
			report_mistake(report, row->variable, "is required, because %s is set",
				       present);
	}
}

#define GRPC_BUDGETS "AUTHENTICATED_GRPC_ANTI_ABUSE"

/* A bucket that holds nothing would refuse every call. */
static void check_budgets(const struct config *config, struct report *report)
{
	const struct {
		uint64_t requests, burst;
		const char *group, *name;
	} budgets[] = {
		{ config->budget_ip_requests, config->budget_ip_burst, GRPC_BUDGETS, "IP" },
		{ config->budget_session_requests, config->budget_session_burst, GRPC_BUDGETS,
		  "SESSION" },
		{ config->budget_user_requests, config->budget_user_burst, GRPC_BUDGETS, "USER" },
		{ config->budget_type_requests, config->budget_type_burst, GRPC_BUDGETS,
		  "MESSAGE_TYPE" },
		{ config->budget_identity_requests, config->budget_identity_burst,
		  "PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_AUTH", "IDENTITY" },
	};

	for (size_t i = 0; i < ARRAY_LEN(budgets); i++) {
		char where[VARIABLE_MAX];

		if (budgets[i].requests == 0 || budgets[i].burst > 0)
			continue;
		snprintf(where, sizeof(where), "GATEWAY_%s_%s_BURST", budgets[i].group,
			 budgets[i].name);
		report_mistake(report, where, "must be at least 1 unless ..._%s_REQUESTS is 0",
			       budgets[i].name);
	}
}

#define REDIS_TLS "GATEWAY_SESSION_CACHE_REDIS_TLS_"

static void check_redis_tls(const struct config *config, struct report *report)
{
	const struct {
		const char *name, *value;
	} rows[] = {
		{ REDIS_TLS "CA_FILE", config->redis_tls_ca_file },
		{ REDIS_TLS "CERT_FILE", config->redis_tls_cert_file },
		{ REDIS_TLS "KEY_FILE", config->redis_tls_key_file },
		{ REDIS_TLS "SERVER_NAME", config->redis_tls_server_name },
	};

	if (!config_has_edge(config))
		return;
	if (!config->redis_tls_enabled) {
		for (size_t i = 0; i < ARRAY_LEN(rows); i++)
			if (rows[i].value[0])
				report_warning(report, rows[i].name,
					       "has no effect, because " REDIS_TLS "ENABLED is false");
		return;
	}
	if (config->redis_tls_key_file[0] && !config->redis_tls_cert_file[0])
		report_mistake(report, REDIS_TLS "CERT_FILE",
			       "is required, because " REDIS_TLS "KEY_FILE is set");
	if (config->redis_tls_cert_file[0] && !config->redis_tls_key_file[0])
		report_mistake(report, REDIS_TLS "KEY_FILE",
			       "is required, because " REDIS_TLS "CERT_FILE is set");
	if (config->redis_addr.set && config->redis_addr.endpoint.kind == ENDPOINT_UNIX &&
	    !config->redis_tls_server_name[0])
		report_mistake(report, REDIS_TLS "SERVER_NAME",
			       "is required, because a unix socket has no host whose certificate "
			       "could be checked");
}

void config_forget_environment(char **environment)
{
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);
		size_t len = strlen(row->variable);

		/* All of that name: a shell may pass one twice. */
		for (char **entry = environment; row->kind == OPTION_KIND_SECRET && *entry; entry++)
			if (strncmp(*entry, row->variable, len) == 0 && (*entry)[len] == '=')
				memset(*entry + len + 1, '*', strlen(*entry + len + 1));
	}
	vault_clear_registers();
}

struct nearest {
	size_t distance;
	char name[VARIABLE_MAX];
};

static void nearest_offer(struct nearest *nearest, struct span wanted, const char *name)
{
	size_t distance = name_distance(wanted, span_from_cstr(name));

	if (distance >= nearest->distance)
		return;
	nearest->distance = distance;
	snprintf(nearest->name, sizeof(nearest->name), "%s", name);
}

static void check_known(struct span name, struct report *report)
{
	struct nearest nearest = { .distance = SIZE_MAX };

	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		nearest_offer(&nearest, name, row->variable);
		if (row->kind == OPTION_KIND_SECRET)
			nearest_offer(&nearest, name, file_name_of(row).text);
	}
	/* Only the first 128 bytes count for the distance, and no known name is that long. */
	if (nearest.distance == 0)
		return;

	char shown[VARIABLE_MAX];
	struct quoted quoted = quoted_make(name);
	int len = (int)strlen(quoted.text) - 2;

	/* Plain names stand without quotes, as they do in every other line. */
	snprintf(shown, sizeof(shown), "%.*s", len, quoted.text + 1);
	report_warning(report, shown, "unknown variable; the nearest known name is %s",
		       nearest.name);
}

int environment_load(char *const *environment, struct config *config, struct report *report)
{
	for (size_t i = 0; i < option_count(); i++) {
		int error = load_row(option_row(i), environment, config, report);

		if (error)
			return error;
	}
	check_required(config, report);
	check_budgets(config, report);
	check_redis_tls(config, report);
	for (char *const *entry = environment; *entry; entry++) {
		struct span text = span_from_cstr(*entry);
		ptrdiff_t end = span_find_byte(text, '=');

		if (end > 0 && span_starts_with(text, PREFIX))
			check_known(span_first(text, (size_t)end), report);
	}
	return 0;
}
