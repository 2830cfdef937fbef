"""Every family of edge.md §8 in a real scrape after a run that used everything; promtool, OpenMetrics, README's table."""

import os
import pathlib
import re
import signal
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import harness

# edge.md §8, by hand: family -> labels of its series
CONTRACT = {
    "gateway_connections_open": {"listener"},
    "gateway_connections_total": {"listener", "outcome"},
    "http_requests_total": {"path", "method", "status"},
    "http_request_latency_seconds": {"path"},
    "gateway_grpc_calls_total": {"method", "code"},
    "gateway_grpc_call_latency_seconds": {"method"},
    "gateway_pipeline_refusals_total": {"step"},
    "gateway_session_cache_lookups_total": {"result"},
    "gateway_session_cache_entries": set(),
    "gateway_redis_commands_total": {"role", "outcome"},
    "gateway_redis_command_latency_seconds": {"role"},
    "gateway_redis_connected": {"role"},
    "gateway_redis_reconnects_total": {"role"},
    "gateway_stream_entries_total": {"stream", "result"},
    "gateway_stream_gaps_total": {"stream"},
    "gateway_stream_lag_seconds": {"stream"},
    "gateway_push_streams_open": set(),
    "gateway_push_events_total": set(),
    "gateway_push_deliveries_total": set(),
    "gateway_push_delivered_bytes_total": set(),
    "gateway_push_streams_ended_total": {"reason"},
    "gateway_push_copied_bytes_total": set(),
    "upstream_grpc_calls_total": {"upstream", "code"},
    "upstream_grpc_errors_total": {"upstream", "rpc", "code"},
    "upstream_grpc_latency_seconds": {"upstream", "rpc"},
    "upstream_healthy": {"upstream", "address"},
    "gateway_ring_submissions_total": {"worker"},
    "gateway_ring_completions_total": {"worker"},
    "gateway_ring_cq_overflows_total": {"worker"},
    "gateway_ring_buffer_starvations_total": {"worker"},
    "gateway_worker_loop_seconds": {"worker"},
    "gateway_glitches_total": {"kind"},
    "gateway_build_info": {"version", "commit"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_virtual_memory_bytes": set(),
    "process_open_fds": set(),
    "process_max_fds": set(),
    "process_start_time_seconds": set(),
}

# all that a label may be named; the addresses are those of the configuration file, never a peer's
LABELS = {"listener", "outcome", "path", "method", "status", "code", "step", "result", "role", "stream", "reason", "upstream",
          "rpc", "address", "worker", "kind", "version", "commit", "le", "class", "cause", "verdict", "state"}

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- metrics -->", "<!-- /metrics -->"


def scrape(gateway, accept=None):
    status, headers, body = harness.http(gateway.admin, "GET", "/metrics", headers={"Accept": accept} if accept else {})
    assert status == 200
    return headers["content-type"], body.decode()


def family_of(name, kind):
    """The family's name as this program registers it: with _total."""
    return name + "_total" if kind == "counter" and not name.endswith("_total") else name


def families(text):
    """Name -> (type, help, set of label names, samples)."""
    found = {}
    for family in parse_text(text):
        labels = set()
        for sample in family.samples:
            labels |= set(sample.labels)
        found[family_of(family.name, family.type)] = (family.type, family.documentation, labels - {"le"}, family.samples)
    return found


def use_everything(gateway, device, channel):
    """Calls that succeed and that are refused at every step, streams that end in different ways, both HTTP protocols."""
    assert channel.execute(device.request()).result_code == "ok"
    stranger = harness.Device(gateway, publish=False)
    for request in (
            device.request(request_id=""), device.request(protocol_version="v2"), stranger.request(),
            device.request(payload_hash=b"short"), device.request(payload_hash=b"\1" * 32), device.request(signature=b"\1" * 64),
            device.request(timestamp_ms=1), device.request("other.kind"), device.request("down.call")):
        channel.refused(request)
    twice = device.request()
    channel.execute(twice)
    channel.refused(twice)
    revoked = harness.Device(gateway)
    stream, other = channel.subscribe(device.subscribe_request()), channel.subscribe(revoked.subscribe_request())
    stream.bootstrap()
    other.bootstrap()
    harness.publish_event(gateway, device.user)
    stream.next()
    revoked.revoke()
    assert other.end() == ("FAILED_PRECONDITION", "device session is revoked")
    gateway.redis.client.xadd(harness.CLIENT_STREAM, {"user_id": "only"})
    gateway.redis.client.xadd(harness.SESSION_STREAM, {"status": "only"})
    for method, path in (("GET", "/healthz"), ("HEAD", "/readyz"), ("POST", "/healthz"), ("GET", "/none/such"), ("BREW", "/healthz")):
        harness.http(gateway.public, method, path)
    harness.http(gateway.public, "POST", "/api/v1/public/auth/send-email-code", body=b'{"email":"a@example.org"}')
    for address in (gateway.public, gateway.grpc):
        with harness.connect(address) as sock:
            sock.sendall(b"neither protocol\r\n\r\n")
            sock.recv(4096)
    for path in ("/config", "/streams", "/healthz", "/readyz"):
        harness.http(gateway.admin, "GET", path)
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_metric('gateway_config_reloads_total{result="success"}', lambda value: value == 1)
    return stranger, revoked


CONFIG = """
upstreams:
  echo: {{ addresses: ["{echo}"] }}
  down: {{ addresses: ["127.0.0.1:1"], health_interval: 100ms }}
commands:
  - {{ message_type: "test.*", upstream: echo }}
  - {{ message_type: "down.*", upstream: down }}
"""


ENV = {"GATEWAY_AUTH_SERVICE_BASE_URL": "http://127.0.0.1:1"}


class Used:
    """A gateway after a run that used everything, and the words that must not be in its metrics."""

    def __init__(self, gateway, secrets):
        self.gateway, self.secrets = gateway, secrets


@pytest.fixture(scope="module")
def used():
    import shutil
    import tempfile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    redis_server = harness.Redis(folder)
    echo = harness.start_echo()
    with harness.Gateway(folder, redis_server, config=CONFIG.format(echo=echo.address), env=ENV) as gateway:
        device = harness.Device(gateway)
        with harness.Channel(gateway.grpc) as channel:
            stranger, revoked = use_everything(gateway, device, channel)
            secrets = [device.session, device.user, stranger.session, stranger.user, revoked.session, revoked.user, "/none/such",
                       "example.org", "BREW"]
            yield Used(gateway, secrets)
    assert echo.stop() == 0
    redis_server.stop()
    shutil.rmtree(folder)


def test_promtool_finds_nothing(used):
    content_type, text = scrape(used.gateway)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    done = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize("name", CONTRACT)
def test_family_of_the_contract_is_there_with_its_labels(used, name):
    found = families(scrape(used.gateway)[1])
    assert name in found, f"{name} is missing"
    kind, text, labels, samples = found[name]
    assert labels == CONTRACT[name], name
    for sample in samples:  # not some of them on some series: each has them all
        assert set(sample.labels) - {"le"} == CONTRACT[name], sample
    assert text and text.endswith("."), f"{name}: help is a sentence"


def test_names_types_and_units_agree(used):
    for name, (kind, text, labels, samples) in families(scrape(used.gateway)[1]).items():
        assert re.fullmatch(r"(gateway|http|upstream|process)_[a-z0-9_]+", name), name
        assert kind in ("counter", "gauge", "histogram"), name
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        if kind == "histogram":
            assert name.endswith("_seconds"), name
        assert not re.search(r"_(ms|us|milliseconds|kb|kib|count|sum|bucket)(_total)?$", name), name
        assert text and "\n" not in text


def test_nothing_unbounded_is_a_label(used):
    text = scrape(used.gateway)[1]
    for name, (_, _, labels, samples) in families(text).items():
        assert labels <= LABELS, name
    for secret in used.secrets:
        assert secret not in text, secret
    paths = {sample.labels["path"] for sample in families(text)["http_requests_total"][3]}
    assert "unmatched" in paths and all(path == "unmatched" or path.startswith("/") for path in paths)


# that run has no occasion for these: test_faults.py, the test below and uring's unit tests have
UNMOVED = {"gateway_stream_gaps_total", "gateway_stream_lag_seconds", "gateway_redis_reconnects_total", "gateway_ring_cq_overflows_total",
           "gateway_ring_buffer_starvations_total", "gateway_push_copied_bytes_total"}


def test_families_of_the_contract_move_when_used(used):
    """One that is registered and never counted would be there too."""
    found = families(scrape(used.gateway)[1])
    still = {name for name in CONTRACT if all(sample.value == 0 for sample in found[name][3])}
    assert still <= UNMOVED, still - UNMOVED


@pytest.mark.parametrize("stream, label", [(harness.SESSION_STREAM, "session_events"), (harness.CLIENT_STREAM, "client_events")])
def test_lag_is_the_age_of_the_last_entry(gateway, stream, label):
    name = f'gateway_stream_lag_seconds{{stream="{label}"}}'
    gateway.redis.client.xadd(stream, {"any": "field"}, id=f"{harness.now_ms() - 3_600_000}-1")
    gateway.wait_metric(name, lambda value: 3600 <= value < 3600 + harness.PATIENCE)
    gateway.redis.client.xadd(stream, {"any": "field"})
    gateway.wait_metric(name, lambda value: value < harness.PATIENCE)


def test_openmetrics_on_request(used):
    plain, exposition = scrape(used.gateway, "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1")
    assert plain == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert exposition.endswith("\n# EOF\n") and exposition.count("# EOF") == 1
    types = {family_of(family.name, family.type): family.type for family in parse_openmetrics(exposition)}
    assert types == {name: row[0] for name, row in families(scrape(used.gateway)[1]).items()}
    assert "# TYPE gateway_push_events counter\n" in exposition
    assert "\ngateway_push_events_total " in exposition


@pytest.mark.parametrize("accept, openmetrics", [
    (None, False), ("*/*", False), ("text/plain", False), ("application/openmetrics-text", True),
    ("APPLICATION/OpenMetrics-Text; version=1.0.0", True), ("application/openmetrics-text;q=0", False),
    ("application/openmetrics-text;q=0.3, text/plain;q=0.4", False), ("a" * 2000 + ",application/openmetrics-text", False),
])
def test_accept_decides_the_format(used, accept, openmetrics):
    assert scrape(used.gateway, accept)[0].startswith("application/openmetrics-text") == openmetrics


def test_all_families_are_there_from_the_start(used, folder, redis_server):
    """Nothing has happened yet, and every family whose labels do not depend on what happens has its zeros."""
    with harness.Gateway(folder, redis_server, config=CONFIG.format(echo="127.0.0.1:2"), env=ENV) as gateway:
        early = families(scrape(gateway)[1])
    late = families(scrape(used.gateway)[1])
    assert set(early) == set(late)
    for name, (_, _, labels, _) in late.items():
        assert early[name][2] == labels, name


def table(found):
    rows = ["| family | type | labels | meaning |", "|---|---|---|---|"]
    for name in sorted(found):
        kind, text, labels, _ = found[name]
        order = ORDER + sorted(labels - set(ORDER))
        rows.append(f"| `{name}` | {kind} | {', '.join(label for label in order if label in labels) or '–'} | {text} |")
    return "\n".join(rows)


ORDER = ["listener", "outcome", "path", "method", "status", "role", "stream", "upstream", "rpc", "address", "code", "step",
                  "result", "reason", "worker", "kind", "version", "commit"]


def test_readme_has_the_table_of_all_families(used):
    """UPDATE=1 writes it anew."""
    wanted = f"{BEGIN}\n{table(families(scrape(used.gateway)[1]))}\n{END}"
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, has, after = re.fullmatch(f"(?s)(.*)({BEGIN}.*{END})(.*)", text).groups()
    if os.environ.get("UPDATE") and has != wanted:
        readme.write_text(before + wanted + after)
        has = wanted
    assert has == wanted, f"README.md's table of metrics is not what the program has; UPDATE=1 writes this:\n{wanted}"
