/* main: arguments, configuration, signals; builds the parts, starts the threads, waits. Source:
 * edge.md §6, §7. */
#include "admin/admin.h"
#include "auth/secrets.h"
#include "auth/signer.h"
#include "base/explain.h"
#include "config/config.h"
#include "gateway/gateway.h"
#include "gateway/redis_options.h"
#include "os/limits.h"
#include "os/sandbox.h"
#include "os/service.h"
#include "program/listeners.h"
#include "program/reloader.h"
#include "program/signals.h"
#include "rest/departed.h"
#include "rest/plan.h"
#include "rest/rest.h"
#include "rest/states.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define WHY_BYTES 512

enum exit_code { EXIT_CLEAN = 0, EXIT_FAILED = 1, EXIT_CONFIG = 2 };

struct program {
	const struct config *config;
	struct reloader reloader;
	struct admin_gathering *streams; /* while /streams is gathered */
	struct signer *signer;		 /* NULL: no edge gateway */
	struct tls_context *redis_tls; /* NULL: off */
	struct metric_registry *metrics;
	struct rest_shared rest; /* the API gateway's workers' */
	struct worker control;
	struct listeners listeners;
	struct gateway *gateway;
	struct admin *admin; /* NULL: off */
	uint32_t worker_count;
	uint64_t nofile;
	bool direct_files;
	int signal_fd;
	struct signals signals;
	bool ready, stopping, clean;
};

/* ---- arguments that only print ---- */

static int print(struct buf *out)
{
	bool written = !out->failed && fwrite(out->data, 1, out->len, stdout) == out->len &&
		       fflush(stdout) == 0;

	buf_finish(out);
	return written ? EXIT_CLEAN : EXIT_FAILED;
}

static int print_version(void)
{
	return printf("ringway %s (%s)\n", RINGWAY_VERSION, RINGWAY_COMMIT) > 0 ? EXIT_CLEAN
										: EXIT_FAILED;
}

static int load_signer(struct signer **signer, const struct config *config)
{
	char why[WHY_BYTES];

	if (signer_load(signer, config->signer_pem_path, why, sizeof(why)) == 0)
		return 0;
	fprintf(stderr, "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH: %s\n", why);
	return -EINVAL;
}

static int load_redis_tls(struct tls_context **context, const struct config *config)
{
	struct buf report;

	buf_init(&report, CONFIG_REPORT_BYTES_MAX);
	int error = redis_tls_load(context, config, &report);

	fprintf(stderr, "%.*s", SPAN_ARGS(buf_span(&report)));
	buf_finish(&report);
	return error;
}

static int print_public_key(const struct config *config)
{
	struct signer *signer;
	struct buf out;

	if (!config_has_edge(config)) {
		fputs("ringway: there is no response key: the edge gateway is not configured\n",
		      stderr);
		return EXIT_FAILED;
	}
	if (load_signer(&signer, config))
		return EXIT_FAILED;
	buf_init(&out, CONFIG_REPORT_BYTES_MAX);
	signer_public_pem(signer, &out);
	signer_destroy(signer);
	return print(&out);
}

/* What the edge gateway needs of files; all mistakes. `*signer` and `*redis_tls` are there or NULL,
 * whatever is returned. */
static int load_edge_files(const struct config *config, struct signer **signer,
			   struct tls_context **redis_tls)
{
	*signer = NULL;
	*redis_tls = NULL;
	if (!config_has_edge(config))
		return 0;
	/* one that is missing has been told */
	int signer_error = config->signer_pem_path[0] ? load_signer(signer, config) : 0;
	int tls_error = load_redis_tls(redis_tls, config);

	return signer_error ? signer_error : tls_error;
}

static int check_edge_files(const struct config *config)
{
	struct signer *signer;
	struct tls_context *redis_tls;
	int error = load_edge_files(config, &signer, &redis_tls);

	signer_destroy(signer);
	tls_context_destroy(redis_tls);
	return error;
}

/*
 * Prints the report; NULL means that the process must end with EXIT_CONFIG. `is_whole`: beside other
 * mistakes those of files are told, too.
 */
static struct config *load_config(bool is_whole)
{
	size_t mistake_count;
	struct buf report;

	buf_init(&report, CONFIG_REPORT_BYTES_MAX);
	struct config *config = config_read(environ, plan_compile, &report, &mistake_count);

	fprintf(stderr, "%.*s", SPAN_ARGS(buf_span(&report)));
	buf_finish(&report);
	config_forget_environment(environ);
	if (mistake_count == 0)
		return config;
	if (is_whole && config)
		(void)check_edge_files(config);
	fprintf(stderr, "ringway: the configuration has mistakes; nothing was started "
			"(ringway --help lists all settings)\n");
	config_destroy(config);
	return NULL;
}

