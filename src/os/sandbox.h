/*
 * sandbox: what this process may still ask of the kernel once it serves, by libseccomp. Thread:
 * main.
 *
 * Rings, threads and listeners are there by then: from here on no new ring (a ring's own operations
 * are restricted when it is made, and seccomp does not see them), no thread, no process, no
 * program, no file opened for writing, no memory made executable, no socket but of the internet
 * families and unix.
 */
#ifndef OS_SANDBOX_H
#define OS_SANDBOX_H

#include <stddef.h>

/*
 * Closes the sandbox around every thread of the process, for good; sets no_new_privs. What is not
 * allowed gets EPERM. Returns 0, or a negative errno with a sentence in `why`: then nothing has
 * changed. -EOPNOTSUPP: built with a sanitizer, whose own calls are not those of the program.
 */
int sandbox_enter(char *why, size_t why_size);

#endif
