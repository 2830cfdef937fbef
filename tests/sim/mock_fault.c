/* mock_fault: which errnos operations fail with. Every row of op_table.c has its turn. */
#include "sim/mock_internal.h"

#include <errno.h>

#define ERRNO_END 134 /* EHWPOISON is the last */

struct table {
	int32_t codes[ERRNO_END];
	bool reached[ERRNO_END];
	uint32_t count;
	bool is_made;
};

static struct table tables[RING_OPCODE_COUNT];

struct sim_options sim_options_hostile(uint64_t seed)
{
	struct sim_options options = sim_options_faulty(seed);

	options.error_chance = 2u << seed % 4;
	options.queue_chance = 1u << seed / 4 % 5;
	options.cq_entries = 1u << seed / 20 % 5;
	return options;
}

/*
 * What the kernel cannot give without a reason in our own world, the operations bring about
 * themselves: ECANCELED by a cancel, ENOBUFS of a receive by empty buffers, EINVAL of an accept by
 * a shutdown; a cancel's errnos by what has become of its target. A close of a direct file that
 * fails otherwise than these would be a file that nobody can close.
 */
static bool is_given(enum ring_opcode opcode, int32_t code)
{
	enum op_outcome outcome = op_classify((uint8_t)opcode, -code);

	if (outcome == OP_CANCELLED || outcome == OP_STARVED || opcode == RING_CANCEL)
		return false;
	if (opcode == RING_CLOSE)
		return outcome == OP_OK;
	return outcome != OP_UNKNOWN;
}

static struct table *table_of(enum ring_opcode opcode)
{
	struct table *table = &tables[opcode];

	for (int32_t code = 1; code < ERRNO_END && !table->is_made; code++)
		if (is_given(opcode, code))
			table->codes[table->count++] = code;
	table->is_made = true;
	return table;
}

unsigned sim_errno_count(enum ring_opcode opcode)
{
	return table_of(opcode)->count;
}

unsigned sim_errno_reached(enum ring_opcode opcode)
{
	unsigned reached = 0;

	for (uint32_t i = 0; i < table_of(opcode)->count; i++)
		reached += tables[opcode].reached[i];
	return reached;
}

int32_t fault_draw(struct ring *ring, const struct sim_op *op)
{
	struct table *table = table_of(op->submission.opcode);

	(void)ring;
	/* Once for each connection only, or less: else most would never be drawn. */
	bool is_rare = op->submission.opcode != RING_RECEIVE && op->submission.opcode != RING_SEND;

	if (op->sent || table->count == 0 ||
	    !sim_chance(sim.options.error_chance * (is_rare ? 10 : 1)))
		return 0;
	uint32_t which = (uint32_t)sim_random(table->count);

	table->reached[which] = true;
	sim.counts.errors++;
	return -table->codes[which];
}

size_t queue_bound(const struct ring *ring)
{
	return sim.options.cq_entries ? sim.options.cq_entries : ring->options.cq_entries;
}
