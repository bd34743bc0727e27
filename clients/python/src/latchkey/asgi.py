"""ASGI middleware that closes WebSockets and ends streaming responses when their session ends.

For Starlette, FastAPI and other ASGI frameworks:

    app.add_middleware(CloseOnEnd)

The code that authenticates a request calls :func:`watch`, as the dependencies of ``latchkey.fastapi`` do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .claims import Claims
from .end_registry import Registration
from .errors import EndCause, LatchkeyError
from .verifier import Latchkey

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SCOPE_KEY = "latchkey.connection"
"""The key under which the scope of a connection holds its :class:`_Connection`."""


class CloseOnEnd:
    """ASGI middleware that closes connections whose session ends.

    A WebSocket is closed with the code 1008, or 1013 for ``feed_lost``, and the cause as the reason. With ``feed_lost``, the
    verifier has lost the revocation feed and cannot know whether the session continues. An event stream ends cleanly.
    Another body whose length was not announced is cut, so that nobody takes it for complete. A body of known length is sent
    to its end.
    """

    def __init__(self, app: App) -> None:
        """Wraps an ASGI app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] == "websocket":
            await _WebSocket(receive, send).run(self._app, scope)
        elif scope["type"] == "http":
            await _Response(receive, send).run(self._app, scope)
        else:
            await self._app(scope, receive, send)


def watch(scope: Scope, latchkey: Latchkey, claims: Claims) -> Registration | None:
    """Closes the connection of this scope when the session of these claims ends.

    Returns the registration, or None without :class:`CloseOnEnd`. Raises ``Unavailable`` if there are ``max_registrations``
    already, and ``LatchkeyError`` for a WebSocket without :class:`CloseOnEnd`.
    """
    connection = scope.get(_SCOPE_KEY)
    if isinstance(connection, _Connection):
        return connection.watch(latchkey, claims)
    if scope["type"] == "websocket":
        # An HTTP response ends by itself. A WebSocket could stay open long after its session.
        raise LatchkeyError("add the middleware: app.add_middleware(latchkey.asgi.CloseOnEnd)")
    return None


def registration_of(scope: Scope) -> Registration:
    """The registration of this scope's connection, for instance to renew it with a newer token of the client.

    Raises ``LatchkeyError`` if :func:`watch` was not called for the connection.
    """
    connection = scope.get(_SCOPE_KEY)
    if not isinstance(connection, _Connection) or connection.registration is None:
        raise LatchkeyError("the connection has no registration: it is not authenticated, or CloseOnEnd is missing")
    return connection.registration


def close_code(cause: EndCause) -> int:
    """The code with which a WebSocket is closed (RFC 6455, section 7.4): 1013, try again later, for ``feed_lost``, else 1008."""
    return 1013 if cause == "feed_lost" else 1008


class _Connection:
    """One connection, while the app handles it. The app receives and sends its messages through this object."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.registration: Registration | None = None
        self._receive, self._send = receive, send
        self._ended: EndCause | None = None
        """Why the session has ended; None while it lives."""

    async def run(self, app: App, scope: Scope) -> None:
        scope[_SCOPE_KEY] = self
        try:
            await app(scope, self.receive, self.send)
        finally:
            if self.registration is not None:
                self.registration.close()

    def watch(self, latchkey: Latchkey, claims: Claims) -> Registration:
        if self.registration is None:
            self.registration = latchkey.on_end(claims, self._on_end)
        return self.registration

    def _on_end(self, cause: EndCause) -> Awaitable[None]:
        self._ended = cause
        return self.end(cause)

    async def end(self, cause: EndCause) -> None:
        """Closes the connection, or leaves it to ``send`` if nothing can be closed yet."""
        raise NotImplementedError

    async def receive(self) -> Message:
        return await self._receive()

    async def send(self, message: Message) -> None:
        raise NotImplementedError


class _WebSocket(_Connection):
    """A WebSocket. After the end of the session the app receives a disconnect message and can send nothing."""

    _accepted = False
    _closed = False

    async def end(self, cause: EndCause) -> None:
        if self._accepted and not self._closed:
            self._closed = True
            await self._send({"type": "websocket.close", "code": close_code(cause), "reason": cause})

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._closed = True
        elif message["type"] == "websocket.receive" and self._ended is not None:
            # Messages that arrive after the end are not delivered.
            return {"type": "websocket.disconnect", "code": close_code(self._ended), "reason": self._ended}
        return message

    async def send(self, message: Message) -> None:
        if self._ended is not None and self._accepted:
            if message["type"] == "websocket.close":
                return
            # Servers raise OSError for a closed connection; Starlette turns it into WebSocketDisconnect.
            raise OSError(f"the session has ended: {self._ended}")
        if message["type"] == "websocket.close":
            self._closed = True
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._accepted = True
            # Closed only now: a client learns the close code only from an accepted connection.
            if self._ended is not None:
                await self.end(self._ended)


class _Response(_Connection):
    """An HTTP response."""

    _streaming = False
    """Whether a body of unknown length is being sent."""
    _is_event_stream = False
    _length_known = False
    """Whether the response announced its length."""
    _finished = False
    """Whether the app has sent the last part of the body."""
    _cut = False
    """Whether the response was ended early. Whatever the app still sends is dropped."""
    _task: asyncio.Task[Any] | None = None
    """The task that runs the app, until the app returns."""

    async def run(self, app: App, scope: Scope) -> None:
        task = self._task = asyncio.current_task()
        try:
            await super().run(app, scope)
        except asyncio.CancelledError:
            # `uncancel` withdraws our cancellation and returns the number of other requests to cancel the task.
            if not self._cut or task is None or task.uncancel() > 0:
                raise
        finally:
            self._task = None

    async def end(self, cause: EndCause) -> None:
        if self._streaming:
            await self._cut_off()

    async def send(self, message: Message) -> None:
        if self._cut:
            # Without this wait, the cancellation would never reach an app that sends in a loop and waits for nothing else.
            await asyncio.sleep(0)
            return
        if message["type"] == "http.response.start":
            headers = {bytes(name).lower(): bytes(value) for name, value in message.get("headers", ())}
            self._length_known = b"content-length" in headers
            media_type = headers.get(b"content-type", b"").partition(b";")[0]
            self._is_event_stream = media_type.strip().lower() == b"text/event-stream"
        elif message["type"] == "http.response.body":
            more = bool(message.get("more_body", False))
            self._streaming = more and not self._length_known
            self._finished = not more
        await self._send(message)
        # The session may have ended before the body began.
        if self._streaming and self._ended is not None:
            await self._cut_off()

    async def _cut_off(self) -> None:
        if self._finished or self._cut:
            return
        self._cut = True
        if self._is_event_stream:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        # The app may be waiting for its next chunk, so its task is cancelled. The server then closes the connection of an
        # incomplete response.
        if self._task is not None:
            self._task.cancel()
            # If the app's `send` led here, the cancelled task is the current one, and this wait raises its CancelledError.
            await asyncio.sleep(0)