/* All of start-up but network and bind. */
static int check_config(const struct config *config)
{
	if (check_edge_files(config))
		return EXIT_CONFIG;
	printf("configuration is valid\n");
	return EXIT_CLEAN;
}

static int print_values(const struct config *config)
{
	struct buf out;

	buf_init(&out, CONFIG_TEXT_BYTES_MAX);
	config_write_values(config, environ, &out);
	config_write_file(config->file, &out);
	return print(&out);
}

static int print_help(void)
{
	struct buf out;

	buf_init(&out, CONFIG_REPORT_BYTES_MAX);
	config_write_help(&out, "ringway");
	return print(&out);
}

/* ---- start-up ---- */

static int fail(const char *what, const char *why)
{
	LOG(LOG_ERROR, "main", what, LOG_TEXT("error", why));
	return -EIO;
}

/* Everything is open and running: what the process never needs again is given up. */
static void enter_sandbox(void)
{
	char why[WHY_BYTES];

	if (sandbox_enter(why, sizeof(why)) == 0)
		LOG(LOG_INFO, "main", "sandbox closed");
	else
		LOG(LOG_WARN, "main", "no sandbox", LOG_TEXT("why", why));
}

static void started(void *context)
{
	struct program *program = context;
	char fingerprint[SIGNER_FINGERPRINT_MAX] = "";

	enter_sandbox();
	if (program->admin &&
	    admin_listen(program->admin, program->listeners.sockets[LISTENER_ADMIN].fds[0]))
		LOG(LOG_ERROR, "main", "admin listener cannot accept");
	if (program->signer)
		signer_fingerprint(program->signer, fingerprint);
	listeners_log(&program->listeners, fingerprint);
	program->ready = true;
	reloader_start(&program->reloader);
}

static bool is_ready(const void *context)
{
	const struct program *program = context;

	return program->ready && !program->stopping;
}

/* ---- what operators look at ---- */

static void dump_config(void *context, struct admin_gathering *gathering)
{
	const struct program *program = context;
	struct buf out;

	buf_init(&out, CONFIG_TEXT_BYTES_MAX);
	config_write_values(program->config, environ, &out);
	config_write_file(program->reloader.file, &out);
	if (out.failed)
		admin_gather_failed(gathering, ERR_OUT_OF_MEMORY);
	else
		admin_gathered(gathering, "text/plain; charset=utf-8", buf_span(&out));
	buf_finish(&out);
}

static void streams_surveyed(void *context, const struct survey *surveys, size_t count)
{
	struct program *program = context;
	struct buf out;

	buf_init(&out, CONFIG_REPORT_BYTES_MAX);
	if (survey_write(surveys, count, &out))
		admin_gather_failed(program->streams, ERR_OUT_OF_MEMORY);
	else
		admin_gathered(program->streams, "application/json", buf_span(&out));
	buf_finish(&out);
}

static void dump_streams(void *context, struct admin_gathering *gathering)
{
	struct program *program = context;

	program->streams = gathering;
	if (gateway_survey(program->gateway, streams_surveyed, program))
		admin_gather_failed(gathering, ERR_SHUTTING_DOWN);
}

/* ---- the end ---- */

static void admin_stopped(void *context)
{
	struct program *program = context;

	if (program->admin)
		LOG(LOG_INFO, "main", "component stopped", LOG_TEXT("stopped", "admin"));
	signals_stop(&program->signals);
	worker_stop(&program->control);
}

/* Else the kernel would go on taking connections that nobody accepts; one of systemd's waits there
 * for the next. */
static void accepting_stopped(void *context)
{
	struct program *program = context;

	listeners_close(&program->listeners, LISTENER_PUBLIC);
	listeners_close(&program->listeners, LISTENER_GRPC);
}

static void gateway_stopped(void *context, bool clean)
{
	struct program *program = context;

	program->clean = clean;
	if (program->admin)
		admin_stop(program->admin, program->config->shutdown_timeout_ms, admin_stopped,
			   program);
	else
		admin_stopped(program);
}

static void stop(struct program *program)
{
	if (program->stopping)
		_exit(EXIT_FAILED); /* a second one ends the process at once */
	program->stopping = true;
	reloader_stop(&program->reloader);
	service_notify_stopping("draining");
	gateway_stop(program->gateway);
}

static void signal_received(struct signals *signals, int number)
{
	struct program *program = CONTAINER_OF(signals, struct program, signals);

	LOG(LOG_INFO, "main", "signal", LOG_TEXT("signal", strsignal(number)));
	if (number != SIGHUP)
		stop(program);
	else
		reloader_request(&program->reloader, program->gateway);
}

