"""The revocations that can still affect an unexpired token, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .claims import Claims
from .errors import ProtocolError


@dataclass(frozen=True, slots=True)
class SessionRevocation:
    """Ends one session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class AccountRevocation:
    """Ends the sessions of an account that began before a second, except perhaps one."""

    account_id: str
    before: int
    except_session_id: str | None


@dataclass(frozen=True, slots=True)
class KeyRevocation:
    """Retires a signing key."""

    kid: str


Revocation = SessionRevocation | AccountRevocation | KeyRevocation


def parse_revocation(data: dict[str, Any]) -> Revocation:
    """Parses the data of a ``revocation`` event.

    Raises ``ProtocolError`` for an unknown kind, which the caller must treat as a gap, and for a missing member.
    """
    try:
        match data["kind"]:
            case "session":
                return SessionRevocation(_string(data["session_id"]))
            case "account":
                excepted = data.get("except_session_id")
                before = math.floor(datetime.fromisoformat(_string(data["before"])).timestamp())
                return AccountRevocation(
                    _string(data["account_id"]), before, None if excepted is None else _string(excepted)
                )
            case "key":
                return KeyRevocation(_string(data["kid"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ProtocolError("a revocation event is malformed") from None
    raise ProtocolError("a revocation event has an unknown kind")


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


@dataclass(slots=True)
class RevocationSet:
    """Revocations in order of receipt, each kept for ``retain`` seconds. Times are monotonic seconds."""

    max_entries: int
    retain: float = 0.0
    """How long a revocation is kept after it was last received."""
    _received: dict[Revocation, float] = field(default_factory=dict)
    """When each revocation was last received; oldest first."""
    _by_account: dict[str, set[AccountRevocation]] = field(default_factory=dict)
    _overflowed: float | None = None
    """When a revocation last did not fit."""

    def add(self, revocation: Revocation, now: float) -> None:
        """Adds a revocation. If the set is full it is dropped, and :meth:`is_complete` reports that."""
        self.evict_expired(now)
        self._received.pop(revocation, None)
        if len(self._received) >= self.max_entries:
            self._overflowed = now
            return
        self._received[revocation] = now
        if isinstance(revocation, AccountRevocation):
            self._by_account.setdefault(revocation.account_id, set()).add(revocation)

    def evict_expired(self, now: float) -> None:
        """Evicts revocations that can no longer affect an unexpired token."""
        while self._received:
            oldest = next(iter(self._received))
            if self._received[oldest] + self.retain >= now:
                break
            del self._received[oldest]
            self._unindex(oldest)
        if self._overflowed is not None and self._overflowed + self.retain < now:
            self._overflowed = None

    def is_complete(self, now: float) -> bool:
        """Whether every revocation that still matters fitted."""
        self.evict_expired(now)
        return self._overflowed is None

    def revokes(self, kid: str, claims: Claims) -> bool:
        """Whether a token with these claims, signed by the key ``kid``, is revoked."""
        if self.revokes_key(kid) or (claims.sid is not None and SessionRevocation(claims.sid) in self._received):
            return True
        # A service client's own token has no session. Its `sub` is a client id, never an account.
        return claims.auth_time is not None and any(
            claims.auth_time < each.before and claims.sid != each.except_session_id
            for each in self._by_account.get(claims.sub, ())
        )

    def revokes_key(self, kid: str) -> bool:
        """Whether the signing key is retired."""
        return KeyRevocation(kid) in self._received

    def __len__(self) -> int:
        """The number of revocations."""
        return len(self._received)

    def _unindex(self, revocation: Revocation) -> None:
        if isinstance(revocation, AccountRevocation) and revocation.account_id in self._by_account:
            of_account = self._by_account[revocation.account_id]
            of_account.discard(revocation)
            if not of_account:
                del self._by_account[revocation.account_id]
