"""Following the feed: what is heard, what is missed, and what becomes of tokens meanwhile."""

from typing import Any

import pytest
from fake_issuer import HEARTBEAT, LIVE, RESUMED, SID, SNAPSHOT, SUB, FakeIssuer, revocation, until
from latchkey import InvalidToken, Latchkey, Unavailable

pytestmark = pytest.mark.anyio
LOGOUT = revocation(kind="session", account_id=SUB, session_id=SID, reason="logout", at="2026-11-23T04:08:30.325Z")
# so that a test tells of a lost feed by what it does, and no machine is so slow that one is lost by itself
PATIENT: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}
HASTY: dict[str, Any] = {"max_staleness": 0.3, "introspection_timeout": 30.0}


def followed(issuer: FakeIssuer) -> list[str | None]:
    """The Last-Event-ID of each that came to follow."""
    return [headers.get("last-event-id") for path, headers, _ in issuer.requests if path == "/v1/revocations"]


async def is_refused(latchkey: Latchkey, token: str) -> bool:
    """Whether it is known to be bad."""
    try:
        await latchkey.verify(token)
    except InvalidToken:
        return True
    return False


async def is_unknown(latchkey: Latchkey, token: str) -> bool:
    """Whether nothing is known of it."""
    try:
        await latchkey.verify(token)
    except Unavailable:
        return True
    return False