static int watch_signals(struct program *program)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	if (pthread_sigmask(SIG_BLOCK, &signals, NULL))
		return -errno;
	program->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (program->signal_fd < 0)
		return -errno;
	signals_start(&program->signals, &program->control, file_from_fd(program->signal_fd),
		      signal_received);
	return 0;
}

/* ---- the parts ---- */

static int create_control(struct program *program)
{
	struct ring_features features;
	char why[WHY_BYTES], text[WHY_BYTES];

	if (ring_probe(&features, why, sizeof(why)))
		return fail("io_uring cannot be used", why);
	ring_features_describe(&features, text, sizeof(text));
	LOG(LOG_INFO, "main", "io_uring", LOG_TEXT("features", text),
	    LOG_UINT("workers", program->worker_count));
	/*
	 * Before kernel 6.13 a closed direct file is kept, with its socket, until every operation
	 * begun before has ended. Such as the receive from Redis, or of a stream that lasts for
	 * days: meanwhile all that come and go would fill the kernel's memory.
	 */
	program->direct_files = features.prompt_close;
	const struct worker_options options = {
		.name = "main",
		.index = program->worker_count + 1,
		.ring = {.sq_entries = 64,
			 .cq_entries = 16384,
			 .file_slots = program->direct_files ? 64 : 0,
			 .buffer_count = 64,
			 .buffer_bytes = 4096},
		.clock = worker_clock_system,
		.metrics = program->metrics,
	};

	if (worker_init(&program->control, &options, why, sizeof(why)))
		return fail("io_uring cannot be used", why);
	return 0;
}

/* ---- the API gateway, as the edge gateway's guest ---- */

static int create_rest(void **guest, const struct guest_home *home)
{
	const struct rest_options options = {
		.worker = home->worker,
		.upstreams = home->upstreams,
		.redis = home->redis,
		.config = home->config,
		.secret = home->secret,
		.metrics = home->metrics,
		.shared = home->shared,
		.rpcs = home->rpcs,
		.copied_bytes = home->copied_bytes,
	};

	return rest_create((struct rest **)guest, &options);
}

static void destroy_rest(void *guest)
{
	rest_destroy(guest);
}

static const struct route *find_rest_route(void *guest, struct request *request)
{
	return rest_find(guest, request);
}

static void drain_rest(void *guest)
{
	rest_drain(guest);
}

static void revoke_rest_session(void *guest, struct span session)
{
	rest_session_revoked(guest, session);
}

static void forget_rest_sessions(void *guest)
{
	rest_sessions_forgotten(guest);
}

static const struct guest_operations rest_operations = {
	.create = create_rest,
	.destroy = destroy_rest,
	.find = find_rest_route,
	.drain = drain_rest,
	.session_revoked = revoke_rest_session,
	.sessions_forgotten = forget_rest_sessions,
};

static int create_parts(struct program *program)
{
	char why[WHY_BYTES];
	const struct gateway_options options = {
		.config = program->config,
		.redis_tls = program->redis_tls,
		.signer = program->signer,
		.control = &program->control,
		.worker_count = program->worker_count,
		.nofile = program->nofile,
		.direct_files = program->direct_files,
		.metrics = program->metrics,
		.public_socket = &program->listeners.sockets[LISTENER_PUBLIC],
		.grpc_socket = &program->listeners.sockets[LISTENER_GRPC],
		.guest = &rest_operations,
		.guest_shared = &program->rest,
		.started = started,
		.accepting_stopped = accepting_stopped,
		.stopped = gateway_stopped,
		.context = program,
	};

	if (gateway_create(&program->gateway, &options, why, sizeof(why)))
		return fail("cannot build the gateway", why);
	if (program->listeners.bound[LISTENER_ADMIN]) {
		const struct admin_dump dumps[] = {
			{"/config", dump_config, program},
			{"/streams", dump_streams, program},
		};
		struct admin_options admin = {
			.worker = &program->control,
			.config = program->config,
			.metrics = program->metrics,
			.is_ready = is_ready,
			.context = program,
			.dumps = dumps,
			.dump_count = ARRAY_LEN(dumps),
		};

		limits_random(&admin.secret, sizeof(admin.secret));
		if (admin_create(&program->admin, &admin))
			return fail("cannot build the admin listener", "out of memory");
	}
	int error = watch_signals(program);

	if (error)
		return fail("cannot watch signals", errno_text(-error));
	if (gateway_start(program->gateway, why, sizeof(why))) {
		fail("cannot start", why);
		listeners_close_all(&program->listeners);
		_exit(EXIT_FAILED); /* some threads run, with what our callers would free */
	}
	return 0;
}

