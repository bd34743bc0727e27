"""With the real service: a token is refused moments after its session ended."""

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
# The feed is lost only when a test makes it so, and no token is introspected.
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}


class FeedFaults(httpx.AsyncBaseTransport):
    """A transport that interrupts the feed while ``is_cut`` is set."""

    def __init__(self) -> None:
        """Starts without a fault."""
        self.inner, self.is_cut, self.introspections = httpx.AsyncHTTPTransport(), False, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Forwards a request, unless it is for the feed and the feed is cut."""
        self.introspections += request.url.path == "/oauth2/introspect"
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
        assert await latchkey.wait_live(60)
        ended, other = await ada.sign_in(), await ada.sign_in()
        claims = await latchkey.verify(ended["access_token"])
        assert (claims.sid, claims.client_id, claims.scope) == (ended["session_id"], "latchkey", ("account",))
        await ada.sign_out(ended)
        await until("the token is refused", lambda: is_refused(latchkey, ended["access_token"]))
        assert (await latchkey.verify(other["access_token"])).sub == claims.sub
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        assert await is_refused(latchkey, ended["access_token"]), "the snapshot of a later subscriber has the revocation"


async def test_password_change_revokes_all_earlier_sessions(service: Service) -> None:
    ada = await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        others, own = [await ada.sign_in() for _ in range(3)], await ada.sign_in()
        changed = await ada.change_password(own, "another tidal engine verse")
        for ended in [*others, own]:
            await until("the token is refused", lambda ended=ended: is_refused(latchkey, ended["access_token"]))  # type: ignore[misc]
        await latchkey.verify(changed["access_token"])
        await latchkey.verify((await ada.sign_in("another tidal engine verse"))["access_token"])


async def test_removed_role_refuses_older_tokens_at_once_and_a_refresh_returns_good_ones(service: Service) -> None:
    ada = await service.register()
    service.command("user", "roles", ada.name, "--add", "admin")
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        tokens, ends = await ada.sign_in(), list[str]()
        claims = await latchkey.verify(tokens["access_token"])
        assert claims.roles == ("admin",)
        assert claims.session_start is not None
        assert abs(claims.session_start - claims.iat) <= 1
        assert (claims.claims_version or 0) > 0
        latchkey.on_end(claims, ends.append)
        service.command("user", "roles", ada.name, "--remove", "admin")
        await until("the callback is called", lambda: ends == ["claims_changed"])
        with pytest.raises(InvalidToken) as refused:
            await latchkey.verify(tokens["access_token"])
        assert refused.value.reason == "claims_changed"
        refresh = await service.http.post("/v1/refresh", json={"refresh_token": tokens["refresh_token"]})
        refreshed = service.ok(refresh)["access_token"]
        assert (await latchkey.verify(refreshed)).roles == ()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        assert await is_refused(latchkey, tokens["access_token"]), "the snapshot of a later subscriber has the event"
        await latchkey.verify(refreshed)


async def test_end_of_a_session_calls_its_callbacks_with_the_cause(service: Service) -> None:
    ada, ends = await service.register(), list[str]()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        one, two, own = await ada.sign_in(), await ada.sign_in(), await ada.sign_in()
        claims = await latchkey.verify(one["access_token"])
        latchkey.on_end(claims, lambda cause: ends.append(f"one {cause}"))
        latchkey.on_end(await latchkey.verify(two["access_token"]), lambda cause: ends.append(f"two {cause}"))
        await ada.sign_out(one)
        await until("the first ends", lambda: len(ends) == 1)
        latchkey.on_end(claims, lambda cause: ends.append(f"late {cause}"))  # called at once: the session has ended
        assert ends == ["one session_revoked", "late session_revoked"]
        changed = await ada.change_password(own, "another tidal engine verse")
        await until("the second ends", lambda: len(ends) == 3)
        # A password change appends an event for each recent session and one for the account; either may be applied first.
        assert ends[2] in ("two session_revoked", "two account_revoked")
        latchkey.on_end(await latchkey.verify(changed["access_token"]), ends.append)
        assert latchkey.registrations == 1, "callbacks that were called are no longer registered"


async def test_disabled_account_revokes_all_sessions(service: Service) -> None:
    ada, bob = await service.register(), await service.register()
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        tokens, others = await ada.sign_in(), await bob.sign_in()
        service.command("user", "disable", ada.name)
        await until("the token is refused", lambda: is_refused(latchkey, tokens["access_token"]))
        await latchkey.verify(others["access_token"])


async def test_new_key_is_accepted_and_retired_key_is_refused(service: Service) -> None:
    ada = await service.register()
    async with service.latchkey(**LONG_STALENESS, keys_cooldown=0) as latchkey:
        assert await latchkey.wait_live(60)
        before = await ada.sign_in()
        old = jwt.get_unverified_header(before["access_token"])["kid"]
        service.command("keys", "rotate")

        async def signed_by_another() -> bool:
            tokens = await ada.sign_in()
            await latchkey.verify(tokens["access_token"])
            await latchkey.verify(before["access_token"])
            # the number of sessions per account is limited
            await ada.sign_out(tokens)
            return bool(jwt.get_unverified_header(tokens["access_token"])["kid"] != old)

        await until("the new key signs", signed_by_another)
        service.command("keys", "retire", old)
        await until("the retired key is refused", lambda: is_refused(latchkey, before["access_token"]))
        await latchkey.verify((await ada.sign_in())["access_token"])


async def test_lost_feed_falls_back_to_introspection(service: Service) -> None:
    ada, faults = await service.register(), FeedFaults()
    async with (
        httpx.AsyncClient(transport=faults) as http,
        service.latchkey(http=http, max_staleness=5, introspection_timeout=60) as latchkey,
    ):
        assert await latchkey.wait_live(60)
        tokens = await ada.sign_in()
        faults.is_cut = True
        await until("the feed is lost", lambda: not latchkey.live)
        await latchkey.verify(tokens["access_token"])
        assert faults.introspections == 1
        await ada.sign_out(tokens)
        assert await is_refused(latchkey, tokens["access_token"])
        faults.is_cut = False
        await until("the feed is back", lambda: latchkey.live)
        assert await is_refused(latchkey, tokens["access_token"])


async def test_lost_feed_refuses_all_tokens_if_configured(service: Service) -> None:
    ada, faults = await service.register(), FeedFaults()
    async with (
        httpx.AsyncClient(transport=faults) as http,
        service.latchkey(http=http, max_staleness=5, feed_lost="refuse") as latchkey,
    ):
        assert await latchkey.wait_live(60)
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
        assert await latchkey.wait_live(60)
        tokens = await ada.sign_in()
        good: str = tokens["access_token"]
        header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
        forger = SigningKey.new("ES256")
        forged = [
            forger.sign(header, claims),
            forger.sign({**header, "jwk": forger.jwk(header["kid"])}, claims),
            forger.sign({**header, "kid": "another"}, claims),
            forger.sign({**header, "alg": "none"}, claims).rsplit(".", 1)[0] + ".",
            good[:-1],
            tokens["refresh_token"],
        ]
        await latchkey.verify(good)
        for token in forged:
            with pytest.raises(InvalidToken):
                await latchkey.verify(token)
    async with service.latchkey(**{**LONG_STALENESS, "audience": "another"}) as latchkey:
        assert await latchkey.wait_live(60)
        assert await is_refused(latchkey, good)


async def test_service_client_token_is_accepted(service: Service) -> None:
    auth = (os.environ["TEST_SERVICE_CLIENT_ID"], os.environ["TEST_SERVICE_CLIENT_SECRET"])
    response = service.ok(await service.http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=auth))
    async with service.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        claims = await latchkey.verify(response["access_token"])
        assert (claims.sub, claims.client_id, claims.sid) == (auth[0], auth[0], None)


async def test_wrong_client_secret_raises_unavailable_that_names_the_client_and_no_secret(service: Service) -> None:
    ada = await service.register()
    token = (await ada.sign_in())["access_token"]
    async with service.latchkey(client_secret="lk_cs_wrong", introspection_timeout=60) as latchkey:
        with pytest.raises(Unavailable) as error:
            await latchkey.verify(token)
        assert 'the service client "' in str(error.value)
        assert "lk_cs" not in str(error.value)
