"""Sign-on for tests: a provider (npm's oidc-provider), an AuthService that takes its codes, and a person at a browser."""

import html
import http.client
import http.cookies
import json
import re
import secrets
import urllib.error
import urllib.parse
import urllib.request

import grpc
import jwt

import harness
from services import AuthService, Failure, auth

CLIENT, SECRET = "ringway-client", "a secret between provider and AuthService"


class Provider(harness.Process):
    def __init__(self, modules, redirect_url):
        program = harness.ROOT / "tests" / "net" / "node" / "provider.mjs"
        super().__init__(["node", program, modules / "oidc-provider" / "lib" / "index.js", CLIENT, SECRET, redirect_url])
        self.issuer = self.out.wait(lambda line: line.startswith("listening ")).split()[1]
        with urllib.request.urlopen(f"{self.issuer}/.well-known/openid-configuration", timeout=harness.PATIENCE) as answer:
            self.metadata = json.load(answer)


class SignOnService(AuthService):
    """Takes codes to the provider as any relying party does; sessions are of its own making."""

    def __init__(self, provider):
        self.provider = provider
        self.lifetime_ms = 3_600_000
        self.claims = []
        super().__init__()

    def exchange(self, request):
        form = {"grant_type": "authorization_code", "code": request.authorization_code, "redirect_uri": request.redirect_uri,
                "code_verifier": request.code_verifier, "client_id": CLIENT, "client_secret": SECRET}
        call = urllib.request.Request(self.provider.metadata["token_endpoint"], urllib.parse.urlencode(form).encode())
        try:
            with urllib.request.urlopen(call, timeout=harness.PATIENCE) as answer:
                return json.load(answer)["id_token"]
        except urllib.error.HTTPError as error:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, json.load(error)["error"]) from None

    def HandleGoogleAuthCallback(self, request, context):
        token = self.exchange(request)
        key = jwt.PyJWKClient(self.provider.metadata["jwks_uri"]).get_signing_key_from_jwt(token)
        claims = jwt.decode(token, key.key, algorithms=["RS256"], audience=CLIENT, issuer=self.provider.issuer)
        if claims.get("nonce") != request.nonce:
            raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "nonce is not the one that was asked for")
        self.claims.append(claims)
        self.users[claims["sub"]] = auth.User(user_id=claims["sub"], email=claims["email"], status=auth.ACTIVE)
        session = self.login(secrets.token_urlsafe(24), claims["sub"], f"session-{len(self.claims)}")
        return auth.HandleGoogleAuthCallbackResponse(session_token=session, user_id=claims["sub"],
                                                     expires_at_ms=harness.now_ms() + self.lifetime_ms)

    def Logout(self, request, context):
        if self.sessions.pop(request.session_token, None) is None:
            raise Failure(grpc.StatusCode.NOT_FOUND, "no such session")
        return auth.LogoutResponse()


class Person:
    """Somebody with a browser, as far as the provider is concerned: a cookie jar, and the two forms."""

    def __init__(self, provider):
        self.provider = provider
        self.cookies = http.cookies.SimpleCookie()

    def ask(self, method, url, form=None):
        """Location (None: none) and body."""
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=harness.PATIENCE)
        headers = {"host": parts.netloc,
                   "cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items() if morsel.value)}
        if form is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
        connection.request(method, f"{parts.path}?{parts.query}", urllib.parse.urlencode(form or {}), headers)
        answer = connection.getresponse()
        for value in answer.headers.get_all("set-cookie", []):
            self.cookies.load(value)
        body, location = answer.read().decode(), answer.headers["location"]
        connection.close()
        return location and urllib.parse.urljoin(url, location), body

    def sign_in(self, url, name="alice", consent=True):
        """From where the gateway sends the browser to where the provider sends it back; returns that address."""
        location, body = self.ask("GET", url)
        for _ in range(10):
            if location and not location.startswith(self.provider.issuer):
                return location
            if location:
                location, body = self.ask("GET", location)
                continue
            action = html.unescape(re.search(r'<form[^>]* action="([^"]+)"', body)[1])
            prompt = re.search(r'name="prompt" value="(\w+)"', body)[1]
            if prompt == "consent" and not consent:
                location = html.unescape(re.search(r'href="([^"]+/abort)"', body)[1])
                continue
            location, body = self.ask("POST", action, {"prompt": prompt, "login": name, "password": "any"})
        raise harness.Failed("the provider goes round in circles")
