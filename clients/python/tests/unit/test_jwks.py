"""Which published keys are used."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_issuer import SigningKey
from latchkey.errors import Malformed
from latchkey.jwks import read

GOOD = SigningKey.new("ES256").jwk("one")


def test_good_keys_are_read() -> None:
    keys = read({"keys": [SigningKey.new(alg).jwk(alg) for alg in ("ES256", "EdDSA", "RS256", "PS256")]})
    assert {kid: key.alg for kid, key in keys.items()} == {alg: alg for alg in ("ES256", "EdDSA", "RS256", "PS256")}


@pytest.mark.parametrize(
    "entry",
    [
        7,
        {**GOOD, "use": "enc"},
        {**GOOD, "key_ops": ["encrypt"]},
        {**GOOD, "alg": "RS256"},
        {**GOOD, "alg": "HS256"},
        {**GOOD, "alg": None},
        {**GOOD, "kid": 7},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "x": "AAAA"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
        SigningKey("RS256", rsa.generate_private_key(65537, 1024)).jwk("one"),
    ],
    ids=str,
)
def test_what_is_for_something_else_or_weak_is_left_out(entry: Any) -> None:
    other = SigningKey.new("ES256").jwk("two")
    assert list(read({"keys": [entry, other]})) == ["two"]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}], ids=str)
def test_what_is_no_jwks_is_refused(document: Any) -> None:
    with pytest.raises(Malformed):
        read(document)