async def test_a_sign_out_is_heard_of_at_once(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        token = issuer.token()
        assert (await latchkey.verify(token)).sid == SID
        await issuer.tell(LOGOUT)
        await until("the sign-out is heard of", lambda: is_refused(latchkey, token))
        assert issuer.count("/introspect") == 0
        assert latchkey.live


async def test_the_snapshot_counts_too(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT + LOGOUT + LIVE
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        assert await is_refused(latchkey, issuer.token())


async def test_it_says_who_it_is_and_the_secret_prints_nowhere(issuer: FakeIssuer, caplog: pytest.LogCaptureFixture) -> None:
    async with issuer.latchkey(client_id="a:b c") as latchkey:
        await latchkey.wait_live(60)
        (headers,) = [headers for path, headers, _ in issuer.requests if path == "/v1/revocations"]
        assert headers["authorization"] == "Basic YSUzQWIrYzpsa19jc19hLXNlY3JldC10aGF0LW5vYm9keS1tYXktc2Vl"
        assert "lk_cs" not in f"{latchkey!r} {latchkey} {latchkey.settings!r} {caplog.text}"


async def test_after_a_cut_it_resumes_where_it_was(issuer: FakeIssuer) -> None:
    issuer.resumed = RESUMED + LOGOUT + LIVE
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        await issuer.tell(HEARTBEAT + revocation(kind="account", account_id="x", before="2026-11-23T04:08:30Z"))
        token = issuer.token()
        await issuer.cut()
        await until("what was missed is heard of", lambda: is_refused(latchkey, token))
    assert followed(issuer) == [None, "place-2"] or followed(issuer) == [None, "place-1"]


async def test_a_new_snapshot_replaces_what_was_known(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT + LOGOUT + LIVE
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        token = issuer.token()
        issuer.feed = SNAPSHOT
        await issuer.cut()
        await until("it is back", lambda: len(followed(issuer)) == 2 and bool(issuer.followers))
        assert await is_refused(latchkey, token), "it counts until the new one is complete"
        await issuer.tell(LIVE)

        async def let_in() -> bool:
            return not await is_refused(latchkey, token)

        await until("the new one counts", let_in)


async def test_after_a_gap_nothing_counts_until_the_snapshot(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        token = issuer.token()
        await issuer.tell('event: gap\ndata: {"detail":"lost"}\n\n' + HEARTBEAT)
        await until("it isn't trusted", lambda: is_unknown(latchkey, token))
        await issuer.tell(SNAPSHOT + HEARTBEAT)
        assert await is_unknown(latchkey, token)
        await issuer.tell(LOGOUT + LIVE)
        await until("it is", lambda: latchkey.live)
        assert await is_refused(latchkey, token)
        assert followed(issuer) == [None]


@pytest.mark.parametrize(
    "event",
    [
        revocation(kind="planet", planet="mars"),
        "event: revocation\ndata: {\n\n",
        "event: revocation\ndata: []\n\n",
        LIVE,
        RESUMED,
        SNAPSHOT.replace("310", "-1"),
    ],
)
async def test_what_is_not_understood_is_a_gap(issuer: FakeIssuer, event: str) -> None:
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        issuer.feed = None
        await issuer.tell(event)
        await until("it isn't trusted", lambda: is_unknown(latchkey, issuer.token()))
        issuer.feed = SNAPSHOT + LIVE
        await until("it came back, and is again", lambda: latchkey.live)
    assert set(followed(issuer)) == {None}


async def test_unknown_events_and_members_are_passed_over(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        await issuer.tell("event: weather\ndata: rain\n\n" + LOGOUT.replace("{", '{"new":{"a":1},'))
        await until("it is heard of", lambda: is_refused(latchkey, issuer.token()))
        assert followed(issuer) == [None]


async def test_without_the_feed_latchkey_is_asked_about_each_token(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**HASTY) as latchkey:
        await latchkey.wait_live(60)
        issuer.feed = None
        await issuer.cut()
        await until("the feed is lost", lambda: not latchkey.live)
        token = issuer.token()
        assert (await latchkey.verify(token)).sid == SID
        path, headers, body = issuer.requests[-1] if issuer.requests[-1][0] == "/introspect" else issuer.requests[-2]
        assert path == "/introspect"
        assert f"token={token}" in body
        assert headers["authorization"].startswith("Basic ")
        issuer.active = False
        assert await is_refused(latchkey, token)
        issuer.active = None
        assert await is_unknown(latchkey, token)
        asked = issuer.count("/introspect")
        assert await is_refused(latchkey, issuer.token(aud="another"))
        assert issuer.count("/introspect") == asked, "what is bad anyway is not asked about"


async def test_without_the_feed_all_are_refused_where_that_is_wanted(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**HASTY, feed_lost="refuse") as latchkey:
        await latchkey.wait_live(60)
        issuer.feed = None
        await issuer.cut()
        await until("it is unknown", lambda: is_unknown(latchkey, issuer.token()))
        assert issuer.count("/introspect") == 0


async def test_before_the_feed_is_there_the_same_holds(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT
    async with issuer.latchkey(max_staleness=600) as latchkey:
        assert (await latchkey.verify(issuer.token())).sid == SID
        assert issuer.count("/introspect") == 1
    async with issuer.latchkey(**PATIENT) as latchkey:
        assert await is_unknown(latchkey, issuer.token())


async def test_a_feed_that_is_silent_is_lost_and_left(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**HASTY) as latchkey:
        await latchkey.wait_live(60)

        async def left() -> bool:
            await issuer.tell(": comments and old words are no sign of life\n\n")
            return len(followed(issuer)) > 1

        await until("it came again", left)


async def test_revocations_without_heartbeats_are_no_proof_that_all_is_told(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**HASTY) as latchkey:
        await latchkey.wait_live(60)

        async def lost() -> bool:
            await issuer.tell(revocation(kind="session", account_id="x", session_id="y"))
            return not latchkey.live

        await until("the feed is lost", lost)


async def test_more_than_can_be_remembered_is_as_if_the_feed_were_lost(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**PATIENT, max_revocations=2) as latchkey:
        await latchkey.wait_live(60)
        await issuer.tell("".join(revocation(kind="session", account_id="x", session_id=str(each)) for each in range(3)))
        await until("nothing is known", lambda: is_unknown(latchkey, issuer.token()))
        await issuer.cut()
        await until("a snapshot that fits has come", lambda: latchkey.live)


async def test_latchkey_may_come_later(issuer: FakeIssuer) -> None:
    issuer.away = True
    async with issuer.latchkey(**PATIENT) as latchkey:
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token())
        issuer.away = False
        await latchkey.wait_live(60)
        await until("the keys are there", lambda: issuer.count("/keys") > 0)
        assert (await latchkey.verify(issuer.token())).sub == SUB
