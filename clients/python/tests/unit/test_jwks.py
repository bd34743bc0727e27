"""JWK Sets: keys of every algorithm are parsed, and unsuitable keys are left out."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_issuer import SigningKey
from latchkey.errors import ProtocolError
from latchkey.jwks import parse_jwks

VALID_ES256 = SigningKey.new("ES256").jwk("one")


def test_keys_of_every_algorithm_are_parsed() -> None:
    algorithms = ("ES256", "EdDSA", "RS256", "PS256")
    # The id of each key is the name of its algorithm.
    keys = parse_jwks({"keys": [SigningKey.new(alg).jwk(kid=alg) for alg in algorithms]})
    assert {kid: key.alg for kid, key in keys.items()} == {alg: alg for alg in algorithms}


@pytest.mark.parametrize(
    "entry",
    [
        7,  # not an object
        {**VALID_ES256, "use": "enc"},
        {**VALID_ES256, "key_ops": ["encrypt"]},  # does not include `verify`
        {**VALID_ES256, "alg": "RS256"},  # not an algorithm of EC keys
        {**VALID_ES256, "alg": "HS256"},  # symmetric
        {**VALID_ES256, "alg": None},
        {**VALID_ES256, "kid": 7},  # not a string
        {**VALID_ES256, "crv": "P-384"},  # ES256 requires P-256
        {**VALID_ES256, "x": "AAAA"},  # too short for a coordinate
        # a shared secret, which must never verify a token
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one", "alg": "HS256"},
        SigningKey("RS256", rsa.generate_private_key(65537, 1024)).jwk("one"),  # shorter than 2048 bits
    ],
    ids=str,
)
def test_unsuitable_key_is_left_out(entry: Any) -> None:
    valid = SigningKey.new("ES256").jwk("two")
    assert list(parse_jwks({"keys": [entry, valid]})) == ["two"]


def test_keys_after_the_hundredth_are_ignored() -> None:
    keys = parse_jwks({"keys": [{**VALID_ES256, "kid": str(number)} for number in range(101)]})
    assert list(keys) == [str(number) for number in range(100)]


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}], ids=str)
def test_document_without_list_of_keys_raises(document: Any) -> None:
    with pytest.raises(ProtocolError):
        parse_jwks(document)
