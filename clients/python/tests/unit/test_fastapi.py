"""The FastAPI dependencies let requests pass or refuse them. test_cases.py tests every kind of token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fake_issuer import SID, FakeIssuer
from fastapi import Depends, FastAPI
from latchkey import Claims, Latchkey
from latchkey.fastapi import current_session, current_token

pytestmark = pytest.mark.anyio


def app_of(latchkey: Latchkey) -> FastAPI:
    """An app with a path for users and one that also lets service clients in."""
    app = FastAPI()
    app.state.latchkey = latchkey

    @app.get("/orders")
    async def orders(session: Annotated[Claims, Depends(current_session)]) -> str | None:
        return session.sid

    @app.get("/stock")
    async def stock(caller: Annotated[Claims, Depends(current_token)]) -> str:
        return caller.sub

    return app


@asynccontextmanager
async def client_of(latchkey: Latchkey) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app."""
    transport = httpx.ASGITransport(app_of(latchkey))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    """The Authorization header of a token."""
    return {"Authorization": f"Bearer {token}"}


async def test_valid_token_passes_and_invalid_token_is_challenged(issuer: FakeIssuer) -> None:
    async with issuer.latchkey() as latchkey, client_of(latchkey) as client:
        assert await latchkey.wait_live(60)  # seconds
        passed = await client.get("/orders", headers=bearer(issuer.token()))
        assert passed.status_code == 200
        assert passed.json() == SID
        # without a bearer token, the challenge has no error (RFC 6750, section 3.1)
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            refused = await client.get("/orders", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == 'Bearer realm="latchkey"'
        refused = await client.get("/orders", headers=bearer(issuer.token(aud="another")))
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == 'Bearer realm="latchkey", error="invalid_token"'
        valid_header_twice = [("Authorization", f"Bearer {issuer.token()}")] * 2
        refused = await client.get("/orders", headers=valid_header_twice)
        assert refused.status_code == 401


async def test_service_client_token_is_refused_by_current_session(issuer: FakeIssuer) -> None:
    async with issuer.latchkey() as latchkey, client_of(latchkey) as client:
        assert await latchkey.wait_live(60)
        # a service client's own token has its client id as the subject, and belongs to no session
        robot = bearer(issuer.token(sub="robot", client_id="robot", sid=None, auth_time=None))
        refused = await client.get("/orders", headers=robot)
        assert refused.status_code == 401
        passed = await client.get("/stock", headers=robot)
        assert passed.json() == "robot"


async def test_without_feed_and_feed_lost_refuse_answer_is_503_with_retry_after(issuer: FakeIssuer) -> None:
    issuer.feed = None  # the issuer refuses the subscription
    async with issuer.latchkey(feed_lost="refuse") as latchkey, client_of(latchkey) as client:
        response = await client.get("/orders", headers=bearer(issuer.token()))
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"


async def test_openapi_document_of_the_app_has_the_bearer_scheme(issuer: FakeIssuer) -> None:
    # the document does not depend on the settings, and the issuer is not called
    latchkey = Latchkey(issuer.url, audience="a", client_id="b", client_secret="c")
    components = app_of(latchkey).openapi()["components"]
    assert components["securitySchemes"]["Latchkey"]["scheme"] == "bearer"
