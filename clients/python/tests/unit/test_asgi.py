"""WebSockets and streaming responses are closed when their session ends. The apps run in a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from asgi_server import bearer, close_code_and_reason, dial, serving_app
from fake_issuer import SID, SUB, FakeIssuer, claims_change, revocation, until
from fastapi import Depends, FastAPI, Response, WebSocket, WebSocketDisconnect
from latchkey import Claims, Latchkey, LatchkeyError, Registration
from latchkey.asgi import watch
from latchkey.fastapi import (
    CloseOnEnd,
    current_registration,
    current_session,
    require_acr,
    require_authentication,
    require_max_age,
    require_role,
    require_scope,
)
from starlette.responses import StreamingResponse
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.anyio
# FakeIssuer sends no heartbeats by itself: the feed counts as live without them for 600 seconds, longer than any test.
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}
LOGOUT = revocation(kind="session", account_id=SUB, session_id=SID, reason="logout", at="2026-11-23T04:08:30Z")


class App:
    """An app, with a log of what its handlers observed. Handlers that stop half-way continue once a test sets ``go``."""

    def __init__(self, latchkey: Latchkey) -> None:
        """Defines the routes."""
        self.app = FastAPI()
        self.log: list[str] = []
        self.go = asyncio.Event()
        self.app.state.latchkey = latchkey
        self.app.add_middleware(CloseOnEnd)
        self.app.add_api_websocket_route("/chat", self.chat)
        self.app.add_api_websocket_route(
            "/guarded", self.chat, dependencies=[Depends(require_role("member")), Depends(require_acr("aal2"))]
        )
        self.app.add_api_websocket_route("/pushed", self.pushed)
        # The length of /known is that of both halves: "some" and "more".
        for path, media, headers in [
            ("/events", "text/event-stream", {}),
            ("/bytes", "application/octet-stream", {}),
            ("/known", "application/octet-stream", {"Content-Length": "8"}),
        ]:
            self.app.add_api_route(path, self.streaming(media, headers), dependencies=[Depends(current_session)])
        self.app.add_api_route("/late", self.late, dependencies=[Depends(current_session)])
        self.app.add_api_route("/busy", self.busy, dependencies=[Depends(current_session)])

    async def chat(
        self,
        websocket: WebSocket,
        session: Annotated[Claims, Depends(current_session)],
        registration: Annotated[Registration, Depends(current_registration)],
    ) -> None:
        """Sends back the first 5 characters of each message, after the caller's id. A message that is a token renews the registration."""
        await websocket.accept()
        try:
            while True:
                text = await websocket.receive_text()
                if text.startswith("ey"):  # as every JWT does
                    await registration.renew(text)
                await websocket.send_text(f"{session.sub}: {text[:5]}")
        except WebSocketDisconnect as error:
            self.log.append(f"disconnected: {error.code} {error.reason}")

    async def pushed(self, websocket: WebSocket, session: Annotated[Claims, Depends(current_session)]) -> None:
        """Sends messages and receives none."""
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0.01)
        except WebSocketDisconnect:
            self.log.append("disconnected")

    def streaming(self, media: str, headers: dict[str, str]) -> Any:
        """A handler that sends the first half of its response, and the second half after ``go``."""

        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"some"
                await self.go.wait()
                yield b"more"
            finally:
                self.log.append("generator stopped")

        async def handler() -> StreamingResponse:
            return StreamingResponse(body(), media_type=media, headers=headers)

        return handler

    async def late(self) -> Response:
        """Sends a whole response after ``go``."""
        self.log.append("started")
        await self.go.wait()
        return Response("whole")

    async def busy(self) -> StreamingResponse:
        """Starts to stream after ``go``, and then sends without waiting."""

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"some"

        self.log.append("started")
        await self.go.wait()
        return StreamingResponse(body(), media_type="text/event-stream")


@asynccontextmanager
async def serving(issuer: FakeIssuer, **settings: Any) -> AsyncIterator[tuple[App, Latchkey, str]]:
    """Serves an app whose verifier has a live feed. Yields the app, the verifier, and the address of the server."""
    async with issuer.latchkey(**{**LONG_STALENESS, **settings}) as latchkey:
        assert await latchkey.wait_live(60)
        app = App(latchkey)
        async with serving_app(app.app) as address:
            yield app, latchkey, address


