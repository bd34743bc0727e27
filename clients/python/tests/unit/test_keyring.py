"""The key cache: refreshed when needed, kept while the issuer is unreachable, emptied of retired keys. And invalid settings."""

from typing import Any

import pytest
from fake_issuer import FakeIssuer, SigningKey, revocation, until
from latchkey import FeedLost, InvalidToken, Latchkey, LatchkeyError, Unavailable

pytestmark = pytest.mark.anyio
REFUSE: FeedLost = "refuse"
# With these settings the feed does not become stale, and no token is introspected: only the keys decide. The `kid` of the issuer's key
# is "one".
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": REFUSE}


async def is_refused(latchkey: Latchkey, token: str) -> bool:
    """Whether the verifier refuses the token as invalid."""
    try:
        await latchkey.verify(token)
    except InvalidToken:
        return True
    return False


async def test_unknown_kid_triggers_a_refresh(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, keys_cooldown=0) as latchkey:
        assert await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        issuer.keys["two"] = SigningKey.new("EdDSA")
        await latchkey.verify(issuer.token("two"))
        assert issuer.count("/keys") == 2  # at the start, and for the unknown `kid`


async def test_refreshes_for_unknown_kids_are_rate_limited(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, keys_cooldown=600) as latchkey:
        assert await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        for number in range(20):
            assert await is_refused(latchkey, issuer.token(header={"kid": f"unknown {number}"}))
        assert issuer.count("/keys") == 1


async def test_keys_are_kept_while_the_issuer_is_unreachable(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, keys_cooldown=0, keys_max_age=0.05) as latchkey:
        assert await latchkey.wait_live(60)
        await latchkey.verify(issuer.token())
        issuer.unavailable = True
        requests = len(issuer.requests)
        # The next request to be counted may have begun before: the second one has certainly failed.
        await until("a refresh has failed", lambda: len(issuer.requests) >= requests + 2)
        await latchkey.verify(issuer.token())
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token(header={"kid": "another"}))


async def test_key_that_is_no_longer_published_is_dropped(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, keys_max_age=0.05) as latchkey:
        assert await latchkey.wait_live(60)
        token = issuer.token()
        await latchkey.verify(token)
        issuer.keys = {"two": SigningKey.new("ES256")}
        await until("the key is dropped", lambda: is_refused(latchkey, token))


async def test_retired_key_is_refused_though_still_published(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, keys_max_age=0.05) as latchkey:
        assert await latchkey.wait_live(60)
        token = issuer.token()
        await latchkey.verify(token)
        await issuer.send(revocation(kind="key", kid="one", reason="key_retired", at="2026-11-23T04:08:30Z"))
        await until("the token is refused", lambda: is_refused(latchkey, token))
        fetches = issuer.count("/keys")
        # The next fetch to be counted may have begun before the key was retired.
        await until("the stale JWK Set was fetched", lambda: issuer.count("/keys") >= fetches + 2)
        assert await is_refused(latchkey, token)
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
async def test_invalid_metadata_is_not_used(issuer: FakeIssuer, metadata: dict[str, Any]) -> None:
    issuer.metadata = metadata  # replaces members of the valid metadata
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token())
        assert {path for path, _, _ in issuer.requests} == {"/.well-known/openid-configuration"}
        issuer.metadata = {}  # valid again
        assert await latchkey.wait_live(60)


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
def test_invalid_setting_is_refused_by_name(settings: dict[str, Any]) -> None:
    arguments = {"issuer": "https://a.example", "audience": "a", "client_id": "b", "client_secret": "lk_cs", **settings}
    with pytest.raises(LatchkeyError) as error:
        Latchkey(**arguments)
    (name,) = settings
    assert name in str(error.value)
    assert "lk_cs" not in str(error.value), "the message does not contain the secret"
