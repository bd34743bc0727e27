"""Valid tokens, and forged tokens that tests/fixtures/verifier_cases.json does not have (RFC 8725, RFC 9068)."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_issuer import SID, SUB, FakeIssuer, SigningKey, b64
from latchkey import InvalidToken, Latchkey, strict_json

pytestmark = pytest.mark.anyio


@pytest.fixture
async def latchkey(issuer: FakeIssuer) -> AsyncIterator[Latchkey]:
    """A verifier whose feed is live."""
    async with issuer.latchkey() as latchkey:
        assert await latchkey.wait_live(60)
        yield latchkey


async def reason_of_refusal(latchkey: Latchkey, token: str) -> str:
    """Asserts that the token is refused, and returns the reason."""
    with pytest.raises(InvalidToken) as error:
        await latchkey.verify(token)
    return error.value.reason


@pytest.mark.parametrize("alg", ["ES256", "EdDSA", "RS256", "PS256"])
async def test_valid_token_of_each_algorithm_is_accepted(issuer: FakeIssuer, alg: str) -> None:
    issuer.keys["one"] = SigningKey.new(alg)
    async with issuer.latchkey() as latchkey:
        assert await latchkey.wait_live(60)
        claims = await latchkey.verify(issuer.token(roles=["admin"], aud=["shop", "latchkey"], scope="a b"))
    assert (claims.sub, claims.sid, claims.roles, claims.scope) == (SUB, SID, ("admin",), ("a", "b"))
    assert claims.aud == ("shop", "latchkey")


async def test_service_client_token_is_accepted(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    token = issuer.token(sub="robot", client_id="robot", sid=None, auth_time=None, acr=None, amr=None)
    assert (await latchkey.verify(token)).sid is None


# The issuer's key "one" is for ES256, so each of these values is wrong.
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, "HS256", "HS384", "ES384", "EdDSA", "RS256"])
async def test_wrong_alg_is_refused_with_hmac_of_public_key_and_without_signature(
    issuer: FakeIssuer, latchkey: Latchkey, alg: str | None
) -> None:
    header = {"alg": alg, "kid": "one", "typ": "at+jwt"}
    payload = issuer.token().split(".")[1]
    signing_input = f"{b64(header)}.{payload}"
    # Only a string can be an algorithm.
    expected_reason = "malformed" if alg is None else "wrong_algorithm"
    public_key = issuer.keys["one"].private.public_key()
    for hmac_secret in (
        public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.keys["one"].jwk("one")).encode(),
    ):
        signature = b64(hmac.digest(hmac_secret, signing_input.encode(), hashlib.sha256))
        assert await reason_of_refusal(latchkey, f"{signing_input}.{signature}") == expected_reason
    await reason_of_refusal(latchkey, f"{signing_input}.")


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_key_in_the_token_header_is_ignored(issuer: FakeIssuer, latchkey: Latchkey, name: str) -> None:
    forger = SigningKey.new("ES256")
    evil_url = f"{issuer.url}/evil"
    # MAA= is an empty DER sequence, in the place of a certificate.
    embedded: dict[str, Any] = {"jku": evil_url, "x5u": evil_url, "jwk": forger.jwk("one"), "x5c": ["MAA="]}
    header = {name: embedded[name]}
    good = issuer.token(header=header)
    assert (await latchkey.verify(good)).sub == SUB
    published = issuer.keys["one"]
    # Replaced only while the token is signed: the issuer never publishes the forger's key.
    issuer.keys["one"] = forger
    forged = issuer.token(header=header)
    issuer.keys["one"] = published
    assert await reason_of_refusal(latchkey, forged) == "bad_signature"
    assert issuer.count("/evil") == 0


async def test_token_signed_with_another_key_of_the_issuer_is_refused(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    issuer.keys["two"] = SigningKey.new("ES256")
    assert await reason_of_refusal(latchkey, issuer.token("two", header={"kid": "one"})) == "bad_signature"


DAMAGE: list[Callable[[str], str]] = [
    lambda _: "",
    # a refresh token
    lambda _: "lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4",
    lambda _: "..",
    lambda _: "é.é.é",
    lambda token: token[:-1],
    lambda token: token[:-4],
    lambda token: token + "A",
    lambda token: token + "=",
    lambda token: token + ".",
    lambda token: token + "\n",
    lambda token: " " + token,
    lambda token: token.replace(".", "..", 1),
    lambda token: token.rsplit(".", 1)[0],
    lambda token: token.rsplit(".", 1)[0] + ".",
    # a signature of 64 zero bytes, the length of an ES256 signature
    lambda token: token.rsplit(".", 1)[0] + "." + "A" * 86,
    # another character in the header
    lambda token: token[:30] + ("A" if token[30] != "A" else "B") + token[31:],
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damaged_token_is_refused(issuer: FakeIssuer, latchkey: Latchkey, damage: Callable[[str], str]) -> None:
    await reason_of_refusal(latchkey, damage(issuer.token()))


def test_too_deeply_nested_json_is_a_value_error() -> None:
    # Deeper than every version of Python parses: 3.11 gives up at a thousand levels, 3.13 parses five thousand.
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json.loads("[" * 100_000 + "]" * 100_000)
