"""What has been revoked and could still have a live token: a bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .claims import Claims
from .errors import Malformed


@dataclass(frozen=True, slots=True)
class Session:
    """One session ended."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """All sessions of an account that began before a second ended, but perhaps one."""

    account_id: str
    before: int
    except_session_id: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key was taken out of use."""

    kid: str


Revocation = Session | Account | Key


def read(data: dict[str, Any]) -> Revocation:
    """The revocation that an event's data tells of.

    Raises ``Malformed`` for a kind that isn't known, which must be taken for a gap, and for what lacks a member.
    """
    try:
        match data["kind"]:
            case "session":
                return Session(_text(data["session_id"]))
            case "account":
                excepted = data.get("except_session_id")
                before = math.floor(datetime.fromisoformat(_text(data["before"])).timestamp())
                return Account(_text(data["account_id"]), before, None if excepted is None else _text(excepted))
            case "key":
                return Key(_text(data["kid"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise Malformed("a revocation that can't be read") from None
    raise Malformed("a kind of revocation that isn't known")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


@dataclass(slots=True)
class Revocations:
    """Revocations, each kept for a time after it was heard of, up to a number. Times are monotonic seconds."""

    max_entries: int
    retain: float = 0.0
    """How long each is kept, at the least."""
    _heard: dict[Revocation, float] = field(default_factory=dict)
    """When each was heard of last; the oldest first."""
    _accounts: dict[str, set[Account]] = field(default_factory=dict)
    _overflown: float | None = None
    """When one had to be left out last."""

    def add(self, revocation: Revocation, now: float) -> None:
        """Remembers it. Where the memory is full it is left out, and :meth:`complete` says so."""
        self.expire(now)
        self._heard.pop(revocation, None)
        if len(self._heard) >= self.max_entries:
            self._overflown = now
            return
        self._heard[revocation] = now
        if isinstance(revocation, Account):
            self._accounts.setdefault(revocation.account_id, set()).add(revocation)

    def expire(self, now: float) -> None:
        """Drops those that no living token can be touched by any more."""
        while self._heard:
            oldest = next(iter(self._heard))
            if self._heard[oldest] + self.retain >= now:
                break
            del self._heard[oldest]
            self._forget(oldest)
        if self._overflown is not None and self._overflown + self.retain < now:
            self._overflown = None

    def complete(self, now: float) -> bool:
        """Whether nothing that matters was left out for want of room."""
        self.expire(now)
        return self._overflown is None

    def ends(self, kid: str, claims: Claims) -> bool:
        """Whether a token that this key signed and that says this has been revoked."""
        if self.ends_key(kid) or (claims.sid is not None and Session(claims.sid) in self._heard):
            return True
        # who has no session has none that could end; a service client's name is nobody's account
        return claims.auth_time is not None and any(
            claims.auth_time < each.before and claims.sid != each.except_session_id
            for each in self._accounts.get(claims.sub, ())
        )

    def ends_key(self, kid: str) -> bool:
        """Whether the key was taken out of use."""
        return Key(kid) in self._heard

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._heard)

    def _forget(self, revocation: Revocation) -> None:
        if isinstance(revocation, Account) and revocation.account_id in self._accounts:
            of_account = self._accounts[revocation.account_id]
            of_account.discard(revocation)
            if not of_account:
                del self._accounts[revocation.account_id]
