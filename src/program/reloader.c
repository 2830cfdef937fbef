#include "program/reloader.h"

#include "base/explain.h"
#include "log/log.h"
#include "os/service.h"
#include "rest/plan.h"

#define RELOAD_LINES_MAX 100 /* mistakes logged one by one */

static const struct metric_family reloads_family = {
	"gateway_config_reloads_total",
	"Reloads of the configuration file asked for, by what became of them.", METRIC_COUNTER};
static const struct metric_family last_reload_family = {
	"gateway_config_last_reload_success_timestamp_seconds",
	"When the configuration file in use was read, seconds since 1970.", METRIC_GAUGE};

int reloader_init(struct reloader *reloader, const struct config *config, struct worker *control,
		  struct metric_registry *metrics)
{
	static const char *const labels[] = {
		[RELOAD_SUCCESS] = "result=\"success\"",
		[RELOAD_MISTAKES] = "result=\"mistakes\"",
		[RELOAD_FAILED] = "result=\"failed\"",
	};

	*reloader = (struct reloader){
		.config = config,
		.control = control,
		.file = config_file_get(config->file),
	};
	int error = metric_register(metrics, &last_reload_family, "", &reloader->last_success);

	metric_gauge_set(&reloader->last_success, control->wall_ms / 1000);
	for (int i = 0; i < RELOAD_RESULTS && !error; i++)
		error = metric_register(metrics, &reloads_family, labels[i], &reloader->results[i]);
	return error;
}

void reloader_finish(struct reloader *reloader)
{
	config_file_put(reloader->file);
}

/* "<file>:<line>:<column>: <what is wrong>", or a warning. No site: all of them, an operator waits.
 */
static void log_report_line(struct span line)
{
	struct span prefix = SPAN("warning: ");
	bool is_warning = span_starts_with(line, prefix);
	const struct log_field fields[] = {
		is_warning ? LOG_BYTES("warning", span_from(line, prefix.len))
			   : LOG_BYTES("mistake", line),
		{0},
	};

	log_write(NULL, is_warning ? LOG_WARN : LOG_ERROR, "main", "configuration file", fields);
}

/* One log line for each of the report's. */
static void log_report(struct span report)
{
	uint32_t count = 0;

	while (report.len > 0 && count < RELOAD_LINES_MAX) {
		ptrdiff_t end = span_find_byte(report, '\n');
		struct span line = end < 0 ? report : span_first(report, (size_t)end);

		log_report_line(line);
		report = end < 0 ? SPAN_EMPTY : span_from(report, (size_t)end + 1);
		count++;
	}
	if (report.len > 0)
		LOG(LOG_ERROR, "main", "configuration file has more mistakes",
		    LOG_UINT("shown", count));
}

static void reload(struct reloader *reloader);

static void reload_end(struct reloader *reloader, enum reload_result result)
{
	metric_add(&reloader->results[result], 1);
	config_file_put(reloader->next);
	reloader->next = NULL;
	if (reloader->is_stopped)
		return;
	if (reloader->is_serving)
		service_notify_ready("serving");
	if (reloader->is_asked_again)
		reload(reloader);
}

static void reloaded(void *context, int error)
{
	struct reloader *reloader = context;

	if (error) {
		LOG(LOG_ERROR, "main", "configuration file is not used",
		    LOG_TEXT("error", errno_text(-error)));
		reload_end(reloader, RELOAD_FAILED);
		return;
	}
	config_file_put(reloader->file);
	reloader->file = config_file_get(reloader->next);
	metric_gauge_set(&reloader->last_success, reloader->control->wall_ms / 1000);
	LOG(LOG_INFO, "main", "configuration file reloaded",
	    LOG_TEXT("file", reloader->config->config_file),
	    LOG_UINT("upstreams", reloader->file->upstream_count),
	    LOG_UINT("commands", reloader->file->command_count));
	reload_end(reloader, RELOAD_SUCCESS);
}

static void reload(struct reloader *reloader)
{
	struct buf report;

	if (reloader->next) {
		reloader->is_asked_again = true;
		return;
	}
	reloader->is_asked_again = false;
	if (reloader->is_serving)
		service_notify_reloading("reloading");
	if (reloader->config->config_file[0] == '\0') {
		LOG(LOG_WARN, "main", "nothing to reload: GATEWAY_CONFIG_FILE is not set");
		if (reloader->is_serving)
			service_notify_ready("serving");
		return;
	}
	buf_init(&report, CONFIG_REPORT_BYTES_MAX);
	reloader->next = config_file_reload(reloader->config, plan_compile, &report);
	log_report(buf_span(&report));
	buf_finish(&report);
	if (!reloader->next) {
		LOG(LOG_ERROR, "main",
		    "configuration file has mistakes; the one before stays in use",
		    LOG_TEXT("file", reloader->config->config_file));
		reload_end(reloader, RELOAD_MISTAKES);
		return;
	}
	int error = gateway_reload(reloader->gateway, reloader->next, reloaded, reloader);

	if (error)
		reloaded(reloader, error);
}

void reloader_start(struct reloader *reloader)
{
	reloader->is_serving = true;
	service_notify_ready("serving");
}

void reloader_stop(struct reloader *reloader)
{
	reloader->is_stopped = true;
}

void reloader_request(struct reloader *reloader, struct gateway *gateway)
{
	reloader->gateway = gateway;
	if (!reloader->is_stopped)
		reload(reloader);
}
