"""HTTP client for Latchkey: metadata, JWK Set, introspection and the revocation feed."""

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
from .errors import ProtocolError
from .settings import Settings

MAX_DOCUMENT_BYTES = 256 * 1024
"""Longer metadata, JWK Sets and introspection responses are refused."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The endpoints of the issuer (RFC 8414)."""

    jwks_uri: str
    introspection_endpoint: str
    revocations_endpoint: str


class IssuerClient:
    """Sends requests to one issuer. Follows no redirect, which could lead the client secret to another host."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        """Uses ``http``, which the caller closes."""
        self._settings = settings
        self._http = http
        # RFC 6749, section 2.3.1: id and secret are form-encoded before they are joined.
        self._auth = httpx.BasicAuth(quote_plus(settings.client_id), quote_plus(settings.client_secret))
        self._metadata: Metadata | None = None
        self._metadata_fetched_at = 0.0
        self._metadata_lock = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """Returns the metadata, refetched after ``keys_max_age``.

        If that fails, the old metadata is returned, and the next call tries again.
        """
        # The lock makes concurrent callers share one request.
        async with self._metadata_lock:
            if self._metadata is None or time.monotonic() - self._metadata_fetched_at > self._settings.keys_max_age:
                try:
                    url = f"{self._settings.issuer}/.well-known/openid-configuration"
                    self._metadata = self._parse_metadata(await self._get(url))
                    self._metadata_fetched_at = time.monotonic()
                except (httpx.HTTPError, ProtocolError, TimeoutError):
                    if self._metadata is None:
                        raise
            return self._metadata

    async def keys(self) -> dict[str, jwks.Key]:
        """Fetches the published keys, by key id."""
        metadata = await self.metadata()
        return jwks.parse_jwks(await self._get(metadata.jwks_uri))

    async def introspect(self, token: str) -> bool:
        """Asks Latchkey whether the token is active (RFC 7662).

        Raises ``httpx.HTTPError``, ``TimeoutError`` or ``ProtocolError`` if there is no valid response in time.
        """
        # The timeout includes the metadata, which this call may fetch.
        async with asyncio.timeout(self._settings.introspection_timeout):
            form = {"token": token, "token_type_hint": "access_token"}
            url = (await self.metadata()).introspection_endpoint
            document = await self._fetch_document("POST", url, auth=self._auth, data=form)
        active = document.get("active") if isinstance(document, dict) else None
        if not isinstance(active, bool):
            raise ProtocolError("the response is not an introspection response")
        return active

    @asynccontextmanager
    async def open_feed(self, last_event_id: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """Opens the feed and yields the chunks of its stream.

        The feed resumes after ``last_event_id``, or begins with a snapshot if that is None.
        The caller enforces read timeouts.
        """
        url = (await self.metadata()).revocations_endpoint
        # Compression and caches could hold back events.
        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-store"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(self._settings.request_timeout, read=None)
        stream = self._http.stream(
            "GET", url, auth=self._auth, headers=headers, timeout=timeout, follow_redirects=False
        )
        async with stream as response:
            if response.status_code != 200:
                raise self._unexpected_status(url, response.status_code)
            media_type = response.headers.get("Content-Type", "").partition(";")[0]
            if media_type.strip().lower() != "text/event-stream":
                raise ProtocolError("the feed is not an event stream")
            yield response.aiter_bytes()

    async def _get(self, url: str) -> Any:
        async with asyncio.timeout(self._settings.request_timeout):
            return await self._fetch_document("GET", url)

    async def _fetch_document(self, method: str, url: str, **request: Any) -> Any:
        headers = {"Accept": "application/json"}
        async with self._http.stream(method, url, headers=headers, follow_redirects=False, **request) as response:
            if response.status_code != 200:
                raise self._unexpected_status(url, response.status_code)
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise ProtocolError(f"{urlsplit(url).path} answered more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            return strict_json.loads(bytes(body))
        except ValueError:
            raise ProtocolError(f"{urlsplit(url).path} did not answer with valid JSON") from None

    def _unexpected_status(self, url: str, status: int) -> ProtocolError:
        hint = ""
        if status == 401:
            hint = f': the service client "{self._settings.client_id}" is unknown or disabled, or its secret is wrong'
        return ProtocolError(f"{urlsplit(url).path} answered {status}{hint}")

    def _parse_metadata(self, document: Any) -> Metadata:
        if not isinstance(document, dict) or document.get("issuer") != self._settings.issuer:
            raise ProtocolError("the metadata belongs to another issuer (RFC 8414, section 3.3)")
        return Metadata(
            jwks_uri=self._parse_url(document, "jwks_uri"),
            introspection_endpoint=self._parse_url(document, "introspection_endpoint"),
            revocations_endpoint=self._parse_url(document, "latchkey_revocations_endpoint"),
        )

    def _parse_url(self, document: dict[str, Any], name: str) -> str:
        url = document.get(name)
        # The client secret is sent to these URLs: never without TLS if the issuer has TLS.
        schemes = ("https",) if self._settings.issuer.startswith("https:") else ("http", "https")
        try:
            if isinstance(url, str) and urlsplit(url).scheme in schemes and urlsplit(url).hostname:
                return url
        except ValueError:
            pass  # not a URL
        raise ProtocolError(f"the metadata has no valid {name}")
