#include "hub/index.h"

#include "base/fetch.h"

#include <errno.h>
#include <stdlib.h>

struct index_user {
	struct hash_node node;
	struct list subscriptions;
	uint32_t count;
	uint32_t id_len;
	char id[];
};

struct index_session {
	struct hash_node node;
	struct list subscriptions; /* in the order of opening */
	uint32_t count;
	uint32_t id_len;
	char id[];
};

static struct index_user *user_of(const struct hash_node *node)
{
	return CONTAINER_OF(node, struct index_user, node);
}

static struct index_session *session_of(const struct hash_node *node)
{
	return CONTAINER_OF(node, struct index_session, node);
}

static struct span user_id(const struct index_user *user)
{
	return span_make(user->id, user->id_len);
}

static struct span session_id(const struct index_session *session)
{
	return span_make(session->id, session->id_len);
}

static bool user_match(const struct hash_node *node, struct span key)
{
	return span_equal(user_id(user_of(node)), key);
}

static bool session_match(const struct hash_node *node, struct span key)
{
	return span_equal(session_id(session_of(node)), key);
}

void index_init(struct index *index, struct hash_secret secret)
{
	index->subscription_count = 0;
	hash_init(&index->users, user_match, secret);
	hash_init(&index->sessions, session_match, secret);
}

void index_finish(struct index *index)
{
	CHECK(index->subscription_count == 0 && index->users.count == 0 &&
	      index->sessions.count == 0);
	hash_finish(&index->users);
	hash_finish(&index->sessions);
}

static struct index_user *user_find(const struct index *index, struct span id)
{
	struct hash_node *node = hash_find(&index->users, id);

	return node ? user_of(node) : NULL;
}

static struct index_session *session_find(const struct index *index, struct span id)
{
	struct hash_node *node = hash_find(&index->sessions, id);

	return node ? session_of(node) : NULL;
}

/* Finds or makes; NULL without memory. */
static struct index_user *user_admit(struct index *index, struct span id)
{
	struct index_user *user = user_find(index, id);

	if (user || id.len > UINT32_MAX)
		return user;
	user = malloc(sizeof(*user) + id.len);
	if (!user)
		return NULL;
	*user = (struct index_user){ .id_len = (uint32_t)id.len };
	list_init(&user->subscriptions);
	if (id.len)
		memcpy(user->id, id.data, id.len);
	if (hash_insert(&index->users, &user->node, user_id(user)) != 0) {
		free(user);
		return NULL;
	}
	return user;
}

static struct index_session *session_admit(struct index *index, struct span id)
{
	struct index_session *session = session_find(index, id);

	if (session || id.len > UINT32_MAX)
		return session;
	session = malloc(sizeof(*session) + id.len);
	if (!session)
		return NULL;
	*session = (struct index_session){ .id_len = (uint32_t)id.len };
	list_init(&session->subscriptions);
	if (id.len)
		memcpy(session->id, id.data, id.len);
	if (hash_insert(&index->sessions, &session->node, session_id(session)) != 0) {
		free(session);
		return NULL;
	}
	return session;
}

static void user_drop_if_empty(struct index *index, struct index_user *user)
{
	if (user->count > 0)
		return;
	hash_remove(&index->users, &user->node);
	free(user);
}

static void session_drop_if_empty(struct index *index, struct index_session *session)
{
	if (session->count > 0)
		return;
	hash_remove(&index->sessions, &session->node);
	free(session);
}

int index_add(struct index *index, struct subscription *subscription, struct span user,
	      struct span session)
{
	CHECK(!subscription->feed.place.user);

	struct index_user *its_user = user_admit(index, user);

	if (!its_user)
		return -ENOMEM;

	struct index_session *its_session = session_admit(index, session);

	if (!its_session) {
		user_drop_if_empty(index, its_user);
		return -ENOMEM;
	}
	subscription->feed.place.user = its_user;
	subscription->feed.place.session = its_session;
	list_push_back(&its_user->subscriptions, &subscription->feed.place.in_user);
	list_push_back(&its_session->subscriptions, &subscription->feed.place.in_session);
	its_user->count++;
	its_session->count++;
	index->subscription_count++;
	return 0;
}

void index_remove(struct index *index, struct subscription *subscription)
{
	struct index_user *user = subscription->feed.place.user;
	struct index_session *session = subscription->feed.place.session;

	CHECK(user && session && user->count && session->count && index->subscription_count);
	list_remove(&subscription->feed.place.in_user);
	list_remove(&subscription->feed.place.in_session);
	subscription->feed.place.user = NULL;
	subscription->feed.place.session = NULL;
	user->count--;
	session->count--;
	index->subscription_count--;
	user_drop_if_empty(index, user);
	session_drop_if_empty(index, session);
}

struct span subscription_user(const struct subscription *subscription)
{
	return user_id(subscription->feed.place.user);
}

struct span subscription_session(const struct subscription *subscription)
{
	return session_id(subscription->feed.place.session);
}

uint32_t index_session_count(const struct index *index, struct span session)
{
	struct index_session *found = session_find(index, session);

	return found ? found->count : 0;
}

static struct span newest_user(const struct index_session *session)
{
	struct list *newest = session->subscriptions.prev;

	return subscription_user(CONTAINER_OF(newest, struct subscription, feed.place.in_session));
}

struct span index_session_user(const struct index *index, struct span session)
{
	struct index_session *found = session_find(index, session);

	return found ? newest_user(found) : SPAN_EMPTY;
}

uint64_t index_hash_user(const struct index *index, struct span user)
{
	return hash_bytes(index->users.secret, user);
}

