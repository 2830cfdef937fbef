"""The benchmarks' own parts: floors that answer, a reference that passes, and verdicts that are as BENCH.md has them."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

import harness
from test_install import alone, make

if harness.MODE != "release":
    pytest.skip("the benchmarks are a release's", allow_module_level=True)

BENCH = harness.ROOT / "bench"


def _bench_modules():
    """bench/harness has the name of this folder's harness.py: loaded as benchmarks.<module>."""
    import importlib.util
    spec = importlib.util.spec_from_file_location("benchmarks", BENCH / "harness" / "__init__.py",
                                                  submodule_search_locations=[str(BENCH / "harness")])
    package = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = package
    spec.loader.exec_module(package)
    from benchmarks import contest, processes, report, transcode, verdict
    return contest, processes, report, transcode, verdict


contest, processes, report, transcode, verdict = _bench_modules()


# ---- verdicts, on figures made up ----

@pytest.mark.parametrize("floor,nginx,is_void", [(5.35, 6.35, False), (0.87, 1.0, False), (5.6, 6.35, True), (7.0, 6.0, True),
                                                 (None, 6.0, None), (5.0, None, None)])
def test_floor_above_087_of_nginx_is_void(floor, nginx, is_void):
    assert verdict.floor_is_void(floor, nginx) is is_void


@pytest.mark.parametrize("value,limit,above,wanted", [
    (1.0, 1.1, False, "reached"), (1.1, 1.1, False, "reached"), (1.2, 1.1, False, "not reached"),
    (5.0, 4.0, True, "reached"), (3.0, 4.0, True, "not reached"),
    (None, 1.0, False, "no figure"), (1.0, None, False, "no figure")])
def test_goal_without_a_figure_is_not_reached(value, limit, above, wanted):
    assert verdict.goal("x", value, limit, above)["verdict"] == wanted


@pytest.mark.parametrize("field", ["failed", "wrong", "lost", "duplicates", "ended"])
def test_wrong_answers_leave_no_figure(field):
    assert verdict.complaint({"units": 10, "exit_code": 0}) is None
    assert field in verdict.complaint({"units": 10, "exit_code": 1, field: 3})


def test_run_that_measured_nothing_has_no_figure():
    assert verdict.complaint({"units": 0, "exit_code": 0})
    assert verdict.complaint({"units": 5, "exit_code": 1})


def test_median_is_of_the_runs_with_figures():
    assert verdict.summary([3, None, 1, 2]) == {"min": 1, "median": 2, "max": 3, "count": 3}
    assert verdict.summary([None]) is None


def test_wrong_run_of_the_gateway_is_a_goal_not_reached():
    runs = iter([{"figure": 1.0}, contest.Wrong("lost 1"), {"figure": 2.0}])

    def run():
        run_ = next(runs)
        if isinstance(run_, Exception):
            raise run_
        return run_
    tried = contest.Contest("x", "x")
    tried.add("ringway", run)
    tried.add("elsewhere", None, is_here=False)
    result = tried.play(3).result()
    assert result["contestants"]["ringway"]["figure"]["count"] == 2
    assert result["contestants"]["elsewhere"]["absent"].startswith("absent")
    assert [goal["verdict"] for goal in result["goals"]] == ["not reached"]
    assert not tried.is_right()


def test_contestants_alternate():
    order = []
    tried = contest.Contest("x", "x")
    for name in "abc":
        tried.add(name, lambda name=name: order.append(name) or {"figure": 1.0})
    tried.play(2)
    assert "".join(order) == "abccba"


