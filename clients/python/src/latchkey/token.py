"""The signature and the outer form of an access token (RFC 7515, RFC 8725)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from . import strict_json
from .errors import InvalidToken
from .jwks import ALGORITHMS, Key

MAX_BYTES = 8192
"""A longer token is refused unread."""

_PART = re.compile(r"[A-Za-z0-9_-]+")
_TYPES = ("at+jwt", "application/at+jwt")
_JWS = PyJWS(algorithms=list(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token of the right form, whose signature nobody has looked at."""

    alg: str
    kid: str
    _text: str = field(repr=False)
    _payload: str = field(repr=False)


def parse(token: str) -> Unverified:
    """Reads the header. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are not looked at: keys come from the issuer alone.

    Raises ``InvalidToken`` for what isn't a token of three parts, or has a header that is not to be accepted.
    """
    if not isinstance(token, str) or len(token) > MAX_BYTES or not token.isascii():
        raise InvalidToken("it is too long or not a token")
    parts = token.split(".")
    if len(parts) != 3:
        raise InvalidToken("it has not three parts")
    header = _decode(parts[0], "the header")
    if "crit" in header:
        raise InvalidToken("crit is not understood")
    typ, alg, kid = header.get("typ"), header.get("alg"), header.get("kid")
    if not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise InvalidToken("typ is not at+jwt")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise InvalidToken("alg is not allowed")
    if not isinstance(kid, str) or not kid:
        raise InvalidToken("kid is missing")
    _bytes(parts[2], "the signature")
    return Unverified(alg=alg, kid=kid, _text=token, _payload=parts[1])


def verify(token: Unverified, keys: Mapping[str, Key]) -> dict[str, Any]:
    """What the token says, if the key that it names signed it with the one algorithm of that key.

    Raises ``InvalidToken`` otherwise. The key must be known.
    """
    key = keys[token.kid]
    if token.alg != key.alg:
        raise InvalidToken("alg is not the one of its key")
    try:
        _JWS.decode_complete(token._text, key.public, algorithms=[key.alg])
    except (PyJWTError, ValueError, TypeError):
        raise InvalidToken("its signature is wrong") from None
    return _decode(token._payload, "the payload")


def _bytes(part: str, name: str) -> bytes:
    # base64 modules skip what they don't know; and the last character must not carry bits that mean nothing
    if not _PART.fullmatch(part) or len(part) % 4 == 1:
        raise InvalidToken(f"{name} is not base64url")
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise InvalidToken(f"{name} is not base64url")
    return decoded


def _decode(part: str, name: str) -> dict[str, Any]:
    try:
        return strict_json.loads_object(_bytes(part, name))
    except ValueError:
        raise InvalidToken(f"{name} is not an object in JSON") from None
