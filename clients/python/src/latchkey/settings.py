"""What a verifier is told by the service that uses it, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal
from urllib.parse import urlsplit

from .errors import LatchkeyError

FeedLost = Literal["introspect", "refuse"]
"""What happens to tokens while the feed is lost: Latchkey is asked about each, or none is let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How tokens are checked. Times are in seconds.

    Raises ``LatchkeyError`` for values that can't work.
    """

    issuer: str
    """Latchkey's issuer, letter by letter as in its tokens: an http or https URL without a slash at its end."""
    audience: str
    """What must be among the ``aud`` of a token."""
    client_id: str
    """The name of the service client, from ``latchkey client add``."""
    client_secret: str = field(repr=False)
    """Its secret. Doesn't print."""
    feed_lost: FeedLost = "introspect"
    """What to do once nothing was heard for ``max_staleness``."""
    max_staleness: float = 5.0
    """How long what is known is trusted without a sign of life from the feed. Well above its heartbeat of one second."""
    leeway: float = 5.0
    """How far clocks may be apart, for ``exp``, ``nbf`` and ``iat``. At most a minute."""
    request_timeout: float = 5.0
    """For metadata and keys."""
    introspection_timeout: float = 1.0
    """For asking about one token."""
    keys_max_age: float = 300.0
    """How often metadata and keys are fetched anew though no unknown key was seen."""
    keys_cooldown: float = 2.0
    """The least time between two fetches on account of unknown keys."""
    max_revocations: int = 100_000
    """Revocations remembered. Where there are more, it is as if the feed were lost until enough have expired."""

    def __post_init__(self) -> None:
        """Refuses what can't work."""
        for name in ("audience", "client_id", "client_secret"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise LatchkeyError(f"{name} must be a text that isn't empty")
        try:
            url = urlsplit(self.issuer)
            plain = url.scheme in ("http", "https") and bool(url.hostname) and url.username is None
        except (ValueError, AttributeError):
            plain = False
        if not plain or url.query or url.fragment or self.issuer.endswith("/"):
            raise LatchkeyError("issuer must be an http or https URL without a slash at its end, query or fragment")
        if self.feed_lost not in ("introspect", "refuse"):
            raise LatchkeyError("feed_lost must be 'introspect' or 'refuse'")
        for each in fields(self):
            if each.type in ("float", "int"):
                number = getattr(self, each.name)
                if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e9:
                    raise LatchkeyError(f"{each.name} must be a number that isn't negative")
                if number == 0 and each.name not in ("leeway", "keys_cooldown"):
                    raise LatchkeyError(f"{each.name} must be above 0")
        if self.leeway > 60:
            raise LatchkeyError("leeway must be at most 60 seconds")
