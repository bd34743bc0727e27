"""Against the real Latchkey: what ends there is refused here within moments."""

from __future__ import annotations

import os
from typing import Any

import httpx
import jwt
import pytest
from people import Service, is_refused
from fake_issuer import SigningKey, until
from latchkey import InvalidToken, Unavailable

pytestmark = pytest.mark.anyio
# no machine is so slow that the feed is lost by itself, and nothing is asked of Latchkey
PATIENT: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}


class Way(httpx.AsyncBaseTransport):
    """To the service, and cut to its feed when a test says so."""

    def __init__(self) -> None:
        """Open."""
        self.inner, self.cut, self.asked = httpx.AsyncHTTPTransport(), False, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Passes it on, but for the feed once it is cut."""
        self.asked += request.url.path == "/oauth2/introspect"
        if request.url.path != "/v1/revocations":
            return await self.inner.handle_async_request(request)
        if self.cut:
            raise httpx.ConnectError("cut")
        response = await self.inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        return httpx.Response(response.status_code, headers=response.headers, stream=Cuttable(self, response.stream))


class Cuttable(httpx.AsyncByteStream):
    """An answer that ends when its way is cut."""

    def __init__(self, way: Way, inner: httpx.AsyncByteStream) -> None:
        """Of this way."""
        self.way, self.inner = way, inner

    async def __aiter__(self) -> Any:
        """The bytes, as long as they come."""
        async for chunk in self.inner:
            if self.way.cut:
                raise httpx.ReadError("cut")
            yield chunk

    async def aclose(self) -> None:
        """Closes the connection."""
        await self.inner.aclose()


async def test_a_sign_out_is_seen_within_moments(service: Service) -> None:
    ada = await service.person()
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        ended, other = await ada.sign_in(), await ada.sign_in()
        claims = await latchkey.verify(ended["access_token"])
        assert (claims.sid, claims.client_id, claims.scope) == (ended["session_id"], "latchkey", ("account",))
        await ada.sign_out(ended)
        await until("the sign-out is seen", lambda: is_refused(latchkey, ended["access_token"]))
        assert (await latchkey.verify(other["access_token"])).sub == claims.sub
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        assert await is_refused(latchkey, ended["access_token"]), "whoever comes later is told in the snapshot"


async def test_a_changed_password_ends_the_other_sessions(service: Service) -> None:
    ada = await service.person()
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        others, own = [await ada.sign_in() for _ in range(3)], await ada.sign_in()
        await ada.change_password(own, "another tidal engine verse")
        for other in others:
            await until("it has ended", lambda other=other: is_refused(latchkey, other["access_token"]))  # type: ignore[misc]
        await latchkey.verify(own["access_token"])
        await latchkey.verify((await ada.sign_in("another tidal engine verse"))["access_token"])


async def test_a_disabled_account_has_no_sessions(service: Service) -> None:
    ada, bob = await service.person(), await service.person()
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        tokens, others = await ada.sign_in(), await bob.sign_in()
        service.command("user", "disable", ada.name)
        await until("it has ended", lambda: is_refused(latchkey, tokens["access_token"]))
        await latchkey.verify(others["access_token"])


async def test_keys_are_rotated_and_retired_while_it_runs(service: Service) -> None:
    ada = await service.person()
    async with service.latchkey(**PATIENT, keys_cooldown=0) as latchkey:
        await latchkey.wait_live(60)
        before = await ada.sign_in()
        old = jwt.get_unverified_header(before["access_token"])["kid"]
        service.command("keys", "rotate")

        async def signed_by_another() -> bool:
            tokens = await ada.sign_in()
            await latchkey.verify(tokens["access_token"])
            await latchkey.verify(before["access_token"])
            # an account has only so many sessions
            await ada.sign_out(tokens)
            return bool(jwt.get_unverified_header(tokens["access_token"])["kid"] != old)

        await until("the new key signs", signed_by_another)
        service.command("keys", "retire", old)
        await until("the old one counts no more", lambda: is_refused(latchkey, before["access_token"]))
        await latchkey.verify((await ada.sign_in())["access_token"])


async def test_without_the_feed_the_service_is_asked(service: Service) -> None:
    ada, way = await service.person(), Way()
    async with (
        httpx.AsyncClient(transport=way) as http,
        service.latchkey(http=http, max_staleness=5, introspection_timeout=60) as latchkey,
    ):
        await latchkey.wait_live(60)
        tokens = await ada.sign_in()
        way.cut = True
        await until("the feed is lost", lambda: not latchkey.live)
        await latchkey.verify(tokens["access_token"])
        assert way.asked == 1
        await ada.sign_out(tokens)
        assert await is_refused(latchkey, tokens["access_token"])
        way.cut = False
        await until("the feed is back", lambda: latchkey.live)
        assert await is_refused(latchkey, tokens["access_token"])


async def test_without_the_feed_all_are_refused_where_that_is_wanted(service: Service) -> None:
    ada, way = await service.person(), Way()
    async with (
        httpx.AsyncClient(transport=way) as http,
        service.latchkey(http=http, max_staleness=5, feed_lost="refuse") as latchkey,
    ):
        await latchkey.wait_live(60)
        tokens = await ada.sign_in()
        way.cut = True
        await until("the feed is lost", lambda: not latchkey.live)
        with pytest.raises(Unavailable):
            await latchkey.verify(tokens["access_token"])
        way.cut = False
        await until("the feed is back", lambda: latchkey.live)


async def test_forged_tokens_are_refused(service: Service) -> None:
    ada = await service.person()
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
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
    async with service.latchkey(**{**PATIENT, "audience": "another"}) as latchkey:
        await latchkey.wait_live(60)
        assert await is_refused(latchkey, good)


async def test_a_service_clients_own_token_is_let_in(service: Service) -> None:
    auth = (os.environ["TEST_SERVICE_CLIENT_ID"], os.environ["TEST_SERVICE_CLIENT_SECRET"])
    answer = service.ok(await service.http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=auth))
    async with service.latchkey(**PATIENT) as latchkey:
        await latchkey.wait_live(60)
        claims = await latchkey.verify(answer["access_token"])
        assert (claims.sub, claims.client_id, claims.sid) == (auth[0], auth[0], None)


async def test_a_wrong_secret_lets_nobody_in(service: Service) -> None:
    ada = await service.person()
    token = (await ada.sign_in())["access_token"]
    async with service.latchkey(client_secret="lk_cs_wrong", introspection_timeout=60) as latchkey:
        with pytest.raises(Unavailable) as error:
            await latchkey.verify(token)
        assert "lk_cs" not in str(error.value)
