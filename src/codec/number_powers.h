/* number's own: powers of ten to 128 bits. Any thread. */
#ifndef CODEC_NUMBER_POWERS_H
#define CODEC_NUMBER_POWERS_H

#include <stdint.h>

#define NUMBER_POWER_MIN       (-342)
#define NUMBER_POWER_MAX       324
#define NUMBER_POWER_EXACT_MAX 55 /* 5^55 < 2^128: from 0 to here nothing was rounded */

/* 10^e = (high·2^64 + low) · 2^(floor(log2(10^e)) - 127), rounded up in the last bit. */
struct number_power {
	uint64_t high, low;
};

const struct number_power *number_power(int exponent);

#endif
