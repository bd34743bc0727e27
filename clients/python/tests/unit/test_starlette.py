"""Starlette apps without FastAPI, in a real server."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from asgi_server import bearer, close_code_and_reason, dial, serving_app
from fake_issuer import SID, SUB, FakeIssuer, revocation, until
from latchkey.starlette import CloseOnEnd, authenticate, registration_of
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus

pytestmark = pytest.mark.anyio
# The fake issuer sends no heartbeats by itself. With 10 minutes, the feed counts as live without them for the whole test.
LONG_STALENESS: dict[str, Any] = {"max_staleness": 600.0, "feed_lost": "refuse"}


async def orders(request: Request) -> Response:
    """For signed-in users: answers the account id."""
    return PlainTextResponse((await authenticate(request)).sub)


async def stock(request: Request) -> Response:
    """Also for service clients: answers the account id or the client id."""
    return PlainTextResponse((await authenticate(request, allow_clients=True)).sub)


async def chat(websocket: WebSocket) -> None:
    """Sends each message back, after the caller's account id."""
    claims = await authenticate(websocket)
    await websocket.accept()
    assert registration_of(websocket.scope).claims == claims
    async for text in websocket.iter_text():
        await websocket.send_text(f"{claims.sub}: {text}")


async def test_starlette_app_authenticates_requests_and_closes_websockets_with_their_session(issuer: FakeIssuer) -> None:
    routes = [Route("/orders", orders), Route("/stock", stock), WebSocketRoute("/chat", chat)]
    app = Starlette(routes=routes, middleware=[Middleware(CloseOnEnd)])
    async with issuer.latchkey(**LONG_STALENESS) as latchkey:
        app.state.latchkey = latchkey
        assert await latchkey.wait_live(60)
        async with serving_app(app) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
            # a service client's own token: it belongs to no session
            client_token = issuer.token(sub="robot", client_id="robot", sid=None, auth_time=None)
            for path, token, status, text in [
                ("/orders", issuer.token(), 200, SUB),
                ("/orders", None, 401, "Send an access token."),
                ("/orders", issuer.token(aud="another"), 401, "The access token is not valid, or its session has ended."),
                ("/orders", client_token, 401, "The access token is not valid, or its session has ended."),
                ("/stock", client_token, 200, "robot"),
            ]:
                response = await client.get(path, headers=bearer(token))
                assert response.status_code == status
                assert response.text == text
                has_challenge = response.headers.get("WWW-Authenticate", "").startswith("Bearer realm=")
                assert has_challenge is (status == 401)
            with pytest.raises(InvalidStatus) as refused:
                await dial(address, "/chat", token=None)
            assert refused.value.response.headers["WWW-Authenticate"] == 'Bearer realm="latchkey"'
            async with dial(address, "/chat", issuer.token()) as socket:
                await socket.send("hello")
                assert await socket.recv() == f"{SUB}: hello"
                await issuer.send(revocation(kind="session", account_id=SUB, session_id=SID))
                assert await close_code_and_reason(socket) == (1008, "session_revoked")
            await until("nothing is registered", lambda: latchkey.registrations == 0)
