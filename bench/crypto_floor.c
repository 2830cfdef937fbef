/*
 * crypto_floor: what the cryptography of one command costs on this CPU, and nothing else: verify
 * one Ed25519 signature, make one (libsodium), and hash twice 300 bytes by SHA-256 (OpenSSL, one
 * context used again). The gateway cannot be cheaper than this, so its commands and its
 * subscriptions are measured against it.
 *
 *   crypto_floor [--seconds S] [--bytes N]        one JSON line, from process CPU time
 */
#include <openssl/evp.h>
#include <sodium.h>

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BYTES_MAX  4096
#define KEYS	   64  /* many devices: a key is not in the nearest cache each time */
#define BATCH	   200 /* commands between two looks at the clock */
#define HASH_BYTES 32

struct device {
	uint8_t public_key[crypto_sign_PUBLICKEYBYTES];
	uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
	uint8_t message[BYTES_MAX];
	uint8_t signature[crypto_sign_BYTES];
};

struct bench {
	struct device devices[KEYS];
	size_t bytes;
	EVP_MD *algorithm;
	EVP_MD_CTX *context;
	uint8_t out[crypto_sign_BYTES];
	unsigned wrong;
};

static double cpu_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void verify(struct bench *bench, struct device *device)
{
	bench->wrong += crypto_sign_verify_detached(device->signature, device->message,
						    bench->bytes, device->public_key) != 0;
}

static void sign(struct bench *bench, struct device *device)
{
	bench->wrong += crypto_sign_detached(bench->out, NULL, device->message, bench->bytes,
					     bench->devices[0].secret_key) != 0;
}

static void hash(struct bench *bench, struct device *device)
{
	unsigned len = 0;

	for (int i = 0; i < 2; i++)
		bench->wrong +=
			EVP_DigestInit_ex2(bench->context, bench->algorithm, NULL) != 1 ||
			EVP_DigestUpdate(bench->context, device->message, bench->bytes) != 1 ||
			EVP_DigestFinal_ex(bench->context, bench->out, &len) != 1 ||
			len != HASH_BYTES;
}

static void command(struct bench *bench, struct device *device)
{
	verify(bench, device);
	hash(bench, device);
	sign(bench, device);
}

/* CPU microseconds of one. */
static double measure(struct bench *bench, double duration,
		      void (*work)(struct bench *bench, struct device *device))
{
	double start = cpu_seconds(), now;
	unsigned count = 0;

	do {
		for (unsigned i = 0; i < BATCH; i++)
			work(bench, &bench->devices[count++ % KEYS]);
		now = cpu_seconds();
	} while (now - start < duration);
	return (now - start) * 1e6 / count;
}

static bool prepare(struct bench *bench)
{
	if (sodium_init() < 0)
		return false;
	for (unsigned i = 0; i < KEYS; i++) {
		struct device *device = &bench->devices[i];

		crypto_sign_keypair(device->public_key, device->secret_key);
		randombytes_buf(device->message, bench->bytes);
		crypto_sign_detached(device->signature, NULL, device->message, bench->bytes,
				     device->secret_key);
	}
	bench->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
	bench->context = EVP_MD_CTX_new();
	return bench->algorithm && bench->context;
}

static int run(struct bench *bench, double duration)
{
	if (!prepare(bench)) {
		fputs("crypto_floor: libsodium or OpenSSL does not start\n", stderr);
		return 1;
	}
	measure(bench, duration / 10, command); /* the CPU's clock goes up first */

	double whole = measure(bench, duration / 2, command);
	double verify_us = measure(bench, duration / 6, verify);
	double sign_us = measure(bench, duration / 6, sign);
	double hash_us = measure(bench, duration / 6, hash);

	printf("{\"work\":\"crypto\",\"server_cpu_us_per_unit\":%.3f,\"verify_us\":%.3f,\"sign_"
	       "us\":%.3f,"
	       "\"two_hashes_us\":%.3f,\"wrong\":%u}\n",
	       whole, verify_us, sign_us, hash_us, bench->wrong);
	EVP_MD_CTX_free(bench->context);
	EVP_MD_free(bench->algorithm);
	return bench->wrong != 0;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"seconds", required_argument, NULL, 's'},
		{"bytes", required_argument, NULL, 'b'},
		{0},
	};
	static struct bench bench = {.bytes = 300};
	double duration = 1;

	for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		char *end = NULL;
		double value = option == '?' ? 0 : strtod(optarg, &end);

		if (value <= 0 || value > BYTES_MAX || *end) {
			fputs("usage: crypto_floor [--seconds S] [--bytes N]\n", stderr);
			return 2;
		}
		if (option == 's')
			duration = value;
		else
			bench.bytes = (size_t)value;
	}
	return run(&bench, duration);
}
