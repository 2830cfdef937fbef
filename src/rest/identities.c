#include "rest/identities.h"

#include "base/check.h"
#include "rest/fields.h"

#include <errno.h>
#include <stdlib.h>

#define EXPIRED_PER_ANSWER 2

/* A token that is known. */
struct identity_token {
	struct hash_node node;
	struct list link; /* in oldest_first */
	struct identity *identity;
	uint64_t until_ms;
	uint8_t key[SHA256_BYTES];
};

struct identity_lookup {
	struct hash_node node;
	struct list waiters;
	uint32_t waiter_count;
	uint64_t revoked_before; /* revoked_count when it was asked */
	bool is_departed;	 /* signed out meanwhile */
	uint8_t key[SHA256_BYTES];
};

static bool token_matches(const struct hash_node *node, struct span key)
{
	const struct identity_token *token = CONTAINER_OF(node, struct identity_token, node);

	return span_equal(span_make(token->key, sizeof(token->key)), key);
}

static bool lookup_matches(const struct hash_node *node, struct span key)
{
	const struct identity_lookup *lookup = CONTAINER_OF(node, struct identity_lookup, node);

	return span_equal(span_make(lookup->key, sizeof(lookup->key)), key);
}

static bool session_matches(const struct hash_node *node, struct span key)
{
	return span_equal(identity_session(CONTAINER_OF(node, struct identity, node)), key);
}

int identities_init(struct identities *identities, const struct identities_options *options)
{
	*identities = (struct identities){.options = *options, .digest = digest_create()};
	list_init(&identities->oldest_first);
	hash_init(&identities->tokens, token_matches, options->secret);
	hash_init(&identities->lookups, lookup_matches, options->secret);
	hash_init(&identities->sessions, session_matches, options->secret);
	if (options->departed)
		identities->departed_seen = departed_count(options->departed);
	return identities->digest ? 0 : -ENOMEM;
}

static void token_drop(struct identities *identities, struct identity_token *token)
{
	hash_remove(&identities->tokens, &token->node);
	list_remove(&token->link);
	identities->token_count--;
	identity_put(token->identity);
	free(token);
}

void identities_forget_all(struct identities *identities)
{
	LIST_FOR_EACH (&identities->oldest_first, link)
		token_drop(identities, CONTAINER_OF(link, struct identity_token, link));
	/* Whatever is under way is older than what was missed. */
	identities->revoked_count += IDENTITY_REVOKED_MAX + 1;
}

void identities_finish(struct identities *identities)
{
	CHECK(identities->lookup_count == 0);
	identities_forget_all(identities);
	CHECK(identities->sessions.count == 0);
	hash_finish(&identities->tokens);
	hash_finish(&identities->lookups);
	hash_finish(&identities->sessions);
	digest_destroy(identities->digest);
}

/* ---- an identity ---- */

void identity_get(struct identity *identity)
{
	identity->count++;
}

void identity_put(struct identity *identity)
{
	if (!identity || --identity->count > 0)
		return;
	CHECK(list_is_empty(&identity->followers));
	if (identity->is_listed)
		hash_remove(&identity->owner->sessions, &identity->node);
	free(identity);
}

void identity_follow(struct identity *identity, struct identity_follower *follower)
{
	list_push_back(&identity->followers, &follower->link);
}

void identity_unfollow(struct identity_follower *follower)
{
	list_remove(&follower->link);
}

/* With a reference for the caller, the same for the same session. NULL: no memory. */
static struct identity *identity_of(struct identities *identities, struct span user,
				    struct span session)
{
	struct hash_node *node = hash_find(&identities->sessions, session);
	struct identity *identity = node ? CONTAINER_OF(node, struct identity, node) : NULL;

	if (identity && span_equal(identity_user(identity), user)) {
		identity_get(identity);
		return identity;
	}
	/* A session that changes its user is a new one; calls under way keep the old. */
	if (identity) {
		hash_remove(&identities->sessions, &identity->node);
		identity->is_listed = false;
	}
	identity = malloc(sizeof(*identity) + user.len + session.len);
	if (!identity)
		return NULL;
	*identity = (struct identity){
		.owner = identities,
		.count = 1,
		.user_len = (uint16_t)user.len,
		.session_len = (uint16_t)session.len,
	};
	list_init(&identity->followers);
	memcpy(identity->text, user.data, user.len);
	if (session.len > 0)
		memcpy(identity->text + user.len, session.data, session.len);
	if (hash_insert(&identities->sessions, &identity->node, session) != 0) {
		free(identity);
		return NULL;
	}
	identity->is_listed = true;
	return identity;
}

/* ---- signed out ---- */

static void depart(struct identities *identities, struct span key)
{
	struct hash_node *node = hash_find(&identities->tokens, key);
	struct hash_node *asked = hash_find(&identities->lookups, key);

	if (asked)
		CONTAINER_OF(asked, struct identity_lookup, node)->is_departed = true;
	if (!node)
		return;

	struct identity_token *token = CONTAINER_OF(node, struct identity_token, node);
	struct identity *identity = token->identity;

	identity_get(identity);
	token_drop(identities, token);
	/* Without a name it may be other tokens' as well. */
	if (identity->is_listed && identity->session_len > 0)
		identities_revoke(identities, identity_session(identity));
	identity_put(identity);
}

