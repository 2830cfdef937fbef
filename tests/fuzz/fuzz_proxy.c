/* fuzz_proxy: the header of the PROXY protocol, whole and cut at every byte. */
#include "codec/proxy.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header header, cut_header;
	uint8_t *copy = fuzz_copy(span_make(data, size));
	struct span bytes = span_make(copy, size);
	ptrdiff_t taken = proxy_parse(bytes, &header);
	bool was_refused = false;

	CHECK(taken <= (ptrdiff_t)size && taken <= PROXY_HEADER_BYTES_MAX);
	for (size_t cut = 0; cut < size && cut <= PROXY_HEADER_BYTES_MAX; cut++) {
		uint8_t *part = fuzz_copy(span_first(bytes, cut));
		ptrdiff_t early = proxy_parse(span_make(part, cut), &cut_header);

		if (taken > 0)
			CHECK(early == (cut < (size_t)taken ? 0 : taken));
		/* what was refused once stays refused */
		CHECK(early <= 0 || taken > 0);
		CHECK(!was_refused || early < 0);
		was_refused = early < 0;
		free(part);
	}
	CHECK(!was_refused || taken < 0);
	free(copy);
	return 0;
}
