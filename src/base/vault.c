#include "base/vault.h"

#include "base/check.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct header {
	size_t mapped_bytes; /* with the page behind that nobody may touch */
	bool is_locked;
	alignas(max_align_t) unsigned char bytes[];
};

static struct header *header_of(const void *memory)
{
	return (struct header *)((uintptr_t)memory - offsetof(struct header, bytes));
}

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

void *vault_alloc(size_t bytes)
{
	size_t page = page_bytes();

	if (bytes > VAULT_BYTES_MAX)
		return NULL;

	size_t used = (sizeof(struct header) + bytes + page - 1) / page * page;
	struct header *header = mmap(NULL, used + page, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (header == MAP_FAILED)
		return NULL;
	/* A core dump with the secret is what this memory is there to prevent: no promise, no memory.
	 */
	if (madvise(header, used, MADV_DONTDUMP) != 0 ||
	    mprotect((char *)header + used, page, PROT_NONE) != 0) {
		munmap(header, used + page);
		return NULL;
	}
	(void)madvise(header, used, MADV_DONTFORK);
	header->mapped_bytes = used + page;
	header->is_locked = mlock(header, used) == 0;
	return header->bytes;
}

void vault_free(void *memory)
{
	if (!memory)
		return;

	struct header *header = header_of(memory);
	size_t mapped = header->mapped_bytes;

	explicit_bzero(header, mapped - page_bytes());
	CHECK(munmap(header, mapped) == 0); /* which unlocks */
}

bool vault_is_locked(const void *memory)
{
	return header_of(memory)->is_locked;
}

#if defined(__x86_64__)

#define ALL_16(x)                                                                                  \
	x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11) x(12) x(13) x(14) x(15)

static void clear_sse(void)
{
#define CLEAR(n) __asm__ volatile("pxor %%xmm" #n ", %%xmm" #n ::: "xmm" #n);
	ALL_16(CLEAR)
#undef CLEAR
}

/* All of each, not the half that SSE knows. */
__attribute__((target("avx"))) static void clear_avx(void)
{
	__builtin_ia32_vzeroall();
}

/* libc prefers the upper sixteen: nothing else uses them, so nothing else overwrites them. */
__attribute__((target("avx512f"))) static void clear_upper(void)
{
#define CLEAR(n) __asm__ volatile("vpxorq %%zmm" #n ", %%zmm" #n ", %%zmm" #n ::: "xmm" #n);
	CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
	CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)
#undef CLEAR
}

void vault_clear_registers(void)
{
	if (__builtin_cpu_supports("avx512f"))
		clear_upper();
	if (__builtin_cpu_supports("avx"))
		clear_avx();
	clear_sse();
}

#elif defined(__aarch64__)

/* v8 to v15 belong to the caller, in their lower halves. */
void vault_clear_registers(void)
{
#define CLEAR(n) __asm__ volatile("movi v" #n ".2d, #0" ::: "v" #n);
	CLEAR(0) CLEAR(1) CLEAR(2) CLEAR(3) CLEAR(4) CLEAR(5) CLEAR(6) CLEAR(7)
	CLEAR(16) CLEAR(17) CLEAR(18) CLEAR(19) CLEAR(20) CLEAR(21) CLEAR(22) CLEAR(23)
	CLEAR(24) CLEAR(25) CLEAR(26) CLEAR(27) CLEAR(28) CLEAR(29) CLEAR(30) CLEAR(31)
#undef CLEAR
}

#else

void vault_clear_registers(void)
{
}

#endif
