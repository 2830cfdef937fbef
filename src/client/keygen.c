/* keygen: a new Ed25519 key pair as PEM files. */
#include "auth/signer.h"
#include "client/command.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PEM_BYTES_MAX 4096

/* Never over an existing file. Returns 0 or a negative errno. */
static int write_public(const char *path, struct span pem)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;

	ssize_t written = write(fd, pem.data, pem.len);
	int code = written < 0 ? -errno : (size_t)written < pem.len ? -ENOSPC : 0;

	if (close(fd) != 0 && code == 0)
		code = -errno;
	if (code)
		unlink(path);
	return code;
}

/* To the file, or to standard output. */
static int publish_key(const char *path, struct span pem)
{
	int code = 0;

	if (path)
		code = write_public(path, pem);
	else if (fwrite(pem.data, 1, pem.len, stdout) != pem.len || fflush(stdout) != 0)
		code = -EIO;
	if (code)
		complain("keygen: %s: %s", path ? path : "standard output", strerrordesc_np(-code));
	return code ? EXIT_FAILED : EXIT_OKAY;
}

int keygen_run(const struct arguments *arguments)
{
	const char *private_path = arguments->positionals[0];
	const char *public_path =
		arguments->positional_count > 1 ? arguments->positionals[1] : NULL;
	struct signer *signer = NULL;
	struct buf pem;
	char why[256] = "out of memory";
	int code = EXIT_FAILED;

	buf_init(&pem, PEM_BYTES_MAX);
	if (signer_generate(&signer) != 0 || signer_public_pem(signer, &pem) != 0 ||
	    signer_save(signer, private_path, why, sizeof(why)) != 0)
		complain("keygen: %s", why);
	else
		code = publish_key(public_path, buf_span(&pem));
	buf_finish(&pem);
	signer_destroy(signer);
	return code;
}
