"""Parses the issuer's JWK Set (RFC 7517)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from .errors import ProtocolError

ALGORITHMS = ("ES256", "EdDSA", "RS256", "PS256")
"""The accepted signature algorithms, all asymmetric (RFC 8725, section 3.1)."""

MAX_KEYS = 100
"""Keys beyond this number in one JWK Set are ignored."""

_MIN_RSA_BITS = 2048  # RFC 7518, section 3.3

# The JWK members kty and crv that each algorithm requires. RSA keys have no crv.
_KEY_TYPES = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519"), "RS256": ("RSA", None), "PS256": ("RSA", None)}


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the only algorithm that it may be used with."""

    kid: str
    alg: str
    public: Any = field(repr=False)


def parse_jwks(document: Any) -> dict[str, Key]:
    """Returns the usable keys of a JWK Set by ``kid``. Keys for other purposes and unsupported keys are left out.

    Raises ``ProtocolError`` if the document is not a JWK Set.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ProtocolError("the response is not a JWK Set")
    keys: dict[str, Key] = {}
    for entry in entries[:MAX_KEYS]:
        key = _parse_key(entry)
        if key is not None:
            # Of several keys with one kid, the first counts.
            keys.setdefault(key.kid, key)
    return keys


def _parse_key(entry: Any) -> Key | None:
    """Returns ``None`` for a key that is unsupported or for another purpose."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    # use and key_ops are optional: a key without them may verify signatures.
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid, alg = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str) or not kid or alg not in ALGORITHMS:
        return None
    kty, crv = _KEY_TYPES[alg]
    if entry.get("kty") != kty or (crv is not None and entry.get("crv") != crv):
        return None
    # Public members only: a private key that was published by mistake is never loaded.
    members = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    try:
        public_key = PyJWK(members, algorithm=alg).key
    except (PyJWTError, ValueError, TypeError, KeyError):  # a malformed member
        return None
    if isinstance(public_key, RSAPublicKey) and public_key.key_size < _MIN_RSA_BITS:
        return None
    return Key(kid=kid, alg=alg, public=public_key)
