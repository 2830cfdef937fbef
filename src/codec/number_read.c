#include "codec/number.h"
#include "codec/number_powers.h"

#include <math.h>
#include <stdlib.h>

#define SHORT_DIGITS 19
#define EXPONENT_MAX 100000 /* beyond any double whatever the digits: counting stops */

static bool is_digit(const uint8_t *at, const uint8_t *end)
{
	return at < end && *at >= '0' && *at <= '9';
}

/* Adds a digit behind the others, or notes that it was left out. */
static void push_digit(struct number *number, unsigned digit, bool is_fraction)
{
	uint64_t next;

	if (number->exact && !__builtin_mul_overflow(number->mantissa, UINT64_C(10), &next) &&
	    !__builtin_add_overflow(next, (uint64_t)digit, &next) && number->exponent <= 0) {
		number->mantissa = next;
		number->exponent -= is_fraction;
		return;
	}
	number->exact = number->exact && digit == 0;
	number->exponent += !is_fraction;
}

/* Sums up the digits while they surely fit: 19 of them. */
static const uint8_t *take_digits(const uint8_t *at, const uint8_t *end, struct number *number,
				  bool is_fraction)
{
	const uint8_t *start = at;
	uint64_t mantissa = number->mantissa;

	while (mantissa < UINT64_C(1000000000000000000) && is_digit(at, end) && number->exact &&
	       number->exponent <= 0)
		mantissa = 10 * mantissa + (uint64_t)(*at++ - '0');
	number->mantissa = mantissa;
	if (is_fraction)
		number->exponent -= (int32_t)(at - start);
	for (; is_digit(at, end); at++)
		push_digit(number, (unsigned)(*at - '0'), is_fraction);
	return at;
}

static const uint8_t *take_exponent(const uint8_t *at, const uint8_t *end, struct number *number)
{
	bool negative = at < end && *at == '-';
	int32_t sum = 0;

	if (at < end && (*at == '-' || *at == '+'))
		at++;
	if (!is_digit(at, end))
		return NULL;
	for (; is_digit(at, end); at++)
		sum = sum < EXPONENT_MAX ? 10 * sum + (*at - '0') : sum;
	number->exponent += negative ? -sum : sum;
	return at;
}

/* Adds up digits until another byte comes. They must be few enough to fit. */
static inline const uint8_t *sum_digits(const uint8_t *at, const uint8_t *end, uint64_t *sum)
{
	for (; at < end; at++) {
		unsigned digit = *at - (unsigned)'0';

		if (digit > 9)
			break;
		*sum = 10 * *sum + digit;
	}
	return at;
}

/*
 * Most numbers: without an exponent, and up to 19 digits fit for sure. Returns the bytes taken, or
 * 0 when it is another number, or none.
 */
static size_t scan_short(const uint8_t *start, const uint8_t *end, struct number *number)
{
	bool negative = *start == '-';
	const uint8_t *first = start + negative;
	const uint8_t *stop = end - first > SHORT_DIGITS ? first + SHORT_DIGITS : end;
	uint64_t mantissa = 0;
	const uint8_t *at = sum_digits(first, stop, &mantissa);
	ptrdiff_t fraction = 0;

	if (at == first || (*first == '0' && at - first > 1))
		return 0;
	if (at < stop && *at == '.') {
		const uint8_t *point = at;

		at = sum_digits(point + 1, stop, &mantissa);
		fraction = at - point - 1;
		if (fraction == 0)
			return 0;
	}
	if (at < end && (at == stop || *at == 'e' || *at == 'E'))
		return 0;
	*number = (struct number){.text = span_make(start, (size_t)(at - start)),
				  .mantissa = mantissa,
				  .exponent = -(int32_t)fraction,
				  .negative = negative,
				  .exact = true};
	return number->text.len;
}

size_t number_scan(struct span text, struct number *number)
{
	if (text.len == 0)
		return 0;

	const uint8_t *at = text.data, *end = at + text.len, *start = at;
	size_t len = scan_short(start, end, number);

	if (len > 0)
		return len;

	*number = (struct number){.exact = true, .negative = *at == '-'};
	at += number->negative;
	if (!is_digit(at, end))
		return 0;
	if (*at == '0' && is_digit(at + 1, end))
		return 0;
	at = take_digits(at, end, number, false);
	if (at < end && *at == '.') {
		if (!is_digit(++at, end))
			return 0;
		at = take_digits(at, end, number, true);
	}
	if (at < end && (*at == 'e' || *at == 'E'))
		at = take_exponent(at + 1, end, number);
	if (!at || at - start > NUMBER_BYTES_MAX)
		return 0;
	number->text = span_make(start, (size_t)(at - start));
	return number->text.len;
}

