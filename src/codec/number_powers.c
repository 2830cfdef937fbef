#include "codec/number_powers.h"

#include "codec/number.h"

#include "base/check.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define LIMBS 26 /* of 32 bits: 5^342 has 795 bits, and one more for what is shifted out */

/* Lowest limb first. */
struct big {
	uint32_t limbs[LIMBS];
};

static struct number_power powers[NUMBER_POWER_MAX - NUMBER_POWER_MIN + 1];
static pthread_once_t powers_once = PTHREAD_ONCE_INIT;

static void multiply_by_5(struct big *big)
{
	uint64_t carry = 0;

	for (int i = 0; i < LIMBS; i++) {
		carry += (uint64_t)big->limbs[i] * 5;
		big->limbs[i] = (uint32_t)carry;
		carry >>= 32;
	}
}

static int bits_of(const struct big *big)
{
	for (int i = LIMBS - 1; i >= 0; i--) {
		if (big->limbs[i])
			return 32 * i + 32 - __builtin_clz(big->limbs[i]);
	}
	return 0;
}

static unsigned bit_of(const struct big *big, int bit)
{
	return bit < 0 ? 0 : big->limbs[bit / 32] >> (bit % 32) & 1;
}

static void shift_left_1(struct big *big)
{
	for (int i = LIMBS - 1; i > 0; i--)
		big->limbs[i] = big->limbs[i] << 1 | big->limbs[i - 1] >> 31;
	big->limbs[0] <<= 1;
}

/* Subtracts when the difference is not negative. */
static bool subtract(struct big *from, const struct big *what)
{
	struct big difference;
	int64_t borrow = 0;

	for (int i = 0; i < LIMBS; i++) {
		borrow += (int64_t)from->limbs[i] - what->limbs[i];
		difference.limbs[i] = (uint32_t)borrow;
		borrow >>= 32;
	}
	if (borrow < 0)
		return false;
	*from = difference;
	return true;
}

static void put_bit(struct number_power *power, unsigned bit)
{
	power->high = power->high << 1 | power->low >> 63;
	power->low = power->low << 1 | bit;
}

static void round_up(struct number_power *power)
{
	if (++power->low == 0)
		power->high++;
}

/* The first 128 bits of the number. */
static struct number_power head_of(const struct big *big)
{
	struct number_power power = {0, 0};
	int bits = bits_of(big);
	bool rest = false;

	for (int i = 1; i <= 128; i++)
		put_bit(&power, bit_of(big, bits - i));
	for (int i = bits - 129; i >= 0 && !rest; i--)
		rest = bit_of(big, i);
	if (rest)
		round_up(&power);
	return power;
}

/* The first 128 bits of 1 / number: long division, which never comes out even. */
static struct number_power head_of_inverse(const struct big *big)
{
	struct number_power power = {0, 0};
	struct big remainder = {{0}};
	int bits = bits_of(big);

	remainder.limbs[(bits - 1) / 32] = 1u << ((bits - 1) % 32);
	for (int i = 0; i < 128; i++) {
		shift_left_1(&remainder);
		put_bit(&power, subtract(&remainder, big));
	}
	round_up(&power);
	return power;
}

static void make_powers(void)
{
	struct big big = {{1}};

	for (int e = 0; e <= -NUMBER_POWER_MIN; e++) {
		if (e <= NUMBER_POWER_MAX)
			powers[e - NUMBER_POWER_MIN] = head_of(&big);
		if (e > 0)
			powers[-e - NUMBER_POWER_MIN] = head_of_inverse(&big);
		multiply_by_5(&big);
	}
}

void number_prepare(void)
{
	pthread_once(&powers_once, make_powers);
}

const struct number_power *number_power(int exponent)
{
	CHECK(exponent >= NUMBER_POWER_MIN && exponent <= NUMBER_POWER_MAX);
	number_prepare();
	return &powers[exponent - NUMBER_POWER_MIN];
}
