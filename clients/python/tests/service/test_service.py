"""Tests of the verifier with the real service: it refuses a token moments after the token's session ended."""

from __future__ import annotations

import os
from typing import Any

import httpx
import jwt
import pytest
from service_users import Service, is_refused
from fake_issuer import SigningKey, until
from latchkey import InvalidToken, Unavailable

pytestmark = pytest.mark.anyio
# The feed counts as lost only after 10 minutes, which no test takes, and no token is introspected.
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}
LIVE_TIMEOUT = 60  # seconds: generous, since test machines can be slow
NEW_PASSWORD = "another tidal engine verse"  # noqa: S105 - a test password


class FeedFaults(httpx.AsyncBaseTransport):
    """A transport that interrupts the feed while ``is_cut`` is set, and counts introspections."""

    def __init__(self) -> None:
        """Starts without a fault."""
        self.inner = httpx.AsyncHTTPTransport()
        self.is_cut = False
        self.introspections = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Forwards a request, unless it is for the feed and the feed is cut."""
        if request.url.path == "/oauth2/introspect":
            self.introspections += 1
        if request.url.path != "/v1/revocations":
            return await self.inner.handle_async_request(request)
        if self.is_cut:
            raise httpx.ConnectError("cut")
        response = await self.inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(response.status_code, headers=response.headers, stream=InterruptibleStream(self, response.stream))


class InterruptibleStream(httpx.AsyncByteStream):
    """A response body that fails while the feed is cut."""

    def __init__(self, faults: FeedFaults, inner: httpx.AsyncByteStream) -> None:
        """Wraps a response body."""
        self.faults, self.inner = faults, inner

    async def __aiter__(self) -> Any:
        """The chunks until the feed is cut."""
        async for chunk in self.inner:
            if self.faults.is_cut:
                raise httpx.ReadError("cut")
            yield chunk

    async def aclose(self) -> None:
        """Closes the connection."""
        await self.inner.aclose()


async def test_logout_revokes_the_token(service: Service) -> None:
    ada = await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        ended, other = await ada.sign_in(), await ada.sign_in()
        claims = await latchkey.verify(ended["access_token"])
        assert (claims.sid, claims.client_id, claims.scope) == (ended["session_id"], "latchkey", ("account",))
        await ada.sign_out(ended)
        await until("the token is refused", lambda: is_refused(latchkey, ended["access_token"]))
        assert (await latchkey.verify(other["access_token"])).sub == claims.sub
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        assert await is_refused(latchkey, ended["access_token"]), "the snapshot of a later subscriber has the revocation"


async def test_password_change_revokes_all_earlier_sessions(service: Service) -> None:
    ada = await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        others = [await ada.sign_in() for _ in range(3)]
        own = await ada.sign_in()
        changed = await ada.change_password(own, NEW_PASSWORD)
        for ended in [*others, own]:
            await until("the token is refused", lambda ended=ended: is_refused(latchkey, ended["access_token"]))  # type: ignore[misc]
        await latchkey.verify(changed["access_token"])
        signed_in = await ada.sign_in(NEW_PASSWORD)
        await latchkey.verify(signed_in["access_token"])


async def test_removed_role_refuses_older_tokens_at_once_and_a_refresh_returns_good_ones(service: Service) -> None:
    ada = await service.register()
    service.command("user", "roles", ada.username, "--add", "admin")
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        tokens = await ada.sign_in()
        ends: list[str] = []
        claims = await latchkey.verify(tokens["access_token"])
        assert claims.roles == ("admin",)
        # the sign-in started the session and issued the token, at most one full second apart
        assert claims.session_start is not None
        assert abs(claims.session_start - claims.iat) <= 1
        assert (claims.claims_version or 0) > 0
        latchkey.on_end(claims, ends.append)
        service.command("user", "roles", ada.username, "--remove", "admin")
        await until("the callback is called", lambda: ends == ["claims_changed"])
        with pytest.raises(InvalidToken) as refused:
            await latchkey.verify(tokens["access_token"])
        assert refused.value.reason == "claims_changed"
        response = await service.http.post("/v1/refresh", json={"refresh_token": tokens["refresh_token"]})
        refreshed = service.ok(response)["access_token"]
        assert (await latchkey.verify(refreshed)).roles == ()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        assert await is_refused(latchkey, tokens["access_token"]), "the snapshot of a later subscriber has the event"
        await latchkey.verify(refreshed)


async def test_end_of_a_session_calls_its_callbacks_with_the_cause(service: Service) -> None:
    ada = await service.register()
    ends: list[str] = []
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        one, two, own = await ada.sign_in(), await ada.sign_in(), await ada.sign_in()
        claims = await latchkey.verify(one["access_token"])
        latchkey.on_end(claims, lambda cause: ends.append(f"one {cause}"))
        latchkey.on_end(await latchkey.verify(two["access_token"]), lambda cause: ends.append(f"two {cause}"))
        await ada.sign_out(one)
        await until("the first ends", lambda: len(ends) == 1)
        latchkey.on_end(claims, lambda cause: ends.append(f"late {cause}"))  # called at once: the session has ended
        assert ends == ["one session_revoked", "late session_revoked"]
        changed = await ada.change_password(own, NEW_PASSWORD)
        await until("the second ends", lambda: len(ends) == 3)
        # the event may name the session, or the account with all its sessions
        assert ends[2] in ("two session_revoked", "two account_revoked")
        latchkey.on_end(await latchkey.verify(changed["access_token"]), ends.append)
        assert latchkey.registrations == 1, "callbacks that were called are no longer registered"


async def test_disabled_account_revokes_all_sessions(service: Service) -> None:
    ada, bob = await service.register(), await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        tokens, others = await ada.sign_in(), await bob.sign_in()
        service.command("user", "disable", ada.username)
        await until("the token is refused", lambda: is_refused(latchkey, tokens["access_token"]))
        await latchkey.verify(others["access_token"])


async def test_new_key_is_accepted_and_retired_key_is_refused(service: Service) -> None:
    ada = await service.register()
    # without a cooldown, the verifier fetches the keys as soon as it meets a token of the new key
    async with service.latchkey(**LONG_STALENESS, keys_cooldown=0) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        before = await ada.sign_in()
        old = jwt.get_unverified_header(before["access_token"])["kid"]
        service.command("keys", "rotate")

        async def is_signed_by_new_key() -> bool:
            tokens = await ada.sign_in()
            await latchkey.verify(tokens["access_token"])
            await latchkey.verify(before["access_token"])
            # an account has a limited number of sessions, and the oldest, that of `before`, must stay
            await ada.sign_out(tokens)
            return bool(jwt.get_unverified_header(tokens["access_token"])["kid"] != old)

        await until("the new key signs", is_signed_by_new_key)
        service.command("keys", "retire", old)
        await until("the retired key is refused", lambda: is_refused(latchkey, before["access_token"]))
        after = await ada.sign_in()
        await latchkey.verify(after["access_token"])


async def test_lost_feed_falls_back_to_introspection(service: Service) -> None:
    ada, faults = await service.register(), FeedFaults()
    # the feed counts as lost after 5 s; the timeout of introspections is generous, since test machines can be slow
    async with (
        httpx.AsyncClient(transport=faults) as http,
        service.latchkey(http=http, max_staleness=5, introspection_timeout=60) as latchkey,
    ):
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        tokens = await ada.sign_in()
        faults.is_cut = True
        await until("the feed is lost", lambda: not latchkey.live)
        await latchkey.verify(tokens["access_token"])
        assert faults.introspections == 1
        await ada.sign_out(tokens)
        assert await is_refused(latchkey, tokens["access_token"]), "by introspection"
        faults.is_cut = False
        await until("the feed is back", lambda: latchkey.live)
        assert await is_refused(latchkey, tokens["access_token"]), "by the feed"


async def test_lost_feed_refuses_all_tokens_if_configured(service: Service) -> None:
    ada, faults = await service.register(), FeedFaults()
    async with (
        httpx.AsyncClient(transport=faults) as http,
        service.latchkey(http=http, max_staleness=5, feed_lost="refuse") as latchkey,
    ):
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        tokens = await ada.sign_in()
        faults.is_cut = True
        await until("the feed is lost", lambda: not latchkey.live)
        with pytest.raises(Unavailable):
            await latchkey.verify(tokens["access_token"])
        faults.is_cut = False
        await until("the feed is back", lambda: latchkey.live)


async def test_forged_token_is_refused(service: Service) -> None:
    ada = await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        tokens = await ada.sign_in()
        good: str = tokens["access_token"]
        header = jwt.get_unverified_header(good)
        claims = jwt.decode(good, options={"verify_signature": False})
        forger = SigningKey.new("ES256")
        forged = [
            forger.sign(header, claims),
            forger.sign({**header, "jwk": forger.jwk(header["kid"])}, claims),
            forger.sign({**header, "kid": "another"}, claims),
            forger.sign({**header, "alg": "none"}, claims).rsplit(".", 1)[0] + ".",  # no signature
            good[:-1],  # a truncated signature
            tokens["refresh_token"],
        ]
        await latchkey.verify(good)
        for token in forged:
            with pytest.raises(InvalidToken):
                await latchkey.verify(token)
    async with service.latchkey(**{**LONG_STALENESS, "audience": "another"}) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        assert await is_refused(latchkey, good)


async def test_service_client_token_is_accepted(service: Service) -> None:
    client_id = os.environ["TEST_SERVICE_CLIENT_ID"]
    auth = (client_id, os.environ["TEST_SERVICE_CLIENT_SECRET"])
    response = await service.http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=auth)
    token = service.ok(response)["access_token"]
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(LIVE_TIMEOUT)
        claims = await latchkey.verify(token)
        assert (claims.sub, claims.client_id, claims.sid) == (client_id, client_id, None)


async def test_wrong_client_secret_raises_unavailable_that_names_the_client_and_no_secret(service: Service) -> None:
    ada = await service.register()
    token = (await ada.sign_in())["access_token"]
    # the feed never goes live, so the token is introspected
    async with service.latchkey(client_secret="lk_cs_wrong", introspection_timeout=60) as latchkey:
        with pytest.raises(Unavailable) as error:
            await latchkey.verify(token)
        assert 'the service client "' in str(error.value)
        assert "lk_cs" not in str(error.value)
