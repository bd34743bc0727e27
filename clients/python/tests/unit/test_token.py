"""Tokens of every kind that must not be let in, each signed as well as its forger can (RFC 8725, RFC 9068)."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fake_issuer import SID, SUB, FakeIssuer, SigningKey, b64
from latchkey import InvalidToken, Latchkey

pytestmark = pytest.mark.anyio
NOW = int(time.time())


@pytest.fixture
async def latchkey(issuer: FakeIssuer) -> AsyncIterator[Latchkey]:
    """A verifier that is live."""
    async with issuer.latchkey() as latchkey:
        await latchkey.wait_live(60)
        yield latchkey


async def refused(latchkey: Latchkey, token: str) -> str:
    """Why it is refused."""
    with pytest.raises(InvalidToken) as error:
        await latchkey.verify(token)
    return str(error.value)


@pytest.mark.parametrize("alg", ["ES256", "EdDSA", "RS256", "PS256"])
async def test_a_good_token_of_each_algorithm_is_let_in(issuer: FakeIssuer, alg: str) -> None:
    issuer.keys["one"] = SigningKey.new(alg)
    async with issuer.latchkey() as latchkey:
        await latchkey.wait_live(60)
        claims = await latchkey.verify(issuer.token(roles=["admin"], aud=["shop", "latchkey"], scope="a b"))
    assert (claims.sub, claims.sid, claims.roles, claims.scope) == (SUB, SID, ("admin",), ("a", "b"))
    assert claims.aud == ("shop", "latchkey")


async def test_a_service_clients_token_is_let_in(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    token = issuer.token(sub="robot", sid=None, auth_time=None, acr=None, amr=None)
    assert (await latchkey.verify(token)).sid is None


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://another.example"},
        {"iss": 7},
        {"iss": ["i"]},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": {"latchkey": 1}},
        {"exp": NOW - 60},
        {"exp": "soon"},
        {"exp": True},
        {"iat": NOW + 600},
        {"nbf": NOW + 600},
        {"nbf": "soon"},
        {"sub": ""},
        {"sid": 7},
        {"auth_time": "then"},
        {"amr": "pwd"},
        {"roles": "admin"},
        {"roles": [1]},
        {"scope": ["account"]},
        {"acr": 1},
        *({name: None} for name in ("iss", "aud", "exp", "iat", "sub", "client_id", "jti", "sid", "auth_time")),
    ],
    ids=str,
)
async def test_claims_must_be_as_they_must(issuer: FakeIssuer, latchkey: Latchkey, claims: dict[str, Any]) -> None:
    await refused(latchkey, issuer.token(**claims))


async def test_clocks_may_be_apart_by_the_leeway(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    now = int(time.time())
    await latchkey.verify(issuer.token(exp=now - 2))
    await latchkey.verify(issuer.token(iat=now + 3, nbf=now + 3))


@pytest.mark.parametrize("header", [{"typ": "JWT"}, {"typ": None}, {"typ": 7}, {"crit": ["exp"]}, {"crit": []}], ids=str)
async def test_headers_must_be_as_they_must(issuer: FakeIssuer, latchkey: Latchkey, header: dict[str, Any]) -> None:
    why = await refused(latchkey, issuer.token(header=header))
    assert why.startswith(("typ", "crit"))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, "HS256", "HS384", "ES384", "EdDSA", "RS256"])
async def test_another_algorithm_is_refused(issuer: FakeIssuer, latchkey: Latchkey, alg: str | None) -> None:
    header = {"alg": alg, "kid": "one", "typ": "at+jwt"}
    signed = f"{b64(header)}.{issuer.token().split('.')[1]}"
    public = issuer.keys["one"].private.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.keys["one"].jwk("one")).encode(),
    ):
        signature = b64(hmac.digest(secret, signed.encode(), hashlib.sha256))
        assert "alg" in await refused(latchkey, f"{signed}.{signature}")
    await refused(latchkey, f"{signed}.")


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_keys_that_a_token_brings_are_not_looked_at(issuer: FakeIssuer, latchkey: Latchkey, name: str) -> None:
    forger = SigningKey.new("ES256")
    brought: dict[str, Any] = {"jku": f"{issuer.url}/evil", "x5u": f"{issuer.url}/evil", "jwk": forger.jwk("one"), "x5c": ["MAA="]}
    good = issuer.token(header={name: brought[name]})
    assert (await latchkey.verify(good)).sub == SUB, "it says nothing about who signed"
    issuer.keys["one"], real = forger, issuer.keys["one"]
    forged = issuer.token(header={name: brought[name]})
    issuer.keys["one"] = real
    assert "signature" in await refused(latchkey, forged)
    assert issuer.count("/evil") == 0


async def test_another_key_of_the_issuer_is_not_the_one_that_is_named(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    issuer.keys["two"] = SigningKey.new("ES256")
    assert "signature" in await refused(latchkey, issuer.token("two", header={"kid": "one"}))


@pytest.mark.parametrize("kid", [None, "", 7, "another", "../one", "one\0"], ids=repr)
async def test_a_foreign_kid_is_refused(issuer: FakeIssuer, latchkey: Latchkey, kid: Any) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": kid}
    await refused(latchkey, f"{b64(header)}.{'.'.join(issuer.token().split('.')[1:])}")


async def test_members_that_stand_twice_are_refused(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    header = '{"alg":"ES256","kid":"one","typ":"at+jwt"}'
    payload = json.dumps(jwt.decode(issuer.token(), options={"verify_signature": False}))
    sign = issuer.keys["one"].sign
    await latchkey.verify(sign(header, payload))
    for again in ('"sub":"x"', '"s\\u0075b":"x"', '"cnf":{"a":1,"a":2}', '"exp":NaN', '"deep":' + "[" * 2000 + "]" * 2000):
        why = await refused(latchkey, sign(header, payload[:-1] + "," + again + "}"))
        assert "payload" in why or "too long" in why
    assert "header" in await refused(latchkey, sign(header[:-1] + ',"alg":"none"}', payload))
    assert "payload" in await refused(latchkey, sign(header, "[]"))


DAMAGE: list[Callable[[str], str]] = [
    lambda _: "",
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
    lambda token: token.rsplit(".", 1)[0] + "." + "A" * 86,
    lambda token: token[:30] + ("A" if token[30] != "A" else "B") + token[31:],
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damaged_ones_are_refused(issuer: FakeIssuer, latchkey: Latchkey, damage: Callable[[str], str]) -> None:
    await refused(latchkey, damage(issuer.token()))


async def test_an_oversize_one_is_refused(issuer: FakeIssuer, latchkey: Latchkey) -> None:
    await latchkey.verify(issuer.token(jti="x" * 5000))
    assert "too long" in await refused(latchkey, issuer.token(jti="x" * 6000))