void index_fetch_user(const struct index *index, uint64_t user_hash, unsigned step)
{
	if (step == 0) {
		hash_fetch(&index->users, user_hash);
		return;
	}

	struct hash_node *node = hash_first(&index->users, user_hash);

	if (!node)
		return;
	if (step == 1) {
		memory_fetch(user_of(node), sizeof(struct index_user));
		return;
	}
	struct list *first = user_of(node)->subscriptions.next;

	memory_fetch(&CONTAINER_OF(first, struct subscription, feed.place.in_user)->feed,
		     sizeof(struct feed));
}

/*
 * Loops count instead of looking for the head: the visit that removes the last subscription frees
 * the head with it.
 */
static uint32_t each_in_user(struct index_user *user, index_visit_fn *visit, void *context)
{
	struct list *at = user->subscriptions.next;
	uint32_t count = user->count;

	for (uint32_t i = 0; i < count; i++) {
		struct list *next = at->next;

		visit(CONTAINER_OF(at, struct subscription, feed.place.in_user), context);
		at = next;
	}
	return count;
}

uint32_t index_each_of_user(struct index *index, struct span user, index_visit_fn *visit,
			    void *context)
{
	struct index_user *found = user_find(index, user);

	return found ? each_in_user(found, visit, context) : 0;
}

/* `user` NULL: of every user. */
static uint32_t each_in_session(struct index_session *session, const struct index_user *user,
				index_visit_fn *visit, void *context)
{
	struct list *at = session->subscriptions.next;
	uint32_t count = session->count, visited = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct subscription *subscription =
			CONTAINER_OF(at, struct subscription, feed.place.in_session);

		at = at->next;
		if (!user || subscription->feed.place.user == user) {
			visit(subscription, context);
			visited++;
		}
	}
	return visited;
}

uint32_t index_each_of_session(struct index *index, struct span session, index_visit_fn *visit,
			       void *context)
{
	struct index_session *found = session_find(index, session);

	return found ? each_in_session(found, NULL, visit, context) : 0;
}

uint32_t index_each_of_both(struct index *index, struct span user, struct span session,
			    index_visit_fn *visit, void *context)
{
	struct index_session *found = session_find(index, session);
	struct index_user *owner = found ? user_find(index, user) : NULL;

	return owner ? each_in_session(found, owner, visit, context) : 0;
}

struct each_context {
	index_visit_fn *visit;
	void *context;
	uint32_t count;
};

static bool each_user(struct hash_node *node, void *context)
{
	struct each_context *each = context;

	each->count += each_in_user(user_of(node), each->visit, each->context);
	return true;
}

uint32_t index_each(struct index *index, index_visit_fn *visit, void *context)
{
	struct each_context each = { .visit = visit, .context = context };

	hash_each(&index->users, each_user, &each);
	return each.count;
}

struct each_session_context {
	index_session_fn *visit;
	void *context;
};

static bool each_session(struct hash_node *node, void *context)
{
	struct each_session_context *each = context;
	struct index_session *session = session_of(node);

	return each->visit(session_id(session), newest_user(session), each->context);
}

void index_each_session(struct index *index, index_session_fn *visit, void *context)
{
	struct each_session_context each = { .visit = visit, .context = context };

	hash_each(&index->sessions, each_session, &each);
}

/* ---- who holds most ---- */

/* Bytes queued in an open stream; what an ended one holds is on its way out already. */
static uint64_t weight_of(const struct subscription *subscription)
{
	if (feed_get_end(&subscription->feed) != FEED_OPEN)
		return 0;
	return feed_queued_bytes(&subscription->feed);
}

struct heaviest {
	struct subscription *subscription;
	uint64_t bytes;
};

static void heaviest_visit(struct subscription *subscription, void *context)
{
	struct heaviest *heaviest = context;
	uint64_t bytes = weight_of(subscription);

	if (bytes > heaviest->bytes)
		*heaviest = (struct heaviest){ .subscription = subscription, .bytes = bytes };
}

struct subscription *index_heaviest(struct index *index)
{
	struct heaviest heaviest = { .subscription = NULL };

	index_each(index, heaviest_visit, &heaviest);
	return heaviest.subscription;
}

/* Weights by their highest bit: class 0 is 1 byte, class 63 half the number range and more. */
#define WEIGHT_CLASSES 64

static int weight_class(uint64_t bytes)
{
	return 63 - __builtin_clzll(bytes);
}

struct shed {
	uint64_t class_bytes[WEIGHT_CLASSES];
	uint64_t wanted, held;
	int lowest; /* classes above go whole, of this one as many as are needed */
	bool is_lowest_turn;
	index_visit_fn *visit;
	void *context;
};

static void shed_weigh(struct subscription *subscription, void *context)
{
	struct shed *shed = context;
	uint64_t bytes = weight_of(subscription);

	if (bytes)
		shed->class_bytes[weight_class(bytes)] += bytes;
}

static void shed_visit(struct subscription *subscription, void *context)
{
	struct shed *shed = context;
	uint64_t bytes = weight_of(subscription);

	if (bytes == 0 || shed->held >= shed->wanted)
		return;

	int class = weight_class(bytes);

	if (shed->is_lowest_turn ? class != shed->lowest : class <= shed->lowest)
		return;
	shed->held += bytes;
	shed->visit(subscription, shed->context);
}

uint64_t index_shed(struct index *index, uint64_t bytes, index_visit_fn *visit, void *context)
{
	struct shed shed = { .wanted = bytes, .visit = visit, .context = context };
	uint64_t above = 0;

	index_each(index, shed_weigh, &shed);
	for (shed.lowest = WEIGHT_CLASSES - 1; shed.lowest > 0; shed.lowest--) {
		above += shed.class_bytes[shed.lowest];
		if (above >= bytes)
			break;
	}
	index_each(index, shed_visit, &shed);
	shed.is_lowest_turn = true;
	index_each(index, shed_visit, &shed);
	return shed.held;
}