/* What other workers signed out since. */
static void follow_departed(struct identities *identities)
{
	struct departed *departed = identities->options.departed;
	uint64_t count = departed ? departed_count(departed) : 0;
	uint8_t key[SHA256_BYTES];

	while (identities->departed_seen < count) {
		if (departed_get(departed, identities->departed_seen++, key)) {
			depart(identities, span_make(key, sizeof(key)));
			continue;
		}
		identities->departed_seen = count;
		identities_forget_all(identities);
	}
}

void identities_depart(struct identities *identities, struct span token)
{
	uint8_t key[SHA256_BYTES];

	if (digest_sha256(identities->digest, token, key) != 0) {
		identities_forget_all(identities);
		return;
	}
	if (identities->options.departed)
		departed_add(identities->options.departed, key);
	depart(identities, span_make(key, sizeof(key)));
}

/* ---- finding ---- */

static struct identity_token *token_find(struct identities *identities, struct span key,
					 uint64_t now_ms)
{
	struct hash_node *node = hash_find(&identities->tokens, key);
	struct identity_token *token =
		node ? CONTAINER_OF(node, struct identity_token, node) : NULL;

	if (!token)
		return NULL;
	if (!token->identity->is_listed || now_ms >= token->until_ms) {
		token_drop(identities, token);
		return NULL;
	}
	list_remove(&token->link);
	list_push_back(&identities->oldest_first, &token->link);
	return token;
}

static struct identity_lookup *lookup_create(struct identities *identities, struct span key)
{
	struct identity_lookup *lookup;

	if (identities->lookup_count == IDENTITY_LOOKUPS_MAX)
		return NULL;
	lookup = malloc(sizeof(*lookup));
	if (!lookup)
		return NULL;
	*lookup = (struct identity_lookup){.revoked_before = identities->revoked_count};
	list_init(&lookup->waiters);
	memcpy(lookup->key, key.data, sizeof(lookup->key));
	if (hash_insert(&identities->lookups, &lookup->node, key) != 0) {
		free(lookup);
		return NULL;
	}
	identities->lookup_count++;
	return lookup;
}

static void lookup_drop(struct identities *identities, struct identity_lookup *lookup)
{
	hash_remove(&identities->lookups, &lookup->node);
	identities->lookup_count--;
	free(lookup);
}

static enum identity_answer wait_for(struct identity_lookup *lookup, struct identity_waiter *waiter)
{
	lookup->waiter_count++;
	waiter->lookup = lookup;
	list_push_back(&lookup->waiters, &waiter->link);
	return IDENTITY_PENDING;
}

static enum identity_answer ask(struct identities *identities, struct span key, struct span token,
				struct identity_waiter *waiter)
{
	struct hash_node *node = hash_find(&identities->lookups, key);
	struct identity_lookup *lookup =
		node ? CONTAINER_OF(node, struct identity_lookup, node) : NULL;

	if (lookup && lookup->waiter_count < IDENTITY_WAITERS_MAX) {
		metric_add(&identities->metrics.joined, 1);
		return wait_for(lookup, waiter);
	}
	lookup = lookup ? NULL : lookup_create(identities, key);
	if (!lookup) {
		metric_add(&identities->metrics.unavailable, 1);
		return IDENTITY_UNAVAILABLE;
	}
	metric_add(&identities->metrics.asked, 1);
	if (identities->options.ask(identities->options.context, lookup, token) == 0)
		return wait_for(lookup, waiter);
	lookup_drop(identities, lookup);
	metric_add(&identities->metrics.unavailable, 1);
	return IDENTITY_UNAVAILABLE;
}

enum identity_answer identities_find(struct identities *identities, struct span token,
				     uint64_t now_ms, struct identity_waiter *waiter,
				     struct identity **identity)
{
	uint8_t key[SHA256_BYTES];

	if (token.len == 0 || token.len > IDENTITY_TOKEN_MAX || !span_is_utf8(token))
		return IDENTITY_REFUSED;
	if (digest_sha256(identities->digest, token, key) != 0)
		return IDENTITY_UNAVAILABLE;

	follow_departed(identities);

	struct span hashed = span_make(key, sizeof(key));
	struct identity_token *known = token_find(identities, hashed, now_ms);

	if (!known)
		return ask(identities, hashed, token, waiter);
	metric_add(&identities->metrics.hit, 1);
	*identity = known->identity;
	return IDENTITY_FOUND;
}

void identities_cancel(struct identity_waiter *waiter)
{
	if (!waiter->lookup)
		return;
	list_remove(&waiter->link);
	waiter->lookup->waiter_count--;
	waiter->lookup = NULL;
}

/* ---- answers ---- */

static bool was_revoked(const struct identities *identities, const struct identity_lookup *lookup,
			struct span session)
{
	uint64_t hash = hash_bytes(identities->options.secret, session);

