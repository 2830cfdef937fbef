#include "push_freeze.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define LOOKS_MAX 2000
#define LOOK_NS	  1000000

/* The state's letter comes behind the name, which may hold anything. */
static bool task_is_stopped(pid_t pid, const char *task)
{
	char path[300], text[512];

	snprintf(path, sizeof(path), "/proc/%d/task/%s/stat", (int)pid, task);
	FILE *file = fopen(path, "re");

	if (!file)
		return true; /* it has ended */

	size_t len = fread(text, 1, sizeof(text) - 1, file);

	fclose(file);
	text[len] = '\0';

	const char *behind = strrchr(text, ')');

	return !behind || behind[1] == '\0' || behind[2] == 'T';
}

static bool process_is_stopped(pid_t pid)
{
	char path[64];
	bool is_stopped = true;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *folder = opendir(path);

	if (!folder)
		return true;
	for (const struct dirent *entry; is_stopped && (entry = readdir(folder));)
		is_stopped = entry->d_name[0] == '.' || task_is_stopped(pid, entry->d_name);
	closedir(folder);
	return is_stopped;
}

int servers_freeze(const struct options *options)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};
	size_t stopped = 0;

	for (size_t i = 0; i < options->server_pid_count; i++)
		(void)kill(options->server_pids[i], SIGSTOP);
	for (unsigned looks = 0; stopped < options->server_pid_count; looks++) {
		if (process_is_stopped(options->server_pids[stopped])) {
			stopped++;
			continue;
		}
		if (looks == LOOKS_MAX)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return 0;
}

void servers_thaw(const struct options *options)
{
	for (size_t i = 0; i < options->server_pid_count; i++)
		(void)kill(options->server_pids[i], SIGCONT);
}
