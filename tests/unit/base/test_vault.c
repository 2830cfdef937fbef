/* vault: what the kernel knows of its pages, and what is left of them. */
#include "unit/base/base_test.h"

#include "base/check.h"
#include "base/vault.c"

/* The line of /proc/self/smaps that holds the flags of the mapping with this address. */
static bool has_flag(const void *memory, const char *flag)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool here = false, found = false;

	assert_non_null(smaps);
	while (!found && fgets(line, sizeof(line), smaps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			here = (uintptr_t)memory >= from && (uintptr_t)memory < to;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(smaps);
	return found;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define LOCKS_NOTHING true
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOCKS_NOTHING true
#endif
#ifndef LOCKS_NOTHING
#define LOCKS_NOTHING false /* a sanitizer's mlock says yes and does nothing */
#endif

static void vault_is_left_out_of_core_dumps(void **state)
{
	static const size_t sizes[] = { 1, 32, 4000, 4096, 10000, VAULT_BYTES_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint8_t *memory = vault_alloc(sizes[i]);

		assert_non_null(memory);
		assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
		for (size_t at = 0; at < sizes[i]; at++)
			assert_int_equal(memory[at], 0);
		memset(memory, 1, sizes[i]);
		assert_true(has_flag(memory, " dd"));
		assert_true(has_flag(memory + sizes[i] - 1, " dd"));
		assert_true(has_flag(memory, " dc")); /* a child has no copy */
		assert_true(LOCKS_NOTHING || has_flag(memory, " lo") == vault_is_locked(memory));
		vault_free(memory);
	}
}

static void vault_is_given_back(void **state)
{
	uint8_t *memory = vault_alloc(16);
	unsigned char resident;

	(void)state;
	assert_non_null(memory);
	vault_free(memory);
	/* There is nothing any more that could hold a trace. */
	void *page = (void *)((uintptr_t)memory & ~(uintptr_t)(page_bytes() - 1));

	assert_int_equal(mincore(page, 1, &resident), -1);
	vault_free(NULL);
}

static void vault_has_a_bound(void **state)
{
	(void)state;
	assert_null(vault_alloc(VAULT_BYTES_MAX + 1));
	assert_null(vault_alloc(SIZE_MAX));
}

static uint8_t *overrun;

/* Runs to the end of the vault's pages and one byte further. Returns the signal that ended it. */
static int signal_of_an_overrun(void)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit no_core = { 0, 0 };

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL);
		overrun = vault_alloc(100);
		for (size_t at = 0;; at++)
			((volatile uint8_t *)overrun)[at] = 1;
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void vault_stops_an_overrun(void **state)
{
	(void)state;
	assert_int_equal(signal_of_an_overrun(), SIGSEGV);
}

/* As a user without the privilege, in a child, with nothing that may be locked. */
static int without_memlock(void)
{
	struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_MEMLOCK, &none) || (geteuid() == 0 && setresuid(65534, 65534, 65534)))
		return 2;

	uint8_t *memory = vault_alloc(16);

	return memory && (LOCKS_NOTHING || !vault_is_locked(memory)) && has_flag(memory, " dd") ? 0 : 1;
}

static void vault_without_locked_memory_still_stays_out_of_dumps(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(without_memlock());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vault_is_left_out_of_core_dumps),
		cmocka_unit_test(vault_is_given_back),
		cmocka_unit_test(vault_has_a_bound),
		cmocka_unit_test(vault_stops_an_overrun),
		cmocka_unit_test(vault_without_locked_memory_still_stays_out_of_dumps),
	};

	return cmocka_run_group_tests_name("vault", tests, NULL, NULL);
}
