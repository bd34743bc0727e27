"""Uses the features since 0.2 of a running release, and returns the data that record_release.py records: second factors, passkeys, apps
and profiles."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import struct
import subprocess
import tempfile
import time
import urllib.parse

ISSUER = "http://127.0.0.1:8080"
# The tests that read the recorded data use the same values (tests/it/oidc/mod.rs).
# VERIFIER is the code verifier of PKCE (RFC 7636, appendix B).
CALLBACK = "https://app.example.com/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def b64(data):
    """Encodes bytes in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def totp(secret, at):
    """The code of an authenticator app (RFC 6238)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    counter = int(at) // 30
    digest = hmac.new(key, struct.pack(">Q", counter), hashlib.sha1).digest()
    # The last 4 bits select 4 bytes, of which the first bit is ignored (RFC 4226, section 5.3).
    start = digest[-1] & 15
    (number,) = struct.unpack(">I", digest[start:start + 4])
    return f"{(number & 0x7FFFFFFF) % 1_000_000:06}"


def cbor_text(text):
    """A text of fewer than 24 bytes as CBOR."""
    return bytes([0x60 + len(text)]) + text.encode()


class Authenticator:
    """An authenticator with one passkey, a P-256 key that openssl generates. It sends no attestation."""

    def __init__(self):
        generated = subprocess.run(
            ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "DER"],
            check=True, capture_output=True,
        ).stdout
        self.pkcs8 = self.openssl("pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER", der=generated)
        # The public key ends with the point: 0x04, and x and y of 32 bytes each.
        self.point = self.openssl("pkey", "-inform", "DER", "-pubout", "-outform", "DER", der=generated)[-65:]
        self.credential = os.urandom(16)  # the credential id

    @staticmethod
    def openssl(*arguments, der):
        """Runs openssl on a DER file. Returns its output."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(der)
            file.flush()
            return subprocess.run(["openssl", *arguments, "-in", file.name], check=True, capture_output=True).stdout

    def create(self, options):
        """Responds to `navigator.credentials.create`. The CBOR has only short maps and strings, so it is written by hand."""
        client_data = json.dumps({
            "type": "webauthn.create", "challenge": options["challenge"], "origin": "http://localhost:8080", "crossOrigin": False,
        }).encode()
        # A COSE key: 1 (kty): 2 (EC2), 3 (alg): -7 (ES256), -1 (crv): 1 (P-256), -2: x, -3: y.
        cose_key = bytes.fromhex("a5010203262001215820") + self.point[1:33] + bytes.fromhex("225820") + self.point[33:]
        # The authenticator data: digest of the relying party's id; flags 0x45 (user present, user verified, attested credential data);
        # signature counter 1; AAGUID of zeros; credential id with its length; public key.
        data = hashlib.sha256(options["rp"]["id"].encode()).digest() + bytes([0x45]) + struct.pack(">I", 1) + bytes(16)
        data += struct.pack(">H", len(self.credential)) + self.credential + cose_key
        # A map of three members: fmt: "none", attStmt: an empty map, authData: a byte string of fewer than 256 bytes.
        attestation = b"\xa3" + cbor_text("fmt") + cbor_text("none") + cbor_text("attStmt") + b"\xa0"
        attestation += cbor_text("authData") + b"\x58" + bytes([len(data)]) + data
        return {
            "id": b64(self.credential), "rawId": b64(self.credential), "type": "public-key", "clientExtensionResults": {"credProps": {"rk": True}},
            "response": {"clientDataJSON": b64(client_data), "attestationObject": b64(attestation), "transports": ["internal"]},
        }


class Browser:
    """A browser without scripts: it keeps cookies and submits the forms of pages."""

    def __init__(self, base):
        self.host = base.removeprefix("http://")
        self.cookies = {}
        self.page = ""  # the HTML of the last page

    def send(self, path, fields=None):
        """Opens a page, or submits a form of the last page. Returns the location if the response is a redirect."""
        connection = http.client.HTTPConnection(self.host)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = None
        if fields is not None:
            headers["content-type"] = "application/x-www-form-urlencoded"
            token = re.search(r'name="csrf" value="([^"]*)"', self.page)[1]
            body = urllib.parse.urlencode({**fields, "csrf": token})
        connection.request("GET" if body is None else "POST", path.removeprefix(ISSUER), body, headers)
        response = connection.getresponse()
        page = response.read().decode()
        for cookie in response.headers.get_all("set-cookie") or []:
            name, value = cookie.split(";")[0].split("=", 1)
            self.cookies[name] = value
        if response.status == 303:
            return response.headers["location"]
        if response.status != 200:
            raise SystemExit(f"{path}: {response.status} {page}")
        self.page = page
        return None

    def open(self, path):
        """Opens a page and follows redirects of the service. Returns the URL if a redirect leads to the app."""
        while path:
            if path.startswith(CALLBACK):
                return path
            path = self.send(path)
        return None

    def submit(self, path, fields):
        """Submits the form of the last page whose action begins with a path, and follows redirects as `open` does."""
        action = re.search(rf'<form method="post" action="({re.escape(path)}[^"]*)"', self.page)[1]
        return self.open(self.send(action.replace("&amp;", "&"), fields))


