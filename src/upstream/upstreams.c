#include "upstream/upstreams.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>

struct service {
	struct list link; /* in upstreams->services */
	struct upstreams *upstreams;
	struct upstream *upstream;
	struct config_file *file; /* holds `config`, which the upstream uses: an earlier file's for
				     a service that was kept */
	const struct config_upstream *config;
	bool is_started;
};

static void service_destroy(struct service *service)
{
	list_remove(&service->link);
	upstream_destroy(service->upstream);
	config_file_put(service->file);
	free(service);
}

/* Returns NULL without memory. */
static struct service *service_create(struct upstreams *upstreams, struct config_file *file,
				      size_t at)
{
	struct service *service = calloc(1, sizeof(*service));
	const struct upstream_options options = {
		.config = &file->upstreams[at],
		.message_bytes_max = upstreams->options.message_bytes_max,
		.dns = upstreams->options.dns,
		.metrics = upstreams->options.metrics,
	};

	if (!service)
		return NULL;
	if (upstream_create(&service->upstream, upstreams->options.worker, &options)) {
		free(service);
		return NULL;
	}
	if (upstreams->options.announced_path.len > 0)
		upstream_announce(service->upstream, upstreams->options.announced_path);
	service->upstreams = upstreams;
	service->file = config_file_get(file);
	service->config = options.config;
	list_push_back(&upstreams->services, &service->link);
	return service;
}

static void service_stopped(void *context)
{
	struct service *service = context;
	struct upstreams *upstreams = service->upstreams;

	service_destroy(service);
	if (upstreams->stopped && list_is_empty(&upstreams->services))
		upstreams->stopped(upstreams->stopped_context);
}

static void service_start(struct service *service)
{
	if (service->is_started)
		return;
	service->is_started = true;
	upstream_start(service->upstream);
}

/* Whether the set has it. */
static bool set_has(const struct upstream_set *set, const struct service *service)
{
	for (size_t i = 0; set->file && i < set->file->upstream_count; i++)
		if (set->services[i] == service)
			return true;
	return false;
}

static void set_forget(struct upstream_set *set)
{
	config_file_put(set->file);
	free(set->services);
	*set = (struct upstream_set){0};
}

static struct service *find_same(const struct upstream_set *set,
				 const struct config_upstream *config)
{
	for (size_t i = 0; set->file && i < set->file->upstream_count; i++)
		if (config_upstream_equal(set->services[i]->config, config))
			return set->services[i];
	return NULL;
}

int upstreams_prepare(struct upstreams *upstreams, struct config_file *file)
{
	struct upstream_set *next = &upstreams->next;

	CHECK(!next->file);
	next->services = calloc(file->upstream_count + 1, sizeof(*next->services));
	if (!next->services)
		return -ENOMEM;
	next->file = config_file_get(file);
	for (size_t i = 0; i < file->upstream_count; i++) {
		struct service *service = find_same(&upstreams->current, &file->upstreams[i]);

		next->services[i] = service ? service : service_create(upstreams, file, i);
		if (!next->services[i]) {
			upstreams_abandon(upstreams);
			return -ENOMEM;
		}
	}
	return 0;
}

void upstreams_abandon(struct upstreams *upstreams)
{
	struct upstream_set *next = &upstreams->next;

	for (size_t i = 0; next->file && i < next->file->upstream_count; i++)
		if (next->services[i] && !set_has(&upstreams->current, next->services[i]))
			service_destroy(next->services[i]);
	set_forget(next);
}

void upstreams_commit(struct upstreams *upstreams)
{
	struct upstream_set old = upstreams->current;

	CHECK(upstreams->next.file);
	upstreams->current = upstreams->next;
	upstreams->next = (struct upstream_set){0};
	for (size_t i = 0; upstreams->is_started && i < upstreams->current.file->upstream_count;
	     i++)
		service_start(upstreams->current.services[i]);
	for (size_t i = 0; old.file && i < old.file->upstream_count; i++) {
		struct service *service = old.services[i];

		if (set_has(&upstreams->current, service))
			continue;
		if (service->is_started)
			upstream_retire(service->upstream, service_stopped, service);
		else
			service_destroy(service);
	}
	set_forget(&old);
}

int upstreams_init(struct upstreams *upstreams, const struct upstreams_options *options,
		   struct config_file *file)
{
	*upstreams = (struct upstreams){.options = *options};
	list_init(&upstreams->services);
	int error = upstreams_prepare(upstreams, file);

	if (!error)
		upstreams_commit(upstreams);
	return error;
}

void upstreams_start(struct upstreams *upstreams)
{
	upstreams->is_started = true;
	for (size_t i = 0; i < upstreams->current.file->upstream_count; i++)
		service_start(upstreams->current.services[i]);
}

struct upstream *upstreams_route(const struct upstreams *upstreams, struct span message_type)
{
	int at = upstreams->current.file ? config_route(upstreams->current.file, message_type) : -1;

	return at < 0 ? NULL : upstreams->current.services[at]->upstream;
}

struct upstream *upstreams_at(const struct upstreams *upstreams, const struct config_file *file,
			      size_t index)
{
	return upstreams->current.file == file ? upstreams->current.services[index]->upstream : NULL;
}

void upstreams_stop(struct upstreams *upstreams, void (*stopped)(void *context), void *context)
{
	upstreams_abandon(upstreams);
	set_forget(&upstreams->current);
	if (list_is_empty(&upstreams->services)) {
		stopped(context);
		return;
	}
	upstreams->stopped = stopped;
	upstreams->stopped_context = context;
	LIST_FOR_EACH (&upstreams->services, link) {
		struct service *service = CONTAINER_OF(link, struct service, link);

		upstream_stop(service->upstream, service_stopped, service);
	}
}

void upstreams_finish(struct upstreams *upstreams)
{
	upstreams_abandon(upstreams);
	LIST_FOR_EACH (&upstreams->services, link)
		service_destroy(CONTAINER_OF(link, struct service, link));
	set_forget(&upstreams->current);
}
