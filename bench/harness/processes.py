"""Everything that is started for a measurement: pinned, found again by its process id, and stopped by it.

Nothing is left behind: a Stage owns a temporary folder and all processes started in it.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
OUT = BUILD / "release"
CONFIG = ROOT / "bench" / "config"
RESULTS = BUILD / "bench"
NCHAN = pathlib.Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PATIENCE = 30.0

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = CPUS[0], CPUS[-1]

os.environ["PATH"] += ":/usr/sbin:/sbin"


class Wrong(Exception):
    """A run whose answers were wrong, or that did not come to its end: it has no figure."""


_places = []


def free_port():
    """Free, and nobody else's: a socket that is bound and never listens keeps it from whoever asks for any port."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    _places.append(place)
    return place.getsockname()[1]


def cpu_us(pid):
    """User and system time of a process, all its threads, exact: clock_getcpuclockid(3)'s arithmetic."""
    return time.clock_gettime_ns((~pid << 3) | 2) / 1000


def memory_of(pid):
    """Bytes: Pss, Private (what would come back if it ended), and the most that was ever resident."""
    out = {"pss": 0, "private": 0}
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            out["peak"] = int(line.split()[1]) * 1024
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        if name == "Pss:":
            out["pss"] = int(value) * 1024
        elif name.startswith("Private_"):
            out["private"] += int(value) * 1024
    return out


