"""Parses access tokens and verifies their signatures (RFC 7515, RFC 8725)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from . import strict_json
from .errors import InvalidToken
from .jwks import ALGORITHMS, Key

MAX_BYTES = 8192
"""Longer tokens are refused without being parsed. A valid token is ASCII: each character is one byte."""

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_TYPES = ("at+jwt", "application/at+jwt")
_JWS = PyJWS(algorithms=list(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token whose signature is not verified yet."""

    alg: str
    kid: str
    _text: str = field(repr=False)
    """The whole token."""
    _payload: str = field(repr=False)
    """The payload, in base64url."""


def parse_token(token: str) -> UnverifiedToken:
    """Parses the header. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are ignored: keys come from the issuer only.

    Raises ``InvalidToken`` if the token does not have three parts or its header is not acceptable.
    """
    if not isinstance(token, str):
        raise InvalidToken("malformed")
    if len(token) > MAX_BYTES:
        raise InvalidToken("too_long")
    parts = token.split(".")
    if len(parts) != 3:
        raise InvalidToken("malformed")
    header = _decode_object(parts[0])
    typ, alg, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(alg, str) or not isinstance(typ, str | None) or not isinstance(kid, str | None):
        raise InvalidToken("malformed")
    if "crit" in header:
        raise InvalidToken("critical_header")
    if typ is None or typ.lower() not in _TYPES:
        raise InvalidToken("wrong_type")
    if not kid:  # missing or empty
        raise InvalidToken("unknown_key")
    _decode(parts[2])  # raises if the signature is not base64url
    return UnverifiedToken(alg=alg, kid=kid, _text=token, _payload=parts[1])


def verify_signature(token: UnverifiedToken, key: Key) -> dict[str, Any]:
    """Verifies the signature with the key that the token's ``kid`` names, and returns the payload.

    Raises ``InvalidToken`` if the signature is wrong, or the token's algorithm is not the algorithm of the key.
    """
    if token.alg != key.alg:
        raise InvalidToken("wrong_algorithm")
    try:
        _JWS.decode_complete(token._text, key.public, algorithms=[key.alg])
    except (PyJWTError, ValueError, TypeError):
        raise InvalidToken("bad_signature") from None
    # PyJWS verifies the signature, and does not parse the payload.
    return _decode_object(token._payload)


def _decode(part: str) -> bytes:
    # b64decode would skip foreign characters, and ignore unused bits of the last character that are not zero.
    # No base64 text without padding has a length of 4n + 1.
    if not _BASE64URL.fullmatch(part) or len(part) % 4 == 1:
        raise InvalidToken("malformed")
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise InvalidToken("malformed")
    return decoded


def _decode_object(part: str) -> dict[str, Any]:
    try:
        return strict_json.loads_object(_decode(part))
    except ValueError:
        raise InvalidToken("malformed") from None
