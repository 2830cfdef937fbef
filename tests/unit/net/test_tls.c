#include "unit/net/tls_rig.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void tls_carries_bytes_both_ways(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		for (int slices = 0; slices < 2; slices++) {
			rig_open(&(struct rig_options){.peer.version = versions[i]});
			rig.slices = slices;
			rig.piece = 333;
			rig.to_produce = rig.peer.to_send = 100000;
			RIG_UNTIL(rig.peer.received == 100000 && rig.received == 100000);
			assert_true(tls_is_open(&rig.tls));
			assert_int_equal(rig.peer.wrong, 0);
			assert_string_equal(tls_error(&rig.tls), "");
			assert_int_equal(SSL_version(rig.peer.session), versions[i]);
			rig_close();
		}
	}
}

/* Slices are encrypted: a copy, and the only one there is between a payload and its socket. */
static void tls_counts_the_payload_bytes_that_it_copies(void **state)
{
	(void)state;
	for (int slices = 0; slices < 2; slices++) {
		struct metric_counter copied = {0};

		rig_open(&(struct rig_options){0});
		rig.counters.copied_bytes = &copied;
		rig.slices = slices;
		rig.piece = 333;
		rig.to_produce = 100000;
		RIG_UNTIL(rig.peer.received == 100000);
		assert_int_equal(metric_value(&copied), slices ? 100000 : 0);
		rig_close();
	}
}

static void tls_sends_nothing_of_ours_before_the_handshake_is_over(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){0});
	rig.to_produce = 10;
	assert_int_equal(conn_send(&rig.conn, SPAN("early")), -ENOBUFS);
	/* The ClientHello leaves by itself; then it is the peer's turn. */
	RIG_TURNS(metric_value(&rig.counters.sent_bytes) > 0);
	assert_int_equal(conn_send(&rig.conn, SPAN("early")), -ENOBUFS);
	assert_int_equal(rig.produce_calls, 0);
	assert_false(tls_is_open(&rig.tls));
	RIG_UNTIL(rig.peer.received == 10);
	assert_int_equal(rig.peer.wrong, 0);
	assert_true(conn_has_room(&rig.conn));
	rig_close();
}

/* Says what the peer has to say in pieces, each of which must arrive before the next. */
static void say_in_pieces(const size_t *sizes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		peer_say(&rig.peer, sizes[i]);
		RIG_TURNS(rig.closed_calls ||
			  metric_value(&rig.counters.received_bytes) == rig.peer.said);
	}
}

/* Returns how many bytes the peer's answer to our hello has. */
static size_t wait_for_the_first_answer(void)
{
	char *data;

	RIG_TURNS((peer_think(&rig.peer), BIO_pending(rig.peer.out) > 0));
	return (size_t)BIO_get_mem_data(rig.peer.out, &data);
}

static void tls_handshake_survives_every_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		const struct rig_options options = {.peer.version = versions[i]};
		size_t len = 2;

		rig_open(&options);
		/* Of TLS 1.2, which does the same with more bytes, every fifth. */
		for (size_t at = 1; at < len; at += i == 0 ? 5 : 1) {
			if (at > 1) {
				rig_disconnect();
				rig.closed_calls = 0;
				rig_connect(&options);
			}
			len = wait_for_the_first_answer();

			const size_t sizes[] = {at, SIZE_MAX};

			say_in_pieces(sizes, ARRAY_LEN(sizes));
			RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
		}
		rig_close();
	}
}

static void tls_survives_pieces_of_every_size(void **state)
{
	(void)state;
	for (size_t size = 1; size < 40; size++) {
		rig_open(&(struct rig_options){.peer.version = versions[size % 2]});
		wait_for_the_first_answer();
		for (int rounds = 0; rig.received < 3000; rounds++) {
			assert_true(rounds < 100000);
			say_in_pieces(&size, 1);
			peer_think(&rig.peer);
			if (rig.peer.is_open && rig.peer.sent < 3000 &&
			    BIO_pending(rig.peer.out) == 0)
				peer_write(&rig.peer, 1000);
			assert_int_equal(worker_turn(&rig.worker, 0), 0);
		}
		rig_close();
	}
}

static void tls_records_survive_every_split(void **state)
{
	char *data;

	(void)state;
	rig_open(&(struct rig_options){0});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	for (size_t at = 1; at < 3 * 122; at++) {
		const size_t sizes[] = {at, SIZE_MAX};
		size_t before = rig.received;

		for (int i = 0; i < 3; i++)
			peer_write(&rig.peer, 100);
		assert_true((size_t)BIO_get_mem_data(rig.peer.out, &data) > 3 * 120);
		say_in_pieces(sizes, ARRAY_LEN(sizes));
		RIG_TURNS(rig.received == before + 300);
	}
	rig_close();
}

