"""When and with which cause registrations end, and that ended registrations leave no memory behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_issuer import LIVE, SID, SNAPSHOT, SUB, FakeIssuer, revocation, until
from latchkey import Claims, EndCause, InvalidToken, Registration, RenewError, Settings, Unavailable
from latchkey.end_registry import EndRegistry
from latchkey.revocations import (
    AccountRevocation,
    ClaimsChange,
    KeyRevocation,
    Revocation,
    RevocationSet,
    SessionRevocation,
)

pytestmark = pytest.mark.anyio
# Another session and another account.
OTHER = "6a1d3c1f-8e2d-4b69-8b4c-3a2a7b2f1e53"
# The token is refused 5 s (the default leeway) after it expires: from the second 1305 on.
CLAIMS = Claims(
    sub=SUB, client_id="latchkey", scope=("account",), roles=(), iss="i", aud=("latchkey",), jti="j", iat=1000, exp=1300,
    sid=SID, auth_time=900, session_start=900, claims_version=3, _kid="one",
)  # fmt: skip
# A service client's own token, which has no session.
ROBOT = replace(CLAIMS, sub="robot", client_id="robot", sid=None, auth_time=None, session_start=None, claims_version=None)


class RegistryFixture:
    """A registry whose clocks stand still until a test moves them."""

    def __init__(self, **settings: Any) -> None:
        """Starts at the second 1000."""
        self.now, self.elapsed = 1000.0, 0.0
        self.complete_at = 0.0
        """The value of ``elapsed``, the monotonic clock, when the feed was last complete."""
        self.ends: list[str] = []
        self.revocations = RevocationSet(max_entries=100, retain=1e9)  # nothing expires
        arguments = {"audience": "a", "client_id": "b", "client_secret": "c", "max_registrations": 1_000_000, **settings}
        self.registry = EndRegistry(
            Settings(issuer="https://a.example", **arguments),
            self.verify,
            self.revocations.cause_of,
            silence=lambda: self.elapsed - self.complete_at,
            now=lambda: self.now,
            elapsed=lambda: self.elapsed,
        )

    async def verify(self, token: str) -> Claims:
        """Not used: these tests renew with claims."""
        raise NotImplementedError

    def add(self, name: str = "it", claims: Claims = CLAIMS) -> Registration:
        """Registers claims. ``ends`` collects the name with the cause when the registration ends."""
        return self.registry.register(claims, lambda cause: self.ends.append(f"{name} {cause}"))

    def receive(self, revocation: Revocation) -> None:
        """Processes an event of the feed."""
        self.revocations.add(revocation, now=0)
        self.registry.on_revocation(revocation)

    def take_ends(self) -> list[str]:
        """Returns the ends since the last call."""
        ends, self.ends = self.ends, []
        return ends


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (SessionRevocation(SID), "session_revoked"),
        (SessionRevocation(OTHER), None),
        # the session started at 900
        (AccountRevocation(SUB, before=901, except_session_id=None), "account_revoked"),
        (AccountRevocation(SUB, before=900, except_session_id=None), None),
        (AccountRevocation(SUB, before=901, except_session_id=SID), None),
        (AccountRevocation(OTHER, before=901, except_session_id=None), None),
        (KeyRevocation("one"), "key_retired"),
        (KeyRevocation("two"), None),
        # the token has version 3, so the time of the change does not matter
        (ClaimsChange(SUB, version=4, at=0), "claims_changed"),
        (ClaimsChange(SUB, version=3, at=9999), None),
        (ClaimsChange(OTHER, version=4, at=9999), None),
    ],
    ids=str,
)
async def test_event_ends_the_registrations_that_it_concerns_with_its_cause_once(event: Revocation, cause: EndCause | None) -> None:
    fixture = RegistryFixture()
    one, two = fixture.add("one"), fixture.add("two")
    fixture.receive(event)
    fixture.receive(event)
    assert fixture.take_ends() == ([f"one {cause}", f"two {cause}"] if cause else [])
    assert one.ended == cause
    assert two.ended == cause
    assert len(fixture.registry) == (0 if cause else 2)


def expire(fixture: RegistryFixture) -> None:
    """Moves the clock to the instant at which the token is refused."""
    fixture.now = 1305


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda fixture: fixture.receive(SessionRevocation(SID)), "session_revoked"),
        (lambda fixture: fixture.receive(AccountRevocation(SUB, before=901, except_session_id=None)), "account_revoked"),
        (lambda fixture: fixture.receive(KeyRevocation("one")), "key_retired"),
        (lambda fixture: fixture.receive(ClaimsChange(SUB, version=4, at=0)), "claims_changed"),
        (expire, "token_expired"),
        (lambda fixture: fixture.registry.close(), "feed_lost"),
    ],
)
async def test_callback_of_a_session_that_has_ended_is_called_before_on_end_returns(
    change: Callable[[RegistryFixture], None], cause: EndCause
) -> None:
    fixture = RegistryFixture()
    change(fixture)
    registration = fixture.add()
    assert fixture.take_ends() == [f"it {cause}"]
    assert registration.ended == cause
    assert (len(fixture.registry), fixture.registry.indexed) == (0, 0)


async def test_token_expiry_ends_the_registration_unless_a_successor_was_accepted() -> None:
    fixture = RegistryFixture()
    fixture.add()
    fixture.now = 1304.9
    fixture.registry.end_expired()
    assert fixture.take_ends() == []
    fixture.registry.on_accepted(replace(CLAIMS, exp=1600))
    fixture.registry.on_accepted(replace(CLAIMS, exp=1100))  # an older token does not shorten the registration
    fixture.registry.on_accepted(replace(CLAIMS, exp=9999, sid=OTHER))  # a token of another session does not lengthen it
    fixture.now = 1604.9
    fixture.registry.end_expired()
    assert fixture.take_ends() == []
    fixture.now = 1605
    fixture.registry.end_expired()
    assert fixture.take_ends() == ["it token_expired"]
    fixture.registry.on_accepted(replace(CLAIMS, exp=2000))  # too late: no registration is left
    assert fixture.registry.indexed == 0


async def test_timer_ends_the_registration_when_its_token_expires() -> None:
    fixture = RegistryFixture()
    ended = asyncio.Event()
    fixture.registry.register(CLAIMS, lambda cause: ended.set())
    expire(fixture)  # the timer reads the clock at least once a second
    async with asyncio.timeout(60):
        await ended.wait()


async def test_registration_ends_5_s_after_the_last_complete_feed_or_its_own_start_if_later() -> None:
    fixture = RegistryFixture()

    def ends_after(seconds: float) -> list[str]:
        fixture.elapsed += seconds
        fixture.registry.end_expired()
        return fixture.take_ends()

    fixture.add("old")
    assert ends_after(4) == []
    fixture.complete_at = fixture.elapsed  # a heartbeat: "old" ends after the second 9
    assert ends_after(4) == []
    fixture.add("new")  # ends after the second 13
    assert ends_after(1.1) == ["old feed_lost"]
    assert ends_after(3.8) == []
    assert ends_after(0.2) == ["new feed_lost"]


async def test_end_after_silence_lengthens_the_time_until_feed_lost() -> None:
    fixture = RegistryFixture(end_after_silence=60)
    fixture.add()
    fixture.elapsed = 60
    fixture.registry.end_expired()
    assert fixture.take_ends() == []
    fixture.elapsed = 60.1
    fixture.registry.end_expired()
    assert fixture.take_ends() == ["it feed_lost"]


async def test_newer_version_of_the_claims_in_a_token_of_the_session_ends_registrations_of_the_older_one() -> None:
    fixture = RegistryFixture()
    fixture.add("old")
    fixture.add("unversioned", replace(CLAIMS, claims_version=None))  # from a node of 0.1: it can't be compared
    fixture.add("other", replace(CLAIMS, sid=OTHER))
    fixture.registry.on_accepted(replace(CLAIMS, claims_version=4))
    assert fixture.take_ends() == ["old claims_changed"]
    fixture.add("late")
    assert fixture.take_ends() == ["late claims_changed"]
    fixture.add("new", replace(CLAIMS, claims_version=4))
    assert fixture.take_ends() == []


async def test_renewed_registration_continues_with_the_newer_token() -> None:
    fixture = RegistryFixture()
    registration = fixture.add()
    fixture.elapsed = 4
    registration._renew_with(replace(CLAIMS, exp=1600, claims_version=4, _kid="two"))
    fixture.receive(ClaimsChange(SUB, version=4, at=9999))
    fixture.receive(KeyRevocation("one"))
    fixture.now, fixture.elapsed = 1604.9, 9  # 5 s after the renewal: only a longer silence ends the registration
    fixture.registry.end_expired()
    assert fixture.take_ends() == []
    for other in (replace(CLAIMS, sid=OTHER), replace(CLAIMS, sub=OTHER)):
        with pytest.raises(RenewError) as refused:
            registration._renew_with(other)
        assert refused.value.ended is None  # the registration continues
    fixture.receive(SessionRevocation(SID))
    with pytest.raises(RenewError) as ended:
        registration._renew_with(CLAIMS)
    assert ended.value.ended == "session_revoked"


async def test_renewal_with_claims_that_are_refused_ends_the_registration() -> None:
    fixture = RegistryFixture()
    registration = fixture.add("it", replace(CLAIMS, claims_version=4))
    fixture.receive(ClaimsChange(SUB, version=4, at=0))
    registration._renew_with(CLAIMS)  # version 3
    assert fixture.take_ends() == ["it claims_changed"]


async def test_key_that_is_no_longer_published_ends_registrations_of_its_tokens() -> None:
    fixture = RegistryFixture()
    fixture.add("one")
    fixture.add("two", replace(CLAIMS, sid=OTHER, _kid="two"))
    fixture.registry.on_keys_replaced({"two"})
    assert fixture.take_ends() == ["one key_retired"]


async def test_registrations_of_a_service_client_are_independent_of_each_other() -> None:
    fixture = RegistryFixture()
    fixture.add("a", ROBOT)
    renewed = fixture.add("b", ROBOT)
    fixture.registry.on_accepted(replace(ROBOT, exp=9999))  # another token of the client does not lengthen them
    # The client is no account: events of an account with the same id do not end them.
    fixture.receive(AccountRevocation("robot", before=9999, except_session_id=None))
    fixture.receive(ClaimsChange("robot", version=9, at=9999))
    renewed._renew_with(replace(ROBOT, exp=1600))
    expire(fixture)
    fixture.registry.end_expired()
    assert fixture.take_ends() == ["a token_expired"]
    fixture.receive(KeyRevocation("one"))
    assert fixture.take_ends() == ["b key_retired"]
    assert fixture.registry.indexed == 0


async def test_closed_registration_is_not_called_and_closing_is_idempotent() -> None:
    fixture = RegistryFixture()
    closed, other = fixture.add("closed"), fixture.add("other")
    with closed:
        pass
    closed.close()
    fixture.receive(SessionRevocation(SID))
    other.close()
    assert fixture.take_ends() == ["other session_revoked"]
    assert closed.ended is None
    assert other.ended == "session_revoked"
    with pytest.raises(RenewError):
        closed._renew_with(CLAIMS)


async def test_callback_that_closes_and_adds_registrations_does_not_disturb_the_others() -> None:
    fixture = RegistryFixture()
    to_close: list[Registration] = []

    def first(cause: EndCause) -> None:
        to_close[0].close()
        fixture.add("within")

    fixture.registry.register(CLAIMS, first)
    fixture.add("middle")
    to_close.append(fixture.add("last"))
    fixture.receive(SessionRevocation(SID))
    assert fixture.take_ends() == ["within session_revoked", "middle session_revoked"]
    assert len(fixture.registry) == 0


async def test_failing_callback_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    fixture = RegistryFixture()

    def fails(cause: EndCause) -> None:
        raise ValueError("thrown")

    async def fails_later(cause: EndCause) -> None:
        raise ValueError("awaited")

    fixture.registry.register(CLAIMS, fails)
    fixture.registry.register(CLAIMS, fails_later)
    fixture.add("other")
    with caplog.at_level(logging.ERROR, "latchkey"):
        fixture.receive(SessionRevocation(SID))
        await until("both failures are logged", lambda: caplog.text.count("a callback of on_end failed") == 2)
    assert "thrown" in caplog.text
    assert "awaited" in caplog.text
    assert fixture.take_ends() == ["other session_revoked"]


async def test_registration_above_the_limit_is_refused_as_unavailable() -> None:
    fixture = RegistryFixture(max_registrations=2)
    first = fixture.add()
    fixture.add()
    with pytest.raises(Unavailable, match="max_registrations"):
        fixture.add()
    first.close()
    fixture.add()
    assert len(fixture.registry) == 2


async def test_a_million_closed_or_ended_registrations_leave_nothing_behind() -> None:
    fixture = RegistryFixture()

    def callback(cause: EndCause) -> None:
        pass

    def turn(number: int) -> None:
        """Adds 20,000 registrations, four a session, and closes them if ``number`` is odd, or else ends them."""
        sessions = [replace(CLAIMS, sid=f"{number} {at}", sub=f"account {at % 50}", exp=2000 + at % 300) for at in range(5_000)]
        opened = [fixture.registry.register(claims, callback) for claims in sessions for _ in range(4)]
        for claims in sessions[::3]:  # a later expiry moves these sessions in the index
            fixture.registry.on_accepted(replace(claims, exp=2400))
        assert len(fixture.registry) == 20_000
        if number % 2:
            for registration in opened:
                registration.close()
        else:
            for account in range(50):
                fixture.registry.on_revocation(AccountRevocation(f"account {account}", before=9999, except_session_id=None))
        assert (len(fixture.registry), fixture.registry.indexed) == (0, 0)

    def size() -> int:
        gc.collect()
        return len(gc.get_objects())

    # The first turns fill caches of the interpreter.
    turn(0)
    turn(1)
    before = size()
    for number in range(2, 50):
        turn(number)
    assert size() - before < 1_000  # of the 960,000 registrations since
    tracemalloc.start()
    try:
        turn(50)
        gc.collect()
        allocated, _peak = tracemalloc.get_traced_memory()
        assert allocated < 1_000_000  # bytes
    finally:
        tracemalloc.stop()


async def test_verifier_calls_back_when_the_session_ends_and_at_once_for_a_session_that_has_ended(issuer: FakeIssuer) -> None:
    ends: list[EndCause] = []
    async with issuer.latchkey(max_staleness=600) as latchkey:
        assert await latchkey.wait_live(60)
        claims = await latchkey.verify(issuer.token())
        latchkey.on_end(claims, ends.append)
        latchkey.on_end(await latchkey.verify(issuer.token(sid=OTHER)), ends.append)
        assert latchkey.registrations == 2
        await issuer.send(revocation(kind="session", account_id=SUB, session_id=SID))
        await until("the callback is called", lambda: ends == ["session_revoked"])
        latchkey.on_end(claims, ends.append)
        assert ends == ["session_revoked", "session_revoked"]
        assert latchkey.registrations == 1
    # Closing the verifier ends the registration of the other session.
    assert ends == ["session_revoked", "session_revoked", "feed_lost"]
    assert latchkey.registrations == 0


async def test_renewal_with_a_token_of_newer_claims_continues_and_a_refused_token_changes_nothing(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(max_staleness=600) as latchkey:
        assert await latchkey.wait_live(60)
        ends: list[EndCause] = []
        registration = latchkey.on_end(await latchkey.verify(issuer.token(claims_version=6)), ends.append)
        renewed = await registration.renew(issuer.token(claims_version=7))
        assert renewed.claims_version == 7
        assert registration.claims == renewed
        assert ends == []
        with pytest.raises(InvalidToken):
            await registration.renew("malformed")
        with pytest.raises(RenewError):
            await registration.renew(issuer.token(sid=OTHER))
        assert registration.claims == renewed
        assert ends == []
        await latchkey.verify(issuer.token(claims_version=8))
        assert ends == ["claims_changed"]
        with pytest.raises(RenewError) as refused:
            await registration.renew(issuer.token(claims_version=8))
        assert refused.value.ended == "claims_changed"


async def test_revocation_in_a_later_snapshot_ends_the_registration(issuer: FakeIssuer) -> None:
    ends: list[EndCause] = []
    async with issuer.latchkey(max_staleness=600) as latchkey:
        assert await latchkey.wait_live(60)
        latchkey.on_end(await latchkey.verify(issuer.token()), ends.append)
        issuer.feed = SNAPSHOT + revocation(kind="session", account_id=SUB, session_id=SID) + LIVE
        await issuer.disconnect()
        await until("the callback is called", lambda: ends == ["session_revoked"])


async def test_key_that_the_issuer_no_longer_publishes_ends_registrations(issuer: FakeIssuer) -> None:
    ends: list[str] = []
    async with issuer.latchkey(max_staleness=600, keys_max_age=0.05) as latchkey:
        assert await latchkey.wait_live(60)
        latchkey.on_end(await latchkey.verify(issuer.token()), lambda cause: ends.append(f"one {cause}"))
        issuer.keys.clear()  # the verifier fetches the keys again after ``keys_max_age``
        await until("the callback is called", lambda: ends == ["one key_retired"])


async def test_silent_feed_ends_registrations(issuer: FakeIssuer) -> None:
    ends: list[EndCause] = []
    async with issuer.latchkey(max_staleness=0.3, introspection_timeout=30.0) as latchkey:  # for slow machines
        assert await latchkey.wait_live(60)
        issuer.feed = None  # a new subscription gets 503
        await issuer.disconnect()
        # The verifier may introspect this token, because the feed is lost.
        latchkey.on_end(await latchkey.verify(issuer.token()), ends.append)
        await until("the callback is called", lambda: ends == ["feed_lost"])
