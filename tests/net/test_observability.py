"""Metrics by route, alerts and the dashboard (api.md §6): rules by promtool, and every query against a real Prometheus that
scrapes a real gateway in use."""

import json
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import grpc
import pytest

import harness
from services import AIService, AuthService, Failure, ShopService, auth, shop
from test_rest import Api, make_descriptors

FOLDER = harness.ROOT / "scripts" / "observability"
RULES = FOLDER / "alerts.yml"
STORIES = harness.ROOT / "tests" / "observability" / "alerts_test.yml"
DASHBOARD = FOLDER / "dashboard.json"

ALERTS = {"HighHttp5xxErrorRate": "P1", "HighApiLatency": "P2", "HighAiServiceErrorRate": "P2", "AuthServiceUnreachable": "P1"}


# ---- rules, by promtool ----

def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_promtool_takes_the_alerts():
    assert promtool("check", "rules", RULES) == (0, f"Checking {RULES}\n  SUCCESS: 4 rules found\n\n")
    text = RULES.read_text()
    assert dict(re.findall(r"- alert: (\w+)\n(?:.*\n)*?\s+severity: (P\d)", text)) == ALERTS


def test_each_alert_has_a_story_in_which_it_fires_and_one_in_which_it_does_not():
    stories = re.findall(r"alertname: (\w+)\n\s+exp_alerts:( \[\])?", STORIES.read_text())
    assert {name for name, empty in stories if empty} == {name for name, empty in stories if not empty} == set(ALERTS)


def test_alerts_fire_and_hold_still_as_their_stories_say():
    code, text = promtool("test", "rules", STORIES)
    assert code == 0, text


@pytest.mark.parametrize("alert, old, new", [
    ("HighHttp5xxErrorRate", "> 0.05", "> 0.07"), ("HighHttp5xxErrorRate", "> 0.05", "> 0.03"), ("HighHttp5xxErrorRate", "5..", "503"),
    ("HighHttp5xxErrorRate", "/readyz|", ""), ("HighApiLatency", "> 1\n", "> 3\n"), ("HighApiLatency", "0.99", "0.999"),
    ("HighApiLatency", "for: 6m", "for: 1m"), ("HighAiServiceErrorRate", "> 0.05", "> 0.2"), ("HighAiServiceErrorRate", "5..", "[45].."),
    ("HighAiServiceErrorRate", 'path="/api/ai"', 'path=~".*"'), ("AuthServiceUnreachable", "== 0", "== 1"),
    ("AuthServiceUnreachable", "instance, upstream", "upstream"), ("AuthServiceUnreachable", "for: 30s", "for: 0s")])
def test_an_alert_that_is_changed_fails_its_stories(folder, alert, old, new):
    head, *rules = re.split(r"(?=      - alert: )", RULES.read_text())
    at = next(at for at, rule in enumerate(rules) if f"alert: {alert}\n" in rule)
    assert old in rules[at]
    rules[at] = rules[at].replace(old, new)
    (folder / "alerts.yml").write_text(head + "".join(rules))
    (folder / "alerts_test.yml").write_text(STORIES.read_text().replace("../../scripts/observability/", ""))
    code, text = promtool("test", "rules", folder / "alerts_test.yml")
    assert code == 1 and alert in text, text


# ---- the dashboard as Grafana has it ----

def dashboard():
    return json.loads(DASHBOARD.read_text())


