#include "codec/reflect.h"

/* The assembler finds the file by the compiler's include path. */
__asm__(".section .rodata\n"
	".balign 16\n"
	"descriptors_begin:\n"
	".incbin \"descriptors.pb\"\n"
	"descriptors_end:\n"
	".previous\n");

extern const uint8_t descriptors_begin[], descriptors_end[];

struct span reflect_descriptors(void)
{
	return span_make(descriptors_begin, (size_t)(descriptors_end - descriptors_begin));
}
