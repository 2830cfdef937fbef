#include "base/check.h"
#include "config/environment.h"
#include "config/value.h"

#include <errno.h>
#include <inttypes.h>

static int written(const struct buf *out)
{
	return out->failed ? -ENOMEM : 0;
}

static const char usage[] =
	"Starts the gateway, configured by environment variables.\n"
	"\n"
	"  --help              this text\n"
	"  --version           version and commit\n"
	"  --check-config      all of start-up but network and bind; exit code 0, or 2 with\n"
	"                      every mistake\n"
	"  --print-config      every variable with value, default and origin; secrets masked\n"
	"  --print-public-key  the key that checks responses and events, as PEM\n"
	"\n"
	"Durations: 250ms, 5s, 1m30s, 2h, 0. Sizes: bytes, KiB, MiB, GiB. Booleans: true,\n"
	"false, 1, 0. Addresses: :port (listeners), host:port, [v6]:port, unix:/path.\n"
	"A variable that is empty counts as absent, but where the value is free text.\n"
	"A secret may be in a file that <NAME>_FILE names.\n"
	"The edge gateway is on when one of the variables that it requires is set, and needs all\n"
	"of them; the API gateway is on when GATEWAY_CONFIG_FILE has a section rest. One must be.\n"
	"SIGHUP reads GATEWAY_CONFIG_FILE anew; variables are for the life of the process.\n"
	"\n"
	"Exit codes: 0 stopped as asked; 1 could not start, or a component outlived its time\n"
	"to stop, or a second signal came; 2 mistakes in the configuration.\n"
	"\n";

/* "required by the edge gateway" or the default. */
static void write_default(const struct option_row *row, struct buf *out)
{
	if (row->flags & OPTION_REQUIRED)
		buf_append(out, SPAN("required by the edge gateway"));
	else if (row->fallback[0] == '\0')
		buf_append(out, SPAN("default empty"));
	else
		buf_printf(out, "default %s", row->fallback);
}

static void write_help_row(const struct option_row *row, struct buf *out)
{
	struct buf range;

	buf_init(&range, 128);
	option_write_range(row, &range);
	buf_printf(out, "  %s%s\n", row->variable,
		   row->kind == OPTION_KIND_SECRET ? " (or ..._FILE)" : "");
	buf_printf(out, "      %s", row->help);
	buf_append(out, SPAN(" ["));
	write_default(row, out);
	/* The words of an enum are in its help already. */
	if (range.len > 0 && !span_equal(buf_span(&range), span_from_cstr(row->help)))
		buf_printf(out, "; %.*s", SPAN_ARGS(buf_span(&range)));
	buf_append(out, SPAN("]\n"));
	buf_finish(&range);
}

int config_write_help(struct buf *out, const char *program)
{
	buf_printf(out, "Usage: %s [OPTION]\n", program);
	buf_append(out, span_from_cstr(usage));
	buf_append(out, SPAN("Variables:\n"));
	for (size_t i = 0; i < option_count(); i++)
		write_help_row(option_row(i), out);
	return written(out);
}

int config_write_markdown(struct buf *out)
{
	buf_append(out, SPAN("| variable | default | range | meaning |\n|---|---|---|---|\n"));
	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);

		buf_printf(out, "| `%s` | ", row->variable);
		if (row->flags & OPTION_REQUIRED)
			buf_append(out, SPAN("required"));
		else if (row->fallback[0] != '\0')
			buf_printf(out, "`%s`", row->fallback);
		buf_append(out, SPAN(" | "));
		option_write_range(row, out);
		buf_printf(out, " | %s |\n", row->help);
	}
	return written(out);
}

static void write_breaker(const struct config_breaker *breaker, struct buf *out)
{
	if (!breaker->enabled) {
		buf_append(out, SPAN(" breaker=off\n"));
		return;
	}
	buf_printf(out, " breaker=failures:%" PRIu32 ",ratio:%" PRIu32 ",calls:%" PRIu32,
		   breaker->failures, breaker->ratio, breaker->calls);
	buf_printf(out, ",window:%s", value_format_duration(breaker->window_ms).text);
	buf_printf(out, ",open:%s\n", value_format_duration(breaker->open_ms).text);
}

static void write_upstream(const struct config_upstream *upstream, struct buf *out)
{
	buf_printf(out, "# upstream %s:", upstream->name);
	for (size_t i = 0; i < upstream->address_count; i++) {
		char address[ENDPOINT_TEXT_MAX];
		size_t len = endpoint_format(&upstream->addresses[i], address);

		buf_append(out, i == 0 ? SPAN(" addresses=") : SPAN(","));
		buf_append(out, span_make(address, len));
	}
	buf_printf(out, " deadline=%s", value_format_duration(upstream->deadline_ms).text);
	buf_printf(out, " connections=%" PRIu32 " max_in_flight=%" PRIu32, upstream->connections,
		   upstream->max_in_flight);
	buf_printf(out, " health=%s health_interval=%s", upstream->health ? "true" : "false",
		   value_format_duration(upstream->health_interval_ms).text);
	write_breaker(&upstream->breaker, out);
}

