"""A small API whose callers sign in with Latchkey. Each worker process verifies their tokens locally."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from latchkey import Claims, Latchkey
from latchkey.fastapi import current_session, require_role


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Runs in each worker process, so that each follows the revocation feed on its own."""
    async with Latchkey(
        os.environ.get("AUTH_ISSUER", "http://127.0.0.1:8080"),
        audience=os.environ.get("AUTH_AUDIENCE", "latchkey"),
        client_id=os.environ["AUTH_CLIENT_ID"],
        client_secret=os.environ["AUTH_CLIENT_SECRET"],
    ) as latchkey:
        yield {"latchkey": latchkey}


app = FastAPI(title="Orders", lifespan=lifespan)

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
