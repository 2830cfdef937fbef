/*
 * zerocopy: whether one worker's large sends leave the copying to nobody, and what became of them.
 * Thread: the worker's.
 *
 *   enabled ─ the kernel copied ZEROCOPY_COPIES_MAX of the last ZEROCOPY_SAMPLE, or has no such
 *             sends ─► off, for good
 *
 * It pays only where a network card reads the pages: loopback copies, a virtual cable does too.
 */
#ifndef NET_ZEROCOPY_H
#define NET_ZEROCOPY_H

#include "base/metric.h"
#include "net/address.h"

struct worker;

#define ZEROCOPY_SAMPLE	    16 /* notifications looked back at */
#define ZEROCOPY_COPIES_MAX 8
#define ZEROCOPY_OWN_MAX    64 /* addresses of this host that are known; more count as remote */

struct zerocopy {
	const char *worker; /* its name, for the log */
	bool is_enabled;
	uint16_t sample; /* a bit for each of the last notifications: the kernel copied */
	size_t own_count;
	struct {
		uint8_t len, bytes[ADDRESS_IP_MAX];
	} own[ZEROCOPY_OWN_MAX];
	struct metric_counter sent, copied, refused;
	struct metric_gauge enabled;
};

/*
 * Enabled if the worker's ring can send so and its kernel tells of copies. Reads the host's
 * addresses once: one that comes later counts as remote. May wait for the kernel: at start-up only.
 */
void zerocopy_init(struct zerocopy *zerocopy, const struct worker *worker);

/* Its counters, and the gauge under the worker's name. Lifetime: the cells', as in base/metric.h.
 */
int zerocopy_register(struct zerocopy *zerocopy, const struct worker *worker,
		      struct metric_registry *metrics);

static inline bool zerocopy_is_enabled(const struct zerocopy *zerocopy)
{
	return zerocopy->is_enabled;
}

/* On this machine, or unknown. */
bool zerocopy_is_local(const struct zerocopy *zerocopy, const struct address *peer);

/* The kernel is done with the memory of a send that has sent something. */
void zerocopy_notified(struct zerocopy *zerocopy, bool copied);

/* It could not send so: locked memory is used up, or (unsupported) never can. */
void zerocopy_refused(struct zerocopy *zerocopy, int error);

#endif
