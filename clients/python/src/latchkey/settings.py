"""The settings of a verifier, validated when they are created."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal
from urllib.parse import urlsplit

from .errors import LatchkeyError

_NUMBER_LIMIT = 1e9
"""Numbers of the settings must be below it, which excludes infinity. NaN fails every comparison."""

FeedLost = Literal["introspect", "refuse"]
"""The handling of tokens while the feed is lost: each is introspected, or all are refused with ``Unavailable``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How tokens are verified. Durations are in seconds.

    Raises ``LatchkeyError`` for invalid values.
    """

    issuer: str
    """Latchkey's issuer, exactly as in its tokens: an http or https URL without a trailing slash."""
    audience: str
    """The audience that a token's ``aud`` must contain."""
    client_id: str
    """The id of the service client that ``latchkey client add`` created."""
    client_secret: str = field(repr=False)
    """The secret of the service client. It is never printed."""
    feed_lost: FeedLost = "introspect"
    """How tokens are handled after ``max_staleness`` without an event of the feed."""
    max_staleness: float = 5.0
    """How long local revocations count as up to date without an event. The feed sends a heartbeat every second."""
    leeway: float = 5.0
    """The clock skew that is tolerated for ``exp``, ``nbf`` and ``iat``. At most a minute."""
    request_timeout: float = 5.0
    """The timeout of metadata and key requests, and of connecting to the feed."""
    introspection_timeout: float = 1.0
    """The timeout of one introspection."""
    keys_max_age: float = 300.0
    """How often metadata and keys are refreshed."""
    keys_cooldown: float = 2.0
    """The minimum time between two refreshes that unknown keys trigger."""
    max_revocations: int = 100_000
    """The maximum number of revocations in memory. With more, the feed counts as lost until enough have expired."""
    max_registrations: int = 100_000
    """The maximum number of registrations of ``on_end``. Above it, ``on_end`` raises ``Unavailable``."""
    end_after_silence: float | None = None
    """How long after the local revocations were last up to date registrations end with ``feed_lost``.

    By default ``max_staleness``, which is also its minimum.
    """

    def __post_init__(self) -> None:
        """Validates the values."""
        for name in ("audience", "client_id", "client_secret"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise LatchkeyError(f"{name} must be a non-empty string")
        try:
            url = urlsplit(self.issuer)
            valid = url.scheme in ("http", "https") and bool(url.hostname) and url.username is None
        except (ValueError, AttributeError):  # a malformed host, or not a string
            valid = False
        if not valid or url.query or url.fragment or self.issuer.endswith("/"):
            rule = "issuer must be an http or https URL without credentials, trailing slash, query or fragment"
            raise LatchkeyError(rule)
        if self.feed_lost not in ("introspect", "refuse"):
            raise LatchkeyError("feed_lost must be 'introspect' or 'refuse'")
        for setting in fields(self):
            # The types are strings (`annotations`). `end_after_silence` has another type, and is checked below.
            if setting.type in ("float", "int"):
                value = getattr(self, setting.name)
                if not _is_number(value) or not 0 <= value < _NUMBER_LIMIT:
                    raise LatchkeyError(f"{setting.name} must be a non-negative number below {_NUMBER_LIMIT:.0f}")
                # 0 means no tolerance and no minimum
                if value == 0 and setting.name not in ("leeway", "keys_cooldown"):
                    raise LatchkeyError(f"{setting.name} must be above 0")
        if self.leeway > 60:
            raise LatchkeyError("leeway must be at most 60 seconds")
        silence = self.end_after_silence
        if silence is not None and not (_is_number(silence) and self.max_staleness <= silence < _NUMBER_LIMIT):
            raise LatchkeyError(f"end_after_silence must be at least max_staleness and below {_NUMBER_LIMIT:.0f}")


def _is_number(value: object) -> bool:
    # in Python, a bool is an int, too
    return isinstance(value, int | float) and not isinstance(value, bool)
