/* Something asked of every node beside its life: a letter to each and back, no lock, one at a time
 * of a kind. */
#include "gateway/gateway_internal.h"

#include <errno.h>
#include <stdlib.h>

static void leg_came_back(struct worker *to, struct letter *letter)
{
	struct errand *errand = CONTAINER_OF(letter, struct errand_leg, letter)->errand;

	(void)to;
	if (--errand->legs_out == 0)
		errand->done(errand);
}

static void leg_arrived(struct worker *to, struct letter *letter)
{
	struct errand_leg *leg = CONTAINER_OF(letter, struct errand_leg, letter);

	leg->errand->on_node(leg);
	letter->deliver = leg_came_back;
	letter_post(to, leg->errand->gateway->control, letter);
}

int errand_init(struct errand *errand, struct gateway *gateway)
{
	errand->gateway = gateway;
	errand->legs = calloc(gateway->node_count, sizeof(*errand->legs));
	if (!errand->legs)
		return -ENOMEM;
	for (uint32_t i = 0; i < gateway->node_count; i++)
		errand->legs[i] =
			(struct errand_leg){.errand = errand, .thread = &gateway->node_threads[i]};
	return 0;
}

void errand_finish(struct errand *errand)
{
	CHECK(errand->legs_out == 0);
	free(errand->legs);
}

void errand_send(struct errand *errand, errand_leg_fn *on_node, void (*done)(struct errand *errand))
{
	struct gateway *gateway = errand->gateway;

	CHECK(errand->legs_out == 0 && !gateway->nodes_leave);
	errand->on_node = on_node;
	errand->done = done;
	errand->legs_out = gateway->node_count;
	for (uint32_t i = 0; i < gateway->node_count; i++) {
		struct errand_leg *leg = &errand->legs[i];

		leg->letter.deliver = leg_arrived;
		letter_post(gateway->control, &leg->thread->worker, &leg->letter);
	}
}

/* ---- /streams ---- */

static void fill(struct errand_leg *leg)
{
	struct node *node = leg->thread->node;

	subscribe_survey(node, &leg->errand->gateway->surveys[leg->thread->index]);
}

static void gathered(struct errand *errand)
{
	struct gateway *gateway = errand->gateway;

	gateway->surveyed(gateway->survey_context, gateway->surveys, gateway->node_count);
}

int gateway_survey(struct gateway *gateway, gateway_surveyed_fn *surveyed, void *context)
{
	if (gateway->nodes_leave)
		return -ESHUTDOWN;
	if (gateway->survey_errand.legs_out > 0)
		return -EBUSY;
	gateway->surveyed = surveyed;
	gateway->survey_context = context;
	errand_send(&gateway->survey_errand, fill, gathered);
	return 0;
}

/* ---- the configuration file ---- */

static void reload_end(struct gateway *gateway, int error)
{
	config_file_put(gateway->reload_file);
	gateway->reload_file = NULL;
	gateway->reloaded(gateway->reload_context, error);
}

static void prepare(struct errand_leg *leg)
{
	leg->error =
		upstreams_prepare(&leg->thread->node->upstreams, leg->errand->gateway->reload_file);
}

static void commit(struct errand_leg *leg)
{
	upstreams_commit(&leg->thread->node->upstreams);
}

static void abandon(struct errand_leg *leg)
{
	upstreams_abandon(&leg->thread->node->upstreams);
}

static void committed(struct errand *errand)
{
	reload_end(errand->gateway, 0);
}

static void abandoned(struct errand *errand)
{
	reload_end(errand->gateway, -ENOMEM);
}

/* Every worker has made its part, or one has no memory for it: then none uses it. */
static void prepared(struct errand *errand)
{
	struct gateway *gateway = errand->gateway;
	bool all = true;

	if (gateway->stopping) {
		reload_end(gateway, -ESHUTDOWN); /* what was prepared goes with the nodes */
		return;
	}
	for (uint32_t i = 0; i < gateway->node_count; i++)
		all = all && errand->legs[i].error == 0;
	errand_send(errand, all ? commit : abandon, all ? committed : abandoned);
}

int gateway_reload(struct gateway *gateway, struct config_file *file, gateway_reloaded_fn *reloaded,
		   void *context)
{
	if (gateway->stopping)
		return -ESHUTDOWN;
	if (gateway->reload_file)
		return -EBUSY;
	gateway->reload_file = config_file_get(file);
	gateway->reloaded = reloaded;
	gateway->reload_context = context;
	errand_send(&gateway->reload_errand, prepare, prepared);
	return 0;
}

/* ---- life ---- */

int gateway_errands_init(struct gateway *gateway)
{
	int error = errand_init(&gateway->survey_errand, gateway);

	if (!error)
		error = errand_init(&gateway->reload_errand, gateway);
	gateway->surveys = calloc(gateway->node_count, sizeof(*gateway->surveys));
	if (!gateway->surveys)
		return -ENOMEM;
	for (uint32_t i = 0; i < gateway->node_count; i++)
		gateway->surveys[i].worker = gateway->node_threads[i].name;
	return error;
}

void gateway_errands_finish(struct gateway *gateway)
{
	errand_finish(&gateway->survey_errand);
	errand_finish(&gateway->reload_errand);
	free(gateway->surveys);
}