int config_write_values(const struct config *config, char *const *environment, struct buf *out)
{
	static const char *const origins[] = {
		[ORIGIN_ENVIRONMENT] = "environment",
		[ORIGIN_FILE] = "file",
	};

	for (size_t i = 0; i < option_count(); i++) {
		const struct option_row *row = option_row(i);
		enum environment_origin origin = environment_origin(environment, row);

		buf_printf(out, "%s=", row->variable);
		option_write_value(row, config, out);
		if (origin == ORIGIN_DEFAULT) {
			buf_append(out, SPAN("  # default\n"));
			continue;
		}
		buf_printf(out, "  # %s, ", origins[origin]);
		write_default(row, out);
		buf_append(out, SPAN("\n"));
	}
	return written(out);
}

/* A list, if there is anything in it. */
static void write_texts(const char *name, const struct config_texts *texts, struct buf *out)
{
	for (size_t i = 0; i < texts->count; i++)
		buf_printf(out, "%s%s%s", i == 0 ? name : ",", i == 0 ? "=" : "",
			   texts->items[i].text);
}

static void write_text(const char *name, const char *text, struct buf *out)
{
	if (text)
		buf_printf(out, " %s=%s", name, text);
}

static void write_flag(const char *name, bool flag, struct buf *out)
{
	write_text(name, flag ? "true" : "false", out);
}

static void write_route(const struct config_rest_route *route, const char *upstream,
			struct buf *out)
{
	buf_printf(out, "# rest route %s %s:", route->method.text, route->path.text);
	write_text("rpc", route->rpc.text, out);
	write_text("upstream", upstream, out);
	write_flag("public", route->is_public, out);
	write_text("permission", route->permission.text, out);
	write_text("body", route->body.text, out);
	write_text("response_body", route->response_body.text, out);
	buf_append(out, SPAN("\n"));
}

static void write_sso(const struct config_rest_sso *sso, struct buf *out)
{
	buf_printf(out, "# rest sso %s:", sso->provider);
	write_text("authorize_url", sso->authorize_url, out);
	write_text("client_id", sso->client_id, out);
	buf_printf(out, " scopes=\"%s\"", sso->scopes);
	write_text("hosted_domain", sso->hosted_domain, out);
	write_text("cookie_key_file", sso->cookie_key_file.text, out);
	write_text("redirect_url", sso->redirect_url, out);
	write_text("after_login", sso->after_login, out);
	buf_append(out, SPAN("\n"));
}

static void write_rest_access(const struct config_file *file, struct buf *out)
{
	const struct config_rest *rest = file->rest;

	if (rest->auth.set) {
		buf_append(out, SPAN("# rest auth:"));
		write_text("upstream", file->upstreams[rest->auth.upstream].name, out);
		write_text("cookie", rest->auth.cookie, out);
		write_text("validate_cache",
			   value_format_duration(rest->auth.validate_cache_ms).text, out);
		buf_append(out, SPAN("\n"));
	}
	if (rest->sso.set)
		write_sso(&rest->sso, out);
	if (rest->cors.origins.count > 0) {
		write_texts("# rest cors: origins", &rest->cors.origins, out);
		write_flag("credentials", rest->cors.credentials, out);
		write_text("max_age", value_format_duration(rest->cors.max_age_s * 1000).text, out);
		buf_append(out, SPAN("\n"));
	}
	if (rest->allowed_origins.count > 0) {
		write_texts("# rest allowed_origins", &rest->allowed_origins, out);
		buf_append(out, SPAN("\n"));
	}
}

static void write_rest(const struct config_file *file, struct buf *out)
{
	const struct config_rest *rest = file->rest;

	buf_append(out, SPAN("# rest:"));
	write_text("base_path", rest->base_path, out);
	write_flag("print_defaults", rest->json.print_defaults, out);
	write_flag("ignore_unknown_query", rest->json.ignore_unknown_query, out);
	write_flag("ignore_unknown_body", rest->json.ignore_unknown_body, out);
	write_texts(" descriptor_sets", &rest->descriptor_sets, out);
	write_texts(" grpc_web", &rest->grpc_web, out);
	buf_append(out, SPAN("\n"));
	write_rest_access(file, out);
	for (size_t i = 0; i < rest->service_count; i++) {
		const struct config_rest_service *service = &rest->services[i];

		buf_printf(out, "# rest service %s:", service->service.text);
		write_text("upstream", file->upstreams[service->upstream].name, out);
		write_flag("public", service->is_public, out);
		buf_append(out, SPAN("\n"));
	}
	for (size_t i = 0; i < rest->route_count; i++)
		write_route(&rest->routes[i], file->upstreams[rest->routes[i].upstream].name, out);
}

int config_write_file(const struct config_file *file, struct buf *out)
{
	for (size_t i = 0; i < file->upstream_count; i++)
		write_upstream(&file->upstreams[i], out);
	for (size_t i = 0; i < file->command_count; i++) {
		const struct config_command *command = &file->commands[i];

		CHECK(command->upstream < file->upstream_count);
		buf_printf(out, "# command %s%s: upstream=%s\n", command->message_type,
			   command->prefix ? "*" : "", file->upstreams[command->upstream].name);
	}
	if (file->rest)
		write_rest(file, out);
	return written(out);
}
