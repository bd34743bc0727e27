"""The issuer's public keys, as read from its JWKS (RFC 7517)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from .errors import Malformed

ALGORITHMS = ("ES256", "EdDSA", "RS256", "PS256")
"""What may sign an access token."""

MAX_KEYS = 100
"""More than this in one JWKS are not read."""

_KINDS = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519"), "RS256": ("RSA", None), "PS256": ("RSA", None)}


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, with the one algorithm that it may be used with (RFC 8725, section 3.1)."""

    kid: str
    alg: str
    public: Any = field(repr=False)


def read(document: Any) -> dict[str, Key]:
    """The keys of a JWKS by their ``kid``; what is for something else or not understood is left out.

    Raises ``Malformed`` for what is no JWKS.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise Malformed("this is no JWKS")
    keys: dict[str, Key] = {}
    for entry in entries[:MAX_KEYS]:
        key = _read_one(entry)
        if key is not None:
            keys.setdefault(key.kid, key)
    return keys


def _read_one(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    kid, alg = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str) or not kid or alg not in ALGORITHMS:
        return None
    kty, crv = _KINDS[alg]
    if entry.get("kty") != kty or (crv is not None and entry.get("crv") != crv):
        return None
    # only what is public: a set that gives a private key away is no reason to use it
    public = {name: entry[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in entry}
    try:
        parsed = PyJWK(public, algorithm=alg).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(parsed, RSAPublicKey) and parsed.key_size < 2048:
        return None
    return Key(kid=kid, alg=alg, public=parsed)