bool number_to_uint64(const struct number *number, uint64_t *magnitude)
{
	uint64_t value = number->mantissa;
	int32_t exponent = number->exponent;

	*magnitude = value;
	if (!number->exact)
		return false;
	if (exponent == 0 || value == 0)
		return true;
	for (; exponent < 0; exponent++) {
		if (value % 10 != 0)
			return false;
		value /= 10;
	}
	for (; exponent > 0; exponent--) {
		if (__builtin_mul_overflow(value, UINT64_C(10), &value))
			return false;
	}
	*magnitude = value;
	return true;
}

/* Slow and right for every text. The process never leaves the C locale. */
static double read_slowly(const struct number *number)
{
	char text[NUMBER_BYTES_MAX + 1];

	memcpy(text, number->text.data, number->text.len);
	text[number->text.len] = 0;
	return strtod(text, NULL);
}

/* mantissa × 10^exponent by one exact multiplication or division. */
static bool read_exactly(const struct number *number, double *value)
{
	static const double tens[] = {1e0,  1e1,  1e2,	1e3,  1e4,  1e5,  1e6,	1e7,
				      1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
				      1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

	if (!number->exact || number->mantissa > UINT64_C(1) << 53 || number->exponent < -22 ||
	    number->exponent > 22)
		return false;
	*value = (double)number->mantissa;
	if (number->exponent < 0)
		*value /= tens[-number->exponent];
	else
		*value *= tens[number->exponent];
	return true;
}

/* As the proof of the method wants it: the inverse of a power rounded up, a power down. */
static struct number_power power_for_reading(int exponent)
{
	struct number_power power = *number_power(exponent);

	if (exponent > NUMBER_POWER_EXACT_MAX) {
		if (power.low-- == 0)
			power.high--;
	}
	return power;
}

/* Eisel and Lemire: 128 bits of the power suffice nearly always. Returns false when they do not. */
static bool read_by_power(const struct number *number, double *value)
{
	int e = number->exponent;

	if (!number->exact || number->mantissa == 0 || e < NUMBER_POWER_MIN || e > 308)
		return false;

	int zeros = __builtin_clzll(number->mantissa);
	uint64_t w = number->mantissa << zeros;
	struct number_power power = power_for_reading(e);
	unsigned __int128 product = (unsigned __int128)w * power.high;

	if (((uint64_t)(product >> 64) & 0x1ff) == 0x1ff) {
		product += (unsigned __int128)w * power.low >> 64;
		if ((uint64_t)product == UINT64_MAX && (e < -27 || e > 55))
			return false;
	}

	uint64_t upper = (uint64_t)(product >> 64), lower = (uint64_t)product;
	int top = (int)(upper >> 63);
	uint64_t mantissa = upper >> (top + 9);
	int binary = ((217706 * e) >> 16) + 1086 - zeros + top; /* biased, before rounding */

	if (binary <= 0 || binary >= 2046)
		return false;
	/* halfway between two: to even, which only the exact product can tell */
	if (lower <= 1 && (mantissa & 3) == 1 && (upper << (64 - (top + 9))) == 0)
		return false;
	mantissa = (mantissa + (mantissa & 1)) >> 1;
	if (mantissa >> 53) {
		mantissa >>= 1;
		binary++;
	}

	uint64_t bits = (mantissa & ((UINT64_C(1) << 52) - 1)) | (uint64_t)binary << 52;

	memcpy(value, &bits, sizeof(bits));
	return true;
}

double number_to_double(const struct number *number)
{
	double value;

	if (number->mantissa == 0 && number->exact)
		value = 0;
	else if (!read_exactly(number, &value) && !read_by_power(number, &value))
		return read_slowly(number);
	return number->negative ? -value : value;
}

float number_to_float(const struct number *number)
{
	double value = number_to_double(number);
	uint64_t bits;
	char text[NUMBER_BYTES_MAX + 1];

	/* Just between two floats: rounding twice could go the wrong way. */
	memcpy(&bits, &value, sizeof(bits));
	if ((bits & 0x1fffffff) != 0x10000000 && (fabs(value) > 1.2e-38 || value == 0))
		return (float)value;
	memcpy(text, number->text.data, number->text.len);
	text[number->text.len] = 0;
	return strtof(text, NULL);
}
