"""The keys: fetched when they must be, kept while the issuer is away, and let go of when they are retired."""

from typing import Any

import pytest
from fake_issuer import FakeIssuer, SigningKey, revocation, until
from latchkey import FeedLost, InvalidToken, Latchkey, LatchkeyError, Unavailable

pytestmark = pytest.mark.anyio
REFUSE: FeedLost = "refuse"
PATIENT: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": REFUSE}


async def refused(latchkey: Latchkey, token: str) -> None:
    """Fails unless it is refused."""
    with pytest.raises(InvalidToken):
        await latchkey.verify(token)


async def test_a_new_key_is_fetched_when_a_token_names_it(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, keys_cooldown=0) as latchkey:
        await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        issuer.keys["two"] = SigningKey.new("EdDSA")
        await latchkey.verify(issuer.token("two"))
        assert issuer.count("/keys") == 2


async def test_unknown_keys_are_asked_for_so_often_and_no_more(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, keys_cooldown=600) as latchkey:
        await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        for number in range(20):
            await refused(latchkey, issuer.token(header={"kid": f"made up {number}"}))
        assert issuer.count("/keys") == 1


async def test_keys_are_kept_while_the_issuer_is_away(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, keys_cooldown=0, keys_max_age=0.05) as latchkey:
        await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        issuer.away = True
        asked = len(issuer.requests)
        await until("it was asked in vain", lambda: len(issuer.requests) > asked + 1)
        await latchkey.verify(issuer.token())
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token(header={"kid": "another"}))


async def test_a_key_that_is_no_longer_published_is_let_go_of(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, keys_max_age=0.05) as latchkey:
        await latchkey.wait_live(60)
        token = issuer.token()
        await latchkey.verify(token)
        issuer.keys = {"two": SigningKey.new("ES256")}

        async def gone() -> bool:
            try:
                await latchkey.verify(token)
            except InvalidToken:
                return True
            return False

        await until("it is gone", gone)


async def test_a_retired_key_is_refused_at_once_and_does_not_come_back(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, keys_max_age=0.05) as latchkey:
        await latchkey.wait_live(60)
        token = issuer.token()
        await latchkey.verify(token)
        await issuer.tell(revocation(kind="key", kid="one", reason="key_retired", at="2026-11-23T04:08:30Z"))

        async def ended() -> bool:
            try:
                await latchkey.verify(token)
            except InvalidToken:
                return True
            return False

        await until("it is refused", ended)
        asked = issuer.count("/keys")
        await until("what still names it was read", lambda: issuer.count("/keys") > asked + 1)
        await refused(latchkey, token)
        assert latchkey.live


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://another.example"},
        {"jwks_uri": None},
        {"introspection_endpoint": "file:///etc/passwd"},
        {"latchkey_revocations_endpoint": 7},
    ],
    ids=str,
)
async def test_metadata_that_makes_no_sense_is_not_used(issuer: FakeIssuer, metadata: dict[str, Any]) -> None:
    issuer.metadata = metadata
    async with issuer.latchkey(**PATIENT) as latchkey:
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token())
        assert {path for path, _, _ in issuer.requests} == {"/.well-known/openid-configuration"}
        issuer.metadata = {}
        await latchkey.wait_live(60)


@pytest.mark.parametrize(
    "settings",
    [
        {"issuer": "https://a.example/"},
        {"issuer": "a.example"},
        {"issuer": "https://user@a.example"},
        {"issuer": "https://a.example?b"},
        {"issuer": None},
        {"audience": ""},
        {"client_secret": None},
        {"feed_lost": "ignore"},
        {"max_staleness": 0},
        {"max_staleness": float("nan")},
        {"leeway": 600},
        {"max_revocations": -1},
        {"keys_cooldown": "1"},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    given = {"issuer": "https://a.example", "audience": "a", "client_id": "b", "client_secret": "lk_cs", **settings}
    with pytest.raises(LatchkeyError) as error:
        Latchkey(**given)
    assert next(iter(settings)) in str(error.value)
    assert "lk_cs" not in str(error.value)


