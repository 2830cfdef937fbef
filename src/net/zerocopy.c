#include "net/zerocopy.h"

#include "log/log.h"
#include "uring/worker.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>

_Static_assert(ZEROCOPY_SAMPLE == 16, "the bits of `sample`");

static void learn_own_addresses(struct zerocopy *zerocopy)
{
	struct ifaddrs *all = NULL;

	/* Without the list only loopback and unix are known to be local. */
	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *one = all; one && zerocopy->own_count < ZEROCOPY_OWN_MAX;
	     one = one->ifa_next) {
		struct address address = {0};

		if (!one->ifa_addr)
			continue;
		if (one->ifa_addr->sa_family == AF_INET)
			address.len = sizeof(struct sockaddr_in);
		else if (one->ifa_addr->sa_family == AF_INET6)
			address.len = sizeof(struct sockaddr_in6);
		else
			continue;
		memcpy(&address.storage, one->ifa_addr, address.len);
		zerocopy->own[zerocopy->own_count].len =
			(uint8_t)address_ip(&address, zerocopy->own[zerocopy->own_count].bytes);
		zerocopy->own_count++;
	}
	freeifaddrs(all);
}

void zerocopy_init(struct zerocopy *zerocopy, const struct worker *worker)
{
	const struct ring_features *features = ring_get_features(worker->ring);

	*zerocopy = (struct zerocopy){.worker = worker->name};
	zerocopy->is_enabled = features->sendmsg_zc && features->send_zc_report;
	metric_gauge_set(&zerocopy->enabled, zerocopy->is_enabled);
	if (zerocopy->is_enabled)
		learn_own_addresses(zerocopy);
}

int zerocopy_register(struct zerocopy *zerocopy, const struct worker *worker,
		      struct metric_registry *metrics)
{
	static const struct metric_family sends_family = {
		"gateway_zerocopy_sends_total",
		"Sends by zero copy, by what the kernel made of them.", METRIC_COUNTER};
	static const struct metric_family enabled_family = {
		"gateway_zerocopy_enabled", "1 while large sends to other hosts go by zero copy.",
		METRIC_GAUGE};
	char labels[64];
	int failed = 0;

	snprintf(labels, sizeof(labels), "worker=\"%s\"", worker->name);
	failed |= metric_register(metrics, &sends_family, "result=\"sent\"", &zerocopy->sent);
	failed |= metric_register(metrics, &sends_family, "result=\"copied\"", &zerocopy->copied);
	failed |= metric_register(metrics, &sends_family, "result=\"refused\"", &zerocopy->refused);
	failed |= metric_register(metrics, &enabled_family, labels, &zerocopy->enabled);
	return failed ? -ENOMEM : 0;
}

bool zerocopy_is_local(const struct zerocopy *zerocopy, const struct address *peer)
{
	uint8_t bytes[ADDRESS_IP_MAX];
	size_t len = address_ip(peer, bytes);

	if (len == 0 || address_is_loopback(peer))
		return true;
	for (size_t i = 0; i < zerocopy->own_count; i++)
		if (span_equal(span_make(bytes, len),
			       span_make(zerocopy->own[i].bytes, zerocopy->own[i].len)))
			return true;
	return false;
}

static void switch_off(struct zerocopy *zerocopy, const char *why)
{
	if (!zerocopy->is_enabled)
		return;
	zerocopy->is_enabled = false;
	metric_gauge_set(&zerocopy->enabled, 0);
	LOG(LOG_INFO, "net", "zero copy is switched off", LOG_TEXT("worker", zerocopy->worker),
	    LOG_TEXT("reason", why));
}

void zerocopy_notified(struct zerocopy *zerocopy, bool copied)
{
	metric_add(copied ? &zerocopy->copied : &zerocopy->sent, 1);
	zerocopy->sample = (uint16_t)(zerocopy->sample << 1 | copied);
	if (__builtin_popcount(zerocopy->sample) >= ZEROCOPY_COPIES_MAX)
		switch_off(zerocopy, "the kernel copies");
}

void zerocopy_refused(struct zerocopy *zerocopy, int error)
{
	metric_add(&zerocopy->refused, 1);
	if (op_classify(RING_SEND_ZC, error) == OP_UNSUPPORTED)
		switch_off(zerocopy, "the kernel cannot");
}