def kernel_memory():
    """Bytes in slabs and page tables of sockets and operations, for differences; and TCP's own count of its buffers."""
    values = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    tcp = next(line for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    words = tcp.split()
    pages = int(words[words.index("mem") + 1])
    return {"slab": int(values["Slab"].split()[0]) * 1024, "percpu": int(values["Percpu"].split()[0]) * 1024,
            "tcp": pages * os.sysconf("SC_PAGE_SIZE")}


class Process:
    """A program pinned to one CPU. Its standard output is read line by line, standard error goes to a file."""

    def __init__(self, stage, name, arguments, cpu=SERVER_CPU, env=None):
        self.name = name
        self.log = stage.folder / f"{name}-{next(stage.numbers)}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(cpu), *map(str, arguments)], env=env, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=log, cwd=stage.folder)
        self.pid = self.process.pid  # taskset becomes the program
        stage.processes.append(self)

    def fail(self, what):
        said = self.log.read_text(errors="replace").splitlines()[-5:]
        raise Wrong(f"{self.name}: {what}: " + " | ".join(said))

    def line(self, patience=PATIENCE):
        """The next line of its standard output."""
        guard = threading.Timer(patience, self.process.kill)
        guard.start()
        try:
            text = self.process.stdout.readline().decode()
        finally:
            guard.cancel()
        if not text:
            self.fail("it ended, or said nothing")
        return text.strip()

    def say(self, text):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()

    def end_input(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def result(self, patience=PATIENCE):
        """The JSON object that it ends with."""
        return json.loads(self.line(patience))

    def wait_port(self, port):
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.fail("does not listen")
            time.sleep(0.02)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


class Stage:
    """A folder and what runs in it; a context manager, and everything is gone at its end."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rb-"))
        self.folder.chmod(0o755)
        self.processes = []
        self.numbers = iter(range(1, 1 << 30))
        static = self.folder / "static"
        static.mkdir()
        (static / "healthz").write_text('{"status":"ok"}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        shutil.rmtree(self.folder)

    def start(self, name, arguments, cpu=SERVER_CPU, env=None):
        return Process(self, name, arguments, cpu, env)

    def configure(self, name, **values):
        text = (CONFIG / name).read_text()
        for key, value in {"folder": self.folder, **values}.items():
            text = text.replace(f"@{key}@", str(value))
        path = self.folder / f"{next(self.numbers)}-{name}"
        path.write_text(text)
        return path


class Redis:
    def __init__(self, stage, cpu=LOAD_CPU, tcp=False):
        self.socket = stage.folder / f"redis-{next(stage.numbers)}.sock"
        self.port = free_port() if tcp else 0
        self.process = stage.start("redis", ["redis-server", stage.configure("redis.conf"), "--port", self.port,
                                             "--unixsocket", self.socket, "--dir", stage.folder], cpu)
        while "ready to accept" not in self.process.line().lower():
            pass
        # its log goes on: nobody waits for it, but the pipe must not fill
        threading.Thread(target=self.process.process.stdout.read, daemon=True).start()
        self.pid = self.process.pid
        self.address = f"unix:{self.socket}"

    def flush(self):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(self.socket))
            link.sendall(b"FLUSHALL\r\n")
            link.recv(64)


class Echo:
    def __init__(self, stage, cpu=LOAD_CPU):
        self.process = stage.start("echo_handler", [OUT / "echo_handler", "--listen", "127.0.0.1:0"], cpu)
        self.pid, self.address = self.process.pid, self.process.line().split()[1]


def make_keys(stage):
    path = stage.folder / "gateway.pem"
    if not path.exists():
        subprocess.run([OUT / "ringway-client", "keygen", path, stage.folder / "gateway.public.pem"], check=True,
                       stdout=subprocess.DEVNULL)
    return path


class Gateway:
    """The program under test: one worker, pinned, budgets off (they are not what is measured)."""

    name = "ringway"

    def __init__(self, stage, redis, echo=None, workers=1, cpu=SERVER_CPU, config=None, **more):
        self.redis = redis
        signer = make_keys(stage)
        self.public_key = stage.folder / "gateway.public.pem"
        env = {
            "PATH": os.environ["PATH"],
            "GATEWAY_PUBLIC_HTTP_ADDR": "127.0.0.1:0",
            "GATEWAY_AUTHENTICATED_GRPC_ADDR": "127.0.0.1:0",
            "GATEWAY_ADMIN_HTTP_ADDR": "127.0.0.1:0",
            "GATEWAY_SESSION_CACHE_REDIS_ADDR": redis.address,
            "GATEWAY_SESSION_EVENTS_REDIS_STREAM": "gateway:session_events",
            "GATEWAY_CLIENT_EVENTS_REDIS_STREAM": "gateway:client_events",
            "GATEWAY_RESPONSE_SIGNER_PRIVATE_KEY_PEM_PATH": str(signer),
            "GATEWAY_WORKERS": str(workers),
            "GATEWAY_ACCESS_LOG": "errors",
            # the load shares a CPU with Redis: late is not lost
            "GATEWAY_SESSION_CACHE_REDIS_LOOKUP_TIMEOUT": "5s",
            "GATEWAY_REPLAY_REDIS_RESERVE_TIMEOUT": "5s",
            "GATEWAY_PUBLIC_HTTP_ANTI_ABUSE_PUBLIC_MISC_REQUESTS": "0",
            **{f"GATEWAY_AUTHENTICATED_GRPC_ANTI_ABUSE_{name}_REQUESTS": "0" for name in ("IP", "SESSION", "USER")},
        }
        if echo:
            config = stage.configure("ringway.yaml", upstream=echo.address)
        if config:
            env["GATEWAY_CONFIG_FILE"] = str(config)
        env.update({name: str(value) for name, value in more.items()})
        cpus = cpu if workers == 1 else ",".join(map(str, CPUS))
        self.process = stage.start("ringway", [OUT / "ringway"], cpus, env)
        self.pid = self.process.pid
        self._wait_listening()

    def _wait_listening(self):
        found, deadline = {}, time.monotonic() + PATIENCE
        while len(found) < 3:
            if self.process.process.poll() is not None or time.monotonic() > deadline:
                self.process.fail("does not listen")
            for line in self.process.log.read_text(errors="replace").splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if entry.get("msg") == "listening":
                        found[entry["listener"]] = entry["address"]
            time.sleep(0.01)
        self.public, self.grpc, self.admin = found["public"], found["grpc"], found["admin"]

    def metrics(self):
        host, port = self.admin.rsplit(":", 1)
        link = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        link.request("GET", "/metrics")
        values = {}
        for line in link.getresponse().read().decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                values[name] = float(value)
        link.close()
        return values


class Nginx:
    name = "nginx"

    def __init__(self, stage):
        port, h2_port = free_port(), free_port()
        path = stage.configure("nginx.conf", port=port, h2_port=h2_port)
        self.process = stage.start("nginx", ["nginx", "-p", stage.folder, "-c", path])
        self.process.wait_port(port)
        self.process.wait_port(h2_port)
        self.pid, self.public, self.h2 = self.process.pid, f"127.0.0.1:{port}", f"127.0.0.1:{h2_port}"

    @staticmethod
    def is_here():
        return shutil.which("nginx") is not None


class H2o:
    name = "h2o"

    def __init__(self, stage):
        port = free_port()
        self.process = stage.start("h2o", ["h2o", "-m", "worker", "-c", stage.configure("h2o.conf", port=port)])
        self.process.wait_port(port)
        self.pid = self.process.pid
        self.public = self.h2 = f"127.0.0.1:{port}"

    @staticmethod
    def is_here():
        return shutil.which("h2o") is not None


class Nghttpd:
    name = "nghttpd"

    def __init__(self, stage):
        port = free_port()
        self.process = stage.start("nghttpd", ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", stage.folder / "static",
                                               "-m", "256", port])
        self.process.wait_port(port)
        self.pid, self.h2 = self.process.pid, f"127.0.0.1:{port}"

    @staticmethod
    def is_here():
        return shutil.which("nghttpd") is not None


class Reference:
    """The gRPC C++ server with the same pipeline."""

    name = "gRPC C++"

    def __init__(self, stage, redis, echo):
        self.process = stage.start("grpc_server", [
            OUT / "grpc_server", "--listen", "127.0.0.1:0", "--redis", redis.address, "--upstream", echo.address,
            "--signer", make_keys(stage)])
        self.pid, self.grpc = self.process.pid, self.process.line().split()[1]
        self.public_key = stage.folder / "gateway.public.pem"

    @staticmethod
    def is_here():
        return (OUT / "grpc_server").exists()


class Nchan:
    name = "nchan"

    def __init__(self, stage):
        self.port = free_port()
        path = stage.configure("nchan.conf", port=self.port, module=NCHAN)
        self.process = stage.start("nchan", ["nginx", "-p", stage.folder, "-c", path])
        self.process.wait_port(self.port)
        self.pid = self.process.pid

    @staticmethod
    def is_here():
        return shutil.which("nginx") is not None and NCHAN.exists()


class Floor:
    def __init__(self, stage, work, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.process = stage.start("floor", [OUT / "floor", work, *words])
        self.port = int(self.process.line().split()[1])
        self.pid, self.public = self.process.pid, f"127.0.0.1:{self.port}"


def ringbench(work, target, *options, pids=(), patience=120, at=None, **named):
    """One run; returns its report. What it found wrong makes it a run without a figure. `at` is called when all is
    "open" (push) and when all is "delivered"; nothing is under way then."""
    words = [str(OUT / "ringbench"), work, "--target", target, *map(str, options)]
    for name, value in named.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    for pid in pids:
        words += ["--server-pid", str(pid)]
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            ["taskset", "-c", str(LOAD_CPU), *words, *(["--steps"] if at else [])], text=True, stderr=errors,
            stdin=subprocess.PIPE if at else subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        guard = threading.Timer(patience, process.kill)
        guard.start()
        try:
            last = ""
            for last in process.stdout:
                if at and last.strip() in ("open", "delivered"):
                    at(last.strip())
                    process.stdin.write("\n")
                    process.stdin.flush()
            process.wait()
        finally:
            guard.cancel()
        errors.seek(0)
        why = " | ".join(errors.read().strip().splitlines()[-3:])
    try:
        report = json.loads(last)
    except ValueError:
        raise Wrong(f"ringbench {work}: exit code {process.returncode}: {why}") from None
    report["exit_code"] = process.returncode
    report["why"] = why
    return report


class Load:
    """A ringbench that runs beside others, or holds its streams open until it is told."""

    def __init__(self, stage, work, target, *options, pids=(), **named):
        words = [OUT / "ringbench", work, "--target", target, *options]
        for name, value in named.items():
            words += [f"--{name.replace('_', '-')}", value]
        for pid in pids:
            words += ["--server-pid", pid]
        self.process = stage.start("ringbench", words, LOAD_CPU)

    def report(self, patience=120):
        return self.process.result(patience)

    def finish(self):
        self.process.end_input()
        self.process.process.wait(PATIENCE)
        return self.process.process.returncode


# Ctrl-C and a supervisor's SIGTERM end the harness the same way: through every context manager.
def end_by_exception(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not cut the cleaning up
    sys.exit(143)


signal.signal(signal.SIGTERM, end_by_exception)
