#include "gateway/redis_options.h"

#include "base/explain.h"

#include <errno.h>

#define VARIABLE "GATEWAY_SESSION_CACHE_REDIS_TLS_"
#define WHY_BYTES 512

/* How a file is taken into the context. */
typedef int take_fn(struct tls_context *context, const char *path, char *why, size_t why_size);

static int take(struct tls_context *context, take_fn *take_file, const char *path,
		const char *variable, struct buf *report)
{
	char why[WHY_BYTES];
	int error = take_file(context, path, why, sizeof(why));

	if (error)
		buf_printf(report, "%s: %s\n", variable, why);
	return error;
}

int redis_tls_load(struct tls_context **context, const struct config *config, struct buf *report)
{
	*context = NULL;
	if (!config->redis_tls_enabled)
		return 0;

	int error = tls_context_create(context);

	if (error) {
		buf_printf(report, VARIABLE "ENABLED: TLS cannot be set up: %s\n",
			   errno_text(-error));
		return error;
	}
	error = take(*context, tls_context_trust, config->redis_tls_ca_file, VARIABLE "CA_FILE",
		     report);
	if (config->redis_tls_cert_file[0]) {
		int own = take(*context, tls_context_use_certificate, config->redis_tls_cert_file,
			       VARIABLE "CERT_FILE", report);

		/* whether a key fits can be said of a certificate only */
		if (!own && config->redis_tls_key_file[0])
			own = take(*context, tls_context_use_key, config->redis_tls_key_file,
				   VARIABLE "KEY_FILE", report);
		if (own)
			error = own;
	}
	if (error) {
		tls_context_destroy(*context);
		*context = NULL;
	}
	return error;
}

struct redis_options redis_options_from(const struct config *config, const struct tls_context *tls)
{
	const char *name = config->redis_tls_server_name;

	return (struct redis_options){
		.endpoint = config->redis_addr.endpoint,
		.username = span_from_cstr(config->redis_username),
		.password = span_from_cstr(config->redis_password),
		.db = (uint32_t)config->redis_db,
		.tls = tls,
		.tls_name = name && name[0] ? name : NULL,
	};
}
