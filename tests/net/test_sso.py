"""Sign-on (api.md §4) against a real OpenID Connect provider and an AuthService that exchanges its codes there."""

import base64
import email.utils
import hashlib
import http.cookies
import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
from types import SimpleNamespace

import grpc
import pytest

import harness
from conftest import node_modules
from services import Failure, auth
from sign_on import CLIENT, Person, Provider, SignOnService
from test_rest import error, make_descriptors
from test_secrets import abandoned, look_through, with_cores

REDIRECT = "https://app.example.com/api/v1/auth/google/callback"
OURS = "https://app.example.com"
LOGIN, CALLBACK, LOGOUT = "/api/v1/auth/google/login", "/api/v1/auth/google/callback", "/api/v1/auth/logout"
CONFIG = """
descriptor_sets: [api.pb]
upstreams:
  auth: {{ addresses: ["{auth}"], deadline: 5s, health: false }}
rest:
  base_path: /api/v1
  auth: {{ upstream: auth, validate_cache: 1m }}
  routes:
    - {{ method: GET, path: "/users", rpc: auth.v1.AuthService/ListUsers, upstream: auth }}
  sso:
    provider: google
    authorize_url: "{authorize}"
    client_id: {client}
    hosted_domain: example.com
    cookie_key_file: {key}
    redirect_url: "{redirect}"
    after_login: /dashboard
  allowed_origins: ["{origin}"]
"""


@pytest.fixture(scope="module")
def provider():
    started = Provider(node_modules(), REDIRECT)
    yield started
    started.stop()


@pytest.fixture
def service(provider):
    started = SignOnService(provider)
    yield started
    started.stop()


def configuration(folder, service, key="sso.key", redirect=REDIRECT, origin=OURS):
    if not (folder / key).exists():
        (folder / key).write_bytes(os.urandom(32))
    return CONFIG.format(auth=service.address, authorize=service.provider.metadata["authorization_endpoint"], client=CLIENT,
                         key=key, redirect=redirect, origin=origin)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.text = response.status, response.headers, response.read()
        self.location = response.headers["location"]
        self.cookies = {}
        for value in response.headers.get_all("set-cookie", []):
            for name, morsel in http.cookies.SimpleCookie(value).items():
                self.cookies[name] = morsel

    @property
    def error(self):
        return self.status, json.loads(self.text)


class Browser:
    """The gateway's side of a browser: the cookies it has, sent where they belong."""

    def __init__(self, gateway):
        self.gateway = gateway
        self.cookies = {}

    def ask(self, method, path, keep=True, **headers):
        connection = harness.http_connection(self.gateway.public)
        wanted = {name: morsel for name, morsel in self.cookies.items() if path.startswith(morsel["path"])}
        if wanted:
            headers["cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in wanted.items())
        connection.request(method, path, headers=headers)
        answer = Answer(connection.getresponse())
        connection.close()
        for name, morsel in answer.cookies.items() if keep else ():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel
        return answer

    def come_back(self, url, **more):
        """Follows the provider's redirect to the gateway."""
        assert url.startswith(REDIRECT + "?"), url
        return self.ask("GET", url.removeprefix(OURS), **more)


class Site:
    def __init__(self, gateway, service):
        self.gateway, self.service = gateway, service

    def begin(self, browser=None, query=""):
        browser = browser or Browser(self.gateway)
        return browser, browser.ask("GET", LOGIN + query)

    def sign_in(self, name="alice", query=""):
        browser, begun = self.begin(query=query)
        answer = browser.come_back(Person(self.service.provider).sign_in(begun.location, name))
        assert answer.status == 302, answer.text
        return browser, answer

    def count(self, result):
        return self.gateway.metric(f'gateway_sign_on_total{{result="{result}"}}')


@pytest.fixture
def site(folder, redis_server, service):
    make_descriptors(folder)
    with harness.Gateway(folder, redis_server, config=configuration(folder, service)) as gateway:
        yield Site(gateway, service)


def parameters(url):
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query, strict_parsing=True)
    assert all(len(values) == 1 for values in query.values())
    return {name: values[0] for name, values in query.items()}


# ---- the whole way ----