async def test_websocket_closes_when_its_session_ends_and_leaves_no_registration(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (app, latchkey, address), dial(address, "/chat", issuer.token()) as socket:
        async with dial(address, "/chat", issuer.token()) as other:
            await other.send("hello")
            assert await other.recv() == f"{SUB}: hello"
            assert latchkey.registrations == 2
        await until("the closed WebSocket is deregistered", lambda: latchkey.registrations == 1)
        await issuer.send(LOGOUT)
        assert await close_code_and_reason(socket) == (1008, "session_revoked")
        # The first entry is of the WebSocket that the test closed.
        await until("the handler is disconnected", lambda: len(app.log) == 2)
        assert app.log[1] == "disconnected: 1008 session_revoked"
        assert latchkey.registrations == 0


async def test_websocket_handler_that_only_sends_is_disconnected(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (app, _, address), dial(address, "/pushed", issuer.token()) as socket:
        assert await socket.recv() == "tick"
        await issuer.send(LOGOUT)
        assert await close_code_and_reason(socket) == (1008, "session_revoked")
        await until("the handler is disconnected", lambda: app.log == ["disconnected"])


async def test_websocket_closes_when_the_claims_change_unless_it_was_renewed(issuer: FakeIssuer) -> None:
    async with (
        serving(issuer) as (_, _, address),
        dial(address, "/chat", issuer.token(claims_version=6)) as old,
        dial(address, "/chat", issuer.token(claims_version=6)) as renewed,
        # another session: any UUID other than SID
        dial(address, "/chat", issuer.token(claims_version=6, sid=SUB)) as other,
    ):
        # The newer claims end the session's other WebSocket before the event arrives. The token expires later, as after a refresh.
        await renewed.send(issuer.token(claims_version=7, exp=issuer.payload()["iat"] + 900))
        assert str(await renewed.recv()).startswith(f"{SUB}: ey")
        assert await close_code_and_reason(old) == (1008, "claims_changed")
        await issuer.send(claims_change(7))
        assert await close_code_and_reason(other) == (1008, "claims_changed")
        await renewed.send("hello")
        assert await renewed.recv() == f"{SUB}: hello"


async def test_handshake_without_a_sufficient_token_is_refused_like_a_request(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (_, latchkey, address):
        # /guarded requires the role member and the level aal2. The tokens have aal1 unless they say otherwise.
        for token, status, challenge in [
            (None, 401, 'Bearer realm="latchkey"'),
            (issuer.token(aud="another"), 401, 'Bearer realm="latchkey", error="invalid_token"'),
            (issuer.token(), 403, None),
            (
                issuer.token(roles=["member"]),
                401,
                'Bearer realm="latchkey", error="insufficient_user_authentication", acr_values="aal2"',
            ),
        ]:
            with pytest.raises(InvalidStatus) as refused:
                await dial(address, "/guarded", token)
            response = refused.value.response
            assert (response.status_code, response.headers.get("WWW-Authenticate")) == (status, challenge)
        async with dial(address, "/guarded", issuer.token(roles=["member"], acr="aal2")) as socket:
            await socket.send("hello")
            assert await socket.recv() == f"{SUB}: hello"
        await until("nothing is registered", lambda: latchkey.registrations == 0)


async def test_handshake_above_max_registrations_is_answered_503(issuer: FakeIssuer) -> None:
    async with serving(issuer, max_registrations=1) as (_, _, address), dial(address, "/chat", issuer.token()):
        with pytest.raises(InvalidStatus) as refused:
            await dial(address, "/chat", issuer.token())
        assert refused.value.response.status_code == 503


async def test_watch_without_the_middleware_is_an_error_for_a_websocket_and_does_nothing_for_a_request(issuer: FakeIssuer) -> None:
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        assert await latchkey.wait_live(60)
        claims = await latchkey.verify(issuer.token())
        with pytest.raises(LatchkeyError, match=r"app\.add_middleware\(latchkey\.asgi\.CloseOnEnd\)"):
            watch({"type": "websocket"}, latchkey, claims)
        registration = watch({"type": "http"}, latchkey, claims)
        assert registration is None


async def outcome(response: httpx.Response) -> str:
    """Reads the rest of a response. Returns "complete", or "cut" if the connection broke before the end of the body."""
    try:
        async with asyncio.timeout(60):
            async for _ in response.aiter_raw():
                pass
    except httpx.RemoteProtocolError:
        return "cut"
    return "complete"


async def test_streaming_response_ends_with_its_session_and_a_body_of_known_length_does_not(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (app, latchkey, address), httpx.AsyncClient(base_url=f"http://{address}") as client:

        async def start(path: str) -> httpx.Response:
            return await client.send(client.build_request("GET", path, headers=bearer(issuer.token())), stream=True)

        events, plain, known = await start("/events"), await start("/bytes"), await start("/known")
        assert latchkey.registrations == 3
        await issuer.send(LOGOUT)
        # An event stream ends cleanly: its client reconnects. Another body is cut, so that its client notices that it is incomplete.
        assert await outcome(events) == "complete"
        assert await outcome(plain) == "cut"
        assert app.log == ["generator stopped", "generator stopped"]
        app.go.set()
        assert await outcome(known) == "complete"
        assert latchkey.registrations == 0


async def test_response_that_is_sent_at_once_after_the_end_is_let_through_and_a_stream_is_not(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (app, latchkey, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        responses = [asyncio.create_task(client.get(path, headers=bearer(issuer.token()))) for path in ("/late", "/busy")]
        await until("both requests are being handled", lambda: len(app.log) == 2)
        await issuer.send(LOGOUT)
        await until("the session has ended", lambda: latchkey.registrations == 0)
        app.go.set()
        whole, stream = await asyncio.gather(*responses)
        assert whole.text == "whole"
        # The stream has repeated "some" until it was cut, perhaps within a word or before the first.
        assert ("some" * len(stream.text)).startswith(stream.text)


# "auth_time" is the age of the authentication in seconds here; the test makes a time of it. The leeway is 5 seconds.
@pytest.mark.parametrize(
    ("guard", "claims", "challenge"),
    [
        (require_acr("aal2"), {"acr": "aal1"}, 'acr_values="aal2"'),
        (require_acr("aal2"), {"acr": None}, 'acr_values="aal2"'),
        (require_acr("aal2"), {"acr": "aal2"}, None),
        (require_acr("aal2"), {"acr": "aal3"}, None),
        (require_acr("aal3", "phr"), {"acr": "aal2"}, 'acr_values="aal3 phr"'),
        (require_acr("aal3", "phr"), {"acr": "phr"}, None),
        (require_acr("phr"), {"acr": "aal3"}, 'acr_values="phr"'),
        (require_max_age(300), {"auth_time": 290}, None),
        (require_max_age(300), {"auth_time": 303}, None),
        (require_max_age(300), {"auth_time": 400}, 'max_age="300"'),
        (require_authentication(acr="aal2", max_age=300), {"acr": "aal2", "auth_time": 400}, 'acr_values="aal2", max_age="300"'),
        (require_authentication(acr="aal2", max_age=300), {"acr": "aal2", "auth_time": 10}, None),
    ],
)
async def test_guard_answers_the_challenge_of_rfc_9470(
    issuer: FakeIssuer, guard: Any, claims: dict[str, Any], challenge: str | None
) -> None:
    if "auth_time" in claims:
        claims = {**claims, "auth_time": issuer.payload()["iat"] - claims["auth_time"]}
    app = FastAPI()
    app.add_api_route("/", lambda: "passed", dependencies=[Depends(guard)])
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        app.state.latchkey = latchkey
        assert await latchkey.wait_live(60)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            response = await client.get("/", headers=bearer(issuer.token(**claims)))
    if challenge is None:
        assert (response.status_code, response.text) == (200, '"passed"')
    else:
        expected = f'Bearer realm="latchkey", error="insufficient_user_authentication", {challenge}'
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, expected)


@pytest.mark.parametrize(
    "required", [{}, {"acr": ()}, {"acr": 'a"'}, {"acr": "a b"}, {"acr": ""}, {"acr": ("a", "é")}, {"max_age": -1}, {"max_age": 1.5}], ids=str
)
def test_impossible_requirement_is_refused_at_once(required: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="acr|max_age"):
        require_authentication(**required)


@pytest.mark.parametrize("scope", ["", "orders:read orders:write", 'a"b', "a\\b", "a\tb", "é"])
def test_scope_that_no_challenge_can_quote_is_refused_at_once(scope: str) -> None:
    with pytest.raises(ValueError, match="scopes"):
        require_scope("orders:read", scope)


async def test_changed_claims_are_answered_with_their_reason(issuer: FakeIssuer) -> None:
    async with serving(issuer) as (_, latchkey, address), httpx.AsyncClient(base_url=f"http://{address}") as client:
        await issuer.send(claims_change(7))

        async def request() -> httpx.Response:
            return await client.get("/late", headers=bearer(issuer.token(claims_version=6)))

        async def is_refused() -> bool:
            return (await request()).status_code == 401

        await until("the token is refused", is_refused)
        response = await request()
        detail = "The claims of the account have changed. Refresh the access token."
        assert response.json() == {"detail": detail}
        assert response.headers["WWW-Authenticate"] == (
            f'Bearer realm="latchkey", error="invalid_token", error_description="{detail}", reason="claims_changed"'
        )
