"""JWK Sets: keys of every algorithm are parsed, and unsuitable keys are left out."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_issuer import SigningKey
from latchkey.errors import ProtocolError
from latchkey.jwks import parse_jwks

GOOD = SigningKey.new("ES256").jwk("one")


def test_keys_of_every_algorithm_are_parsed() -> None:
    keys = parse_jwks({"keys": [SigningKey.new(alg).jwk(alg) for alg in ("ES256", "EdDSA", "RS256", "PS256")]})
    assert {kid: key.alg for kid, key in keys.items()} == {alg: alg for alg in ("ES256", "EdDSA", "RS256", "PS256")}


@pytest.mark.parametrize(
    "entry",
    [
        7,  # not an object
        {**GOOD, "use": "enc"},
        {**GOOD, "key_ops": ["encrypt"]},
        {**GOOD, "alg": "RS256"},  # not an algorithm of EC keys
        {**GOOD, "alg": "HS256"},
        {**GOOD, "alg": None},
        {**GOOD, "kid": 7},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "x": "AAAA"},  # too short for a coordinate
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
        SigningKey("RS256", rsa.generate_private_key(65537, 1024)).jwk("one"),  # shorter than 2048 bits
    ],
    ids=str,
)
def test_unsuitable_key_is_left_out(entry: Any) -> None:
    other = SigningKey.new("ES256").jwk("two")
    assert list(parse_jwks({"keys": [entry, other]})) == ["two"]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}], ids=str)
def test_document_without_list_of_keys_raises(document: Any) -> None:
    with pytest.raises(ProtocolError):
        parse_jwks(document)
