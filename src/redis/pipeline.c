#include "redis/pipeline.h"

#include "base/check.h"
#include "redis/client.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_CAP 64 /* what an unhurried worker has in flight; 1.5 KB */

void pipeline_init(struct pipeline *pipeline)
{
	*pipeline = (struct pipeline){0};
}

void pipeline_finish(struct pipeline *pipeline)
{
	free(pipeline->entries);
	pipeline_init(pipeline);
}

static struct pipeline_entry *entry_at(const struct pipeline *pipeline, uint64_t sequence)
{
	return &pipeline->entries[sequence & (pipeline->cap - 1)];
}

int pipeline_reserve(struct pipeline *pipeline)
{
	if (pipeline->next - pipeline->first < pipeline->cap)
		return 0;
	if (pipeline->cap >= REDIS_IN_FLIGHT_MAX)
		return -ENOBUFS;

	struct pipeline grown = *pipeline;

	grown.cap = pipeline->cap ? pipeline->cap * 2 : FIRST_CAP;
	grown.entries = malloc(grown.cap * sizeof(*grown.entries));
	if (!grown.entries)
		return -ENOMEM;
	for (uint64_t sequence = pipeline->first; sequence != pipeline->next; sequence++)
		*entry_at(&grown, sequence) = *entry_at(pipeline, sequence);
	free(pipeline->entries);
	*pipeline = grown;
	return 0;
}

uint64_t pipeline_push(struct pipeline *pipeline, struct pipeline_entry entry)
{
	CHECK(pipeline->next - pipeline->first < pipeline->cap);
	*entry_at(pipeline, pipeline->next) = entry;
	return pipeline->next++;
}

struct pipeline_entry *pipeline_oldest(const struct pipeline *pipeline)
{
	return pipeline_is_empty(pipeline) ? NULL : entry_at(pipeline, pipeline->first);
}

struct pipeline_entry pipeline_pop(struct pipeline *pipeline)
{
	CHECK(!pipeline_is_empty(pipeline));
	return *entry_at(pipeline, pipeline->first++);
}

void pipeline_bury(struct pipeline *pipeline, uint64_t sequence)
{
	CHECK(sequence - pipeline->first < pipeline->next - pipeline->first);
	entry_at(pipeline, sequence)->call = NULL;
}
