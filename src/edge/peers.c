#include "edge/peers.h"

#include "base/check.h"

#include <pthread.h>
#include <stdlib.h>

/* Many more than there are workers, so that two of them rarely want the same lock. */
#define SHARDS 64

struct peer {
	struct hash_node node;
	uint64_t count;
	uint8_t key[ADDRESS_KEY_MAX];
	uint8_t key_len;
};

struct shard {
	_Alignas(64) pthread_mutex_t lock;
	struct hash_table table;
};

struct peers {
	struct shard shards[SHARDS];
	struct hash_secret secret;
	uint64_t connections_max;
};

static bool peer_matches(const struct hash_node *node, struct span key)
{
	const struct peer *peer = CONTAINER_OF(node, struct peer, node);

	return span_equal(span_make(peer->key, peer->key_len), key);
}

struct peers *peers_create(struct hash_secret secret, uint64_t connections_max)
{
	struct peers *peers = aligned_alloc(_Alignof(struct peers), sizeof(*peers));

	if (!peers)
		return NULL;
	*peers = (struct peers){.secret = secret, .connections_max = connections_max};
	for (size_t i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&peers->shards[i].lock, NULL);
		hash_init(&peers->shards[i].table, peer_matches, secret);
	}
	return peers;
}

void peers_destroy(struct peers *peers)
{
	if (!peers)
		return;
	for (size_t i = 0; i < SHARDS; i++) {
		CHECK(peers->shards[i].table.count == 0);
		hash_finish(&peers->shards[i].table);
		pthread_mutex_destroy(&peers->shards[i].lock);
	}
	free(peers);
}

/* The bits that the table inside does not choose its bucket by. */
static struct shard *shard_of(struct peers *peers, struct span key)
{
	return &peers->shards[hash_bytes(peers->secret, key) >> 58];
}

_Static_assert(SHARDS == 1 << 6, "six bits choose");

static struct peer *shard_find(const struct shard *shard, struct span key)
{
	struct hash_node *node = hash_find(&shard->table, key);

	return node ? CONTAINER_OF(node, struct peer, node) : NULL;
}

/* Returns NULL without memory. */
static struct peer *shard_add(struct shard *shard, struct span key)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return NULL;
	memcpy(peer->key, key.data, key.len);
	peer->key_len = (uint8_t)key.len;
	if (hash_insert(&shard->table, &peer->node, key) != 0) {
		free(peer);
		return NULL;
	}
	return peer;
}

enum peers_answer peers_admit(struct peers *peers, const struct address *address)
{
	uint8_t bytes[ADDRESS_KEY_MAX];
	struct span key = span_make(bytes, address_budget_key(address, bytes));
	enum peers_answer answer = PEERS_REFUSED;

	if (key.len == 0)
		return PEERS_EXEMPT;

	struct shard *shard = shard_of(peers, key);

	pthread_mutex_lock(&shard->lock);

	struct peer *peer = shard_find(shard, key);

	if (!peer)
		peer = shard_add(shard, key);
	if (peer && peer->count < peers->connections_max) {
		peer->count++;
		answer = PEERS_ADMITTED;
	}
	pthread_mutex_unlock(&shard->lock);
	return answer;
}

void peers_release(struct peers *peers, const struct address *address)
{
	uint8_t bytes[ADDRESS_KEY_MAX];
	struct span key = span_make(bytes, address_budget_key(address, bytes));
	struct shard *shard = shard_of(peers, key);

	pthread_mutex_lock(&shard->lock);

	struct peer *peer = shard_find(shard, key);

	CHECK(peer && peer->count > 0);
	if (--peer->count == 0) {
		hash_remove(&shard->table, &peer->node);
		free(peer);
	}
	pthread_mutex_unlock(&shard->lock);
}
