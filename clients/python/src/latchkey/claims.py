"""The claims of an access token (RFC 9068, section 2.2), validated strictly."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidToken
from .settings import Settings

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_STRING_CLAIMS = ("iss", "sub", "client_id", "jti", "sid", "acr", "scope")
_STRING_LIST_CLAIMS = ("amr", "roles")
_INTEGER_CLAIMS = ("exp", "iat", "nbf", "auth_time", "session_start", "claims_version")
_REQUIRED_CLAIMS = ("sub", "client_id", "iat", "exp", "jti")
"""The required claims besides ``iss`` and ``aud``, which are checked before."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a valid access token. Times are seconds since the epoch."""

    sub: str
    """The account's UUID, or the client id if the token is a service client's own."""
    client_id: str
    scope: tuple[str, ...]
    roles: tuple[str, ...]
    iss: str
    aud: tuple[str, ...]
    jti: str
    iat: int
    exp: int
    sid: str | None = None
    """The session's UUID; None in a service client's own token."""
    auth_time: int | None = None
    """When the user last authenticated; None in a service client's own token."""
    acr: str | None = None
    amr: tuple[str, ...] = ()
    session_start: int | None = None
    """When the session began; None in tokens of Latchkey 0.1 and in a service client's own token."""
    claims_version: int | None = None
    """The version of the account's claims; None in tokens of Latchkey 0.1 and in a service client's own token."""
    _kid: str | None = field(default=None, repr=False, compare=False, kw_only=True)
    """The id of the key that signed the token; None if the claims were not returned by a verifier."""

    @property
    def is_service_client(self) -> bool:
        """Whether a service client obtained the token for itself (``client_credentials``)."""
        return self.sid is None

    def has_scope(self, scope: str) -> bool:
        """Whether the token has this scope."""
        return scope in self.scope

    def has_role(self, role: str) -> bool:
        """Whether the account has this role."""
        return role in self.roles


def validate_claims(payload: dict[str, Any], settings: Settings, now: float, kid: str | None = None) -> Claims:
    """Validates a payload that the key ``kid`` signed, at the time ``now`` in seconds since the epoch.

    Raises ``InvalidToken`` if a claim is missing, has a wrong type or a wrong value. A claim that is null counts as missing.
    """
    claims = {name: value for name, value in payload.items() if value is not None}
    _check_types(claims)
    if "iss" not in claims:
        raise InvalidToken("missing_claim", "iss")
    if claims["iss"] != settings.issuer:
        raise InvalidToken("wrong_issuer")
    if "aud" not in claims:
        raise InvalidToken("missing_claim", "aud")
    audiences = (claims["aud"],) if isinstance(claims["aud"], str) else tuple(claims["aud"])
    if settings.audience not in audiences:
        raise InvalidToken("wrong_audience")
    for name in _REQUIRED_CLAIMS:
        if name not in claims:
            raise InvalidToken("missing_claim", name)
    _check_session(claims)
    if now >= claims["exp"] + settings.leeway:
        raise InvalidToken("expired")
    valid_from = max(claims["iat"], claims.get("nbf", claims["iat"]))
    if valid_from > now + settings.leeway:
        raise InvalidToken("not_yet_valid")
    return Claims(
        sub=claims["sub"],
        client_id=claims["client_id"],
        scope=tuple(claims.get("scope", "").split()),
        roles=tuple(claims.get("roles", ())),
        iss=claims["iss"],
        aud=audiences,
        jti=claims["jti"],
        iat=claims["iat"],
        exp=claims["exp"],
        sid=claims.get("sid"),
        auth_time=claims.get("auth_time"),
        acr=claims.get("acr"),
        amr=tuple(claims.get("amr", ())),
        session_start=claims.get("session_start") if "sid" in claims else None,
        claims_version=claims.get("claims_version") if "sid" in claims else None,
        _kid=kid,
    )


def _check_types(claims: dict[str, Any]) -> None:
    # The defaults are of the right type: a missing claim is not malformed.
    valid = (
        all(isinstance(claims.get(name, ""), str) for name in _STRING_CLAIMS)
        and all(_is_string_list(claims.get(name, [])) for name in _STRING_LIST_CLAIMS)
        and all(_is_integer(claims.get(name, 0)) for name in _INTEGER_CLAIMS)
        and claims.get("claims_version", 0) >= 0
        and (isinstance(claims.get("aud", ""), str) or _is_string_list(claims["aud"]))
    )
    if not valid:
        raise InvalidToken("malformed")


def _check_session(claims: dict[str, Any]) -> None:
    if "sid" in claims:
        if "auth_time" not in claims:
            raise InvalidToken("missing_claim", "auth_time")
        if not _UUID.fullmatch(claims["sid"]) or not _UUID.fullmatch(claims["sub"]):
            raise InvalidToken("malformed")
    # RFC 9068, section 2.2: without a user, `sub` is the client. Any other token without a session is incomplete.
    elif "auth_time" in claims or claims["sub"] != claims["client_id"]:
        raise InvalidToken("missing_claim", "sid")


def _is_string_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_integer(value: Any) -> bool:
    # Latchkey's integers have 64 bits, and Python counts True and False as integers.
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
