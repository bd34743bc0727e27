"""A small API whose callers sign in with Latchkey. Each worker process verifies their tokens locally."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from latchkey import Claims, Latchkey, LatchkeyError, Registration
from latchkey.fastapi import CloseOnEnd, current_registration, current_session, require_authentication, require_role


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Runs in each worker process, so each has its own verifier, which follows the revocation feed as a service client."""
    async with Latchkey(
        os.environ.get("AUTH_ISSUER", "http://127.0.0.1:8080"),
        audience=os.environ.get("AUTH_AUDIENCE", "latchkey"),
        client_id=os.environ["AUTH_CLIENT_ID"],
        client_secret=os.environ["AUTH_CLIENT_SECRET"],
    ) as latchkey:
        yield {"latchkey": latchkey}


app = FastAPI(title="Orders", lifespan=lifespan)

# Closes each WebSocket when its session ends.
app.add_middleware(CloseOnEnd)

Session = Annotated[Claims, Depends(current_session)]


@app.get("/")
async def welcome() -> dict[str, str]:
    """Public."""
    return {"welcome": "Your orders are at /orders."}


@app.get("/orders")
async def orders(session: Session) -> dict[str, Any]:
    """For signed-in users."""
    return {"orders_of": session.sub, "orders": ["a lamp", "two chairs"], "worker": os.getpid()}


@app.get("/admin/orders", dependencies=[Depends(require_role("admin"))])
async def all_orders() -> dict[str, Any]:
    """For signed-in users with the role admin."""
    return {"orders": ["a lamp", "two chairs", "a table"]}


@app.delete("/orders", dependencies=[Depends(require_authentication(acr="aal2", max_age=300))])
async def delete_orders() -> dict[str, bool]:
    """For signed-in users who authenticated with two factors in the last five minutes (RFC 9470)."""
    return {"deleted": True}


# The open WebSockets of this worker's chat.
members: set[WebSocket] = set()


@app.websocket("/chat")
async def chat(
    websocket: WebSocket, session: Session, registration: Annotated[Registration, Depends(current_registration)]
) -> None:
    """A chat of this worker's signed-in users. A member who has refreshed the access token sends ``/token ACCESS_TOKEN``."""
    await websocket.accept()
    members.add(websocket)
    try:
        async for message in websocket.iter_text():
            if message.startswith("/token "):
                await renew(websocket, registration, message.removeprefix("/token "))
            else:
                await say(f"{session.sub}: {message}")
    finally:
        members.discard(websocket)


async def say(message: str) -> None:
    """Sends a message to all members."""
    # A copy, because members may join and leave during a send.
    for member in list(members):
        try:
            await member.send_text(message)
        except WebSocketDisconnect:
            members.discard(member)


async def renew(websocket: WebSocket, registration: Registration, token: str) -> None:
    """Extends a member's registration to the expiry of the new token, so that the WebSocket stays open."""
    try:
        await registration.renew(token)
    except LatchkeyError as error:
        await websocket.send_text(f"not renewed: {error}")
