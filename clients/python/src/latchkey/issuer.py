"""Latchkey over HTTP: metadata, keys, introspection, and the connection that the feed comes over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx

from . import jwks, strict_json
from .errors import Malformed
from .settings import Settings

MAX_DOCUMENT_BYTES = 256 * 1024
"""Metadata, JWKS and introspection answers that are longer are not read."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where things are (RFC 8414)."""

    jwks_uri: str
    introspection_endpoint: str
    revocations_endpoint: str


class Issuer:
    """The one issuer whose tokens count here."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        """Over this client, which stays its maker's to close."""
        self._settings = settings
        self._http = http
        # RFC 6749, section 2.3.1: both are form-encoded first
        self._auth = httpx.BasicAuth(quote_plus(settings.client_id), quote_plus(settings.client_secret))
        self._metadata: Metadata | None = None
        self._fetched = 0.0
        self._lock = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """The metadata, fetched when it is old; an old one stays while no other can be had."""
        async with self._lock:
            if self._metadata is None or time.monotonic() - self._fetched > self._settings.keys_max_age:
                try:
                    self._metadata = self._read(await self._get(f"{self._settings.issuer}/.well-known/openid-configuration"))
                    self._fetched = time.monotonic()
                except (httpx.HTTPError, Malformed, TimeoutError):
                    if self._metadata is None:
                        raise
            return self._metadata

    async def keys(self) -> dict[str, jwks.Key]:
        """The keys as they are published now."""
        return jwks.read(await self._get((await self.metadata()).jwks_uri))

    async def is_active(self, token: str) -> bool:
        """What Latchkey itself says of the token (RFC 7662).

        Raises ``httpx.HTTPError``, ``TimeoutError`` or ``Malformed`` where it says nothing in time.
        """
        async with asyncio.timeout(self._settings.introspection_timeout):
            form = {"token": token, "token_type_hint": "access_token"}
            url = (await self.metadata()).introspection_endpoint
            answer = await self._read_document("POST", url, auth=self._auth, data=form)
        active = answer.get("active") if isinstance(answer, dict) else None
        if not isinstance(active, bool):
            raise Malformed("this is no introspection answer")
        return active

    @asynccontextmanager
    async def feed(self, last_event_id: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """The bytes of the feed, from after an event on, or from a snapshot on. Whoever reads them minds the time."""
        url = (await self.metadata()).revocations_endpoint
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(self._settings.request_timeout, read=None)
        stream = self._http.stream(
            "GET", url, auth=self._auth, headers=headers, timeout=timeout, follow_redirects=False
        )
        async with stream as response:
            if response.status_code != 200:
                raise Malformed(f"the feed answers {response.status_code}")
            if not response.headers.get("Content-Type", "").lower().startswith("text/event-stream"):
                raise Malformed("the feed is no stream of events")
            yield response.aiter_bytes()

    async def _get(self, url: str) -> Any:
        async with asyncio.timeout(self._settings.request_timeout):
            return await self._read_document("GET", url)

    async def _read_document(self, method: str, url: str, **request: Any) -> Any:
        headers = {"Accept": "application/json"}
        async with self._http.stream(method, url, headers=headers, follow_redirects=False, **request) as response:
            if response.status_code != 200:
                raise Malformed(f"{urlsplit(url).path} answers {response.status_code}")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise Malformed(f"{urlsplit(url).path} answers too much")
        try:
            return strict_json.loads(bytes(body))
        except ValueError:
            raise Malformed(f"{urlsplit(url).path} doesn't answer JSON") from None

    def _read(self, document: Any) -> Metadata:
        if not isinstance(document, dict) or document.get("issuer") != self._settings.issuer:
            raise Malformed("the metadata is another issuer's (RFC 8414, section 3.3)")
        names = ("jwks_uri", "introspection_endpoint", "latchkey_revocations_endpoint")
        return Metadata(*(self._url(document, name) for name in names))

    def _url(self, document: dict[str, Any], name: str) -> str:
        url = document.get(name)
        # the secret goes to these: never over a plain connection where the issuer has TLS
        schemes = ("https",) if self._settings.issuer.startswith("https:") else ("http", "https")
        try:
            if isinstance(url, str) and urlsplit(url).scheme in schemes and urlsplit(url).hostname:
                return url
        except ValueError:
            pass
        raise Malformed(f"the metadata has no usable {name}")
