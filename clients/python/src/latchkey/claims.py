"""What an access token says (RFC 9068, section 2.2), read strictly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .errors import InvalidToken
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good access token says. Times are seconds since the epoch."""

    sub: str
    """Whose it is: the account's UUID, or the service client's ``client_id`` where it acts for itself."""
    client_id: str
    scope: tuple[str, ...]
    roles: tuple[str, ...]
    iss: str
    aud: tuple[str, ...]
    jti: str
    iat: float
    exp: float
    sid: str | None = None
    """The session's UUID; none in a token that a service client got for itself."""
    auth_time: float | None = None
    """When the user signed in; there exactly where ``sid`` is."""
    acr: str | None = None
    amr: tuple[str, ...] = ()


def read(members: dict[str, Any], settings: Settings, now: float) -> Claims:
    """Checks what a token says against what is expected here, at ``now`` in seconds since the epoch.

    Raises ``InvalidToken`` where a claim is missing, of a wrong type, or not as it must be.
    """
    iss = _text(members, "iss")
    if iss != settings.issuer:
        raise InvalidToken("iss is another")
    aud = _audiences(members)
    if settings.audience not in aud:
        raise InvalidToken("aud doesn't name this service")
    exp, iat = _required(_time(members, "exp"), "exp"), _required(_time(members, "iat"), "iat")
    nbf = _time(members, "nbf")
    if now >= exp + settings.leeway:
        raise InvalidToken("it has expired")
    if iat > now + settings.leeway or (nbf is not None and nbf > now + settings.leeway):
        raise InvalidToken("it is not valid yet")
    sid = _text(members, "sid") if "sid" in members else None
    auth_time = _time(members, "auth_time")
    if (sid is None) != (auth_time is None):
        raise InvalidToken("sid and auth_time don't come together")
    return Claims(
        sub=_text(members, "sub"),
        client_id=_text(members, "client_id"),
        scope=tuple(_text(members, "scope", empty=True).split()) if "scope" in members else (),
        roles=_texts(members, "roles"),
        iss=iss,
        aud=aud,
        jti=_text(members, "jti"),
        iat=iat,
        exp=exp,
        sid=sid,
        auth_time=auth_time,
        acr=_text(members, "acr") if "acr" in members else None,
        amr=_texts(members, "amr"),
    )


def _text(members: dict[str, Any], name: str, *, empty: bool = False) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not (value or empty):
        raise InvalidToken(f"{name} is missing or not a text")
    return value


def _texts(members: dict[str, Any], name: str) -> tuple[str, ...]:
    value = members.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidToken(f"{name} is not a list of texts")
    return tuple(value)


def _audiences(members: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(members.get("aud"), str):
        return (_text(members, "aud"),)
    return _texts(members, "aud")


def _time(members: dict[str, Any], name: str) -> float | None:
    if name not in members:
        return None
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise InvalidToken(f"{name} is not a time")
    return value


def _required(value: float | None, name: str) -> float:
    if value is None:
        raise InvalidToken(f"{name} is missing")
    return value