	for (uint64_t i = lookup->revoked_before; i < identities->revoked_count; i++) {
		if (identities->revoked[i % IDENTITY_REVOKED_MAX] == hash)
			return true;
	}
	return false;
}

/* What the facts come to, with what was revoked since they were asked for. */
static enum identity_answer judge(const struct identities *identities,
				  const struct identity_lookup *lookup,
				  const struct identity_facts *facts)
{
	uint64_t since = identities->revoked_count - lookup->revoked_before;

	if (facts->answer != IDENTITY_FOUND)
		return facts->answer;
	if (facts->user.len == 0 || facts->user.len > IDENTITY_TEXT_MAX ||
	    facts->session.len > IDENTITY_TEXT_MAX || !text_is_printable(facts->user) ||
	    !text_is_printable(facts->session))
		return IDENTITY_UNAVAILABLE;
	if (facts->expires_in_ms == 0 || lookup->is_departed)
		return IDENTITY_REFUSED;
	/* More than is remembered: nobody can say. */
	if (since > IDENTITY_REVOKED_MAX)
		return IDENTITY_UNAVAILABLE;
	return was_revoked(identities, lookup, facts->session) ? IDENTITY_REFUSED : IDENTITY_FOUND;
}

/* More leave than come, so what is never asked for again does not stay until there is no room. */
static void drop_expired(struct identities *identities, uint64_t now_ms)
{
	for (int i = 0; i < EXPIRED_PER_ANSWER && !list_is_empty(&identities->oldest_first); i++) {
		struct identity_token *oldest = CONTAINER_OF(identities->oldest_first.next,
							     struct identity_token, link);

		if (now_ms < oldest->until_ms)
			return;
		token_drop(identities, oldest);
	}
}

/* Without memory it is asked for again. */
static void keep(struct identities *identities, const struct identity_lookup *lookup,
		 struct identity *identity, uint64_t until_ms)
{
	struct identity_token *token = malloc(sizeof(*token));
	struct span key = span_make(lookup->key, sizeof(lookup->key));

	if (!token)
		return;
	*token = (struct identity_token){.identity = identity, .until_ms = until_ms};
	memcpy(token->key, lookup->key, sizeof(token->key));
	if (hash_insert(&identities->tokens, &token->node, key) != 0) {
		free(token);
		return;
	}
	identity_get(identity);
	list_push_back(&identities->oldest_first, &token->link);
	if (++identities->token_count > IDENTITIES_MAX)
		token_drop(identities, CONTAINER_OF(identities->oldest_first.next,
						    struct identity_token, link));
}

static void tell(struct list *waiters, enum identity_answer answer, struct identity *identity)
{
	struct list *link;

	/* Each may cancel others. */
	while ((link = list_pop_front(waiters)) != NULL) {
		struct identity_waiter *waiter = CONTAINER_OF(link, struct identity_waiter, link);

		waiter->lookup->waiter_count--;
		waiter->lookup = NULL;
		waiter->told(waiter, answer, identity);
	}
}

void identities_answer(struct identities *identities, struct identity_lookup *lookup,
		       const struct identity_facts *facts, uint64_t now_ms)
{
	follow_departed(identities);
	drop_expired(identities, now_ms);

	enum identity_answer answer = judge(identities, lookup, facts);
	uint64_t keep_ms = identities->keep_ms < facts->expires_in_ms ? identities->keep_ms
								      : facts->expires_in_ms;
	struct identity *identity = NULL;

	/* Who asks from now on asks anew, or is answered by what is kept. */
	hash_remove(&identities->lookups, &lookup->node);
	identities->lookup_count--;
	if (answer == IDENTITY_FOUND) {
		identity = identity_of(identities, facts->user, facts->session);
		if (!identity)
			answer = IDENTITY_UNAVAILABLE;
		else if (keep_ms > 0)
			keep(identities, lookup, identity, now_ms + keep_ms);
	}
	metric_add(&identities->metrics.refused, answer == IDENTITY_REFUSED);
	metric_add(&identities->metrics.unavailable, answer == IDENTITY_UNAVAILABLE);
	tell(&lookup->waiters, answer, identity);
	free(lookup);
	identity_put(identity);
}

void identities_revoke(struct identities *identities, struct span session)
{
	struct hash_node *node = hash_find(&identities->sessions, session);
	uint64_t place = identities->revoked_count++ % IDENTITY_REVOKED_MAX;

	identities->revoked[place] = hash_bytes(identities->options.secret, session);
	if (!node)
		return;

	struct identity *identity = CONTAINER_OF(node, struct identity, node);
	struct list *link;

	hash_remove(&identities->sessions, &identity->node);
	identity->is_listed = false;
	identity->is_revoked = true;
	identity_get(identity);
	while ((link = list_pop_front(&identity->followers)) != NULL) {
		struct identity_follower *follower =
			CONTAINER_OF(link, struct identity_follower, link);

		follower->revoked(follower);
	}
	identity_put(identity);
}
