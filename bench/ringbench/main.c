/* ringbench: a load generator on the project's own ring; it checks what it receives. */
#include "works.h"

#include "auth/signer.h"
#include "base/check.h"
#include "log/log.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

enum { EXIT_GOOD, EXIT_BAD, EXIT_USAGE };

static const struct {
	const char *name;
	int (*run)(const struct options *options);
} works[] = {
	{"http", http_run}, {"push", push_run},	      {"storm", storm_run},
	{"h2", h2_run},	    {"command", command_run},
};

static int pin(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((size_t)cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0)
		return 0;
	tell("--cpu %d: %s", cpu, strerrordesc_np(errno));
	return -errno;
}

/* As many connections as may be. */
static void lift_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	struct options options;
	int code = options_parse(&options, argc, argv);

	if (code == -ECANCELED) {
		options_help();
		return EXIT_GOOD;
	}
	if (code)
		return EXIT_USAGE;
	signal(SIGPIPE, SIG_IGN);
	log_setup(&(struct log_options){.level = LOG_WARN, .fd = STDERR_FILENO});
	lift_limits();
	if (options.cpu >= 0 && pin(options.cpu) != 0)
		return EXIT_USAGE;
	if (auth_init() != 0) {
		tell("libsodium does not start");
		return EXIT_BAD;
	}
	for (size_t i = 0; i < sizeof(works) / sizeof(*works); i++)
		if (strcmp(options.work, works[i].name) == 0)
			return works[i].run(&options);
	tell("no work is called '%s'", options.work);
	return EXIT_USAGE;
}
