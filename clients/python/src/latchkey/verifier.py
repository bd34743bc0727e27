"""Verifies access tokens with the issuer's keys and the revocation feed."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpx

from .claims import Claims, validate_claims
from .errors import InvalidToken, ProtocolError, Unavailable
from .feed import RevocationFeed
from .issuer import IssuerClient
from .keyring import KeyRing
from .settings import Settings
from .token import parse_token, verify_signature


class Latchkey:
    """Verifies access tokens locally while it follows Latchkey's revocations. Use one per process and event loop.

    An asynchronous context manager: entering it connects in the background, leaving it disconnects. Entering does not wait
    for Latchkey. Until the feed has caught up, tokens are treated as ``feed_lost`` says. :class:`Settings` lists the settings.
    """

    def __init__(self, issuer: str, *, http: httpx.AsyncClient | None = None, **settings: Any) -> None:
        """Takes the fields of :class:`Settings` by name, and optionally an HTTP client, which the caller closes.

        Raises ``LatchkeyError`` for invalid settings.
        """
        self.settings = Settings(issuer=issuer, **settings)
        self._owns_http = http is None
        self._http = http or httpx.AsyncClient()
        self._issuer = IssuerClient(self.settings, self._http)
        self._feed = RevocationFeed(self._issuer, self.settings)
        self._keys = KeyRing(self._issuer.keys, self._feed.revokes_key, self.settings)
        self._feed.on_key_retired, self._feed.on_reconnected = self._keys.retire, self._keys.request_refresh
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        """Omits the secret."""
        return f"Latchkey({self.settings!r})"

    async def __aenter__(self) -> Self:
        """Starts the background tasks."""
        self._tasks = [
            asyncio.create_task(self._keys.run(), name="latchkey keys"),
            asyncio.create_task(self._feed.run(), name="latchkey feed"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the background tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keys.close()
        if self._owns_http:
            await self._http.aclose()

    @property
    def live(self) -> bool:
        """Whether the revocations are up to date, so that tokens are verified locally. Otherwise ``feed_lost`` applies."""
        return self._feed.is_current()

    async def wait_live(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """Waits at most ``timeout`` seconds until the feed has caught up for the first time; returns whether it has."""
        try:
            async with asyncio.timeout(timeout):
                await self._feed.wait_live()
        except TimeoutError:
            return False
        return True

    async def verify(self, token: str) -> Claims:
        """Returns the claims of a valid token whose session has not ended.

        Raises ``InvalidToken`` if the token is not valid, and ``Unavailable`` if that cannot be decided now.
        """
        unverified = parse_token(token)
        if self._feed.revokes_key(unverified.kid):
            raise InvalidToken("revoked")
        payload = verify_signature(unverified, await self._keys.get(unverified.kid))
        claims = validate_claims(payload, self.settings, time.time())
        self._reject_revoked(unverified.kid, claims)
        if not self._feed.is_current():
            await self._introspect(token)
            self._reject_revoked(unverified.kid, claims)
        return claims

    def _reject_revoked(self, kid: str, claims: Claims) -> None:
        if self._feed.revokes(kid, claims):
            raise InvalidToken("revoked")

    async def _introspect(self, token: str) -> None:
        if self.settings.feed_lost == "refuse":
            raise Unavailable("the revocation feed is lost")
        try:
            active = await self._issuer.introspect(token)
        except (httpx.HTTPError, ProtocolError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"the revocation feed is lost and introspection failed: {reason}") from None
        if not active:
            raise InvalidToken("revoked")
