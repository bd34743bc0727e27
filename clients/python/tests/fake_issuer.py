"""A scriptable issuer: produces the errors and silences that the real service cannot be made to produce."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from latchkey import Latchkey

SECRET = "lk_cs_a-secret-that-must-not-be-printed"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SID = "5f0c2f0e-7d1c-4a58-9a3b-2f1f6a1e0d42"
SUB = "0192f0c1-2345-7abc-8def-0123456789ab"
# The lifetime of a token (300 s), the leeway and a margin (5 s each).
SNAPSHOT = 'event: snapshot\ndata: {"retain_seconds":310}\n\n'
RESUMED = SNAPSHOT.replace("snapshot", "resumed")
LIVE = 'event: live\nid: event-1\ndata: {"at":"2026-11-23T04:08:30.325Z"}\n\n'
HEARTBEAT = 'event: heartbeat\nid: event-2\ndata: {"at":"2026-11-23T04:08:31.325Z"}\n\n'


def revocation(**data: Any) -> str:
    """A revocation event."""
    return f"event: revocation\ndata: {json.dumps(data)}\n\n"


def claims_change(version: int, at: str = "2026-11-23T04:08:30Z", account: str = SUB) -> str:
    """A claims event."""
    return f"event: claims\ndata: {json.dumps({'account_id': account, 'claims_version': version, 'at': at})}\n\n"


@dataclass
class SigningKey:
    """A key pair with its algorithm."""

    alg: str
    private: Any = field(repr=False)

    @classmethod
    def new(cls, alg: str) -> SigningKey:
        """Generates a key. RSA keys are shared, since generating one is slow."""
        match alg:
            case "ES256":
                return cls(alg, ec.generate_private_key(ec.SECP256R1()))
            case "EdDSA":
                return cls(alg, ed25519.Ed25519PrivateKey.generate())
        return cls(alg, RSA_KEY)

    def sign(self, header: dict[str, Any] | str, payload: dict[str, Any] | str) -> str:
        """Signs a header and a payload, and returns the token. A string is used as it is, even if it is not JSON."""
        texts = [each if isinstance(each, str) else json.dumps(each) for each in (header, payload)]
        signed = ".".join(b64(text.encode()) for text in texts)
        signature = jwt.get_algorithm_by_name(self.alg).sign(signed.encode(), self.private)
        return f"{signed}.{b64(signature)}"

    def jwk(self, kid: str) -> dict[str, Any]:
        """The public key as it is published."""
        algorithm: Any = {"ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}.get(self.alg, RSAAlgorithm)
        public = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": kid, "alg": self.alg, "use": "sig", "key_ops": ["verify"]}


@dataclass
class FakeIssuer:
    """An issuer whose fields are its responses; a test may change them at any time."""

    url: str = ""
    keys: dict[str, SigningKey] = field(default_factory=lambda: {"one": SigningKey.new("ES256")})
    """The published keys, by key id."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Members that replace those of the valid metadata, or are added."""
    feed: str | None = SNAPSHOT + LIVE
    """The first events of a new subscriber; with None the feed answers ``feed_status``."""
    resumed: str | None = None
    """The first events of a subscriber with Last-Event-ID; with None, ``feed`` is used."""
    feed_status: int = 503
    """The status of the feed if ``feed`` is None."""
    active: bool | None = True
    """The result of introspection; with None the endpoint answers 503."""
    unavailable: bool = False
    """Whether the issuer answers every request with 503."""
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    """The path, the headers and the body of each request so far."""
    subscribers: list[asyncio.StreamWriter] = field(default_factory=list)
    """The open connections to the feed."""

    def count(self, path: str) -> int:
        """The number of requests for a path."""
        return sum(1 for each, _, _ in self.requests if each == path)

    def header(self, kid: str = "one") -> dict[str, Any]:
        """The header of a valid token."""
        return {"alg": self.keys[kid].alg, "typ": "at+jwt", "kid": kid}

    def payload(self) -> dict[str, Any]:
        """The payload of a valid user token."""
        now = int(time.time())
        return {
            "iss": self.url, "sub": SUB, "aud": "latchkey", "client_id": "latchkey", "iat": now, "exp": now + 300,
            "jti": "j", "sid": SID, "auth_time": now - 10, "acr": "aal1", "amr": ["pwd"], "scope": "account",
        }  # fmt: skip

    def token(self, kid: str = "one", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A signed user token with changed claims; a claim that is None is left out."""
        payload = {name: value for name, value in {**self.payload(), **claims}.items() if value is not None}
        return self.keys[kid].sign({**self.header(kid), **(header or {})}, payload)

    async def send(self, text: str) -> None:
        """Sends text to all subscribers."""
        for subscriber in self.subscribers:
            with contextlib.suppress(ConnectionError):
                subscriber.write(text.encode())
                await subscriber.drain()

    async def disconnect(self) -> None:
        """Closes all subscriptions. Subscribers that reconnect meanwhile stay connected."""
        subscribers, self.subscribers = self.subscribers, []
        for subscriber in subscribers:
            subscriber.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handles one request on one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
            body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
        except (ConnectionError, asyncio.IncompleteReadError):
            # A verifier that was closed has dropped its connection.
            writer.close()
            return
        path = head[0].split(" ")[1]
        self.requests.append((path, headers, body))
        if path == "/v1/revocations":
            resumes = "last-event-id" in headers and self.resumed is not None
            first_events = self.resumed if resumes else self.feed
            if first_events is not None and not self.unavailable:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
                writer.write(first_events.encode())
                # The connection stays open for further events.
                self.subscribers.append(writer)
                return
        document = None if self.unavailable else self.document(path, body)
        error_status = self.feed_status if path == "/v1/revocations" else 503
        status = f"{error_status} Error" if document is None else "200 OK"
        text = json.dumps(document)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        writer.close()

    def document(self, path: str, body: str) -> Any:
        """The JSON document at a path; None if the issuer answers with an error."""
        match path:
            case "/.well-known/openid-configuration":
                return {
                    "issuer": self.url,
                    "jwks_uri": f"{self.url}/keys",
                    "introspection_endpoint": f"{self.url}/introspect",
                    "latchkey_revocations_endpoint": f"{self.url}/v1/revocations",
                    **self.metadata,
                }
            case "/keys":
                return {"keys": [key.jwk(kid) for kid, key in self.keys.items()]}
            case "/introspect" if parse_qs(body).get("token"):
                return None if self.active is None else {"active": self.active}
        return None

    @asynccontextmanager
    async def latchkey(self, **settings: Any) -> AsyncIterator[Latchkey]:
        """A verifier of this issuer's tokens."""
        settings = {"client_id": "shop", "client_secret": SECRET, "audience": "latchkey", **settings}
        async with Latchkey(self.url, **settings) as latchkey:
            yield latchkey


@asynccontextmanager
async def running_issuer() -> AsyncIterator[FakeIssuer]:
    """Starts an issuer on a free port."""
    issuer = FakeIssuer()
    server = await asyncio.start_server(issuer.handle, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield issuer
    finally:
        await issuer.disconnect()
        server.close()


async def until(condition: str, holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Polls until ``holds`` is true. The timeout is generous, since test machines can be slow."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                result = holds()
                if not isinstance(result, bool):
                    result = await result
                if result:
                    return
                await asyncio.sleep(0.01)
    raise AssertionError(f"timed out waiting until {condition}")


def b64(data: bytes | dict[str, Any]) -> str:
    """Encodes bytes or JSON as base64url without padding."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
