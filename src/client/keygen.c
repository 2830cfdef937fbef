/* keygen: a new Ed25519 key pair as PEM files. */
#include "auth/signer.h"
#include "base/explain.h"
#include "client/command.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PEM_BYTES_MAX 4096

static int failed(const char *path, int error)
{
	complain("keygen: %s: %s", path, errno_text(-error));
	return EXIT_FAILED;
}

/* Returns 0 or a negative errno. */
static int write_whole(int fd, struct span pem)
{
	ssize_t written = write(fd, pem.data, pem.len);
	int code = written < 0 ? -errno : (size_t)written < pem.len ? -ENOSPC : 0;

	if (close(fd) != 0 && code == 0)
		code = -errno;
	return code;
}

static int print_public(struct span pem)
{
	bool is_done = fwrite(pem.data, 1, pem.len, stdout) == pem.len && fflush(stdout) == 0;

	return is_done ? EXIT_OKAY : failed("standard output", -EIO);
}

static int save_private(const struct signer *signer, const char *path)
{
	char why[256] = "";

	if (signer_save(signer, path, why, sizeof(why)) == 0)
		return EXIT_OKAY;
	complain("keygen: %s", why);
	return EXIT_FAILED;
}

/* Never over an existing file. The public file is taken first, so that a try that fails leaves no
 * private key without its public one behind. */
static int save_pair(const struct signer *signer, const struct arguments *arguments,
		     struct span pem)
{
	const char *private_path = arguments->positionals[0];
	const char *public_path = arguments->positionals[1];

	if (arguments->positional_count == 1) {
		int code = save_private(signer, private_path);

		return code ? code : print_public(pem);
	}
	int fd = open(public_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	if (fd < 0)
		return failed(public_path, -errno);

	int error = write_whole(fd, pem);
	int code = error ? failed(public_path, error) : save_private(signer, private_path);

	if (code)
		unlink(public_path);
	return code;
}

int keygen_run(const struct arguments *arguments)
{
	struct signer *signer = NULL;
	struct buf pem;
	int code = EXIT_FAILED;

	buf_init(&pem, PEM_BYTES_MAX);
	if (signer_generate(&signer) != 0 || signer_public_pem(signer, &pem) != 0)
		complain("keygen: out of memory");
	else
		code = save_pair(signer, arguments, buf_span(&pem));
	buf_finish(&pem);
	signer_destroy(signer);
	return code;
}
