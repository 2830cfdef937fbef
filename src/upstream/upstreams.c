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
	/* never NULL: upstreams_prepare makes one for each */
	if (service->is_started) /* NOLINT(clang-analyzer-core.NullDereference) */
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

static void forget_earlier(struct upstreams *upstreams)
{
	struct list *link;

	while ((link = list_pop_front(&upstreams->earlier)) != NULL) {
		struct upstream_set *set = CONTAINER_OF(link, struct upstream_set, link);

		set_forget(set);
		free(set);
	}
}

/* Whether it may be called yet, by the current file or by who holds an earlier one. */
static bool is_wanted(const struct upstreams *upstreams, const struct service *service)
{
	if (set_has(&upstreams->current, service))
		return true;
	LIST_FOR_EACH (&upstreams->earlier, link)
		if (set_has(CONTAINER_OF(link, struct upstream_set, link), service))
			return true;
	return false;
}

/* The set is no longer one of upstreams': what only it had ends. */
static void set_leave(struct upstreams *upstreams, struct upstream_set *set)
{
	for (size_t i = 0; set->file && i < set->file->upstream_count; i++) {
		struct service *service = set->services[i];

		if (is_wanted(upstreams, service))
			continue;
		if (service->is_started)
			upstream_retire(service->upstream, service_stopped, service);
		else
			service_destroy(service);
	}
	set_forget(set);
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
	upstreams->past = calloc(1, sizeof(*upstreams->past));
	if (!upstreams->past) {
		upstreams_abandon(upstreams);
		return -ENOMEM;
	}
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
	free(upstreams->past);
	upstreams->past = NULL;
}

void upstreams_commit(struct upstreams *upstreams)
{
	struct upstream_set *old = upstreams->past;

	CHECK(upstreams->next.file);
	*old = upstreams->current;
	upstreams->past = NULL;
	upstreams->current = upstreams->next;
	upstreams->next = (struct upstream_set){0};
	for (size_t i = 0; upstreams->is_started && i < upstreams->current.file->upstream_count;
	     i++)
		service_start(upstreams->current.services[i]);
	if (old->hold_count > 0) {
		list_push_back(&upstreams->earlier, &old->link);
		return;
	}
	set_leave(upstreams, old);
	free(old);
}

void upstreams_hold(struct upstreams *upstreams)
{
	CHECK(upstreams->current.file);
	upstreams->current.hold_count++;
}

static struct upstream_set *find_earlier(const struct upstreams *upstreams,
					 const struct config_file *file)
{
	LIST_FOR_EACH (&upstreams->earlier, link) {
		struct upstream_set *set = CONTAINER_OF(link, struct upstream_set, link);

		if (set->file == file)
			return set;
	}
	return NULL;
}

void upstreams_release(struct upstreams *upstreams, const struct config_file *file)
{
	if (upstreams->current.file == file) {
		CHECK(upstreams->current.hold_count > 0);
		upstreams->current.hold_count--;
		return;
	}

	struct upstream_set *set = find_earlier(upstreams, file);

	if (!set || --set->hold_count > 0)
		return;
	list_remove(&set->link);
	set_leave(upstreams, set);
	free(set);
}

int upstreams_init(struct upstreams *upstreams, const struct upstreams_options *options,
		   struct config_file *file)
{
	*upstreams = (struct upstreams){.options = *options};
	list_init(&upstreams->services);
	list_init(&upstreams->earlier);
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
	const struct upstream_set *set = upstreams->current.file == file
						 ? &upstreams->current
						 : find_earlier(upstreams, file);

	return set ? set->services[index]->upstream : NULL;
}

void upstreams_stop(struct upstreams *upstreams, void (*stopped)(void *context), void *context)
{
	upstreams_abandon(upstreams);
	set_forget(&upstreams->current);
	forget_earlier(upstreams);
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
	forget_earlier(upstreams);
}
