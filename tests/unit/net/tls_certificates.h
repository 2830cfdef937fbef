/* tls_certificates: keys and certificates made by the openssl command when a test program starts,
 * in a folder that goes with it. */
#ifndef UNIT_NET_TLS_CERTIFICATES_H
#define UNIT_NET_TLS_CERTIFICATES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

static char certificates[] = "/tmp/ringway-tls-XXXXXX";

/* The path of a file in the folder; valid until the fourth call after this one. */
static inline const char *certificate_path(const char *name)
{
	static char paths[4][96];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", certificates, name);
	return path;
}

__attribute__((format(printf, 1, 2))) static inline void certificate_shell(const char *format, ...)
{
	char command[1024];
	int len = snprintf(command, sizeof(command), "cd %s && ( ", certificates);
	va_list args;

	va_start(args, format);
	len += vsnprintf(command + len, sizeof(command) - (size_t)len, format, args);
	va_end(args);
	assert_true((size_t)len + 20 < sizeof(command));
	snprintf(command + len, sizeof(command) - (size_t)len, " ) >>log 2>&1");
	if (system(command) != 0) {
		print_message("failed: %s\n", command);
		fail();
	}
}

#define CERTIFICATE_KEY "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"

/* <name>.pem and <name>.key, for these names, signed by <ca>. */
static inline void certificate_issue(const char *ca, const char *name, const char *names)
{
	certificate_shell("openssl req -x509 -CA %s.pem -CAkey %s.key " CERTIFICATE_KEY
			  " -days 1 -subj /CN=%s -addext basicConstraints=critical,CA:FALSE"
			  " -addext subjectAltName=%s -keyout %s.key -out %s.pem",
			  ca, ca, name, names, name, name);
}

static inline void certificate_authority(const char *name)
{
	certificate_shell("openssl req -x509 " CERTIFICATE_KEY
			  " -days 2 -subj /CN=%s -keyout %s.key -out %s.pem",
			  name, name, name);
}

static inline int certificates_make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(certificates));
	certificate_authority("ca");
	certificate_authority("other");
	certificate_issue("ca", "server", "DNS:redis.test,DNS:*.wild.test,IP:127.0.0.1,IP:::1");
	certificate_issue("ca", "client", "DNS:gateway.test");
	certificate_issue("other", "stranger", "DNS:stranger.test");
	certificate_shell("openssl req -x509 " CERTIFICATE_KEY
			  " -days 2 -subj /CN=redis.test -addext basicConstraints=critical,CA:FALSE"
			  " -addext subjectAltName=DNS:redis.test -keyout self.key -out self.pem");
	/* only `openssl ca` takes a time in the past in OpenSSL 3.0 and in 3.5 */
	certificate_shell(
		"openssl req -new " CERTIFICATE_KEY
		" -subj /CN=redis.test -keyout expired.key -out expired.csr && : >index && "
		"printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\npolicy=p\\n"
		"new_certs_dir=.\\ndefault_md=sha256\\nrand_serial=yes\\n[p]\\ncommonName="
		"supplied\\n' >ca.cnf && "
		"openssl ca -batch -notext -config ca.cnf -cert ca.pem "
		"-keyfile ca.key -in expired.csr -out expired.pem "
		"-startdate 20200101000000Z -enddate 20200102000000Z");
	return 0;
}

static inline int certificates_remove(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", certificates);
	return system(command);
}

#endif
