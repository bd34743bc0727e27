"""Verifies access tokens with the issuer's keys and the revocation feed."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

import httpx

from .claims import Claims, validate_claims
from .end_registry import Callback, EndRegistry, Registration
from .errors import EndCause, InvalidToken, ProtocolError, Unavailable
from .feed import RevocationFeed
from .issuer import IssuerClient
from .keyring import KeyRing
from .revocations import KeyRevocation, Revocation
from .settings import Settings
from .token import parse_token, verify_signature


class Latchkey:
    """Verifies access tokens locally while it follows Latchkey's revocations. Use one per process and event loop.

    An asynchronous context manager: entering it connects in the background, leaving it disconnects. Entering does not wait
    for Latchkey. Until the feed has caught up, the setting ``feed_lost`` decides how tokens are treated. See :class:`Settings`.
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
        self._registry = EndRegistry(self.settings, self._verify, self._cause_of, lambda: self._feed.silence)
        self._feed.on_revocation = self._on_revocation
        # The issuer may have replaced its keys while the feed was disconnected.
        self._feed.on_reconnected = self._keys.request_refresh
        self._keys.on_replaced = lambda: self._registry.on_keys_replaced(self._keys)
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
        """Stops the background tasks and ends all registrations."""
        self._registry.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._keys.close()
        if self._owns_http:
            await self._http.aclose()

    @property
    def live(self) -> bool:
        """Whether the revocations are up to date, so that tokens are verified locally. If not, ``feed_lost`` applies."""
        return self._feed.is_current()

    @property
    def registrations(self) -> int:
        """The number of registrations of :meth:`on_end` that have neither ended nor been closed."""
        return len(self._registry)

    async def wait_live(self, timeout: float = 5.0) -> bool:  # noqa: ASYNC109
        """Waits at most ``timeout`` seconds until the feed has caught up for the first time; returns whether it has."""
        try:
            async with asyncio.timeout(timeout):
                await self._feed.wait_live()
        except TimeoutError:
            return False
        return True

    async def verify(self, token: str) -> Claims:
        """Returns the claims of a valid token whose session has not ended and whose account's claims have not changed.

        Raises ``InvalidToken`` if the token is not valid, and ``Unavailable`` if its validity cannot be decided now.
        """
        claims = await self._verify(token)
        # A newer token keeps the registrations of its session alive.
        self._registry.on_accepted(claims)
        return claims

    def on_end(self, claims: Claims, callback: Callback) -> Registration:
        """Registers an open connection or a long job of the session to which these claims of :meth:`verify` belong.

        The callback is called once, with the cause, when the session ends, the claims of its account change, its last known
        token expires, or the feed is lost for ``end_after_silence``. If one of these has already happened, the callback is called
        before this method returns. The callback may be a coroutine function. An exception that it raises is logged. Any newer token
        of the session that :meth:`verify` accepts keeps the registration alive, unless its claims are newer: then the registration
        ends. A token that is passed to the registration's ``renew`` does not end that registration.

        Close the registration, which is a context manager, when the connection is closed or the job is done. Call this in
        the event loop of the verifier. Raises ``Unavailable`` if there are ``max_registrations`` already.
        """
        return self._registry.register(claims, callback)

    async def _verify(self, token: str) -> Claims:
        """Verifies a token without its effects on registrations."""
        unverified = parse_token(token)
        if self._feed.revokes_key(unverified.kid):
            raise InvalidToken("revoked")
        payload = verify_signature(unverified, await self._keys.get(unverified.kid))
        claims = validate_claims(payload, self.settings, time.time(), unverified.kid)
        self._reject_revoked(unverified.kid, claims)
        if not self._feed.is_current():
            await self._introspect(token)
            # A revocation may have arrived during the introspection.
            self._reject_revoked(unverified.kid, claims)
        return claims

    def _on_revocation(self, revocation: Revocation) -> None:
        """Removes a retired key, and ends the registrations that the revocation concerns."""
        if isinstance(revocation, KeyRevocation):
            self._keys.retire(revocation.kid)
        self._registry.on_revocation(revocation)

    def _cause_of(self, kid: str | None, claims: Claims) -> EndCause | None:
        """Why a registration with these claims ends; None if it continues."""
        # The issuer may drop a key without a revocation.
        if kid is not None and kid not in self._keys:
            return "key_retired"
        return self._feed.cause_of(kid, claims)

    def _reject_revoked(self, kid: str, claims: Claims) -> None:
        """Raises ``InvalidToken`` if a revocation concerns the token."""
        cause = self._feed.cause_of(kid, claims)
        if cause is not None:
            raise InvalidToken("claims_changed" if cause == "claims_changed" else "revoked")

    async def _introspect(self, token: str) -> None:
        """Asks the issuer about a token, if ``feed_lost`` allows that. Raises an error if the token is not active."""
        if self.settings.feed_lost == "refuse":
            raise Unavailable("the revocation feed is lost")
        try:
            active = await self._issuer.introspect(token)
        except (httpx.HTTPError, ProtocolError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(f"the revocation feed is lost and introspection failed: {reason}") from None
        if not active:
            raise InvalidToken("revoked")
