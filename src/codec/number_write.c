#include "codec/number.h"
#include "codec/number_powers.h"

#include "base/check.h"

#include <math.h>

#define PLAIN_MIN                                                                                  \
	(-6) /* exponents of the first digit that are written without an e, as in JavaScript */
#define PLAIN_MAX 20

static const char pairs[] = "00010203040506070809101112131415161718192021222324"
			    "25262728293031323334353637383940414243444546474849"
			    "50515253545556575859606162636465666768697071727374"
			    "75767778798081828384858687888990919293949596979899";

static unsigned digits_of(uint64_t value)
{
	static const uint64_t tens[] = {0,
					10,
					100,
					1000,
					10000,
					100000,
					1000000,
					10000000,
					100000000,
					1000000000,
					10000000000,
					100000000000,
					1000000000000,
					10000000000000,
					100000000000000,
					1000000000000000,
					10000000000000000,
					100000000000000000,
					1000000000000000000,
					UINT64_C(10000000000000000000)};
	unsigned bits = 64 - (unsigned)__builtin_clzll(value | 1);
	unsigned guess = bits * 1233 >> 12; /* log10(2) */

	return guess + 1 - (value < tens[guess]);
}

/* As many digits as it has. */
static uint8_t *write_digits(uint8_t *at, uint64_t value, unsigned count)
{
	uint8_t *end = at + count;

	at = end;
	while (value >= 100) {
		memcpy(at -= 2, pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (value >= 10)
		memcpy(at - 2, pairs + 2 * value, 2);
	else
		at[-1] = (uint8_t)('0' + value);
	return end;
}

uint8_t *number_write_uint64(uint8_t *at, uint64_t value)
{
	if (value < 10) {
		*at = (uint8_t)('0' + value);
		return at + 1;
	}
	return write_digits(at, value, digits_of(value));
}

uint8_t *number_write_int64(uint8_t *at, int64_t value)
{
	if (value >= 0)
		return number_write_uint64(at, (uint64_t)value);
	*at = '-';
	return number_write_uint64(at + 1, 0 - (uint64_t)value);
}

/* digits × 10^exponent */
struct decimal {
	uint64_t digits;
	int exponent;
};

/* A binary number significand × 2^exponent and how far its neighbours are. */
struct binary {
	uint64_t significand;
	int exponent;
	bool is_lower_closer; /* a power of two: the next smaller one is half as far as the next
				 larger */
};

static int floor_log2_pow10(int e)
{
	return (e * 1741647) >> 19;
}

/* The product's high part, with the low part's presence in the last bit. */
static uint64_t round_to_odd(const struct number_power *power, uint64_t factor)
{
	unsigned __int128 low = (unsigned __int128)power->low * factor;
	unsigned __int128 high = (unsigned __int128)power->high * factor + (uint64_t)(low >> 64);

	return (uint64_t)(high >> 64) | ((uint64_t)high > 1);
}

/* Schubfach: of the decimals in the rounding interval the shortest, and of those the nearest. */
static struct decimal shortest(struct binary binary)
{
	uint64_t c = binary.significand;
	int q = binary.exponent;
	int k = (q * 1262611 - (binary.is_lower_closer ? 524031 : 0)) >> 22;
	int h = q + floor_log2_pow10(-k) + 1;
	const struct number_power *power = number_power(-k);
	uint64_t odd = c & 1;
	uint64_t lower = round_to_odd(power, (4 * c - 2 + binary.is_lower_closer) << h) + odd;
	uint64_t value = round_to_odd(power, (4 * c) << h);
	uint64_t upper = round_to_odd(power, (4 * c + 2) << h) - odd;
	uint64_t s = value / 4;

	if (s >= 10) {
		uint64_t tens = s / 10;
		bool down_fits = lower <= 40 * tens, up_fits = 40 * tens + 40 <= upper;

		if (down_fits != up_fits)
			return (struct decimal){tens + up_fits, k + 1};
	}

	bool down_fits = lower <= 4 * s, up_fits = 4 * s + 4 <= upper;

	if (down_fits != up_fits)
		return (struct decimal){s + up_fits, k};

	uint64_t middle = 4 * s + 2;

	return (struct decimal){s + (value > middle || (value == middle && (s & 1))), k};
}

/* point: how many digits are before the decimal point. */
static uint8_t *write_plain(uint8_t *at, uint64_t digits, int len, int point)
{
	if (point <= 0) {
		*at++ = '0';
		*at++ = '.';
		for (; point < 0; point++)
			*at++ = '0';
		return write_digits(at, digits, (unsigned)len);
	}
	if (point >= len) {
		at = write_digits(at, digits, (unsigned)len);
		for (; point > len; point--)
			*at++ = '0';
		return at;
	}

	uint8_t *end = write_digits(at + 1, digits, (unsigned)len);

	for (int i = 0; i < point; i++)
		at[i] = at[i + 1];
	at[point] = '.';
	return end;
}

static uint8_t *write_decimal(uint8_t *at, struct decimal decimal)
{
	/* short ones have many of them */
	if (decimal.digits % 100000000 == 0) {
		decimal.digits /= 100000000;
		decimal.exponent += 8;
	}
	while (decimal.digits % 10 == 0) {
		decimal.digits /= 10;
		decimal.exponent++;
	}

	int len = (int)digits_of(decimal.digits);
	int first = decimal.exponent + len - 1; /* exponent of the first digit */

	if (first >= PLAIN_MIN && first <= PLAIN_MAX)
		return write_plain(at, decimal.digits, len, first + 1);
	at = write_plain(at, decimal.digits, len, 1);
	*at++ = 'e';
	return number_write_int64(at, first);
}

/* Whole numbers that fit need no search. */
static bool is_small_integer(double value)
{
	return value > -9007199254740992.0 && value < 9007199254740992.0 &&
	       value == (double)(int64_t)value && (value != 0 || !signbit(value));
}

/* Behind a minus, or it would be written as a whole number: many read -0 as one, and lose the sign.
 */
static uint8_t *write_zero(uint8_t *at)
{
	memcpy(at, "0.0", 3);
	return at + 3;
}

uint8_t *number_write_double(uint8_t *at, double value)
{
	uint64_t bits;

	CHECK(isfinite(value));
	if (is_small_integer(value))
		return number_write_int64(at, (int64_t)value);
	memcpy(&bits, &value, sizeof(bits));
	if (bits >> 63)
		*at++ = '-';

	uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
	int exponent = (int)(bits >> 52 & 0x7ff);

	if (fraction == 0 && exponent == 0)
		return write_zero(at);

	struct binary binary = {
		.significand = exponent ? fraction | UINT64_C(1) << 52 : fraction,
		.exponent = (exponent ? exponent : 1) - 1075,
		.is_lower_closer = fraction == 0 && exponent > 1,
	};

	return write_decimal(at, shortest(binary));
}

uint8_t *number_write_float(uint8_t *at, float value)
{
	uint32_t bits;

	CHECK(isfinite(value));
	if (is_small_integer((double)value) && fabsf(value) < 16777216.0f)
		return number_write_int64(at, (int64_t)value);
	memcpy(&bits, &value, sizeof(bits));
	if (bits >> 31)
		*at++ = '-';

	uint32_t fraction = bits & ((1u << 23) - 1);
	int exponent = (int)(bits >> 23 & 0xff);

	if (fraction == 0 && exponent == 0)
		return write_zero(at);

	struct binary binary = {
		.significand = exponent ? fraction | 1u << 23 : fraction,
		.exponent = (exponent ? exponent : 1) - 150,
		.is_lower_closer = fraction == 0 && exponent > 1,
	};

	return write_decimal(at, shortest(binary));
}