static void tls_moves_much_with_bounds_both_ways(void **state)
{
	size_t total = 8u << 20;

	(void)state;
	rig_open(&(struct rig_options){0});
	rig.piece = 40000;
	rig.slices = true;
	rig.to_produce = rig.peer.to_send = total;
	rig.peer.read_max = 1500;
	RIG_UNTIL(rig.peer.received > 100000);
	/* A slow reader holds us up at the bound, not beyond: rig_produce asserts it. */
	assert_true(rig.produced < total);
	rig.peer.read_max = 0;
	RIG_UNTIL(rig.peer.received == total && rig.received == total);
	assert_int_equal(rig.peer.wrong, 0);
	rig_close();
}

static void tls_pauses_and_resumes_receiving(void **state)
{
	size_t total = 2u << 20;

	(void)state;
	rig_open(&(struct rig_options){0});
	rig.pause_in_received = true;
	rig.peer.to_send = total;
	for (int rounds = 0; rig.received < total; rounds++) {
		int calls = rig.received_calls;

		assert_true(rounds < 100000);
		RIG_UNTIL(rig.received_calls > calls);
		conn_resume_receive(&rig.conn);
	}
	assert_int_equal(rig.received, total);
	rig_close();
}

static void tls_refuses_a_send_that_does_not_fit_whole(void **state)
{
	uint8_t *bytes = calloc(1, 300 << 10);

	(void)state;
	assert_non_null(bytes);
	rig_open(&(struct rig_options){0});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.conn.queue.bytes == 0);

	size_t max = rig.conn.queue.bytes_max;

	assert_int_equal(conn_send(&rig.conn, span_make(bytes, 300 << 10)), -ENOBUFS);
	assert_int_equal(conn_send(&rig.conn, span_make(bytes, max)), -ENOBUFS);
	assert_int_equal(conn_send(&rig.conn, span_make(bytes, max - 100)), -ENOBUFS);
	assert_int_equal(rig.conn.queue.bytes, 0);
	assert_int_equal(conn_send(&rig.conn, SPAN_EMPTY), 0);
	assert_int_equal(rig.conn.queue.bytes, 0);
	assert_int_equal(conn_send(&rig.conn, span_make(bytes, 200 << 10)), 0);
	assert_true(rig.conn.queue.bytes > 200 << 10);
	RIG_UNTIL(rig.peer.received == 200 << 10);
	free(bytes);
	rig_close();
}

/* ---- whom we trust ---- */

static void tls_accepts_the_names_of_a_certificate(void **state)
{
	static const struct {
		const char *name, *sni;
	} rows[] = {
		{"redis.test", "redis.test"}, {"REDIS.test", "REDIS.test"},
		{"redis.test.", "redis.test"}, {"a.wild.test", "a.wild.test"},
		{"127.0.0.1", NULL},	       {"::1", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		rig_open(&(struct rig_options){.name = rows[i].name});
		RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);

		const char *sni =
			SSL_get_servername(rig.peer.session, TLSEXT_NAMETYPE_host_name);

		if (rows[i].sni)
			assert_string_equal(sni, rows[i].sni);
		else
			assert_null(sni);
		rig_close();
	}
}

static void tls_refuses_names_that_cannot_be(void **state)
{
	char long_name[300];
	const char *const names[] = {"", ".", long_name};

	(void)state;
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	rig_open(&(struct rig_options){0});
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct tls tls = {0};

		assert_int_equal(tls_open(&tls, &rig.conn, rig.context, names[i]), -EINVAL);
		tls_finish(&tls);
	}
	rig_close();
}

struct refusal {
	struct rig_options options;
	const char *error;
};

