/*
 * allocator: what makes ringway's build for the fault tests (`ringway-faults`) run out of memory on
 * demand. It is the real program with one more object: every malloc of the process comes here, the
 * libraries' too, and so do the places that hand out memory asked for before (slabs, I/O blocks,
 * HTTP/2 blocks with nghttp2's hooks).
 *
 * RINGWAY_FAULT_FILE names a file of `struct control`, which a test maps as well: it writes `run`
 * and `count`, then `at`: the at-th attempt from then on is refused, and `run` - 1 that follow.
 * `lost_ring` is the name of a thread whose ring then fails.
 * With RINGWAY_FAULT_KEEPS_FILES the kernel is one that keeps closed direct files.
 * RINGWAY_FAULT_AT=<n> arms from the first instruction on, for start-up. With RINGWAY_FAULT_TRACE
 * each refusal shows its stack (sanitized builds).
 */
#include "base/slab.h"
#include "codec/h2_memory_internal.h"
#include "net/pool.h"
#include "uring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef SANITIZED
#include <dlfcn.h>
#include <sanitizer/common_interface_defs.h>
#define REAL(name) __interceptor_##name
#define show_stack __sanitizer_print_stack_trace
#else
#define REAL(name) __libc_##name
static void show_stack(void)
{
}
#endif

void *REAL(malloc)(size_t bytes);
void *REAL(calloc)(size_t count, size_t bytes);
void *REAL(realloc)(void *object, size_t bytes);
void *REAL(memalign)(size_t alignment, size_t bytes);

struct control {
	_Atomic uint64_t at;	  /* which attempt is refused first; 0: none */
	_Atomic uint64_t run;	  /* so many in a row */
	_Atomic uint64_t count;	  /* attempts since then */
	_Atomic uint64_t refused; /* in all */
	_Atomic uint64_t framing; /* attempts of nghttp2's in all */
	_Atomic uint64_t lost_ring; /* eight bytes of the thread's name; 0: none */
};

static struct control own;
static struct control *control = &own;
static bool traces;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("RINGWAY_FAULT_FILE"), *at = getenv("RINGWAY_FAULT_AT");

	traces = getenv("RINGWAY_FAULT_TRACE") != NULL;
	if (path) {
		int fd = open(path, O_RDWR | O_CLOEXEC);
		void *mapped = fd < 0 ? MAP_FAILED
				      : mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE,
					     MAP_SHARED, fd, 0);

		if (mapped == MAP_FAILED)
			abort();
		close(fd);
		control = mapped;
	}
	if (at) {
		atomic_store(&control->run, 1);
		atomic_store(&control->at, strtoull(at, NULL, 10));
	}
}

/*
 * Inside what is known to break without memory, and is called once, at the start: libseccomp 2.5 frees
 * twice in seccomp_load, OpenSSL 3.0 asserts its secure heap's tables (crypto/mem_sec.c).
 */
static _Thread_local bool is_spared;

/* Whether this attempt fails. Thread: any. */
static bool is_refused(void)
{
	if (is_spared)
		return false;

	uint64_t at = atomic_load(&control->at);

	if (at == 0)
		return false;
	uint64_t number = atomic_fetch_add(&control->count, 1) + 1;

	if (number < at || number - at >= atomic_load(&control->run))
		return false;
	atomic_fetch_add(&control->refused, 1);
	if (traces)
		show_stack();
	return true;
}

/* ---- the process's own ---- */

static void *no_memory(void)
{
	errno = ENOMEM;
	return NULL;
}

