"""The revocations and changes of claims that can still affect an unexpired token, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .claims import Claims
from .errors import EndCause, ProtocolError


@dataclass(frozen=True, slots=True)
class SessionRevocation:
    """Ends one session."""

    session_id: str


@dataclass(frozen=True, slots=True)
class AccountRevocation:
    """Ends the sessions of an account that began before ``before`` (Unix seconds), except ``except_session_id``, if it is given."""

    account_id: str
    before: int
    except_session_id: str | None

    def ends(self, claims: Claims) -> bool:
        """Whether the revocation ends the session of these claims.

        Tokens of Latchkey 0.1 have no ``session_start``: their ``auth_time`` is the start of the session.
        """
        began = claims.auth_time if claims.session_start is None else claims.session_start
        return began is not None and began < self.before and claims.sid != self.except_session_id


@dataclass(frozen=True, slots=True)
class KeyRevocation:
    """Retires a signing key."""

    kid: str


@dataclass(frozen=True, slots=True)
class ClaimsChange:
    """Invalidates the tokens of an account whose version of the claims is older.

    Tokens without a version, which Latchkey 0.1 issues, are invalid if they were issued in the Unix second ``at`` or before.
    """

    account_id: str
    version: int
    at: int

    def outdates(self, claims: Claims) -> bool:
        """Whether the change invalidates the token of these claims."""
        if claims.claims_version is None:
            return claims.iat <= self.at
        return claims.claims_version < self.version


Revocation = SessionRevocation | AccountRevocation | KeyRevocation | ClaimsChange


def parse_revocation(data: dict[str, Any]) -> Revocation:
    """Parses the data of a ``revocation`` event.

    Raises ``ProtocolError`` for a missing or malformed member, and for an unknown kind, which the caller must treat as a gap in the
    feed.
    """
    try:
        match data["kind"]:
            case "session":
                return SessionRevocation(_string(data["session_id"]))
            case "account":
                excepted = data.get("except_session_id")
                if excepted is not None:
                    excepted = _string(excepted)
                return AccountRevocation(_string(data["account_id"]), _second(data["before"]), excepted)
            case "key":
                return KeyRevocation(_string(data["kid"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ProtocolError("a revocation event is malformed") from None
    raise ProtocolError("a revocation event has an unknown kind")


def parse_claims_change(data: dict[str, Any]) -> ClaimsChange:
    """Parses the data of a ``claims`` event.

    Raises ``ProtocolError`` for a missing or malformed member.
    """
    try:
        version = data["claims_version"]
        if isinstance(version, int) and not isinstance(version, bool) and version >= 0:
            return ClaimsChange(_string(data["account_id"]), version, _second(data["at"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise ProtocolError("a claims event is malformed")


def _second(value: Any) -> int:
    """Parses an RFC 3339 time, and rounds it down to Unix seconds, as the times in tokens are."""
    return math.floor(datetime.fromisoformat(_string(value)).timestamp())


def _string(value: Any) -> str:
    """Returns the value if it is a string that is not empty. Raises ``TypeError`` for any other."""
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


@dataclass(slots=True)
class RevocationSet:
    """Stores revocations in order of receipt, each for ``retain`` seconds. Times are seconds of a monotonic clock."""

    max_entries: int
    retain: float = 0.0
    """How long a revocation is kept after it was last received. The feed announces it when it begins."""
    _received_at: dict[Revocation, float] = field(default_factory=dict)
    """When each revocation was last received; oldest first."""
    _account_revocations: dict[str, set[AccountRevocation]] = field(default_factory=dict)
    _changes: dict[str, ClaimsChange] = field(default_factory=dict)
    """One change for each account: the changes that were received, in any order, are merged."""
    _overflowed_at: float | None = None
    """When a revocation was last dropped because the set was full."""

    def add(self, revocation: Revocation, now: float) -> None:
        """Adds a revocation. If the set is full, the revocation is dropped, and :meth:`is_complete` reports that."""
        self.evict_expired(now)
        if isinstance(revocation, ClaimsChange):
            revocation = self._merge(revocation)
        # A repeated revocation moves to the end, so that the order stays that of receipt.
        self._received_at.pop(revocation, None)
        if len(self._received_at) >= self.max_entries:
            self._overflowed_at = now
            return
        self._received_at[revocation] = now
        if isinstance(revocation, AccountRevocation):
            self._account_revocations.setdefault(revocation.account_id, set()).add(revocation)
        elif isinstance(revocation, ClaimsChange):
            self._changes[revocation.account_id] = revocation

    def evict_expired(self, now: float) -> None:
        """Evicts revocations that can no longer affect an unexpired token."""
        while self._received_at:
            oldest = next(iter(self._received_at))
            if self._received_at[oldest] + self.retain >= now:
                break
            del self._received_at[oldest]
            self._unindex(oldest)
        if self._overflowed_at is not None and self._overflowed_at + self.retain < now:
            self._overflowed_at = None

    def is_complete(self, now: float) -> bool:
        """Whether all revocations that can still affect an unexpired token are stored."""
        self.evict_expired(now)
        return self._overflowed_at is None

    def cause_of(self, kid: str | None, claims: Claims) -> EndCause | None:
        """Why a token with these claims, signed by the key ``kid``, is refused; None if it is not."""
        if kid is not None and self.revokes_key(kid):
            return "key_retired"
        # A service client's own token has no session. Its `sub` is a client id, never an account.
        if claims.sid is None:
            return None
        if SessionRevocation(claims.sid) in self._received_at:
            return "session_revoked"
        if any(each.ends(claims) for each in self._account_revocations.get(claims.sub, ())):
            return "account_revoked"
        change = self._changes.get(claims.sub)
        return "claims_changed" if change is not None and change.outdates(claims) else None

    def revokes_key(self, kid: str) -> bool:
        """Whether the signing key is retired."""
        return KeyRevocation(kid) in self._received_at

    def __len__(self) -> int:
        """The number of revocations."""
        return len(self._received_at)

    def _merge(self, change: ClaimsChange) -> ClaimsChange:
        """Removes the account's former change, if there is one, and returns a change that covers both."""
        former = self._changes.pop(change.account_id, None)
        if former is None:
            return change
        self._received_at.pop(former)
        return ClaimsChange(change.account_id, max(change.version, former.version), max(change.at, former.at))

    def _unindex(self, revocation: Revocation) -> None:
        if isinstance(revocation, ClaimsChange):
            del self._changes[revocation.account_id]
        elif isinstance(revocation, AccountRevocation):
            of_account = self._account_revocations[revocation.account_id]
            of_account.discard(revocation)
            if not of_account:
                del self._account_revocations[revocation.account_id]
