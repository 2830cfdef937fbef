"""Sign-on in headless Chromium: an application's pages behind nginx, from the login click to the dashboard and out again.

Screenshots of the last run are kept in the build folder, in <mode>/screenshots.
"""

import socket

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import harness
from browser import open_chromium
from conftest import node_modules
from sign_on import Provider, SignOnService
from test_rest import make_descriptors
from test_sso import configuration

SCREENSHOTS = harness.OUT / "screenshots"
PAGES = {
    "index.html": """<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>Welcome</title><h1>Welcome</h1>
<a id=sign-in href="/api/v1/auth/google/login?next=/dashboard%3Fview=all">Sign in</a>""",
    "dashboard.html": """<!doctype html><meta charset=utf-8><link rel=icon href="data:,"><title>Dashboard</title>
<h1>Dashboard</h1><p id=users></p><button id=sign-out>Sign out</button>
<script>
fetch("/api/v1/users").then(async answer => {
	const body = await answer.json();
	document.title = "Dashboard " + answer.status;
	document.getElementById("users").textContent =
		answer.ok ? body.users.map(user => user.email).join(", ") : body.error.message;
});
document.getElementById("sign-out").onclick = async () => {
	const answer = await fetch("/api/v1/auth/logout", { method: "POST" });
	location = "/?signed-out=" + answer.status;
};
</script>""",
}
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{}}
http {{
	access_log off;
	types {{ text/html html; }}
	client_body_temp_path {folder}/body;
	proxy_temp_path {folder}/proxy;
	fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi;
	scgi_temp_path {folder}/scgi;
	server {{
		listen 127.0.0.1:{port} reuseport;
		root {folder}/pages;
		location /api/ {{ proxy_pass http://{gateway}; proxy_set_header Host $http_host; }}
		location / {{ try_files $uri $uri.html $uri/index.html =404; }}
	}}
}}
"""


class Front:
    """The application's own address: known before anything listens there, as the provider must be told."""

    def __init__(self, folder):
        self.folder = folder
        self.place = socket.socket()  # bound, and never listening: it keeps the port for us
        self.place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.place.bind(("127.0.0.1", 0))
        self.port = self.place.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.process = None

    def start(self, gateway):
        (self.folder / "pages").mkdir()
        for name, text in PAGES.items():
            (self.folder / "pages" / name).write_text(text)
        path = self.folder / "nginx.conf"
        path.write_text(NGINX.format(folder=self.folder, port=self.port, gateway=gateway.public))
        self.process = harness.Process(["/usr/sbin/nginx", "-c", path, "-e", "stderr", "-p", self.folder])
        harness.wait_until(lambda: self.process.process.poll() is not None or self.answers(), "nginx")

    def answers(self):
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process:
            self.process.stop()
        self.place.close()


@pytest.fixture
def front(folder):
    made = Front(folder)
    yield made
    made.stop()


@pytest.fixture
def service(front):
    provider = Provider(node_modules(), f"{front.url}/api/v1/auth/google/callback")
    made = SignOnService(provider)
    yield made
    made.stop()
    provider.stop()


@pytest.fixture
def site(folder, redis_server, front, service):
    make_descriptors(folder)
    config = configuration(folder, service, redirect=f"{front.url}/api/v1/auth/google/callback", origin=front.url)
    with harness.Gateway(folder, redis_server, config=config) as gateway:
        front.start(gateway)
        yield gateway


@pytest.fixture
def chromium(folder):
    with harness.network():
        driver = open_chromium(folder)
        yield driver
        driver.quit()


class Person:
    """At a real browser."""

    def __init__(self, driver):
        self.driver = driver

    def wait(self, wanted):
        WebDriverWait(self.driver, harness.PATIENCE, poll_frequency=0.05).until(wanted)

    def see(self, title):
        self.wait(lambda driver: driver.title.startswith(title))

    def click(self, selector):
        self.driver.find_element(By.CSS_SELECTOR, selector).click()

    def keep(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        assert self.driver.save_screenshot(str(SCREENSHOTS / f"{name}.png"))

    def cookies(self):
        return {cookie["name"]: cookie for cookie in self.driver.execute_cdp_cmd("Storage.getCookies", {})["cookies"]}


def test_from_login_click_to_dashboard_and_logout(site, front, service, chromium):
    person = Person(chromium)
    chromium.get(front.url)
    person.click("#sign-in")
    person.see("Sign-in")
    assert chromium.current_url.startswith(service.provider.issuer + "/")
    assert person.cookies()["ringway_login"]["path"] == "/api/v1/auth/google/callback"
    chromium.find_element(By.NAME, "login").send_keys("alice")
    chromium.find_element(By.NAME, "password").send_keys("any")
    person.keep("1-provider")
    person.click("button[type=submit]")
    person.wait(lambda driver: driver.find_elements(By.CSS_SELECTOR, "input[name=prompt][value=consent]"))
    person.click("button[type=submit]")

    person.see("Dashboard 200")
    assert chromium.current_url == f"{front.url}/dashboard?view=all"
    assert chromium.find_element(By.ID, "users").text == "alice@example.com"
    person.keep("2-dashboard")
    cookies = person.cookies()
    session = cookies["session_token"]
    assert session["value"] in service.sessions and "ringway_login" not in cookies
    assert session["httpOnly"] and session["secure"] and session["sameSite"] == "Lax" and session["path"] == "/"
    assert session["domain"] == "localhost" and 0 < session["expires"] - harness.now_ms() / 1000 <= 3600
    assert chromium.execute_script("return document.cookie") == "", "pages cannot read it"

    # a page of another origin of the same site, to which the browser gives the cookie
    chromium.get(f"{service.provider.issuer}/.well-known/openid-configuration")
    chromium.execute_async_script("""
        fetch(arguments[0], {method: "POST", mode: "no-cors", credentials: "include"}).finally(arguments[1])""",
                                  f"{front.url}/api/v1/auth/logout")
    assert site.metric('gateway_rest_refusals_total{reason="foreign_origin"}') == 1 and service.times("Logout") == 0

    chromium.get(f"{front.url}/dashboard")
    person.see("Dashboard 200")
    person.click("#sign-out")
    person.see("Welcome")
    assert chromium.current_url == f"{front.url}/?signed-out=204"
    assert service.sessions == {} and "session_token" not in person.cookies()
    chromium.get(f"{front.url}/dashboard")
    person.see("Dashboard 401")
    assert chromium.find_element(By.ID, "users").text == "a session is needed"
    person.keep("3-signed-out")


def test_person_who_changes_her_mind_has_no_session(site, front, service, chromium):
    person = Person(chromium)
    chromium.get(f"{front.url}/api/v1/auth/google/login")
    person.see("Sign-in")
    chromium.find_element(By.PARTIAL_LINK_TEXT, "Cancel").click()
    person.wait(lambda driver: driver.current_url.startswith(front.url))
    assert "sign-in was refused at the provider" in chromium.page_source
    assert "session_token" not in person.cookies() and service.claims == []
