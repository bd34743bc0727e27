"""The revocation feed: snapshots, resumption, gaps, and how tokens are verified while the feed is lost."""

import time
from base64 import b64decode
from datetime import UTC, datetime
from typing import Any

import pytest
from fake_issuer import HEARTBEAT, LIVE, RESUMED, SECRET, SID, SNAPSHOT, SUB, FakeIssuer, claims_change, revocation, until
from latchkey import InvalidToken, Latchkey, Unavailable

pytestmark = pytest.mark.anyio
LOGOUT = revocation(kind="session", account_id=SUB, session_id=SID, reason="logout", at="2026-11-23T04:08:30.325Z")
LIVE_TIMEOUT = 60  # seconds: generous, since test machines can be slow
# Settings, with times in seconds. With LONG_STALENESS the feed is lost only when a test interrupts it, however slow the machine is, and
# the verifier then refuses every token. With SHORT_STALENESS the feed is soon lost, and the verifier then introspects tokens (the
# default).
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}
SHORT_STALENESS: dict[str, Any] = {"max_staleness": 0.3, "introspection_timeout": 30.0}
SECRET_PREFIX = "lk_cs"  # of SECRET, which no log line and no representation may contain


def last_event_ids(issuer: FakeIssuer) -> list[str | None]:
    """The Last-Event-ID of each subscription."""
    return [headers.get("last-event-id") for path, headers, _ in issuer.requests if path == "/v1/revocations"]


async def is_refused(latchkey: Latchkey, token: str) -> bool:
    """Whether the token is refused as invalid."""
    try:
        await latchkey.verify(token)
    except InvalidToken:
        return True
    return False


async def refusal_reason(latchkey: Latchkey, token: str) -> str | None:
    """The reason of the refusal, if the token is refused as invalid."""
    try:
        await latchkey.verify(token)
    except InvalidToken as error:
        return error.reason
    return None


async def is_unavailable(latchkey: Latchkey, token: str) -> bool:
    """Whether the verifier cannot decide about the token."""
    try:
        await latchkey.verify(token)
    except Unavailable:
        return True
    return False


