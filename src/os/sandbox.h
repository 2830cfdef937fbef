/*
 * sandbox: what this process may still ask of the kernel once it serves, by libseccomp. Thread:
 * main.
 *
 * Rings, threads and listeners are there by then: from here on no new ring (a ring's own operations
 * are restricted when it is made, and seccomp does not see them), no thread, no process, no
 * program, no file opened for writing, no memory made executable, no socket but of the internet
 * families and unix, no device control, no signal to another process.
 */
#ifndef OS_SANDBOX_H
#define OS_SANDBOX_H

#include <stddef.h>

/*
 * From here on no program that this one might run gains a privilege: set-user-ID and file
 * capabilities count for nothing (PR_SET_NO_NEW_PRIVS). First of all, before anything from outside
 * is read.
 */
void sandbox_refuse_privileges(void);

/*
 * Closes the sandbox around every thread of the process, for good. What is not allowed gets EPERM;
 * a call by another architecture's table ends the process. Returns 0, or a negative errno with a
 * sentence in `why`: then nothing has changed. -EOPNOTSUPP: built with a sanitizer, whose own calls
 * are not those of the program.
 */
int sandbox_enter(char *why, size_t why_size);

#endif
