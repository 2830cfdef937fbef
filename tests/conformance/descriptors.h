/* descriptors: the protos of tests/conformance/proto as a FileDescriptorSet, built in. */
#ifndef TESTS_CONFORMANCE_DESCRIPTORS_H
#define TESTS_CONFORMANCE_DESCRIPTORS_H

#include "base/span.h"

/* The assembler finds the file by the compiler's include path. */
__asm__(".section .rodata\n"
	".balign 16\n"
	"test_descriptors_begin:\n"
	".incbin \"tests.pb\"\n"
	"test_descriptors_end:\n"
	".previous\n");

extern const uint8_t test_descriptors_begin[], test_descriptors_end[];

static inline struct span test_descriptors(void)
{
	return span_make(test_descriptors_begin,
			 (size_t)(test_descriptors_end - test_descriptors_begin));
}

#endif
