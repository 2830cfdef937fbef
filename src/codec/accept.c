#include "codec/accept.h"

#define WEIGHT_ONE 1000 /* weights have three decimals at most */

/* Takes the part before `byte`, and the byte, off the front of `*rest`. */
static struct span take_until(struct span *rest, uint8_t byte)
{
	ptrdiff_t at = span_find_byte(*rest, byte);
	struct span part = at < 0 ? *rest : span_first(*rest, (size_t)at);

	*rest = at < 0 ? SPAN_EMPTY : span_from(*rest, (size_t)at + 1);
	return span_trim(part);
}

/* "0.5" → 500. 0 for what is no weight. */
static unsigned weight_parse(struct span text)
{
	unsigned weight, unit = WEIGHT_ONE / 10;

	if (text.len == 0 || text.len > 5 || text.data[0] < '0' || text.data[0] > '1')
		return 0;
	weight = (unsigned)(text.data[0] - '0') * WEIGHT_ONE;
	if (text.len > 1 && text.data[1] != '.')
		return 0;
	for (size_t i = 2; i < text.len; i++, unit /= 10) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return 0;
		weight += (unsigned)(text.data[i] - '0') * unit;
	}
	return weight <= WEIGHT_ONE ? weight : 0;
}

static unsigned weight_of(struct span parameters)
{
	unsigned weight = WEIGHT_ONE;

	while (parameters.len > 0) {
		struct span value = take_until(&parameters, ';');
		struct span name = take_until(&value, '=');

		if (span_equal_nocase(name, SPAN("q")))
			weight = weight_parse(value);
	}
	return weight;
}

bool accept_prefers(struct span accept, struct span wanted, struct span other)
{
	unsigned weight_wanted = 0, weight_other = 0;

	while (accept.len > 0) {
		struct span parameters = take_until(&accept, ',');
		struct span type = take_until(&parameters, ';');
		unsigned weight = weight_of(parameters);

		if (span_equal_nocase(type, wanted))
			weight_wanted = weight > weight_wanted ? weight : weight_wanted;
		else if (span_equal_nocase(type, other))
			weight_other = weight > weight_other ? weight : weight_other;
	}
	return weight_wanted > 0 && weight_wanted >= weight_other;
}