static void tls_refuses_whom_it_cannot_trust(void **state)
{
	static const struct refusal rows[] = {
		{{.ca = "other.pem"}, "certificate verify failed: unable to get local issuer "
				      "certificate"},
		{{.peer.certificate = "self"}, "certificate verify failed: self-signed certificate"},
		{{.peer.certificate = "expired"},
		 "certificate verify failed: certificate has expired"},
		{{.name = "other.test"}, "certificate is for another host"},
		{{.name = "test"}, "certificate is for another host"},
		{{.name = "a.b.wild.test"}, "certificate is for another host"},
		{{.name = "127.0.0.2"}, "certificate is for another host"},
		{{.name = "::2"}, "certificate is for another host"},
	};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		struct rig_options options = rows[i / 2].options;

		options.peer.version = versions[i % 2];
		rig_open(&options);
		rig.to_produce = 10;
		RIG_UNTIL(rig.closed_calls > 0 && rig.peer.error);
		assert_int_equal(rig.end, CONN_END_SECURITY);
		assert_int_equal(rig.error, -EPROTO);
		assert_string_equal(tls_error(&rig.tls), rows[i / 2].error);
		/* Nothing of ours left, but the alert that tells the peer why. */
		assert_int_equal(rig.produce_calls, 0);
		assert_int_equal(rig.peer.received, 0);
		assert_true(ERR_GET_REASON(rig.peer.error) > SSL_AD_REASON_OFFSET);
		rig_close();
	}
}

static void tls_shows_its_certificate_to_who_asks(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		rig_open(&(struct rig_options){
			.certificate = "client",
			.peer = {.version = versions[i], .client_ca = "ca.pem"}});
		rig.to_produce = 10;
		RIG_UNTIL(rig.peer.received == 10);
		rig_close();
	}
}

static void tls_tells_when_the_peer_refuses_us(void **state)
{
	static const char *const certificates_shown[] = {NULL, "stranger"};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		rig_open(&(struct rig_options){
			.certificate = certificates_shown[i / 2],
			.peer = {.version = versions[i % 2], .client_ca = "ca.pem"}});
		RIG_UNTIL(rig.closed_calls > 0);
		assert_int_equal(rig.end, CONN_END_SECURITY);

		const char *told = "the peer refused the TLS connection: ";

		assert_int_equal(strncmp(tls_error(&rig.tls), told, strlen(told)), 0);
		assert_true(strlen(tls_error(&rig.tls)) > strlen(told));
		rig_close();
	}
}

static void tls_refuses_old_versions(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.peer.version = TLS1_1_VERSION});
	RIG_UNTIL(rig.closed_calls > 0);
	assert_int_equal(rig.end, CONN_END_SECURITY);
	assert_false(rig.peer.is_open);
	rig_close();
}

/* ---- what is no TLS, or not any more ---- */

static void tls_refuses_garbage(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		const char *error;
	} rows[] = {
		{"-ERR unknown command\r\n", 22, "what answers there does not speak TLS"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", 28, "what answers there does not speak TLS"},
		{"\x15\x03\x03\x00\x02\x02\x28", 7,
		 "the peer refused the TLS connection: handshake failure"},
		/* worded otherwise by each release of OpenSSL */
		{"\x16\x03\x03\xff\xff", 5, NULL},
		{"\x17\x03\x03\x00\x01x", 6, NULL},
		{"\x16\x03\x03\x00\x04\x01\x02\x03\x04", 9, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		rig_open(&(struct rig_options){0});
		RIG_TURNS(metric_value(&rig.counters.sent_bytes) > 0);
		assert_int_equal(send(rig.peer.fd, rows[i].bytes, rows[i].len, MSG_NOSIGNAL),
				 rows[i].len);
		RIG_TURNS(rig.closed_calls > 0);
		assert_int_equal(rig.end, CONN_END_SECURITY);
		if (rows[i].error)
			assert_string_equal(tls_error(&rig.tls), rows[i].error);
		else
			assert_true(tls_error(&rig.tls)[0]);
		assert_int_equal(rig.received_calls, 0);
		rig_close();
	}
}

static void tls_refuses_a_record_that_was_changed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		char *data;

		rig_open(&(struct rig_options){.peer.version = versions[i]});
		RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
		peer_write(&rig.peer, 100);
		BIO_get_mem_data(rig.peer.out, &data);
		data[50] ^= 1;
		say_in_pieces((const size_t[]){SIZE_MAX}, 1);
		RIG_TURNS(rig.closed_calls > 0);
		assert_int_equal(rig.end, CONN_END_SECURITY);
		assert_int_equal(strncmp(tls_error(&rig.tls), "TLS failed: ", 12), 0);
		assert_int_equal(rig.received_calls, 0);
		rig_close();
	}
}

