#include "codec/h2_memory_internal.h"

#include "base/check.h"
#include "base/fetch.h"
#include "base/poison.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_BLOCKS 64 /* asked of the system at once: under 2 MiB, and most of it untouched */
#define FREE_KEPT     64 /* free blocks that keep their pages whatever is in use … */
#define FREE_SHARE    8	 /* … or one for so many in use */

/* Larger objects are few and live as long as the session: its state, HPACK rings, stream table. */
#define SMALL_BYTES_MAX 264
#define UNIT_BYTES	16 /* objects begin at multiples of it, as malloc's */
#define CLASSES		18 /* by units; 0 is none */

/*
 * Room for small objects beside those of the birth: one call of gRPC with seven header fields, its
 * entries in both HPACK tables, SETTINGS and WINDOW_UPDATE on their way out.
 */
#define SMALL_ROOM_BYTES 2048

/* nghttp2's frame buffer: a payload of 16 KiB, a frame head, a byte of padding. */
#define FRAME_BYTES_MIN 16384
#define FRAME_BYTES_MAX 16400
/* Of it, what most sessions write: SETTINGS, one header block of a response. */
#define FRAME_HEAD_BYTES 400
#define FRAME_TAIL_BYTES 16384 /* whole pages */

/* In front of each object. */
struct head {
	uint32_t bytes; /* asked for */
	uint16_t units; /* of the block, this head included; 0: of malloc or the frame buffer */
	uint16_t is_frame;
};

#define HEAD_BYTES 8
_Static_assert(sizeof(struct head) == HEAD_BYTES, "8 bytes beside each object, as malloc's");
_Static_assert(SMALL_BYTES_MAX + HEAD_BYTES == (CLASSES - 1) * UNIT_BYTES, "the last class");
_Static_assert(UNIT_BYTES + FRAME_BYTES_MAX <= FRAME_HEAD_BYTES + FRAME_TAIL_BYTES,
	       "the frame buffer fits");

/* In front of the head of an object of malloc: the block's list of them. */
struct outside {
	struct outside *next, **link;
	uint64_t unused; /* so that the object is aligned as malloc's */
	struct head head;
};

_Static_assert(sizeof(struct outside) % UNIT_BYTES == 0, "the object behind it is aligned");

/* At the block's first byte. */
struct h2_block {
	struct h2_memory *memory;
	uint32_t next_byte; /* of the block; from here on nothing was handed out */
	bool has_frame;	    /* the frame buffer is handed out */
	bool is_born;
	bool was_refused; /* an allocation: nothing is freed or used again until the block is given
			   */
	uint32_t born_byte;	      /* next_byte at the end of the birth */
	uint32_t used_bytes;	      /* of the memory's gauge */
	struct outside *outside;      /* objects of malloc */
	uint16_t free_first[CLASSES]; /* by units: first free object, as its place in units; 0: none
				       */
};

struct h2_memory {
	void **regions; /* REGION_BLOCKS blocks each */
	uint32_t region_count;
	void **free_blocks; /* a stack with room for all; below cold_count they have no pages */
	uint32_t free_count, cold_count, used_count;
	uint32_t idle_count; /* free and with pages at every moment since h2_memory_watch */
	uint32_t dense_bytes; /* of a block: whole pages, the frame buffer's head at their end */
	uint32_t block_bytes;
	struct metric_gauge used_bytes;
	uint64_t allocs_until_failure;
};

/* ---- objects ---- */

static struct head *head_of(void *object)
{
	return (struct head *)object - 1;
}

static bool may_alloc(struct h2_memory *memory)
{
	if (memory->allocs_until_failure == UINT64_MAX)
		return true;
	if (memory->allocs_until_failure == 0)
		return false;
	memory->allocs_until_failure--;
	return true;
}

static void *object_at(struct h2_block *block, uint32_t offset, struct head head)
{
	struct head *at = (struct head *)(void *)((uint8_t *)block + offset);

	ASAN_UNPOISON_MEMORY_REGION(at, sizeof(*at) + head.bytes);
	*at = head;
	return at + 1;
}

/* The frame buffer begins so that its bytes lie as malloc's would. */
static void *take_frame(struct h2_block *block, size_t bytes)
{
	uint32_t offset = block->memory->dense_bytes - FRAME_HEAD_BYTES + UNIT_BYTES - HEAD_BYTES;

	block->has_frame = true;
	return object_at(block, offset, (struct head){.bytes = (uint32_t)bytes, .is_frame = 1});
}