def charts():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def test_dashboard_is_one_of_grafana():
    model = dashboard()
    assert model["id"] is None and re.fullmatch(r"[a-z0-9-]{1,40}", model["uid"]) and model["title"] and model["schemaVersion"] >= 36
    assert set(model["time"]) == {"from", "to"} and isinstance(model["templating"]["list"], list)
    assert isinstance(model["annotations"]["list"], list)
    ids = [panel["id"] for panel in model["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in model["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", DASHBOARD.read_text())) - {"__rate_interval", "__all"}
    assert used == variables
    taken = set()
    for panel in model["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, f"{panel['title']} lies over another"
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("timeseries", "stat") and panel["title"] and panel["datasource"]["uid"] == "${datasource}"
        assert panel["fieldConfig"]["defaults"]["unit"] in ("s", "reqps", "ops", "percentunit", "short", "bytes")
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["expr"] and target["legendFormat"] and target["datasource"] == panel["datasource"]


def test_gateway_latency_stands_beside_upstream_latency():
    """The runbook's first question, by one look: the first two charts, side by side."""
    ours, theirs = charts()[:2]
    assert ours["gridPos"]["y"] == theirs["gridPos"]["y"] and ours["gridPos"]["h"] == theirs["gridPos"]["h"]
    assert ours["gridPos"]["x"] + ours["gridPos"]["w"] == theirs["gridPos"]["x"]
    assert all("http_request_latency_seconds_bucket" in target["expr"] for target in ours["targets"])
    assert all("upstream_grpc_latency_seconds_bucket" in target["expr"] for target in theirs["targets"])
    # calls that no user waits for water down neither: many quick health checks would make a slow service look well
    compared = [target["expr"] for chart in charts()[:3] for target in chart["targets"]]
    left_out = {"http": 'path!~"/healthz|/readyz|', "upstream": 'rpc!="grpc.health.v1.Health/Check"'}
    assert all(left_out[re.search(r"rate\((http|upstream)_", expression)[1]] in expression for expression in compared)
    assert ours["fieldConfig"]["defaults"]["unit"] == theirs["fieldConfig"]["defaults"]["unit"] == "s"


# ---- a real Prometheus and a real gateway ----

CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  auth: {{ addresses: ["{auth}"], deadline: 5s }}
  ai: {{ addresses: ["{ai}"], deadline: 1700ms, breaker: {{ enabled: false }} }}
  shop: {{ addresses: ["{shop}"], deadline: 60s }}
rest:
  base_path: /api/v1
  auth: {{ upstream: auth, validate_cache: 5s }}
  routes:
    - {{ method: GET, path: "/users/{{user_id}}", rpc: auth.v1.AuthService/GetUser, upstream: auth, permission: "user:list" }}
    - {{ method: GET, path: "/users", rpc: auth.v1.AuthService/ListUsers, upstream: auth }}
    - {{ method: POST, absolute: /api/ai, rpc: ai_service.AIService/ProcessQuery, upstream: ai, body: "*" }}
    - {{ method: GET, absolute: "/watch/{{name}}", rpc: ringway.test.Shop/Watch, upstream: shop, public: true }}
  allowed_origins: ["https://app.example.com"]
"""

SCRAPES = """
global: { scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }
rule_files: [RULES]
scrape_configs:
  - { job_name: api-gateway, static_configs: [ { targets: ["GATEWAY"] } ] }
"""


class Prometheus:
    def __init__(self, folder, gateway):
        config = folder / "prometheus.yml"
        config.write_text(SCRAPES.replace("GATEWAY", gateway.admin).replace("RULES", str(RULES)))
        self.process = harness.Process(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}", "--web.listen-address=127.0.0.1:0"])
        line = self.process.err.wait(lambda line: 'msg="Listening on"' in line)
        self.address = re.search(r"address=(\S+)", line).group(1)
        self.process.err.wait(lambda line: "Server is ready to receive web requests" in line)

    def get(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{query}", timeout=harness.PATIENCE) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def values(self, expression):
        """Of an instant query: labels -> value, without those that are no number."""
        return {tuple(sorted(item["metric"].items())): float(item["value"][1])
                for item in self.get("query", query=expression)["result"] if item["value"][1] != "NaN"}


@pytest.fixture(scope="module")
def run():
    """Everything that has a panel happens: answers, mistakes, refusals, errors of services, a slow one, streams."""
    import shutil
    import tempfile
    folder = pathlib.Path(tempfile.mkdtemp(prefix="rw-"))
    redis_server = harness.Redis(folder)
    services = AuthService(), AIService(), ShopService()
    make_descriptors(folder)
    config = CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address)
    try:
        with harness.Gateway(folder, redis_server, config=config) as gateway:
            prometheus = Prometheus(folder, gateway)
            yield Run(Api(gateway, services), prometheus)
            assert prometheus.process.stop() == 0
    finally:
        for service in services:
            service.stop()
        redis_server.stop()
        shutil.rmtree(folder)


class Run:
    def __init__(self, api, prometheus):
        self.api, self.prometheus = api, prometheus
        self.token = api.auth.login()
        api.auth.users["u-7"] = auth.User(user_id="u-7")
        api.auth.permissions.add(("alice", "user:list"))
        self.slow_end = threading.Event()

    def well(self):
        """What goes well, or is the client's own mistake."""
        call, token = self.api.call, self.token
        assert call("GET", "/api/v1/users/u-7", token=token)[0] == 200
        assert call("GET", "/api/v1/users/stranger", token=token)[0] == 404
        assert call("GET", "/api/v1/users", token=token)[0] == 200
        assert call("POST", "/api/ai", {"query": "abc"}, token=token)[0] == 200
        assert call("POST", "/api/ai", {"query": 7}, token=token)[0] == 400
        assert call("GET", "/api/v1/users")[0] == 401
        assert call("GET", "/api/v1/users", token="nobody")[0] == 401
        assert call("POST", "/api/ai", {"query": "x"}, cookie=f"session_token={token}")[0] == 403
        assert call("GET", "/api/v1/users/u-7", token=self.api.auth.login("token-2", "bob", "session-2"))[0] == 403
        assert call("GET", "/api/v1/none-7")[0] == 404
        assert call("DELETE", "/api/v1/users/u-7")[0] == 405
        assert self.api.open("/watch/a-7").read().count(b"\n") == 3

    def badly(self):
        """The AI service fails, and then is so slow that its deadline passes; AuthService is gone."""
        def fail(request, context):
            raise Failure(grpc.StatusCode.INTERNAL, "broken")

        def hang(request, context):
            assert self.slow_end.wait(harness.PATIENCE)
            raise Failure(grpc.StatusCode.ABORTED)

        call = self.api.call
        self.api.ai.ProcessQuery = fail
        for _ in range(5):
            assert call("POST", "/api/ai", {"query": "x"}, token=self.token)[0] == 500
        self.api.ai.ProcessQuery = hang
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(call("POST", "/api/ai", {"query": "x"}, token=self.token)[0]))
                   for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [504] * 8
        self.slow_end.set()
        self.api.auth.stop()
        harness.wait_until(lambda: call("GET", "/api/v1/users/u-7", token="token-3")[0] == 503, "the service is missed")


def expressions():
    """Alert -> its expression, as Prometheus has read it."""
    text = RULES.read_text()
    found = {}
    for rule in re.split(r"(?=      - alert: )", text)[1:]:
        name = re.search(r"alert: (\w+)", rule).group(1)
        found[name] = re.search(r"expr: (?:\|\n)?((?:.|\n)*?)\n        (?:for|labels):", rule).group(1).strip()
    return found


def queries():
    """Every query of the dashboard, as Grafana would put it: (title, expression)."""
    model = dashboard()
    found = [(panel["title"], target["expr"]) for panel in charts() for target in panel["targets"]]
    found += [(item["name"], item["expr"]) for item in model["annotations"]["list"] if "expr" in item]
    return [(title, expr.replace("$__rate_interval", "5s").replace("$instance", ".*")) for title, expr in found]


def empty_queries(prometheus, since):
    """Over the whole run, a point each 200 ms."""
    empty = []
    for title, expression in queries():
        result = prometheus.get("query_range", query=expression, start=since, end=time.time(), step=0.2)["result"]
        if not any(value != "NaN" for item in result for _, value in item["values"]):
            empty.append((title, expression))
    return empty


def test_a_run_is_seen_by_the_dashboard_and_by_the_alerts(run):
    """One run: well, then badly. Alerts are empty in the first half and not in the second, the dashboard's queries never."""
    api, prometheus, since = run.api, run.prometheus, time.time()
    alerts = expressions()
    assert set(alerts) == set(ALERTS)

    def scraped_twice():
        run.well()
        return prometheus.values('sum(increase(http_requests_total{path="/api/v1/users/{user_id}"}[1m]) > 0)')

    harness.wait_until(scraped_twice, "two scrapes with traffic")
    for name, expression in alerts.items():
        assert prometheus.values(expression) == {}, f"{name} while all is well"
    api.gateway.process.signal(signal.SIGHUP)
    api.gateway.wait_metric('gateway_config_reloads_total{result="success"}', lambda value: value == 1)
    run.badly()
    for name, expression in alerts.items():
        harness.wait_until(lambda: prometheus.values(expression), f"{name} is seen")
    # it is the AI service: it, and the gateway with it, not AuthService
    p99 = "histogram_quantile(0.99, sum by (le{by}) (rate({family}_bucket{{{match}}}[1m])))"
    ours = prometheus.values(p99.format(by="", family="http_request_latency_seconds", match='path="/api/ai"'))
    theirs = prometheus.values(p99.format(by=", upstream", family="upstream_grpc_latency_seconds", match=""))
    theirs = {dict(labels)["upstream"]: value for labels, value in theirs.items()}
    assert ours[()] > 1.6 and theirs["ai"] > 1.6 and theirs["shop"] < 1
    harness.wait_until(lambda: empty_queries(prometheus, since) == [], "each query of the dashboard has something to show")
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == {name: "ok" for name in ALERTS}
    assert prometheus.get("label/instance/values", **{"match[]": "gateway_build_info"}) == [api.gateway.admin]

    # a family that is misspelt in a rule or a chart would be silent for ever
    known = set(prometheus.get("label/__name__/values"))
    used = set()
    for expression in [*alerts.values(), *(expression for _, expression in queries())]:
        used |= set(re.findall(r"\b(?:http|upstream|gateway|process)_[a-z0-9_]+", expression))
    assert used <= known, used - known

    # labels are templates: neither what was asked for nor anything else that clients chose
    paths = {labels["path"] for labels in map(dict, prometheus.values("http_requests_total"))}
    assert {"/api/v1/users/{user_id}", "/api/v1/users", "/api/ai", "/watch/{name}", "unmatched"} <= paths
    assert all("-7" not in path and "stranger" not in path for path in paths)
    rpcs = {(labels["upstream"], labels["rpc"]) for labels in map(dict, prometheus.values("upstream_grpc_latency_seconds_count"))}
    assert {("auth", "auth.v1.AuthService/ValidateSession"), ("auth", "auth.v1.AuthService/CheckPermission"),
            ("auth", "auth.v1.AuthService/GetUser"), ("ai", "ai_service.AIService/ProcessQuery"),
            ("shop", "ringway.test.Shop/Watch")} <= rpcs
    errors = {(labels["upstream"], labels["rpc"], labels["code"]): value
              for labels, value in ((dict(key), value) for key, value in prometheus.values("upstream_grpc_errors_total").items())}
    assert errors["ai", "ai_service.AIService/ProcessQuery", "INTERNAL"] == 5
    assert errors["ai", "ai_service.AIService/ProcessQuery", "DEADLINE_EXCEEDED"] == 8


# ---- counting ----

@pytest.fixture
def api(folder, redis_server):
    services = AuthService(), AIService(), ShopService()
    make_descriptors(folder)
    config = CONFIG.format(auth=services[0].address, ai=services[1].address, shop=services[2].address)
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        yield Api(gateway, services)
    for service in services:
        service.stop()


def counted(api, path, method, status):
    return api.gateway.metric(f'http_requests_total{{path="{path}",method="{method}",status="{status}"}}')


def test_calls_count_by_method_and_template(api):
    api.auth.users["u1"] = auth.User(user_id="u1")
    api.auth.permissions.add(("alice", "user:list"))
    token = api.auth.login()
    for path in ("/api/v1/users/u1", "/api/v1/users/u1?", "/api/v1/users/u%31", "/api/v1/users/other"):
        api.call("GET", path, token=token)
    api.call("HEAD", "/api/v1/users/u1", token=token)
    api.call("DELETE", "/api/v1/users/u1")
    api.call("OPTIONS", "/api/v1/users/u1", origin="https://app.example.com", access_control_request_method="GET")
    api.call("GET", "/api/v1/nothing")
    api.call("GET", "/nothing")
    template = "/api/v1/users/{user_id}"
    assert counted(api, template, "GET", 200) == 3 and counted(api, template, "GET", 404) == 1
    assert counted(api, template, "HEAD", 200) == 1 and counted(api, template, "DELETE", 405) == 1
    assert counted(api, template, "OPTIONS", 204) == 1
    assert counted(api, "unmatched", "GET", 404) == 2
    assert api.gateway.metric(f'http_request_latency_seconds_count{{path="{template}"}}') == 7
    reasons = [api.gateway.metric(f'gateway_rest_refusals_total{{reason="{reason}"}}')
               for reason in ("unauthenticated", "forbidden", "foreign_origin")]
    assert reasons == [0, 0, 0]
    api.call("GET", "/api/v1/users")
    api.call("GET", "/api/v1/users/u1", token=api.auth.login("t2", "bob", "s2"))
    api.call("POST", "/api/ai", {}, cookie=f"session_token={token}")
    for reason in ("unauthenticated", "forbidden", "foreign_origin"):
        assert api.gateway.metric(f'gateway_rest_refusals_total{{reason="{reason}"}}') == 1, reason
    assert api.gateway.metric('gateway_rest_session_lookups_total{result="hit"}') >= 3


def test_access_log_has_the_template(api):
    api.call("GET", "/api/v1/users/u1", token="secret")
    api.ai.stop()
    harness.wait_until(lambda: api.call("POST", "/api/ai", {"query": "x"}, token=api.auth.login())[0] == 503, "the service is missed")
    assert api.gateway.log("call", status=503)["path"] == "/api/ai"


def test_stream_is_as_slow_as_its_head(api):
    """A stream that goes on for long is no slow answer, neither the gateway's nor its service's."""
    more = threading.Event()

    def watch(request, context):
        yield shop.Order(order_id="first")
        assert more.wait(harness.PATIENCE)

    api.shop.Watch = watch
    response = api.open("/watch/a")
    response.readline()
    api.gateway.wait_metric('http_request_latency_seconds_count{path="/watch/{name}"}', lambda value: value == 1)
    labels = 'upstream="shop",rpc="ringway.test.Shop/Watch"'
    assert api.gateway.metric(f"upstream_grpc_latency_seconds_count{{{labels}}}") == 1
    assert counted(api, "/watch/{name}", "GET", 200) == 0
    more.set()
    response.read()
    assert counted(api, "/watch/{name}", "GET", 200) == 1
    assert api.gateway.metric('http_request_latency_seconds_count{path="/watch/{name}"}') == 1
    assert api.gateway.metric(f"upstream_grpc_latency_seconds_count{{{labels}}}") == 1
