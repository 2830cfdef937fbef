"""What `make install` and `make deb` put where (issue: operations): programs, units, man pages, completion, package."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

import harness

PREFIX = "/opt/ringway"
UNITS = ["ringway.service", "ringway-admin.socket", "ringway-grpc.socket", "ringway-public.socket"]
DOCUMENTS = ["README.md", "alerts.yml", "dashboard.json", "ringway.env.example"]
INSTALLED = {
    "bin/ringway": 0o755,
    "bin/ringway-client": 0o755,
    **{f"lib/systemd/system/{unit}": 0o644 for unit in UNITS},
    "share/bash-completion/completions/ringway": 0o644,
    "share/bash-completion/completions/ringway-client": 0o644,
    **{f"share/doc/ringway/{document}": 0o644 for document in DOCUMENTS},
    "share/man/man1/ringway-client.1": 0o644,
    "share/man/man8/ringway.8": 0o644,
}
PACKAGED = {
    "etc/ringway/ringway.env": "-rw-------",
    "usr/bin/ringway": "-rwxr-xr-x",
    "usr/bin/ringway-client": "-rwxr-xr-x",
    **{f"usr/lib/systemd/system/{unit}": "-rw-r--r--" for unit in UNITS},
    "usr/share/bash-completion/completions/ringway": "-rw-r--r--",
    "usr/share/bash-completion/completions/ringway-client": "-rw-r--r--",
    "usr/share/doc/ringway/changelog.gz": "-rw-r--r--",
    "usr/share/doc/ringway/copyright": "-rw-r--r--",
    **{f"usr/share/doc/ringway/{document}": "-rw-r--r--" for document in DOCUMENTS},
    "usr/share/lintian/overrides/ringway": "-rw-r--r--",
    "usr/share/man/man1/ringway-client.1.gz": "-rw-r--r--",
    "usr/share/man/man8/ringway.8.gz": "-rw-r--r--",
}


def need(tool):
    path = shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not path:
        pytest.skip(f"{tool} is not installed")
    return path


@contextlib.contextmanager
def alone():
    """Other test processes build into the same folder."""
    with open(harness.OUT / "make.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(*arguments):
    """What was committed since the build makes no program anew, which others run."""
    commit = (harness.OUT / "commit").read_text().strip()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "--no-print-directory", f"MODE={harness.MODE}", f"BUILD={harness.BUILD}", f"TREE_COMMIT={commit}",
         *map(str, arguments)],
        cwd=harness.ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_package(folder):
    """The package, built anew; whatever is committed meanwhile does not show in it."""
    with alone():
        made = make("deb", "COMMIT=0123456789ab", "SOURCE_DATE_EPOCH=1800000000").splitlines()[-1]
        return pathlib.Path(shutil.copy(harness.ROOT / made, folder))


def run(*arguments, **options):
    return subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def files_below(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    need("make")
    destination = tmp_path_factory.mktemp("install")
    with alone():
        make("install", f"DESTDIR={destination}", f"PREFIX={PREFIX}")
    return destination / PREFIX.lstrip("/")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    need("make"), need("dpkg-deb"), need("dpkg-shlibdeps")
    if harness.MODE != "release":
        pytest.skip("only a release is packed")
    return make_package(tmp_path_factory.mktemp("deb"))


def options_of(program, *command):
    return set(re.findall(r"^  (--[a-z-]+)", run(program, *command, "--help"), re.MULTILINE))


def commands_of(program):
    return re.findall(r"^  ([a-z]+) ", run(program, "--help"), re.MULTILINE)


# ---- make install ----

def test_install_puts_every_file_in_its_place_and_nothing_else(installed):
    found = files_below(installed)
    assert {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()} == INSTALLED
    for program in ("ringway", "ringway-client"):
        assert run(installed / "bin" / program, "--version").startswith(f"{program} ")


def test_installed_units_start_the_installed_program(installed):
    unit = (installed / "lib/systemd/system/ringway.service").read_text()
    assert f"\nExecStart={PREFIX}/bin/ringway\n" in unit
    assert re.search(rf"^ExecPaths=.*{PREFIX}/bin/ringway( |$)", unit, re.MULTILINE), "it may not even execute itself"
    assert "/usr/bin/ringway" not in unit


def test_uninstall_removes_what_install_put_there(tmp_path):
    need("make")
    bystander = tmp_path / "usr/local/bin/bystander"
    with alone():
        make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
        bystander.touch()
        make("uninstall", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
    assert list(files_below(tmp_path).values()) == [bystander]


# ---- man pages ----

@pytest.mark.parametrize("page", ["man8/ringway.8", "man1/ringway-client.1"])
def test_man_page_is_clean(installed, page):
    mandoc = need("mandoc")
    result = subprocess.run([mandoc, "-T", "lint", "-W", "warning", installed / "share/man" / page],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert result.returncode == 0 and result.stdout == ""
    rendered = run(mandoc, "-T", "utf8", "-W", "error", installed / "share/man" / page)
    assert "@" not in re.sub(r"TEXT\|@FILE", "", re.sub(r".\x08", "", rendered)), "a part was not put in"


def test_man_page_of_the_server_has_every_option_and_variable(installed):
    page = (installed / "share/man/man8/ringway.8").read_text()
    options = options_of(harness.RINGWAY)
    variables = set(re.findall(r"^  (GATEWAY_\w+)", run(harness.RINGWAY, "--help"), re.MULTILINE))
    assert len(variables) > 40 and "--check-config" in options
    assert set(re.findall(r"^\.It Ev (\w+)", page, re.MULTILINE)) == variables
    assert {f"--{name}" for name in re.findall(r"^\.It Fl Fl ([a-z-]+)", page, re.MULTILINE)} == options
    assert ".It Ev GATEWAY_SESSION_CACHE_REDIS_PASSWORD , Ev GATEWAY_SESSION_CACHE_REDIS_PASSWORD_FILE" in page


def test_man_page_of_the_client_has_every_option_of_every_command(installed):
    page = (installed / "share/man/man1/ringway-client.1").read_text()
    commands = commands_of(harness.CLIENT)
    assert "execute" in commands and "subscribe" in commands
    for command in commands:
        part = page.split(f"\n.Ss {command}\n")[1].split("\n.S")[0]
        shown = {f"--{name}" for name in re.findall(r"^\.It Fl Fl ([a-z-]+)", part, re.MULTILINE)}
        assert shown == options_of(harness.CLIENT, command), command


def test_man_page_generator_refuses_a_template_it_cannot_fill(tmp_path):
    template = tmp_path / "ringway.8.in"
    template.write_text(".Dd @DATE@\n@NOTHING@\n")
    result = subprocess.run([harness.ROOT / "scripts/write-man", template, harness.RINGWAY, "January 1, 2026"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode != 0 and "@NOTHING@" in result.stderr


# ---- completion ----

def complete(installed, *words, cwd=None):
    """What bash offers for the last of these words, in a shell without anything else loaded."""
    script = """
        set -u
        source "$1/share/bash-completion/completions/$2"
        PATH=$1/bin:$PATH
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        read -r -a spec < <(complete -p "$1")
        "${spec[2]}" "$1"
        [ "${#COMPREPLY[@]}" = 0 ] || printf '%s\\n' "${COMPREPLY[@]}"
    """
    result = subprocess.run([need("bash"), "--norc", "-c", script, "bash", str(installed), *words], cwd=cwd,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0 and result.stderr == "", result.stderr
    return set(result.stdout.split())


def test_completion_offers_the_options_of_the_server(installed):
    assert complete(installed, "ringway", "--") == options_of(harness.RINGWAY)
    assert complete(installed, "ringway", "--print-p") == {"--print-public-key"}
    assert complete(installed, "ringway", "--help", "--") == set()


def test_completion_offers_commands_options_and_files_of_the_client(installed, tmp_path):
    (tmp_path / "key.pem").touch()
    commands = set(commands_of(harness.CLIENT))
    assert complete(installed, "ringway-client", "") == commands | {"--help", "--version"}
    for command in commands:
        offered = complete(installed, "ringway-client", command, "--")
        assert offered == options_of(harness.CLIENT, command) | {"--help"}, command
    for words in (["execute", "--key", "k"], ["execute", "--key", "=", "k"], ["keygen", "k"],
                  ["publish", "--password-file", "k"]):
        assert complete(installed, "ringway-client", *words, cwd=tmp_path) == {"key.pem"}, words
    assert complete(installed, "ringway-client", "execute", "--payload", "@k", cwd=tmp_path) == {"@key.pem"}
    assert complete(installed, "ringway-client", "execute", "--session", "k", cwd=tmp_path) == set()
    assert complete(installed, "ringway-client", "nonsense", "--", cwd=tmp_path) == set()


# ---- make deb ----

def test_package_has_what_is_expected_and_nothing_else(package):
    version = run(harness.RINGWAY, "--version").split()[1]
    assert re.fullmatch(rf"ringway_{version}_[a-z0-9]+\.deb", package.name)
    listed = {}
    for line in run("dpkg-deb", "-c", package).splitlines():
        mode, owner, _, _, _, name = line.split(None, 5)
        assert owner == "root/root", line
        if not name.endswith("/"):
            listed[name.removeprefix("./")] = mode
    assert listed == PACKAGED


def test_package_says_what_it_needs_and_keeps_its_configuration(package, tmp_path):
    field = dict(line.split(": ", 1) for line in run("dpkg-deb", "-f", package).splitlines() if not line.startswith(" "))
    assert field["Package"] == "ringway" and field["Section"] == "net"
    depends = {dependency.split()[0] for dependency in field["Depends"].split(", ")}
    for library in ("libc6", "libnghttp2-14", "libsodium23", "libsystemd0", "libyaml-0-2"):
        assert library in depends
    assert any(re.fullmatch(r"libssl3(t64)?", dependency) for dependency in depends)
    run("dpkg-deb", "-e", package, tmp_path)
    assert (tmp_path / "conffiles").read_text() == "/etc/ringway/ringway.env\n"
    for script in ("postinst", "prerm", "postrm"):
        assert os.access(tmp_path / script, os.X_OK)
        run("sh", "-n", tmp_path / script)
    sums = {line.split()[1] for line in (tmp_path / "md5sums").read_text().splitlines()}
    assert sums == PACKAGED.keys() - {"etc/ringway/ringway.env"}


def test_the_same_tree_gives_the_same_package(package, tmp_path):
    assert make_package(tmp_path).read_bytes() == package.read_bytes()


def test_only_a_release_is_packed(tmp_path):
    result = subprocess.run([harness.ROOT / "scripts/make-deb", tmp_path / "debug", tmp_path, "1", "none"],
                            env={**os.environ, "SOURCE_DATE_EPOCH": "0"}, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2 and "only a release" in result.stderr
    assert list(pathlib.Path(tmp_path).iterdir()) == []
