"""For FastAPI: who calls, as a dependency. Needs the package's extra ``fastapi``.

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with Latchkey(issuer, audience="latchkey", client_id="shop", client_secret=secret) as latchkey:
            yield {"latchkey": latchkey}

    app = FastAPI(lifespan=lifespan)

    @app.get("/orders")
    async def orders(session: Annotated[Claims, Depends(current_session)]): ...

Each worker process runs its own lifespan, and so follows the feed by itself.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .claims import Claims
from .errors import InvalidToken, Unavailable
from .verifier import Latchkey

_bearer = HTTPBearer(auto_error=False, bearerFormat="JWT", scheme_name="Latchkey", description="An access token.")


async def current_token(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Claims:
    """What the request's access token says, be it a user's or a service client's.

    Answers 401 with a challenge (RFC 6750, section 3) where there is no good one, 503 where that can't be known now.
    """
    if credentials is None or len(request.headers.getlist("Authorization")) != 1:
        raise _challenge("Sign in first.", "")
    try:
        return await _latchkey(request).verify(credentials.credentials)
    except InvalidToken:
        raise _challenge("The access token is not valid, or its session has ended.", ', error="invalid_token"') from None
    except Unavailable:
        raise HTTPException(503, "Whether the access token is valid can't be known now.", {"Retry-After": "1"}) from None


async def current_session(claims: Annotated[Claims, Depends(current_token)]) -> Claims:
    """The same for a signed-in user only: a token that a service client got for itself is answered with 401."""
    if claims.sid is None:
        raise _challenge("The access token is not a user's.", ', error="invalid_token"')
    return claims


def _challenge(detail: str, error: str) -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": f'Bearer realm="latchkey"{error}'})


def _latchkey(request: Request) -> Latchkey:
    found = getattr(request.state, "latchkey", None) or getattr(request.app.state, "latchkey", None)
    if not isinstance(found, Latchkey):
        raise RuntimeError('there is no Latchkey here: have the lifespan yield {"latchkey": latchkey}')
    return found