static void tls_tells_a_cut_off_from_a_goodbye(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.plain_handler = true});
	rig.peer.to_send = 100;
	RIG_UNTIL(rig.received == 100);
	assert_int_equal(shutdown(rig.peer.fd, SHUT_WR), 0);
	RIG_TURNS(rig.closed_calls > 0);
	assert_int_equal(rig.end, CONN_END_SECURITY);
	assert_int_equal(rig.error, -ECONNRESET);
	assert_string_equal(tls_error(&rig.tls), "connection cut off without a TLS close_notify");
	assert_int_equal(rig.peer_finished_calls, 0);
	rig_close();

	rig_open(&(struct rig_options){.plain_handler = true});
	RIG_TURNS(metric_value(&rig.counters.sent_bytes) > 0);
	assert_int_equal(shutdown(rig.peer.fd, SHUT_WR), 0);
	RIG_TURNS(rig.closed_calls > 0);
	assert_int_equal(rig.end, CONN_END_SECURITY);
	assert_string_equal(tls_error(&rig.tls), "connection closed during the TLS handshake");
	rig_close();
}

static void tls_takes_a_goodbye_as_the_peers_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		bool fin = i / 2;

		rig_open(&(struct rig_options){.peer.version = versions[i % 2]});
		rig.peer.to_send = 100;
		RIG_UNTIL(rig.received == 100);
		assert_true(SSL_shutdown(rig.peer.session) >= 0);
		while (peer_say(&rig.peer, SIZE_MAX) > 0)
			;
		if (fin)
			assert_int_equal(shutdown(rig.peer.fd, SHUT_WR), 0);
		RIG_TURNS(rig.peer_finished_calls > 0);
		for (int turn = 0; turn < 5; turn++)
			assert_int_equal(worker_turn(&rig.worker, 1000), 0);
		assert_int_equal(rig.peer_finished_calls, 1);
		/* It will not say more, but still listens, in TLS 1.3; and hears our goodbye. */
		assert_true(conn_is_open(&rig.conn));
		conn_finish_sending(&rig.conn);
		RIG_TURNS(rig.closed_calls > 0);
		assert_int_equal(rig.end, CONN_END_LOCAL);
		assert_string_equal(tls_error(&rig.tls), "");
		rig_close();
	}
}

static void tls_answers_a_goodbye_by_itself_without_a_peer_finished(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.plain_handler = true});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	assert_int_equal(SSL_shutdown(rig.peer.session), 0);
	RIG_UNTIL(rig.peer.said_goodbye && rig.closed_calls > 0);
	assert_int_equal(rig.end, CONN_END_PEER);
	rig_close();
}

static void tls_says_goodbye_after_the_last_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
		rig_open(&(struct rig_options){.peer.version = versions[i]});
		RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
		assert_int_equal(rig_send(5000), 0);
		conn_finish_sending(&rig.conn);
		assert_int_equal(rig_send(1), -EPIPE);
		RIG_UNTIL(rig.peer.said_goodbye);
		assert_int_equal(rig.peer.received, 5000);
		assert_int_equal(rig.peer.error, 0);
		RIG_UNTIL(rig.peer.closed);
		peer_finish(&rig.peer);
		rig.peer = (struct peer){.fd = -1};
		RIG_TURNS(rig.closed_calls > 0);
		assert_int_equal(rig.end, CONN_END_LOCAL);
		rig_close();
	}
}

static void tls_conn_may_be_closed_at_any_time(void **state)
{
	(void)state;
	/* Before the first turn, during the handshake, inside a callback, and in the goodbye's. */
	rig_open(&(struct rig_options){0});
	rig_close();

	rig_open(&(struct rig_options){0});
	wait_for_the_first_answer();
	say_in_pieces((const size_t[]){50}, 1);
	rig_close();

	rig_open(&(struct rig_options){0});
	conn_finish_sending(&rig.conn);
	RIG_UNTIL(rig.closed_calls > 0 || rig.peer.closed);
	rig_close();

	rig_open(&(struct rig_options){0});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	rig.close_in_received = true;
	for (int i = 0; i < 3; i++)
		peer_write(&rig.peer, 100);
	say_in_pieces((const size_t[]){SIZE_MAX}, 1);
	RIG_TURNS(rig.closed_calls > 0);
	assert_int_equal(rig.received_calls, 1);
	rig_close();

	rig_open(&(struct rig_options){0});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	rig.close_in_peer_finished = true;
	assert_int_equal(SSL_shutdown(rig.peer.session), 0);
	RIG_UNTIL(rig.closed_calls > 0);
	assert_int_equal(rig.peer_finished_calls, 1);
	rig_close();
}