/* Returns NULL when the block has no room for it. */
static void *take_inside(struct h2_block *block, size_t bytes)
{
	size_t size = (bytes + sizeof(struct head) + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
	size_t units = size / UNIT_BYTES;
	struct head head = {.bytes = (uint32_t)bytes, .units = (uint16_t)units};

	if (units < CLASSES && block->free_first[units] != 0) {
		uint32_t offset = block->free_first[units] * (uint32_t)UNIT_BYTES;
		uint16_t *next = (uint16_t *)(void *)((uint8_t *)block + offset);

		ASAN_UNPOISON_MEMORY_REGION(next, sizeof(*next));
		block->free_first[units] = *next;
		ASAN_POISON_MEMORY_REGION(next, sizeof(*next));
		return object_at(block, offset - HEAD_BYTES, head);
	}
	if (size > block->memory->dense_bytes - FRAME_HEAD_BYTES - block->next_byte)
		return NULL;

	uint32_t offset = block->next_byte + UNIT_BYTES - HEAD_BYTES;

	block->next_byte += (uint32_t)size;
	return object_at(block, offset, head);
}

static void *take_outside(struct h2_block *block, size_t bytes)
{
	struct outside *made =
		bytes < UINT32_MAX - sizeof(*made) ? malloc(sizeof(*made) + bytes) : NULL;

	if (!made)
		return NULL;
	*made = (struct outside){
		.next = block->outside, .link = &block->outside, .head.bytes = (uint32_t)bytes};
	if (made->next)
		made->next->link = &made->next;
	block->outside = made;
	return made + 1;
}

static void free_outside(struct outside *outside)
{
	*outside->link = outside->next;
	if (outside->next)
		outside->next->link = outside->link;
	free(outside);
}

static void *take_anywhere(struct h2_block *block, size_t bytes)
{
	void *object = NULL;

	if (!may_alloc(block->memory))
		return NULL;
	if (bytes >= FRAME_BYTES_MIN && bytes <= FRAME_BYTES_MAX && !block->has_frame)
		return take_frame(block, bytes);
	if (bytes <= SMALL_BYTES_MAX || !block->is_born)
		object = take_inside(block, bytes);
	if (!object)
		object = take_outside(block, bytes);
	if (object) {
		block->used_bytes += (uint32_t)bytes;
		metric_gauge_add(&block->memory->used_bytes, (int64_t)bytes);
	}
	return object;
}

static void *take(struct h2_block *block, size_t bytes)
{
	void *object = take_anywhere(block, bytes);

	block->was_refused |= !object;
	return object;
}

bool h2_block_was_refused(const struct h2_block *block)
{
	return block->was_refused;
}

void h2_block_free(struct h2_block *block, void *object)
{
	/*
	 * Without memory nghttp2 (1.52) may free an item that a stream of it still points to, and
	 * then use and free it again. What is not used again stays what it was.
	 */
	if (!object || block->was_refused)
		return;

	struct head *head = head_of(object), was = *head;

	if (was.is_frame) {
		block->has_frame = false;
		ASAN_POISON_MEMORY_REGION(head, sizeof(was) + was.bytes);
		return;
	}
	block->used_bytes -= was.bytes;
	metric_gauge_add(&block->memory->used_bytes, -(int64_t)was.bytes);
	if (was.units == 0) {
		free_outside((struct outside *)object - 1);
		return;
	}
	/* A large one stays unused until the session ends: its table or ring has grown. */
	if (was.units < CLASSES) {
		ASAN_UNPOISON_MEMORY_REGION(object, sizeof(uint16_t)); /* of 0 or 1 bytes */
		*(uint16_t *)object = block->free_first[was.units];
		block->free_first[was.units] =
			(uint16_t)(((uint8_t *)object - (uint8_t *)block) / UNIT_BYTES);
	}
	ASAN_POISON_MEMORY_REGION(head, (size_t)was.units * UNIT_BYTES);
}

void *h2_block_alloc(struct h2_block *block, size_t bytes)
{
	void *object = take(block, bytes);

	if (object)
		memset(object, 0, bytes);
	return object;
}

/* ---- nghttp2's hooks ---- */

static void *hook_malloc(size_t bytes, void *block)
{
	return take(block, bytes);
}

static void hook_free(void *object, void *block)
{
	h2_block_free(block, object);
}

static void *hook_calloc(size_t count, size_t bytes, void *block)
{
	size_t all;

	return __builtin_mul_overflow(count, bytes, &all) ? NULL : h2_block_alloc(block, all);
}

static void *hook_realloc(void *object, size_t bytes, void *block)
{
	if (!object)
		return take(block, bytes);

	size_t before = head_of(object)->bytes;
	void *moved = take(block, bytes);

	if (!moved)
		return NULL;
	memcpy(moved, object, before < bytes ? before : bytes);
	h2_block_free(block, object);
	return moved;
}

nghttp2_mem h2_block_hooks(struct h2_block *block)
{
	return (nghttp2_mem){
		.mem_user_data = block,
		.malloc = hook_malloc,
		.free = hook_free,
		.calloc = hook_calloc,
		.realloc = hook_realloc,
	};
}

/* ---- blocks ---- */

#define FIRST_BYTE                                                                                 \
	((uint32_t)((sizeof(struct h2_block) + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES))

static struct h2_block *region_block(void *region, uint32_t index, const struct h2_memory *memory)
{
	return (struct h2_block *)(void *)((uint8_t *)region + (size_t)index * memory->block_bytes);
}

/* Room in the two lists for one region more. */
static bool grow_lists(struct h2_memory *memory)
{
	size_t regions = memory->region_count + 1u;
	void **list = realloc(memory->regions, regions * sizeof(*list));

	if (!list)
		return false;
	memory->regions = list;
	list = realloc(memory->free_blocks, regions * REGION_BLOCKS * sizeof(*list));
	if (!list)
		return false;
	memory->free_blocks = list;
	return true;
}

static bool add_region(struct h2_memory *memory)
{
	size_t bytes = (size_t)REGION_BLOCKS * memory->block_bytes;

	if (memory->region_count > UINT32_MAX / REGION_BLOCKS - 1 || !grow_lists(memory))
		return false;

	void *region =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (region == MAP_FAILED)
		return false;
	/* Or what is never touched would be there all the same. A kernel without huge pages
	 * refuses, and needs no telling. */
	(void)madvise(region, bytes, MADV_NOHUGEPAGE);
	memory->regions[memory->region_count++] = region;
	CHECK(memory->free_count == 0);
	for (uint32_t i = REGION_BLOCKS; i > 0; i--)
		memory->free_blocks[memory->free_count++] = region_block(region, i - 1, memory);
	memory->cold_count = memory->free_count;
	return true;
}

static uint32_t warm_count(const struct h2_memory *memory)
{
	return memory->free_count - memory->cold_count;
}

/* The pages that a session's birth touches, in one step instead of a fault for each. If that is
 * refused, they come by faults. */
static void warm_up(struct h2_block *block, size_t bytes)
{
	(void)madvise(block, bytes, MADV_POPULATE_WRITE);
}

struct h2_block *h2_block_take(struct h2_memory *memory)
{
	if (!may_alloc(memory) || (memory->free_count == 0 && !add_region(memory)))
		return NULL;

	struct h2_block *block = memory->free_blocks[--memory->free_count];

	if (memory->cold_count > memory->free_count) {
		memory->cold_count = memory->free_count;
		warm_up(block, memory->dense_bytes);
	}
	if (memory->idle_count > warm_count(memory))
		memory->idle_count = warm_count(memory);
	memory->used_count++;
	*block = (struct h2_block){.memory = memory, .next_byte = FIRST_BYTE};
	ASAN_POISON_MEMORY_REGION((uint8_t *)block + FIRST_BYTE, memory->block_bytes - FIRST_BYTE);
	return block;
}

void h2_block_end_birth(struct h2_block *block)
{
	block->is_born = true;
	block->born_byte = block->next_byte;
}

/*
 * What each frame out needs of them: the last object of the birth, which is the list of frame
 * buffers, then those of the first streams and their frames, and the frame's head.
 */
#define BIRTH_BYTES_FETCHED 64
#define SMALL_BYTES_FETCHED 704

void h2_block_fetch(const struct h2_block *block)
{
	const uint8_t *bytes = (const uint8_t *)block;
	uint32_t small = block->next_byte - block->born_byte;

	if (small > SMALL_BYTES_FETCHED)
		small = SMALL_BYTES_FETCHED;
	memory_fetch(bytes + block->born_byte - BIRTH_BYTES_FETCHED, BIRTH_BYTES_FETCHED + small);
	__builtin_prefetch(bytes + block->memory->dense_bytes - FRAME_HEAD_BYTES + UNIT_BYTES);
}

size_t h2_block_object_bytes(const void *object)
{
	return ((const struct head *)object - 1)->bytes;
}

void h2_block_give(struct h2_block *block)
{
	struct h2_memory *memory = block->memory;

	CHECK(memory->used_count > 0);
	memory->used_count--;
	while (block->outside) /* which each of them moves on */
		free_outside(block->outside); /* NOLINT(clang-analyzer-unix.Malloc) */
	metric_gauge_add(&memory->used_bytes, -(int64_t)block->used_bytes);
	ASAN_UNPOISON_MEMORY_REGION(block, memory->block_bytes);
	memory->free_blocks[memory->free_count++] = block;
}

static uint32_t excess(const struct h2_memory *memory)
{
	uint32_t kept = memory->used_count / FREE_SHARE, warm = warm_count(memory);

	if (kept < FREE_KEPT)
		kept = FREE_KEPT;
	return warm > kept ? warm - kept : 0;
}

bool h2_memory_watch(struct h2_memory *memory)
{
	memory->idle_count = warm_count(memory);
	return excess(memory) > 0;
}

bool h2_memory_trim(struct h2_memory *memory, uint32_t blocks_max)
{
	uint32_t count = excess(memory);

	if (count > memory->idle_count)
		count = memory->idle_count;

	bool is_more = count > blocks_max;

	if (is_more)
		count = blocks_max;
	memory->idle_count -= count;
	/* those that have been free for longest */
	for (; count > 0; count--)
		(void)madvise(memory->free_blocks[memory->cold_count++], memory->block_bytes,
			      MADV_DONTNEED);
	return is_more;
}

/* ---- life ---- */

/* What a session's birth asks for, this version of nghttp2's: bytes as they lie in a block. */
struct trial {
	size_t bytes;
};

static void trial_add(struct trial *trial, size_t bytes)
{
	if (bytes < FRAME_BYTES_MIN)
		trial->bytes += (bytes + HEAD_BYTES + UNIT_BYTES - 1) / UNIT_BYTES * UNIT_BYTES;
}

static void *trial_malloc(size_t bytes, void *trial)
{
	trial_add(trial, bytes);
	return malloc(bytes);
}

static void trial_free(void *object, void *trial)
{
	(void)trial;
	free(object);
}

static void *trial_calloc(size_t count, size_t bytes, void *trial)
{
	trial_add(trial, count * bytes);
	return calloc(count, bytes);
}

static void *trial_realloc(void *object, size_t bytes, void *trial)
{
	trial_add(trial, bytes);
	return realloc(object, bytes);
}

/* Returns 0 without memory. */
static size_t birth_bytes(void)
{
	struct trial trial = {0};
	nghttp2_mem hooks = {&trial, trial_malloc, trial_free, trial_calloc, trial_realloc};
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *framing;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return 0;

	int result = nghttp2_session_server_new3(&framing, callbacks, NULL, NULL, &hooks);

	nghttp2_session_callbacks_del(callbacks);
	if (result != 0)
		return 0;
	nghttp2_session_del(framing);
	return trial.bytes;
}

int h2_memory_create(struct h2_memory **memory)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), birth = birth_bytes();
	struct h2_memory *made = calloc(1, sizeof(*made));

	if (birth == 0 || !made) {
		free(made);
		return -ENOMEM;
	}

	size_t dense = FIRST_BYTE + birth + SMALL_ROOM_BYTES + FRAME_HEAD_BYTES;

	/* places are counted in units by 16 bits */
	CHECK(dense + page <= (size_t)UINT16_MAX * UNIT_BYTES);
	made->dense_bytes = (uint32_t)((dense + page - 1) / page * page);
	made->block_bytes =
		(uint32_t)((made->dense_bytes + FRAME_TAIL_BYTES + page - 1) / page * page);
	made->allocs_until_failure = UINT64_MAX;
	*memory = made;
	return 0;
}

void h2_memory_destroy(struct h2_memory *memory)
{
	if (!memory)
		return;
	CHECK(memory->used_count == 0);
	for (uint32_t i = 0; i < memory->region_count; i++)
		munmap(memory->regions[i], (size_t)REGION_BLOCKS * memory->block_bytes);
	free(memory->regions);
	free(memory->free_blocks);
	free(memory);
}

const struct metric_gauge *h2_memory_used_bytes(const struct h2_memory *memory)
{
	return &memory->used_bytes;
}

size_t h2_memory_block_bytes(const struct h2_memory *memory)
{
	return memory->dense_bytes;
}

void h2_memory_fail_after(struct h2_memory *memory, uint64_t count)
{
	memory->allocs_until_failure = count;
}