void *malloc(size_t bytes)
{
	return is_refused() ? no_memory() : REAL(malloc)(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	return is_refused() ? no_memory() : REAL(calloc)(count, bytes);
}

void *realloc(void *object, size_t bytes)
{
	return is_refused() ? no_memory() : REAL(realloc)(object, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	return is_refused() ? no_memory() : REAL(memalign)(alignment, bytes);
}

int posix_memalign(void **object, size_t alignment, size_t bytes)
{
	void *made = is_refused() ? NULL : REAL(memalign)(alignment, bytes);

	if (!made)
		return ENOMEM;
	*object = made;
	return 0;
}

/* ---- libraries that break (the linker's --wrap) ---- */

int __real_sandbox_enter(char *why, size_t why_size);
int __wrap_sandbox_enter(char *why, size_t why_size);
int __real_secrets_init(void);
int __wrap_secrets_init(void);

int __wrap_sandbox_enter(char *why, size_t why_size)
{
	is_spared = true;

	int code = __real_sandbox_enter(why, why_size);

	is_spared = false;
	return code;
}

int __wrap_secrets_init(void)
{
	is_spared = true;

	int code = __real_secrets_init();

	is_spared = false;
	return code;
}

#ifdef SANITIZED
/* The sanitizer asks this of each thread that begins, and ends the process if there is no memory. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
	int (*real)(pthread_t thread, pthread_attr_t *attributes);
	bool was_spared = is_spared;

	is_spared = true;
	*(void **)&real = dlsym(RTLD_NEXT, "pthread_getattr_np");

	int code = real ? real(thread, attributes) : ENOSYS;

	is_spared = was_spared;
	return code;
}
#endif

/* ---- memory that was asked for before (the linker's --wrap) ---- */

void *__real_slab_alloc(struct slab *slab);
void *__wrap_slab_alloc(struct slab *slab);
void *__real_pool_take(enum pool_kind kind);
void *__wrap_pool_take(enum pool_kind kind);
struct h2_block *__real_h2_block_take(struct h2_memory *memory);
struct h2_block *__wrap_h2_block_take(struct h2_memory *memory);
void __real_h2_block_give(struct h2_block *block);
void __wrap_h2_block_give(struct h2_block *block);
void *__real_h2_block_alloc(struct h2_block *block, size_t bytes);
void *__wrap_h2_block_alloc(struct h2_block *block, size_t bytes);
nghttp2_mem __real_h2_block_hooks(struct h2_block *block);
nghttp2_mem __wrap_h2_block_hooks(struct h2_block *block);

void *__wrap_slab_alloc(struct slab *slab)
{
	return is_refused() ? NULL : __real_slab_alloc(slab);
}

void *__wrap_pool_take(enum pool_kind kind)
{
	return is_refused() ? NULL : __real_pool_take(kind);
}

/*
 * nghttp2's: the block must know that it has refused (h2_block_was_refused), so it is made to do it
 * itself. Blocks stay on one thread.
 */
struct hooks {
	struct hooks *next;
	struct h2_block *block;
	struct h2_memory *memory;
	nghttp2_mem real;
};

static _Thread_local struct hooks *all_hooks;

static void decide(struct hooks *hooks)
{
	atomic_fetch_add(&control->framing, 1);
	if (is_refused())
		h2_memory_fail_after(hooks->memory, 0);
}

static void *hook_malloc(size_t bytes, void *context)
{
	struct hooks *hooks = context;

	decide(hooks);
	void *object = hooks->real.malloc(bytes, hooks->block);

	h2_memory_fail_after(hooks->memory, UINT64_MAX);
	return object;
}

static void *hook_calloc(size_t count, size_t bytes, void *context)
{
	struct hooks *hooks = context;

	decide(hooks);
	void *object = hooks->real.calloc(count, bytes, hooks->block);

	h2_memory_fail_after(hooks->memory, UINT64_MAX);
	return object;
}

static void *hook_realloc(void *object, size_t bytes, void *context)
{
	struct hooks *hooks = context;

	decide(hooks);
	object = hooks->real.realloc(object, bytes, hooks->block);
	h2_memory_fail_after(hooks->memory, UINT64_MAX);
	return object;
}

static void hook_free(void *object, void *context)
{
	struct hooks *hooks = context;

	hooks->real.free(object, hooks->block);
}

struct h2_block *__wrap_h2_block_take(struct h2_memory *memory)
{
	struct h2_block *block = is_refused() ? NULL : __real_h2_block_take(memory);

	if (!block)
		return NULL;
	struct hooks *hooks = REAL(calloc)(1, sizeof(*hooks));

	if (!hooks)
		abort();
	*hooks = (struct hooks){.next = all_hooks, .block = block, .memory = memory};
	all_hooks = hooks;
	return block;
}

void __wrap_h2_block_give(struct h2_block *block)
{
	struct hooks **link = &all_hooks;

	while (*link && (*link)->block != block)
		link = &(*link)->next;
	if (!*link)
		abort();
	struct hooks *hooks = *link;

	*link = hooks->next;
	free(hooks);
	__real_h2_block_give(block);
}

nghttp2_mem __wrap_h2_block_hooks(struct h2_block *block)
{
	struct hooks *hooks = all_hooks;

	while (hooks && hooks->block != block)
		hooks = hooks->next;
	if (!hooks)
		abort();
	hooks->real = __real_h2_block_hooks(block);
	return (nghttp2_mem){hooks, hook_malloc, hook_free, hook_calloc, hook_realloc};
}

void *__wrap_h2_block_alloc(struct h2_block *block, size_t bytes)
{
	return is_refused() ? NULL : __real_h2_block_alloc(block, bytes);
}

/* ---- rings that are lost, as when the kernel has no memory for completions (the same) ---- */

int __real_ring_enter(struct ring *ring, uint64_t timeout_us);
int __wrap_ring_enter(struct ring *ring, uint64_t timeout_us);

int __wrap_ring_enter(struct ring *ring, uint64_t timeout_us)
{
	static _Thread_local uint64_t thread; /* the sandbox does not let it be asked again */
	int code = __real_ring_enter(ring, timeout_us);
	char name[16] = "";

	if (pthread_getname_np(pthread_self(), name, sizeof(name)) == 0)
		memcpy(&thread, name, sizeof(thread));
	return thread != 0 && atomic_load(&control->lost_ring) == thread ? -EOVERFLOW : code;
}

/* ---- an older kernel (the same) ---- */

int __real_ring_probe(struct ring_features *features, char *why, size_t why_size);
int __wrap_ring_probe(struct ring_features *features, char *why, size_t why_size);

int __wrap_ring_probe(struct ring_features *features, char *why, size_t why_size)
{
	int code = __real_ring_probe(features, why, why_size);

	if (code == 0 && getenv("RINGWAY_FAULT_KEEPS_FILES"))
		features->prompt_close = false;
	return code;
}