/* Of what all threads share. */
static int create_shared(struct program *program)
{
	bool has_redis = config_has_edge(program->config);
	struct hash_secret secret;

	limits_random(&secret, sizeof(secret));
	program->metrics = metric_registry_create();
	program->rest.departed = departed_create();
	program->rest.states = has_redis ? NULL : states_create(STATES_MAX, secret);
	if (!program->metrics || !program->rest.departed || (!has_redis && !program->rest.states))
		return fail("cannot start", "out of memory");
	return 0;
}

static int serve(struct program *program)
{
	char why[WHY_BYTES];

	if (create_shared(program))
		return EXIT_FAILED;
	if (create_control(program))
		return EXIT_FAILED;
	if (reloader_init(&program->reloader, program->config, &program->control,
			  program->metrics)) {
		fail("cannot build the reloader", "out of memory");
		return EXIT_FAILED;
	}
	if (config_has_edge(program->config) &&
	    gateway_ping(&program->control, program->config, program->redis_tls, why,
			 sizeof(why))) {
		fail("start-up check failed", why);
		return EXIT_FAILED;
	}
	if (listeners_open(&program->listeners, program->config, program->worker_count) ||
	    create_parts(program)) {
		listeners_close_all(&program->listeners);
		return EXIT_FAILED;
	}
	int error = worker_run(&program->control);

	if (error) {
		fail("ring failed", errno_text(-error));
		_exit(EXIT_FAILED); /* as above */
	}
	listeners_close_all(&program->listeners);
	if (program->admin)
		admin_destroy(program->admin);
	gateway_destroy(program->gateway);
	worker_finish(&program->control);
	close(program->signal_fd);
	metric_registry_destroy(program->metrics);
	departed_destroy(program->rest.departed);
	states_destroy(program->rest.states);
	LOG(LOG_INFO, "main", "stopped", LOG_FLAG("clean", program->clean));
	return program->clean ? EXIT_CLEAN : EXIT_FAILED;
}

/* A SIGHUP that comes while we start must not end us: it waits until signals are watched. */
static void hold_reloads(void)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

/* Not locked they still are left out of core dumps, and wiped: no reason not to serve. */
static void report_secrets(const struct program *program)
{
	if ((program->signer && !signer_is_locked(program->signer)) ||
	    !config_secrets_are_locked(program->config) || !secrets_are_locked())
		LOG(LOG_WARN, "main", "keys may be swapped out",
		    LOG_TEXT("why", "RLIMIT_MEMLOCK leaves no memory to lock"),
		    LOG_TEXT("remedy", "LimitMEMLOCK= in the unit, ulimit -l, or no swap"));
}

static int run(const struct config *config)
{
	static struct program program; /* large: a socket per worker and listener */
	const struct log_options log = {
		.level = config->log_level, .format = config->log_format, .fd = STDERR_FILENO};

	log_setup(&log);
	/* a log that nobody reads any more, or that may not grow, must not end the process */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	hold_reloads();
	program.config = config;
	if (load_edge_files(config, &program.signer, &program.redis_tls))
		return EXIT_FAILED;
	report_secrets(&program);
	program.nofile = limits_raise_nofile();
	program.worker_count = config->workers ? (uint32_t)config->workers : limits_cpu_count();
	if (program.worker_count > WORKERS_MAX - 2)
		program.worker_count = WORKERS_MAX - 2; /* room for the bus and main */
	int code = serve(&program);

	reloader_finish(&program.reloader);
	tls_context_destroy(program.redis_tls);
	signer_destroy(program.signer);
	return code;
}

int main(int argc, char **argv)
{
	const char *argument = argc > 1 ? argv[1] : "";
	const struct {
		const char *name;
		int (*run)(const struct config *config);
	} commands[] = {
		{"", run},
		{"--check-config", check_config},
		{"--print-config", print_values},
		{"--print-public-key", print_public_key},
	};

	limits_fill_standard();
	if (argc <= 2 && strcmp(argument, "--help") == 0)
		return print_help();
	if (argc <= 2 && strcmp(argument, "--version") == 0)
		return print_version();
	sandbox_refuse_privileges();
	if (auth_init()) {
		fputs("ringway: no memory for cryptography\n", stderr);
		return EXIT_FAILED;
	}
	for (size_t i = 0; argc <= 2 && i < ARRAY_LEN(commands); i++) {
		if (strcmp(argument, commands[i].name) != 0)
			continue;
		struct config *config = load_config(commands[i].run == check_config);

		if (!config)
			return EXIT_CONFIG;
		int code = commands[i].run(config);

		config_destroy(config);
		return code;
	}
	fprintf(stderr, "ringway: unknown argument '%s'; try --help\n",
		argc > 2 ? argv[2] : argument);
	return EXIT_CONFIG;
}