static void tls_refuses_renegotiation_and_goes_on(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.peer.version = TLS1_2_VERSION});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	assert_int_equal(SSL_renegotiate(rig.peer.session), 1);
	assert_int_equal(SSL_do_handshake(rig.peer.session), 1);
	RIG_UNTIL(rig.peer.error);
	assert_int_equal(ERR_GET_REASON(rig.peer.error), SSL_R_NO_RENEGOTIATION);
	assert_true(conn_is_open(&rig.conn));
	assert_string_equal(tls_error(&rig.tls), "");
	rig_close();
}

static void tls_follows_new_keys(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.peer.version = TLS1_3_VERSION});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	for (size_t round = 1; round <= 20; round++) {
		assert_int_equal(
			SSL_key_update(rig.peer.session, SSL_KEY_UPDATE_REQUESTED), 1);
		peer_write(&rig.peer, 100);
		rig.to_produce = round * 100;
		conn_wants_flush(&rig.conn);
		RIG_UNTIL(rig.received == round * 100 && rig.peer.received == round * 100);
	}
	assert_int_equal(rig.peer.wrong, 0);
	rig_close();
}

/* A peer that makes us answer and never reads: the queue's bound holds, the conn ends. */
static void tls_flood_of_requests_is_bounded(void **state)
{
	(void)state;
	rig_open(&(struct rig_options){.peer.version = TLS1_3_VERSION});
	RIG_UNTIL(tls_is_open(&rig.tls) && rig.peer.is_open);
	harness_set_int(rig.peer.fd, SOL_SOCKET, SO_RCVBUF, 4096);
	/* What ends it is a time, the linger of conn_options: rounds say nothing. */
	uint64_t give_up_ms = steady_ms() + 10000;

	for (int round = 0; !rig.closed_calls; round++) {
		assert_true(steady_ms() < give_up_ms);
		if (BIO_pending(rig.peer.out) < 4096) {
			/* Each is answered with 27 bytes or so. */
			assert_int_equal(
				SSL_key_update(rig.peer.session, SSL_KEY_UPDATE_REQUESTED), 1);
			assert_int_equal(SSL_do_handshake(rig.peer.session), 1);
		}
		peer_say(&rig.peer, SIZE_MAX);
		assert_true(rig.conn.queue.bytes <= rig.conn.queue.bytes_max);
		if (round % 64 == 0)
			assert_int_equal(worker_turn(&rig.worker, 0), 0);
		/* Not read by anyone, so that the kernel's buffers fill. */
	}
	assert_true(rig.end == CONN_END_SECURITY || rig.end == CONN_END_TIMEOUT);
	rig_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tls_carries_bytes_both_ways),
		cmocka_unit_test(tls_counts_the_payload_bytes_that_it_copies),
		cmocka_unit_test(tls_sends_nothing_of_ours_before_the_handshake_is_over),
		cmocka_unit_test(tls_handshake_survives_every_split),
		cmocka_unit_test(tls_survives_pieces_of_every_size),
		cmocka_unit_test(tls_records_survive_every_split),
		cmocka_unit_test(tls_moves_much_with_bounds_both_ways),
		cmocka_unit_test(tls_pauses_and_resumes_receiving),
		cmocka_unit_test(tls_refuses_a_send_that_does_not_fit_whole),
		cmocka_unit_test(tls_accepts_the_names_of_a_certificate),
		cmocka_unit_test(tls_refuses_names_that_cannot_be),
		cmocka_unit_test(tls_refuses_whom_it_cannot_trust),
		cmocka_unit_test(tls_shows_its_certificate_to_who_asks),
		cmocka_unit_test(tls_tells_when_the_peer_refuses_us),
		cmocka_unit_test(tls_refuses_old_versions),
		cmocka_unit_test(tls_refuses_garbage),
		cmocka_unit_test(tls_refuses_a_record_that_was_changed),
		cmocka_unit_test(tls_tells_a_cut_off_from_a_goodbye),
		cmocka_unit_test(tls_takes_a_goodbye_as_the_peers_end),
		cmocka_unit_test(tls_answers_a_goodbye_by_itself_without_a_peer_finished),
		cmocka_unit_test(tls_says_goodbye_after_the_last_byte),
		cmocka_unit_test(tls_conn_may_be_closed_at_any_time),
		cmocka_unit_test(tls_refuses_renegotiation_and_goes_on),
		cmocka_unit_test(tls_follows_new_keys),
		cmocka_unit_test(tls_flood_of_requests_is_bounded),
	};

	return cmocka_run_group_tests_name("net/tls", tests, certificates_make,
					   certificates_remove);
}