def test_quantile_is_the_bound_of_its_bucket():
    def metrics(low, middle, high):
        return {'t_seconds_bucket{worker="0",le="0.001"}': low, 't_seconds_bucket{worker="0",le="0.002"}': middle,
                't_seconds_bucket{worker="0",le="+Inf"}': high, 't_seconds_count{worker="0"}': high}
    before = verdict.bucket_counts(metrics(10, 10, 10), "t_seconds")
    after = verdict.bucket_counts(metrics(1009, 1010, 1010), "t_seconds")
    assert verdict.quantile_bound(before, after, 0.999) == 0.001
    assert verdict.quantile_bound(before, verdict.bucket_counts(metrics(1000, 1010, 1010), "t_seconds"), 0.999) == 0.002
    assert verdict.quantile_bound(before, before, 0.999) is None


def test_scale_is_arithmetic():
    scale = verdict.scale(16384, 4096, 5.0)
    assert scale["cores"] == 2.5
    assert round(scale["memory_gib"], 2) == round(1e6 * 20480 / 2**30, 2)
    assert verdict.scale(None, 4096, None)["cores"] is None


def test_readme_keeps_what_people_wrote(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    results = {"commit": "abc", "date": "today", "rounds": 5, "quick": False, "took_s": 1.0, "works": {},
               "machine": {"cpu": "c", "cpus": 2, "memory_gib": 1, "kernel": "k", "system": "s"},
               "scale": verdict.scale(1, 1, 1)}
    report.write_readme(results, readme)
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text and "Commit abc" in text
    readme.write_text("no markers")
    with pytest.raises(ValueError):
        report.write_readme(results, readme)


@pytest.mark.parametrize("status,change", [(200, None), (200, b"[]"), (200, b"no JSON"), (500, None), (200, b"")])
def test_server_that_does_not_answer_with_the_order_has_no_figure(status, change):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(json.loads(body), indent=1).encode() if change is None else change)

        def log_message(self, *_):
            pass

    with processes.Stage() as stage, http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.name, server.public = "peer", f"127.0.0.1:{server.server_port}"
        order = transcode.Order(stage)
        if (status, change) == (200, None):
            assert json.loads(order.answer_of(server).read_text()) == json.loads(order.json.read_text())
        else:
            with pytest.raises(processes.Wrong):
                order.answer_of(server)
        server.shutdown()


# ---- the programs ----