class Features:
    """Uses the features of a running release. `command` runs a command of the release and returns its output."""

    def __init__(self, base, password, command):
        self.base, self.password, self.command = base, password, command

    def call(self, method, path, body=None, bearer=None, basic=None):
        """Calls the API with a JSON body, or an OAuth endpoint with a form."""
        connection = http.client.HTTPConnection(self.base.removeprefix("http://"))
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        if basic:
            headers["authorization"] = "Basic " + base64.b64encode(basic.encode()).decode()
        if path.startswith("/oauth2/"):
            headers["content-type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(body)
        elif body is not None:
            headers["content-type"] = "application/json"
            body = json.dumps(body)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode()
        if response.status >= 300:
            raise SystemExit(f"{path}: {response.status} {text}")
        return json.loads(text) if text else None

    def sign_up(self, name):
        """Registers an account and signs in. Returns the tokens."""
        self.call("POST", "/v1/users", {"email": f"{name}@example.com", "username": name, "password": self.password})
        return self.call("POST", "/v1/login", {"identifier": name, "password": self.password})

    def authenticator_app(self):
        """The account cyd with an authenticator app and recovery codes."""
        tokens = self.sign_up("cyd")
        secret = self.call("POST", "/v1/me/factors/totp", {"label": "Phone"}, tokens["access_token"])["secret"]
        code = totp(secret, time.time())
        confirmed = self.call("POST", "/v1/me/factors/totp/confirm", {"code": code}, tokens["access_token"])
        refresh = confirmed["refresh_token"]
        return {"identifier": "cyd", "secret": secret, "recovery_codes": confirmed["recovery_codes"], "refresh": refresh}

    def passkey(self):
        """The account dan with a passkey."""
        tokens = self.sign_up("dan")
        authenticator = Authenticator()
        options = self.call("POST", "/v1/me/passkeys/options", {}, tokens["access_token"])["public_key"]
        body = {"name": "Dan's phone", "credential": authenticator.create(options)}
        added = self.call("POST", "/v1/me/passkeys", body, tokens["access_token"])
        return {
            "identifier": "dan", "pkcs8": b64(authenticator.pkcs8), "credential": b64(authenticator.credential),
            "user_handle": options["user"]["id"], "refresh": added["tokens"]["refresh_token"],
        }

    def app(self):
        """An app that asks for consent. Ada signs in to it on the pages."""
        added = self.command("client", "add", "shop", "--kind", "web", "--consent", "--redirect-uri", CALLBACK)
        client = dict(line.split(": ") for line in added.splitlines())
        challenge = b64(hashlib.sha256(VERIFIER.encode()).digest())
        query = urllib.parse.urlencode({
            "response_type": "code", "client_id": "shop", "redirect_uri": CALLBACK, "scope": "openid profile email", "state": "a state",
            "nonce": "a nonce", "code_challenge": challenge, "code_challenge_method": "S256",
        })
        browser = Browser(self.base)
        # A running node loads the new client within seconds. Until then, it refuses the request, and `open` raises SystemExit.
        for _ in range(100):
            try:
                browser.open(f"/oauth2/authorize?{query}")
                break
            except SystemExit:
                time.sleep(0.1)
        browser.submit("/account/sign-in", {"identifier": "ada", "password": self.password})
        callback_url = browser.submit("/account/consent", {"decision": "allow"})
        code = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(callback_url).query))["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        tokens = self.call("POST", "/oauth2/token", form, basic=f"shop:{client['client_secret']}")
        return {
            "client_id": "shop", "client_secret": client["client_secret"], "refresh": tokens["refresh_token"],
            "access": tokens["access_token"], "cookie": browser.cookies["__Host-latchkey-browser"],
        }

    def profile(self):
        """A profile of ada."""
        tokens = self.call("POST", "/v1/login", {"identifier": "ada", "password": self.password})
        profile = {"display_name": "Ada Lovelace", "locale": "pt-BR", "time_zone": "Europe/Lisbon"}
        self.call("PATCH", "/v1/me", profile, tokens["access_token"])
        return profile

    def record(self):
        """Uses all features. Returns the data of each."""
        return {"totp": self.authenticator_app(), "passkey": self.passkey(), "app": self.app(), "profile": self.profile()}
