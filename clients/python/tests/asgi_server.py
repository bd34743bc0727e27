"""An ASGI app in a real server, and its clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fake_issuer import until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


@asynccontextmanager
async def serving_app(app: Any) -> AsyncIterator[str]:
    """Serves an ASGI app, and yields the address of the server."""
    # Without the timeout, in seconds, an open WebSocket could keep the server from stopping.
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until("the server has started", lambda: server.started)
    _host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


def bearer(token: str | None) -> dict[str, str]:
    """The headers of a request with an access token, or without one if ``token`` is None."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


def dial(address: str, path: str, token: str | None) -> connect:
    """Opens a WebSocket, directly even if the environment names a proxy. The result is awaited or entered."""
    return connect(f"ws://{address}{path}", additional_headers=bearer(token), proxy=None)


async def close_code_and_reason(socket: ClientConnection) -> tuple[int | None, str]:
    """Waits until the server closes a WebSocket. Returns the code and the reason."""
    try:
        async with asyncio.timeout(60):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "the connection ended without a close frame"
        return closed.rcvd.code, closed.rcvd.reason