def test_login_leads_to_a_session_and_logout_ends_it(site):
    browser, answer = site.sign_in()
    assert answer.location == "/dashboard"
    listed = browser.ask("GET", "/api/v1/users")
    assert listed.status == 200, listed.text
    token = browser.cookies["session_token"].value
    assert site.service.sessions[token][0] == "alice"
    left = browser.ask("POST", LOGOUT, origin=OURS)
    assert (left.status, left.text) == (204, b"")
    assert "session_token" not in browser.cookies and site.service.sessions == {}
    assert browser.ask("GET", "/api/v1/users").error == (401, error(401, "a session is needed"))
    assert (site.count("begun"), site.count("signed_in"), site.count("signed_out")) == (1, 1, 1)
    for path, method, status in ((LOGIN, "GET", 302), (CALLBACK, "GET", 302), (LOGOUT, "POST", 204)):
        assert site.gateway.metric(f'http_requests_total{{path="{path}",method="{method}",status="{status}"}}') == 1


def test_provider_is_asked_with_pkce_and_the_answer_is_bound_to_it(site):
    browser, begun = site.begin()
    asked = parameters(begun.location)
    assert begun.status == 302 and begun.location.startswith(site.service.provider.metadata["authorization_endpoint"] + "?")
    assert asked["response_type"] == "code" and asked["client_id"] == CLIENT and asked["redirect_uri"] == REDIRECT
    assert asked["scope"] == "openid email profile" and asked["hd"] == "example.com"
    assert asked["code_challenge_method"] == "S256"
    assert all(len(asked[name]) == 43 for name in ("state", "nonce", "code_challenge"))
    back = Person(site.service.provider).sign_in(begun.location)
    assert browser.come_back(back).status == 302
    request, metadata = site.service.last("HandleGoogleAuthCallback")
    assert request.authorization_code == parameters(back)["code"]
    digest = hashlib.sha256(request.code_verifier.encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
    assert (request.redirect_uri, request.nonce) == (REDIRECT, asked["nonce"])
    assert site.service.claims[0]["nonce"] == asked["nonce"] and site.service.claims[0]["sub"] == "alice"
    assert metadata["user-agent"].startswith("ringway/")


def test_cookies_are_for_this_host_and_not_for_pages(site):
    _, begun = site.begin()
    cookie = begun.cookies["ringway_login"]
    assert cookie["httponly"] and cookie["secure"] and cookie["samesite"] == "Lax" and not cookie["domain"]
    assert cookie["path"] == CALLBACK and cookie["max-age"] == "600"
    asked = parameters(begun.location)
    assert not any(asked[name] in cookie.value for name in ("state", "nonce"))
    _, answer = site.sign_in()
    cookie = answer.cookies["session_token"]
    assert cookie["httponly"] and cookie["secure"] and cookie["samesite"] == "Lax" and not cookie["domain"]
    assert cookie["path"] == "/"
    expires = email.utils.parsedate_to_datetime(cookie["expires"]).timestamp()
    assert abs(expires - time.time() - 3600) < harness.PATIENCE and abs(int(cookie["max-age"]) - 3600) < harness.PATIENCE
    assert answer.cookies["ringway_login"]["max-age"] == "0" and answer.headers["cache-control"] == "no-store"
    listed = email.utils.parsedate_to_datetime(answer.cookies["ringway_login"]["expires"])
    assert listed.timestamp() == 0


def test_next_is_where_it_ends(site):
    for given, location in (
            ("?next=/orders/7%3Fopen%3D1", "/orders/7?open=1"), ("?next=%2Fa%20b%2Fc", "/a%20b/c"), ("?next=/%C3%A4", "/%C3%A4"),
            ("?next=", "/dashboard"), ("?other=1", "/dashboard"), ("?next=/" + "a" * 1023, "/" + "a" * 1023)):
        assert site.sign_in(query=given)[1].location == location


ELSEWHERE = [
    "//evil.example", "/%5Cevil.example", "%5C%5Cevil.example", "https://evil.example/", "evil.example", "javascript:alert(1)",
    "/a%0D%0Aset-cookie:%20a=b", "/%09/evil.example", "/%00", "/%7F", "/" + "a" * 1024, "%2F%2Fevil.example", "/%zz"]


def test_next_that_is_no_path_of_ours_is_refused(site):
    for given in ELSEWHERE:
        _, begun = site.begin(query=f"?next={given}")
        assert begun.error == (400, error(400, "next must be a local path")), given
        assert not begun.cookies and not begun.location
    assert site.count("bad_next") == len(ELSEWHERE) and site.count("begun") == 0


def test_google_is_known(folder, redis_server, provider):
    make_descriptors(folder)
    config = re.sub(" *(authorize_url|hosted_domain|after_login):.*\n", "", configuration(folder, nobody(provider)))
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        begun = Browser(gateway).ask("GET", LOGIN)
        assert begun.status == 302 and begun.location.startswith("https://accounts.google.com/o/oauth2/v2/auth?response_type=code&")
        asked = parameters(begun.location)
        assert asked["scope"] == "openid email profile" and "hd" not in asked


def test_any_provider_has_its_name_in_the_paths(folder, redis_server, provider):
    make_descriptors(folder)
    config = configuration(folder, nobody(provider)).replace("provider: google", "provider: key-cloak2\n    scopes: [openid, email]")
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        begun = Browser(gateway).ask("GET", "/api/v1/auth/key-cloak2/login")
        assert begun.status == 302 and parameters(begun.location)["scope"] == "openid email"
        assert Browser(gateway).ask("GET", "/api/v1/auth/key-cloak2/callback").status == 400
        for path in (LOGIN, CALLBACK):
            assert Browser(gateway).ask("GET", path).error == (404, error(404, "no such route"))
        assert Browser(gateway).ask("POST", "/api/v1/auth/key-cloak2/login").headers["allow"] == "GET, HEAD"


def nobody(provider):
    """Where an AuthService would be."""
    return SimpleNamespace(address="127.0.0.1:1", provider=provider)


def test_http2_browsers_get_the_same(site):
    def curl(path, cookie=""):
        done = subprocess.run(["curl", "-sS", "--http2-prior-knowledge", "-D", "-", "-H", f"cookie: {cookie}",
                               f"http://{site.gateway.public}{path}"], capture_output=True, text=True, check=True)
        head = done.stdout.split("\n\n")[0].replace("\r", "").splitlines()
        return head[0], [tuple(line.split(": ", 1)) for line in head[1:] if line]

    status, headers = curl(LOGIN + "?next=/h2")
    assert status.startswith("HTTP/2 302")
    cookie = dict(headers)["set-cookie"].split(";")[0]
    back = Person(site.service.provider).sign_in(dict(headers)["location"])
    status, headers = curl(back.removeprefix(OURS), cookie)
    assert status.startswith("HTTP/2 302") and dict(headers)["location"] == "/h2"
    assert [value.split("=")[0] for name, value in headers if name == "set-cookie"] == ["session_token", "ringway_login"]


def test_nothing_that_lets_somebody_in_is_logged(folder, redis_server, service):
    make_descriptors(folder)
    with harness.Gateway(folder, redis_server, config=configuration(folder, service), env={"GATEWAY_ACCESS_LOG": "all"}) as gateway:
        site = Site(gateway, service)
        browser, begun = site.begin()
        sealed = browser.cookies["ringway_login"].value
        back = Person(service.provider).sign_in(begun.location)
        assert browser.come_back(back).status == 302
        token = browser.cookies["session_token"].value
        assert browser.ask("POST", LOGOUT, origin=OURS).status == 204
        assert browser.come_back(back).status == 400
        request, _ = service.last("HandleGoogleAuthCallback")
        asked = parameters(begun.location)
    log = gateway.process.err.text()
    assert CALLBACK in log, "requests are logged"
    for secret in (sealed, token, parameters(back)["code"], asked["state"], asked["nonce"], request.code_verifier):
        assert secret not in log


# ---- what does not lead to a session ----

def test_state_is_good_once(site):
    browser, begun = site.begin()
    before = dict(browser.cookies)
    back = Person(site.service.provider).sign_in(begun.location)
    assert browser.come_back(back).status == 302
    again = Browser(site.gateway)
    again.cookies = before
    answer = again.come_back(back)
    assert answer.error == (400, error(400, "this sign-in was used already")) and not answer.cookies
    assert site.service.times("HandleGoogleAuthCallback") == 1 and site.count("used") == 1


def test_state_is_bound_to_the_browser(site):
    browser, begun = site.begin()
    back = Person(site.service.provider).sign_in(begun.location)
    stranger = Browser(site.gateway).come_back(back)
    assert stranger.error == (400, error(400, "this sign-in was not begun in this browser, or too long ago"))
    other, _ = site.begin()
    crossed = other.come_back(back)
    assert crossed.error == (400, error(400, "state is not this sign-in's"))
    forged = Browser(site.gateway)
    forged.cookies = {name: morsel for name, morsel in browser.cookies.items()}
    forged.cookies["ringway_login"] = http.cookies.SimpleCookie(f"a={'A' * 300}; Path=/")["a"]
    broken = forged.come_back(back)
    assert broken.error == (400, error(400, "the sign-in's cookie is not valid"))
    for answer in (stranger, crossed, broken):
        assert not answer.cookies and not answer.location
    assert site.service.times("HandleGoogleAuthCallback") == 0
    assert browser.come_back(back).status == 302, "others' attempts have not spent it"
    assert (site.count("no_cookie"), site.count("wrong_state"), site.count("bad_cookie")) == (1, 1, 1)


def test_provider_s_refusal_is_told(site):
    browser, begun = site.begin()
    back = Person(site.service.provider).sign_in(begun.location, consent=False)
    assert parameters(back)["error"] == "access_denied"
    answer = browser.come_back(back)
    assert answer.error == (400, error(400, "sign-in was refused at the provider")) and not answer.cookies
    state = parameters(begun.location)["state"]
    answer = browser.ask("GET", f"{CALLBACK}?error=server_error&error_description=%3Cscript%3E&state={state}")
    assert answer.error == (400, error(400, "the provider reported an error")) and not answer.cookies
    assert site.service.times("HandleGoogleAuthCallback") == 0 and site.count("provider_error") == 2


NO_CALLBACKS = [
    ("", "state is not this sign-in's"), ("?state={state}", "code is missing"), ("?state={state}&code=", "code is missing"),
    ("?code=a&state={state}x", "state is not this sign-in's"), ("?code=a&state={state}xx", "the provider's answer is malformed"),
    ("?code=a&state={state}&state={state}", "the provider's answer is malformed"),
    ("?code=a&code=b&state={state}", "the provider's answer is malformed"),
    ("?code=%zz&state={state}", "the provider's answer is malformed"),
    ("?code=" + "a" * 4097 + "&state={state}", "the provider's answer is malformed"),
    ("?code=a&state=", "state is not this sign-in's"), ("?code=a", "state is not this sign-in's")]


def test_callback_that_is_none_is_refused(site):
    browser, begun = site.begin()
    for query, message in NO_CALLBACKS:
        answer = browser.ask("GET", CALLBACK + query.format(state=parameters(begun.location)["state"]))
        assert answer.error == (400, error(400, message)) and not answer.cookies, query
    assert site.service.times("HandleGoogleAuthCallback") == 0


def test_code_that_the_provider_does_not_know_is_refused(site):
    browser, begun = site.begin()
    answer = browser.ask("GET", f"{CALLBACK}?code=made-up&state={parameters(begun.location)['state']}")
    assert answer.error == (400, error(400, "invalid_grant")) and not answer.cookies
    assert site.count("refused") == 1


def finish(site, answer):
    """A sign-in that AuthService ends with `answer`."""
    site.service.HandleGoogleAuthCallback = answer
    browser, begun = site.begin()
    return browser.ask("GET", f"{CALLBACK}?code=c&state={parameters(begun.location)['state']}")


def test_auth_service_may_refuse(site):
    for code, status in (("UNAUTHENTICATED", 400), ("PERMISSION_DENIED", 403), ("UNAVAILABLE", 503), ("INTERNAL", 500)):
        def refuse(request, context):
            raise Failure(grpc.StatusCode[code], "not you")

        answer = finish(site, refuse)
        assert answer.error == (status, error(status, "not you")) and not answer.cookies
    assert (site.count("refused"), site.count("auth_unavailable")) == (2, 2)


def test_session_that_can_be_no_cookie_is_none(site):
    for reply in ({}, {"session_token": "a b"}, {"session_token": "a;b"}, {"session_token": "a\r\nx: y"},
                  {"session_token": "t" * 4097}, {"session_token": "t", "expires_at_ms": 1},
                  {"session_token": "t", "expires_at_ms": -1}):
        answer = finish(site, lambda request, context: auth.HandleGoogleAuthCallbackResponse(**reply))
        assert answer.error == (502, error(502, "the service's answer cannot be used")) and not answer.cookies, reply


def test_expiry_has_its_bounds(site):
    for expires, wanted in ((0, ""), (2 ** 62, str(400 * 86400))):
        answer = finish(site, lambda request, context: auth.HandleGoogleAuthCallbackResponse(
            session_token="t", expires_at_ms=expires))
        cookie = answer.cookies["session_token"]
        assert answer.status == 302 and cookie["max-age"] == wanted and bool(cookie["expires"]) == bool(wanted)


def test_without_auth_service_nobody_is_signed_in_or_out(site):
    browser, _ = site.sign_in()
    other, begun = site.begin()
    back = Person(site.service.provider).sign_in(begun.location)
    site.service.stop()
    unavailable = 503, error(503, "auth service is unavailable")
    answer = other.come_back(back)
    assert answer.error == unavailable and not answer.cookies
    answer = browser.ask("POST", LOGOUT, origin=OURS)
    assert answer.error == unavailable and not answer.cookies
    assert site.count("auth_unavailable") >= 1


def test_without_redis_nobody_is_signed_in(site, redis_server):
    """Nor with one that refuses to write; a sign-in that is not too old goes on when it is back."""
    browser, begun = site.begin()
    back = Person(site.service.provider).sign_in(begun.location)
    redis_server.client.replicaof("127.0.0.1", 1)
    refused = browser.come_back(back)
    redis_server.kill()
    lost = browser.come_back(back)
    for answer in (refused, lost):
        assert answer.error == (503, error(503, "sign-on is unavailable")) and not answer.cookies
    assert site.service.times("HandleGoogleAuthCallback") == 0 and site.count("redis_unavailable") == 2
    redis_server.restart()
    harness.wait_until(lambda: browser.come_back(back).status == 302, "Redis is found again")


def test_head_does_nothing(site):
    browser, begun = site.begin()
    back = Person(site.service.provider).sign_in(begun.location)
    for path in (LOGIN, back.removeprefix(OURS)):
        answer = browser.ask("HEAD", path)
        assert (answer.status, answer.headers["allow"]) == (405, "GET") and not answer.cookies
    assert browser.come_back(back).status == 302


# ---- sign-out ----

def test_foreign_pages_cannot_sign_out(site):
    browser, _ = site.sign_in()
    foreign = 403, error(403, "requests from this origin are not allowed")
    for headers in ({}, {"origin": "https://evil.example"}, {"origin": "null"}, {"referer": "https://evil.example/"}):
        answer = browser.ask("POST", LOGOUT, **headers)
        assert answer.error == foreign and not answer.cookies
    assert browser.ask("GET", LOGOUT).status == 405
    assert site.service.times("Logout") == 0 and browser.ask("GET", "/api/v1/users").status == 200


def test_sign_out_needs_a_session_and_may_come_twice(site):
    nobody = Browser(site.gateway).ask("POST", LOGOUT, origin=OURS)
    assert nobody.error == (401, error(401, "a session is needed")) and not nobody.cookies
    browser, _ = site.sign_in()
    again = Browser(site.gateway)
    again.cookies = dict(browser.cookies)
    assert browser.ask("POST", LOGOUT, origin=OURS).status == 204
    answer = again.ask("POST", LOGOUT, origin=OURS)
    assert answer.status == 204 and answer.cookies["session_token"]["max-age"] == "0"
    assert site.service.times("Logout") == 1, "a session that is over is not asked about again"


def test_signed_out_token_is_refused_at_once_by_every_worker(site):
    """Each has it in its cache for a minute."""
    browser, _ = site.sign_in()
    token = browser.cookies["session_token"].value

    def ask():
        return Browser(site.gateway).ask("GET", "/api/v1/users", authorization=f"Bearer {token}").status

    harness.wait_until(lambda: ask() == 200 and site.service.times("ValidateSession") == 2, "both workers know it")
    assert browser.ask("POST", LOGOUT, origin=OURS).status == 204
    assert {ask() for _ in range(20)} == {401}


# ---- keys and instances ----

def test_any_instance_may_finish_what_another_began(site, folder, redis_server, service):
    """By the shared key; and what one has spent is spent for all."""
    (folder / "two").mkdir()
    (folder / "two" / "api.pb").write_bytes((folder / "api.pb").read_bytes())
    (folder / "two" / "sso.key").write_bytes((folder / "sso.key").read_bytes())
    with harness.Gateway(folder / "two", redis_server, config=configuration(folder / "two", service)) as second:
        browser, begun = site.begin()
        back = Person(service.provider).sign_in(begun.location)
        before = dict(browser.cookies)
        browser.gateway = second
        assert browser.come_back(back).status == 302
        again = Browser(site.gateway)
        again.cookies = before
        assert again.come_back(back).error == (400, error(400, "this sign-in was used already"))


def test_reload_keeps_sign_ins_under_way_and_a_new_key_ends_them(site, folder, service):
    browser, begun = site.begin()
    back = Person(service.provider).sign_in(begun.location)
    reload(site.gateway, 1)
    assert browser.come_back(back).status == 302
    browser, begun = site.begin()
    back = Person(service.provider).sign_in(begun.location)
    (folder / "sso.key").write_bytes(os.urandom(32))
    reload(site.gateway, 2)
    answer = browser.come_back(back)
    assert answer.error == (400, error(400, "the sign-in's cookie is not valid")) and not answer.cookies
    assert site.sign_in()[1].status == 302


def reload(gateway, number):
    gateway.process.signal(signal.SIGHUP)
    gateway.wait_metric('gateway_config_reloads_total{result="success"}', lambda value: value == number)


@pytest.mark.skipif(harness.MODE not in ("release", "debug"), reason="a sanitizer keeps memory of its own")
def test_core_dump_has_no_key(folder, redis_server, provider):
    """Neither the one that has sealed and opened, nor the one that a reload brought."""
    make_descriptors(folder)
    gateway = harness.Gateway(folder, redis_server, config=configuration(folder, nobody(provider)), prefix=with_cores(folder))
    with abandoned(gateway):
        keys = {}
        for number in range(1, 3):
            keys[f"key {number}"] = (folder / "sso.key").read_bytes()
            for _ in range(8):
                browser = Browser(gateway)
                assert browser.ask("GET", LOGIN).status == 302
                assert browser.ask("GET", f"{CALLBACK}?state=a").error == (400, error(400, "state is not this sign-in's"))
            if number == 1:
                (folder / "sso.key").write_bytes(os.urandom(32))
                reload(gateway, 1)
        look_through(folder, gateway, keys, {"client": CLIENT.encode()})


@pytest.mark.parametrize("key, said", [
    (b"", "must be 32 random bytes (head -c 32 /dev/urandom)"), (b"a" * 31, "must be 32 random bytes (head -c 32 /dev/urandom)"),
    (b"a" * 33, "must be 32 random bytes (head -c 32 /dev/urandom)"), (None, "cannot be read: No such file or directory")])
def test_key_is_checked_with_its_place(folder, redis_server, provider, key, said):
    make_descriptors(folder)
    config = configuration(folder, nobody(provider))
    (folder / "sso.key").unlink()
    if key is not None:
        (folder / "sso.key").write_bytes(key)
    gateway = harness.Gateway(folder, redis_server, config=config, wait=False)
    assert gateway.process.wait() == 2
    line, column = next((number, text.index("sso.key") + 1) for number, text in enumerate(config.splitlines(), 1)
                        if "cookie_key_file" in text)
    assert f'{folder}/gateway.yaml:{line}:{column}: cookie_key_file "{folder}/sso.key" {said}' in gateway.process.err.text()


def test_bad_key_at_a_reload_keeps_the_old_one(site, folder):
    (folder / "sso.key").write_bytes(b"short")
    site.gateway.process.signal(signal.SIGHUP)
    site.gateway.wait_metric('gateway_config_reloads_total{result="mistakes"}', lambda value: value == 1)
    assert site.sign_in()[1].location == "/dashboard"


def test_routes_that_collide_with_sign_on_are_told(folder, redis_server, provider):
    make_descriptors(folder)
    config = configuration(folder, nobody(provider)).replace(
        "  sso:", '    - { method: POST, path: "/auth/{page_token}", rpc: auth.v1.AuthService/ListUsers, upstream: auth }\n'
        '    - { method: POST, path: "/auth/logout", rpc: auth.v1.AuthService/ListUsers, upstream: auth }\n  sso:')
    gateway = harness.Gateway(folder, redis_server, config=config, wait=False)
    assert gateway.process.wait() == 2
    assert "POST \"/api/v1/auth/logout\" collides with \"/api/v1/auth/logout\" of line " in gateway.process.err.text()
    assert gateway.process.err.text().count("collides") == 1