async def test_logout_event_revokes_the_token(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        token = issuer.token()
        assert (await latchkey.verify(token)).sid == SID
        await issuer.send(LOGOUT)
        await until("the token is refused", lambda: is_refused(latchkey, token))
        assert issuer.count("/introspect") == 0
        assert latchkey.live


async def test_revocation_in_the_snapshot_revokes_the_token(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT + LOGOUT + LIVE
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        assert await is_refused(latchkey, issuer.token())


async def test_feed_request_authenticates_and_the_secret_is_not_printed(issuer: FakeIssuer, caplog: pytest.LogCaptureFixture) -> None:
    async with issuer.latchkey(client_id="a:b c") as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        (headers,) = [headers for path, headers, _ in issuer.requests if path == "/v1/revocations"]
        # RFC 6749, section 2.3.1: the client id is form-encoded.
        assert b64decode(headers["authorization"].removeprefix("Basic ")).decode() == f"a%3Ab+c:{SECRET}"
        assert SECRET_PREFIX not in f"{latchkey!r} {latchkey} {latchkey.settings!r} {caplog.text}"


async def test_reconnect_resumes_after_the_last_event(issuer: FakeIssuer) -> None:
    issuer.resumed = RESUMED + LOGOUT + LIVE
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        # The revocation of another account comes last. It has no id, so it does not change the position.
        await issuer.send(HEARTBEAT + revocation(kind="account", account_id="x", before="2026-11-23T04:08:30Z"))
        token = issuer.token()
        await issuer.disconnect()
        await until("the missed revocation arrives", lambda: is_refused(latchkey, token))
    # The position is the heartbeat's (event-2), or that of `live` (event-1) if the connection ended before the verifier read the
    # heartbeat.
    assert last_event_ids(issuer) in ([None, "event-2"], [None, "event-1"])


# `event-1` is the id of LIVE. With None, the new subscription has no Last-Event-ID.
@pytest.mark.parametrize(("id_line", "position"), [("", "event-1"), ("id:\n", None)])
async def test_heartbeat_without_id_keeps_the_position_and_an_empty_id_ends_it(
    issuer: FakeIssuer, id_line: str, position: str | None
) -> None:
    issuer.feed = SNAPSHOT + LIVE + HEARTBEAT.replace("id: event-2\n", id_line) + LOGOUT
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        token = issuer.token()
        # The events are in order, so the heartbeat has been processed, too.
        await until("the token is refused", lambda: is_refused(latchkey, token))
        await issuer.disconnect()
        await until("the verifier has reconnected", lambda: len(last_event_ids(issuer)) == 2)
        assert last_event_ids(issuer) == [None, position]


async def test_new_snapshot_replaces_the_old_revocations(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT + LOGOUT + LIVE
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        token = issuer.token()
        issuer.feed = SNAPSHOT  # incomplete until LIVE
        await issuer.disconnect()
        # The issuer counts the request before it adds the subscriber, which LIVE must reach.
        await until("the verifier has reconnected", lambda: len(last_event_ids(issuer)) == 2 and bool(issuer.subscribers))
        assert await is_refused(latchkey, token), "the old snapshot stays in force until the new one is complete"
        await issuer.send(LIVE)

        async def accepted() -> bool:
            return not await is_refused(latchkey, token)

        await until("the new snapshot is in force", accepted)


async def test_gap_makes_the_feed_stale_until_the_next_snapshot(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        token = issuer.token()
        # Neither a heartbeat nor an incomplete snapshot makes the feed live again.
        await issuer.send('event: gap\ndata: {"detail":"lost"}\n\n' + HEARTBEAT)
        await until("the feed is stale", lambda: is_unavailable(latchkey, token))
        await issuer.send(SNAPSHOT + HEARTBEAT)
        assert await is_unavailable(latchkey, token)
        await issuer.send(LOGOUT + LIVE)
        await until("the feed is live", lambda: latchkey.live)
        assert await is_refused(latchkey, token)
        assert last_event_ids(issuer) == [None], "the verifier has kept its first connection"


@pytest.mark.parametrize(
    "event",
    [
        revocation(kind="planet", planet="mars"),  # an unknown kind
        "event: revocation\ndata: {\n\n",  # not JSON
        "event: revocation\ndata: []\n\n",  # not an object
        claims_change(-1),  # a negative version
        LIVE,  # ends a snapshot that has not begun
        RESUMED,  # not the first event of a connection
        SNAPSHOT.replace("310", "-1"),  # a negative retention
    ],
)
async def test_unexpected_event_makes_the_feed_stale_until_a_reconnect_gets_a_snapshot(issuer: FakeIssuer, event: str) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        issuer.feed = None  # a reconnect gets 503, so that the feed stays stale
        await issuer.send(event)
        await until("the feed is stale", lambda: is_unavailable(latchkey, issuer.token()))
        issuer.feed = SNAPSHOT + LIVE
        await until("the feed is live", lambda: latchkey.live)
    assert set(last_event_ids(issuer)) == {None}, "every reconnect asks for a snapshot"


async def test_claims_event_refuses_older_tokens_until_the_client_refreshes(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        old, current = issuer.token(claims_version=6), issuer.token(claims_version=7)
        assert (await latchkey.verify(old)).claims_version == 6
        await issuer.send(claims_change(7))
        await until("the token is refused", lambda: is_refused(latchkey, old))
        assert await refusal_reason(latchkey, old) == "claims_changed"
        await latchkey.verify(current)
        await latchkey.verify(issuer.token())  # a token of version 0.1 that was issued after the change
        # A token of version 0.1 has no claims version: it is refused if it was issued before the change.
        in_a_minute = datetime.fromtimestamp(time.time() + 60, UTC).isoformat()
        await issuer.send(claims_change(7, in_a_minute))
        await until("the token of version 0.1 is refused", lambda: is_refused(latchkey, issuer.token()))
        await latchkey.verify(current)


async def test_claims_event_in_the_snapshot_refuses_older_tokens_and_a_revocation_prevails(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT + claims_change(7) + LIVE
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        old = issuer.token(claims_version=6)
        assert await refusal_reason(latchkey, old) == "claims_changed"
        await issuer.send(LOGOUT)

        async def revoked() -> bool:
            return await refusal_reason(latchkey, old) == "revoked"

        await until("the token is revoked", revoked)


async def test_claims_event_refuses_older_tokens_while_the_feed_is_lost_without_introspection(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**SHORT_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        old = issuer.token(claims_version=6)
        await issuer.send(claims_change(7))
        await until("the token is refused", lambda: is_refused(latchkey, old))
        issuer.feed = None
        await issuer.disconnect()
        await until("the feed is lost", lambda: not latchkey.live)
        introspections = issuer.count("/introspect")
        assert await refusal_reason(latchkey, old) == "claims_changed"
        assert issuer.count("/introspect") == introspections


async def test_account_wide_revocation_compares_session_start(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        now = int(time.time())
        before = datetime.fromtimestamp(now - 100, UTC).isoformat()
        await issuer.send(revocation(kind="account", account_id=SUB, before=before, reason="password_changed", at=before))
        earlier_session = issuer.token(session_start=now - 200, auth_time=now)  # after a step-up
        await until("the earlier session is refused", lambda: is_refused(latchkey, earlier_session))
        # The time of the authentication does not count.
        later_session = issuer.token(session_start=now - 50, auth_time=now - 500)
        await latchkey.verify(later_session)


async def test_unknown_events_and_members_are_ignored(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        await issuer.send("event: weather\ndata: rain\n\n" + LOGOUT.replace("{", '{"new":{"a":1},'))
        await until("the token is refused", lambda: is_refused(latchkey, issuer.token()))
        assert last_event_ids(issuer) == [None]


async def test_lost_feed_introspects_each_token(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**SHORT_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        issuer.feed = None
        await issuer.disconnect()
        await until("the feed is lost", lambda: not latchkey.live)
        token = issuer.token()
        assert (await latchkey.verify(token)).sid == SID
        _, headers, body = [request for request in issuer.requests if request[0] == "/introspect"][-1]
        assert f"token={token}" in body
        assert headers["authorization"].startswith("Basic ")
        issuer.active = False
        assert await is_refused(latchkey, token)
        issuer.active = None  # introspection answers 503
        assert await is_unavailable(latchkey, token)
        introspections = issuer.count("/introspect")
        assert await is_refused(latchkey, issuer.token(aud="another"))
        assert issuer.count("/introspect") == introspections, "an invalid token is not introspected"


async def test_lost_feed_refuses_all_tokens_if_configured(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**SHORT_STALENESS, feed_lost="refuse") as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        issuer.feed = None
        await issuer.disconnect()
        await until("the token is unavailable", lambda: is_unavailable(latchkey, issuer.token()))
        assert issuer.count("/introspect") == 0


async def test_feed_lost_applies_before_the_first_snapshot(issuer: FakeIssuer) -> None:
    issuer.feed = SNAPSHOT  # without LIVE the snapshot is incomplete
    async with issuer.latchkey(max_staleness=600.0) as latchkey:  # introspects tokens while the feed is lost, by default
        assert (await latchkey.verify(issuer.token())).sid == SID
        assert issuer.count("/introspect") == 1
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await is_unavailable(latchkey, issuer.token())


async def test_silent_feed_is_lost_and_reconnected(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**SHORT_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)

        async def reconnected() -> bool:
            await issuer.send(": comments do not count as events\n\n")
            return len(last_event_ids(issuer)) > 1

        await until("the verifier has reconnected", reconnected)


async def test_revocations_without_heartbeats_do_not_keep_the_feed_current(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**SHORT_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)

        async def lost() -> bool:
            await issuer.send(revocation(kind="session", account_id="x", session_id="y"))
            return not latchkey.live

        await until("the feed is lost", lost)


async def test_too_many_revocations_make_the_feed_lost(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS, max_revocations=2) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        three_revocations = [revocation(kind="session", account_id="x", session_id=str(number)) for number in range(3)]
        await issuer.send("".join(three_revocations))
        await until("the feed counts as lost", lambda: is_unavailable(latchkey, issuer.token()))
        await issuer.disconnect()
        await until("a snapshot without revocations has arrived", lambda: latchkey.live)


async def test_verifier_started_before_latchkey_recovers(issuer: FakeIssuer) -> None:
    issuer.unavailable = True
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        with pytest.raises(Unavailable):
            await latchkey.verify(issuer.token())
        issuer.unavailable = False
        # The verifier fetches the keys and follows the feed independently: either may succeed first.
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        await until("the keys are fetched", lambda: issuer.count("/keys") > 0)
        assert (await latchkey.verify(issuer.token())).sub == SUB


async def test_feed_answering_401_names_the_client_in_the_log(issuer: FakeIssuer, caplog: pytest.LogCaptureFixture) -> None:
    issuer.feed, issuer.feed_status = None, 401
    async with issuer.latchkey(**LONG_STALENESS):
        await until("the refusal is logged", lambda: 'the service client "shop"' in caplog.text)
    assert "/v1/revocations answered 401" in caplog.text
    assert SECRET_PREFIX not in caplog.text


async def test_wait_live_returns_false_after_the_timeout(issuer: FakeIssuer) -> None:
    issuer.unavailable = True
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        too_short = 0.05  # seconds; the feed never becomes live
        assert not await latchkey.wait_live(too_short)
        with pytest.raises(Unavailable, match="the issuer's keys cannot be fetched: .* answered 503"):
            await latchkey.verify(issuer.token())