def test_floor_answers_as_http(folder):
    floor = harness.Process([harness.OUT / "floor", "http", "--bytes", "150"])
    port = floor.out.wait(lambda line: line.startswith("listening ")).split()[1]
    url = f"http://127.0.0.1:{port}/healthz"
    done = subprocess.run(["curl", "-sS", "--max-time", "10", "-w", "%{http_code} %{num_connects}\n", url, url, "-o", folder / "1",
                           "-o", folder / "2"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["200 1", "200 0"]
    assert json.loads((folder / "2").read_text()) == {"status": "ok"}
    assert floor.stop() == -15


def test_floor_fanout_delivers_what_it_counts():
    floor = harness.Process([harness.OUT / "floor", "fanout", "--bytes", "100", "--connections", "20", "--rate", "200",
                             "--duration", "0.2", "--warmup", "0.1"])
    port = floor.out.wait(lambda line: line.startswith("listening ")).split()[1]
    sink = harness.Process([harness.OUT / "sink", "--target", f"127.0.0.1:{port}", "--connections", "20"])
    result = json.loads(floor.out.wait(lambda line: line.startswith("{")))
    counted = json.loads(sink.out.wait(lambda line: line.startswith("{")))
    assert result["units"] == 40 * 20
    assert counted["bytes"] <= 60 * 20 * 100
    assert floor.wait() == 0 and sink.wait() == 0


def test_floor_storm_ends_when_all_have_left():
    floor = harness.Process([harness.OUT / "floor", "storm", "--bytes", "300", "--connections", "100"])
    port = floor.out.wait(lambda line: line.startswith("listening ")).split()[1]
    sink = harness.Process([harness.OUT / "sink", "--target", f"127.0.0.1:{port}", "--connections", "50", "--storm", "2",
                            "--request-bytes", "300", "--reply-bytes", "300"])
    assert json.loads(sink.out.wait(lambda line: line.startswith("{")))["failed"] == 0
    assert json.loads(floor.out.wait(lambda line: line.startswith("{")))["units"] == 100
    assert floor.wait() == 0 and sink.wait() == 0


def test_crypto_floor_tells_its_parts():
    done = subprocess.run([harness.OUT / "crypto_floor", "--seconds", "1"], capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert told["wrong"] == 0
    assert 0 < told["sign_us"] < told["verify_us"] < told["server_cpu_us_per_unit"]


@pytest.mark.parametrize("words", [["http", "--bytes", "10"], ["nothing"], ["http", "--port"], []])
def test_floor_refuses_what_it_does_not_know(words):
    assert subprocess.run([harness.OUT / "floor", *words], capture_output=True).returncode in (1, 2)


@pytest.fixture(scope="module")
def reference():
    """The gRPC C++ server, built where its packages are."""
    if not shutil.which("grpc_cpp_plugin"):
        pytest.skip("protobuf-compiler-grpc is not installed (scripts/install-packages bench)")
    with alone():
        make("reference")
    return harness.OUT / "grpc_server"


def test_reference_passes_the_checks_of_the_load_generator(reference, folder, redis_server, echo):
    signer = folder / "gateway.pem"
    subprocess.run([harness.CLIENT, "keygen", signer, folder / "gateway.public.pem"], check=True, capture_output=True)
    server = harness.Process([reference, "--listen", "127.0.0.1:0", "--redis", redis_server.address, "--upstream",
                              echo.address, "--signer", signer])
    address = server.out.wait(lambda line: line.startswith("listening ")).split()[1]
    done = subprocess.run([harness.OUT / "ringbench", "command", "--target", address, "--redis", redis_server.address,
                           "--connections", "2", "--streams", "4", "--gateway-key", folder / "gateway.public.pem",
                           "--warmup", "0.1", "--duration", "0.3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["units"] > 0
    assert server.stop() == 0


def test_quick_run_writes_results_of_all_contestants(tmp_path):
    done = subprocess.run([BENCH / "run", "--quick", "--no-build", "--output", tmp_path, "W1"], capture_output=True, text=True,
                          env={**os.environ, "BUILD": str(harness.BUILD)}, timeout=6 * harness.PATIENCE)
    assert done.returncode == 0, done.stderr
    work = json.loads((tmp_path / "results.json").read_text())["works"]["W1"]
    assert set(work["contestants"]) == {"ringway", "floor", "nginx", "h2o"}
    for name, found in work["contestants"].items():
        assert found["absent"] or found["figure"], (name, found)
    assert work["contestants"]["ringway"]["figure"] and work["contestants"]["floor"]["figure"]
    assert work["goals"][0]["verdict"].split(":")[0] in ("reached", "not reached", "void")
    assert "| W1 |" in (tmp_path / "results.md").read_text()


def test_quick_run_measures_transcoding_beside_its_parts(tmp_path):
    done = subprocess.run([BENCH / "run", "--quick", "--no-build", "--output", tmp_path, "W10"], capture_output=True, text=True,
                          env={**os.environ, "BUILD": str(harness.BUILD)}, timeout=6 * harness.PATIENCE)
    assert done.returncode == 0, done.stderr
    work = json.loads((tmp_path / "results.json").read_text())["works"]["W10"]
    assert set(work["contestants"]) == {"ringway", "gRPC, direct", "ringway, W1", "ringway, W2 16×32", "Envoy"}
    figures = {name: found["figure"]["median"] for name, found in work["contestants"].items() if not found["absent"]}
    assert set(figures) >= {"ringway", "gRPC, direct", "ringway, W1", "ringway, W2 16×32"}
    goal = work["goals"][0]
    assert goal["value"] == figures["ringway"]
    assert goal["limit"] == pytest.approx(figures["ringway, W1"] + figures["ringway, W2 16×32"] + 3)
    assert goal["verdict"] in ("reached", "not reached")
    assert "| W10 |" in (tmp_path / "results.md").read_text()
