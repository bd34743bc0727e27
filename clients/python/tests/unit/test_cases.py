"""The cases that the verifiers in all languages share (tests/fixtures/verifier_cases.json)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fake_issuer import FakeIssuer
from fastapi import Depends, FastAPI
from latchkey import Claims, InvalidToken, Latchkey
from latchkey.fastapi import current_session, current_token, require_role, require_scope

pytestmark = pytest.mark.anyio
SCOPES = require_scope("orders:read", "orders:write")
REPOSITORY = Path(__file__).parents[4]
CASES = json.loads((REPOSITORY / "tests/fixtures/verifier_cases.json").read_text())


def token_of(issuer: FakeIssuer, case: dict[str, Any]) -> str:
    """The token that a case describes. The fixture explains the members of a case in ``about``."""
    if "token" in case:
        return str(case["token"])
    now = int(time.time())
    header, payload = issuer.header(), issuer.payload()
    header.update(case.get("header", {}))
    # "__6000__" in a case stands for a text of 6000 characters.
    payload.update(json.loads(json.dumps(case.get("claims", {})).replace("__6000__", "x" * 6000)))
    payload.update({name: now + offset for name, offset in case.get("times", {}).items()})
    for members, list_name in ((header, "remove_header"), (payload, "remove")):
        for name in case.get(list_name, []):
            del members[name]
    texts = {"header": json.dumps(header), "payload": case.get("payload", json.dumps(payload))}
    for part in texts:
        # Inserts a member after the opening brace of the JSON text, since a dict cannot hold a member twice.
        if f"{part}_member" in case:
            texts[part] = "{" + case[f"{part}_member"] + "," + texts[part][1:]
    token = issuer.keys["one"].sign(texts["header"], texts["payload"])
    if "signature" in case:
        token = token.rsplit(".", 1)[0] + "." + case["signature"]
    return token + str(case.get("suffix", ""))


@pytest.mark.parametrize("case", CASES["valid"], ids=lambda case: case["name"])
async def test_shared_case_valid_token_is_accepted(issuer: FakeIssuer, case: dict[str, Any]) -> None:
    async with issuer.latchkey() as latchkey:
        assert await latchkey.wait_live(60)
        assert (await latchkey.verify(token_of(issuer, case))).iss == issuer.url


@pytest.mark.parametrize("case", CASES["tokens"], ids=lambda case: case["name"])
async def test_shared_case_invalid_token_is_refused_with_its_reason(issuer: FakeIssuer, case: dict[str, Any]) -> None:
    async with issuer.latchkey() as latchkey:
        assert await latchkey.wait_live(60)
        with pytest.raises(InvalidToken) as error:
            await latchkey.verify(token_of(issuer, case))
        assert error.value.reason == case["reason"]


def app_of(latchkey: Latchkey) -> FastAPI:
    """An app with the paths that the cases name."""
    app = FastAPI()
    app.state.latchkey = latchkey

    @app.get("/")
    @app.get("/lost")
    async def user(claims: Annotated[Claims, Depends(current_session)]) -> str:
        return claims.sub

    @app.get("/clients")
    async def clients(claims: Annotated[Claims, Depends(current_token)]) -> str:
        return claims.sub

    @app.get("/role")
    async def role(claims: Annotated[Claims, Depends(require_role("admin"))]) -> str:
        return claims.sub

    @app.get("/scope")
    async def scope(claims: Annotated[Claims, Depends(SCOPES)]) -> str:
        return claims.sub

    return app


@asynccontextmanager
async def apps(issuer: FakeIssuer) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of an app that follows the feed, and of one whose feed is lost."""
    async with AsyncExitStack() as stack:

        async def client_of(latchkey: Latchkey) -> httpx.AsyncClient:
            transport = httpx.ASGITransport(app_of(latchkey))
            return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://shop"))

        live = await stack.enter_async_context(issuer.latchkey())
        assert await live.wait_live(60)
        # from here on, the issuer serves no feed
        issuer.feed = None
        lost = await stack.enter_async_context(issuer.latchkey(feed_lost="refuse"))
        yield await client_of(live), await client_of(lost)


async def test_shared_case_requests_get_their_status_and_challenge(issuer: FakeIssuer) -> None:
    now = int(time.time())
    tokens = {
        "user": issuer.token(),
        "admin": issuer.token(roles=["admin"], scope="account orders:read orders:write"),
        "client": issuer.token(sub="robot", client_id="robot", sid=None, auth_time=None),
        "expired": issuer.token(exp=now - 60),
    }
    async with apps(issuer) as (live, lost):
        for case in CASES["requests"]:
            path = case.get("path", "/")
            headers = [("Authorization", value.format(**tokens)) for value in case["authorization"]]
            client = lost if path == "/lost" else live
            response = await client.get(path, headers=headers)
            actual = (response.status_code, response.headers.get("WWW-Authenticate"), response.headers.get("Retry-After"))
            assert actual == (case["status"], case.get("www_authenticate"), case.get("retry_after")), case["name"]
