"""Certificates of a test's own, made by the openssl command when they are needed; no key is ever committed."""

import subprocess


def _openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
KEYS = {"ec": KEY, "ed25519": ("-newkey", "ed25519", "-nodes"), "rsa": ("-newkey", "rsa:2048", "-nodes")}


class Certificate:
    def __init__(self, folder, name):
        self.cert = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"


class Authority(Certificate):
    """A CA, and what it signs."""

    def __init__(self, folder, name="ca"):
        super().__init__(folder, name)
        self.folder = folder
        _openssl("req", "-x509", *KEY, "-days", 2, "-subj", f"/CN={name}", "-keyout", self.key, "-out", self.cert)

    def issue(self, name, names="DNS:localhost,IP:127.0.0.1", algorithm="ec"):
        made = Certificate(self.folder, name)
        _openssl("req", "-x509", "-CA", self.cert, "-CAkey", self.key, *KEYS[algorithm], "-days", 1, "-subj", f"/CN={name}",
                 "-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={names}",
                 "-keyout", made.key, "-out", made.cert)
        return made

    def issue_expired(self, name):
        made = Certificate(self.folder, name)
        request = self.folder / f"{name}.csr"
        _openssl("req", "-new", *KEY, "-subj", "/CN=localhost", "-keyout", made.key, "-out", request)
        # only `openssl ca` takes a time in the past in OpenSSL 3.0 and in 3.5
        config, index = self.folder / "ca.cnf", self.folder / "index"
        index.touch()
        config.write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={index}\npolicy=p\nnew_certs_dir={self.folder}\n"
                          "default_md=sha256\nrand_serial=yes\n[p]\ncommonName=supplied\n")
        _openssl("ca", "-batch", "-notext", "-config", config, "-cert", self.cert, "-keyfile", self.key, "-in", request,
                 "-out", made.cert, "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
        return made
