"""The registrations of open connections and long jobs, whose callbacks run when their session ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Container, Hashable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from .claims import Claims
from .errors import EndCause, RenewError, Unavailable
from .revocations import AccountRevocation, ClaimsChange, KeyRevocation, Revocation, SessionRevocation
from .settings import Settings

_LOG = logging.getLogger("latchkey")

_MAX_TIMER = 1.0
"""The longest delay of the timer, in seconds. So a step of the wall clock delays the end of a registration by at most this time."""

Callback = Callable[[EndCause], Any]
"""A callback of ``on_end``, which receives the cause. It may be a coroutine function."""


class _Session:
    """A session with at least one registration. Each registration of a service client's own token has a session of its own."""

    __slots__ = ("account", "claims_version", "exp", "kid", "registrations", "sid")

    def __init__(self, claims: Claims) -> None:
        self.sid, self.account = claims.sid, claims.sub
        """For a service client: None and the client's id."""
        self.exp = claims.exp
        """When the session's last known token expires."""
        self.kid = claims._kid
        """The signing key of that token."""
        self.claims_version = -1
        """The highest version of the account's claims that a token of the session had; -1 if no token had a version."""
        self.registrations: dict[Registration, None] = {}
        """An ordered set: only the keys count."""


class Registration:
    """A callback for the end of a session: ``on_end`` registers the callback and returns its registration.

    It is active until it ends or is closed. As a context manager it closes itself.
    """

    __slots__ = ("__weakref__", "_callback", "_claims", "_closed", "_ended", "_registry", "_session", "_since")

    def __init__(self, registry: EndRegistry, session: _Session, claims: Claims, callback: Callback, now: float) -> None:
        """Registrations are made by ``on_end``."""
        self._registry, self._session, self._claims, self._callback = registry, session, claims, callback
        self._since = now
        """The monotonic time of the registration or of its last renewal."""
        self._ended: EndCause | None = None
        self._closed = False

    @property
    def claims(self) -> Claims:
        """The claims of the token that was registered, or with which the registration was last renewed."""
        return self._claims

    @property
    def ended(self) -> EndCause | None:
        """Why the registration has ended; None while it has not, and after :meth:`close`."""
        return self._ended

    async def renew(self, token: str) -> Claims:
        """Verifies a newer token of the same session as ``verify`` does, and replaces the registered token by it.

        Its expiry and its claims apply from now on. Unlike ``verify``, this method does not end the registration when the claims
        are newer. Returns the claims.

        Raises ``RenewError`` if the registration has ended or is closed, or the token belongs to another session. Raises
        ``InvalidToken`` and ``Unavailable`` as ``verify`` does, and then leaves the registration unchanged.
        """
        self._reject_if_over()
        claims = await self._registry._verify(token)
        self._renew_with(claims)
        # The registration ends if the verifier refuses the new claims by now.
        self._reject_if_over()
        return claims

    def _renew_with(self, claims: Claims) -> None:
        # The registration may have ended while the token was verified.
        self._reject_if_over()
        if claims.sid != self._session.sid or claims.sub != self._session.account:
            raise RenewError("the token belongs to another session")
        self._claims = claims
        self._since = self._registry._elapsed()
        self._registry._on_renewed(self, self._session, claims)

    def close(self) -> None:
        """Deregisters. Afterwards the callback is not called. May be repeated."""
        self._closed = True
        self._registry._remove(self, self._session)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the registration."""
        self.close()

    def _reject_if_over(self) -> None:
        if self._ended is not None:
            raise RenewError(f"the registration has ended: {self._ended}", self._ended)
        if self._closed:
            raise RenewError("the registration is closed")

    def _end(self, cause: EndCause) -> None:
        if self._ended is not None or self._closed:
            return
        self._ended = cause
        self._registry._remove(self, self._session)
        self._registry._run_callback(self._callback, cause)


_Key = TypeVar("_Key", bound=Hashable)


class _Index(Generic[_Key]):
    """Sets of sessions by key, in the order in which they were added. A key without sessions takes no memory."""

    def __init__(self) -> None:
        self._sessions: dict[_Key, dict[_Session, None]] = {}

    def add(self, key: _Key, session: _Session) -> None:
        self._sessions.setdefault(key, {})[session] = None

    def remove(self, key: _Key, session: _Session) -> None:
        sessions = self._sessions.get(key, {})
        sessions.pop(session, None)
        if not sessions:
            self._sessions.pop(key, None)

    def of(self, key: _Key) -> list[_Session]:
        return list(self._sessions.get(key, ()))

    def keys(self) -> list[_Key]:
        return list(self._sessions)

    def __len__(self) -> int:
        return len(self._sessions)


class EndRegistry:
    """Indexes the registrations by session, account, signing key and expiry, to find those that an event ends.

    All registrations share one timer.
    """

    def __init__(
        self,
        settings: Settings,
        verify: Callable[[str], Awaitable[Claims]],
        cause_of: Callable[[str | None, Claims], EndCause | None],
        silence: Callable[[], float],
        *,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        """``verify`` verifies a token without a call of :meth:`on_accepted`.

        ``cause_of`` gets the id of a token's signing key and the token's claims. It returns why the token is refused now, or None.

        ``silence`` returns the seconds since the verifier last had every revocation that the feed had sent. ``now`` is the wall
        clock, ``elapsed`` a monotonic clock.
        """
        self._settings, self._verify, self._cause_of, self._silence = settings, verify, cause_of, silence
        self._now, self._elapsed = now, elapsed
        self._end_after_silence = settings.max_staleness if settings.end_after_silence is None else settings.end_after_silence
        self._registrations: dict[Registration, None] = {}
        """The registrations, in the order in which they were registered or renewed."""
        self._by_sid: dict[str, _Session] = {}
        """Sessions by id; without those of service clients' own tokens, which have no id."""
        self._by_account: _Index[str] = _Index()
        self._by_kid: _Index[str] = _Index()
        self._by_expiry: _Index[int] = _Index()
        """Sessions by the second in which their last known token expires."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._running_callbacks: set[asyncio.Future[Any]] = set()
        """Keeps the tasks of callbacks alive, because the event loop references them only weakly."""
        self._closed = False

    def __len__(self) -> int:
        """The number of registrations."""
        return len(self._registrations)

    @property
    def indexed(self) -> int:
        """The number of entries of all indexes, for tests."""
        return len(self._by_sid) + len(self._by_account) + len(self._by_kid) + len(self._by_expiry)

    def register(self, claims: Claims, callback: Callback) -> Registration:
        """Registers a callback, which is called at most once: before this method returns if the session has ended already.

        Raises ``Unavailable`` if there are ``max_registrations`` already.
        """
        asyncio.get_running_loop()  # raises RuntimeError outside of the event loop, whose timer is used
        if len(self) >= self._settings.max_registrations:
            raise Unavailable(f"there are {len(self)} registrations: close some, or raise max_registrations")
        session = None if claims.sid is None else self._by_sid.get(claims.sid)
        if session is None:
            session = _Session(claims)
            if claims.sid is not None:
                self._by_sid[claims.sid] = session
            self._by_account.add(session.account, session)
            self._index(session)
        registration = Registration(self, session, claims, callback, self._elapsed())
        session.registrations[registration] = None
        self._registrations[registration] = None
        self._adopt(session, claims)
        # The session may have ended since the token was verified.
        self._end_if_invalid(registration, session)
        self._schedule(self._remaining(session.exp))
        return registration

    def on_accepted(self, claims: Claims) -> None:
        """Records an accepted token: the token may be the successor of a registered session's last known token."""
        session = None if claims.sid is None else self._by_sid.get(claims.sid)
        if session is not None and session.account == claims.sub:
            self._adopt(session, claims)

    def on_revocation(self, revocation: Revocation) -> None:
        """Ends the registrations that a revocation or a change of claims concerns."""
        match revocation:
            case SessionRevocation():
                session = self._by_sid.get(revocation.session_id)
                if session is not None:
                    self._end_all([session], "session_revoked")
            case AccountRevocation():
                for registration in self._of_account(revocation.account_id):
                    if revocation.ends(registration.claims):
                        registration._end("account_revoked")
            case ClaimsChange():
                for registration in self._of_account(revocation.account_id):
                    if revocation.outdates(registration.claims):
                        registration._end("claims_changed")
            case KeyRevocation():
                self._end_all(self._by_kid.of(revocation.kid), "key_retired")

    def on_keys_replaced(self, published: Container[str]) -> None:
        """Ends the registrations whose session's last known token was signed with a key that is no longer published."""
        for kid in self._by_kid.keys():  # noqa: SIM118 - it is not a dict
            if kid not in published:
                self._end_all(self._by_kid.of(kid), "key_retired")

    def end_expired(self) -> None:
        """Ends the registrations whose session's last known token has expired, and those that outlived the silence of the feed.

        The timer calls this method.
        """
        for exp in self._by_expiry.keys():  # noqa: SIM118 - it is not a dict
            if self._remaining(exp) <= 0:
                self._end_all(self._by_expiry.of(exp), "token_expired")
        if self._silence() <= self._end_after_silence:
            return
        now = self._elapsed()
        for registration in list(self._registrations):
            # This registration and the later ones were made or renewed during the silence, and have lacked the feed for less time.
            if now - registration._since <= self._end_after_silence:
                break
            registration._end("feed_lost")

    def close(self) -> None:
        """Ends all registrations: the verifier is closed."""
        self._closed = True
        for registration in list(self._registrations):
            registration._end("feed_lost")
        self._stop_timer()

    def _on_renewed(self, registration: Registration, session: _Session, claims: Claims) -> None:
        # Moves the registration to the end of the order.
        del self._registrations[registration]
        self._registrations[registration] = None
        self._adopt(session, claims)
        self._end_if_invalid(registration, session)

    def _remove(self, registration: Registration, session: _Session) -> None:
        if registration not in self._registrations:
            return
        del self._registrations[registration]
        del session.registrations[registration]
        if session.registrations:
            return
        if session.sid is not None:
            del self._by_sid[session.sid]
        self._by_account.remove(session.account, session)
        self._unindex(session)
        if not self._registrations:
            self._stop_timer()

    def _adopt(self, session: _Session, claims: Claims) -> None:
        """Makes a token the session's last known one if it expires later, and ends registrations of older claims."""
        if claims.exp > session.exp:
            self._unindex(session)
            session.exp, session.kid = claims.exp, claims._kid
            self._index(session)
        version = claims.claims_version
        if version is None or version <= session.claims_version:
            return
        session.claims_version = version
        for registration in list(session.registrations):
            registered_version = registration.claims.claims_version
            if registered_version is not None and registered_version < version:
                registration._end("claims_changed")

    def _end_if_invalid(self, registration: Registration, session: _Session) -> None:
        claims = registration.claims
        cause = "feed_lost" if self._closed else self._cause_of(claims._kid, claims)
        if cause is None and claims.claims_version is not None and claims.claims_version < session.claims_version:
            cause = "claims_changed"
        if cause is None and self._remaining(session.exp) <= 0:
            cause = "token_expired"
        if cause is not None:
            registration._end(cause)

    def _run_callback(self, callback: Callback, cause: EndCause) -> None:
        try:
            result = callback(cause)
        except Exception:
            _LOG.exception("a callback of on_end failed")
            return
        if inspect.iscoroutine(result):
            task = asyncio.ensure_future(result)
            self._running_callbacks.add(task)
            task.add_done_callback(self._on_callback_done)

    def _on_callback_done(self, task: asyncio.Future[Any]) -> None:
        self._running_callbacks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _LOG.error("a callback of on_end failed", exc_info=error)

    def _of_account(self, account: str) -> Iterator[Registration]:
        for session in self._by_account.of(account):
            # a token without a session is a service client's own, which no event of an account concerns
            if session.sid is not None:
                yield from list(session.registrations)

    def _end_all(self, sessions: Iterable[_Session], cause: EndCause) -> None:
        for session in sessions:
            for registration in list(session.registrations):
                registration._end(cause)

    def _index(self, session: _Session) -> None:
        self._by_expiry.add(session.exp, session)
        if session.kid is not None:
            self._by_kid.add(session.kid, session)

    def _unindex(self, session: _Session) -> None:
        self._by_expiry.remove(session.exp, session)
        if session.kid is not None:
            self._by_kid.remove(session.kid, session)

    def _remaining(self, exp: int) -> float:
        """The seconds until the verifier refuses a token with this ``exp``."""
        return exp + self._settings.leeway - self._now()

    def _remaining_silence(self) -> float:
        """The seconds until the feed is lost for the oldest registration, if no event arrives."""
        oldest = next(iter(self._registrations), None)
        # A registration that is younger than the silence has lacked the feed only since it was made or renewed.
        age = 0.0 if oldest is None else self._elapsed() - oldest._since
        # a millisecond more, because `end_expired` requires that the time has been exceeded
        return self._end_after_silence - min(self._silence(), age) + 0.001

    def _schedule(self, delay: float) -> None:
        """Makes the timer fire after ``delay`` seconds at the latest."""
        delay = max(0.0, min(delay, _MAX_TIMER))
        at = self._elapsed() + delay
        if not self._registrations or at >= self._timer_at:
            return
        self._stop_timer()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._stop_timer()
        self.end_expired()
        self._schedule(min([self._remaining_silence(), *map(self._remaining, self._by_expiry.keys())]))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf
