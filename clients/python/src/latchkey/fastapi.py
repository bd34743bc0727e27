"""FastAPI dependencies that authenticate requests. Requires the extra ``fastapi``.

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        async with Latchkey(issuer, audience="latchkey", client_id="shop", client_secret=secret) as latchkey:
            yield {"latchkey": latchkey}

    app = FastAPI(lifespan=lifespan)

    @app.get("/orders")
    async def orders(session: Annotated[Claims, Depends(current_session)]): ...

    @app.delete("/orders/{id}", dependencies=[Depends(require_role("admin"))])
    async def delete_order(id: int): ...

Each worker process runs its own lifespan, and so follows the feed on its own.
"""

# Annotations stay objects: FastAPI cannot resolve the local names in the dependencies below from strings.
from collections.abc import Awaitable, Callable
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
    """Returns the claims of the request's access token, a user's or a service client's.

    Responds 401 with a challenge (RFC 6750, section 3) without a valid token, and 503 if that cannot be decided now.
    """
    if len(request.headers.getlist("Authorization")) > 1:
        raise _invalid_token()
    if credentials is None:
        raise _unauthorized("Send an access token.", "")
    try:
        return await _latchkey(request).verify(credentials.credentials)
    except InvalidToken:
        raise _invalid_token() from None
    except Unavailable:
        detail = "The access token cannot be verified at the moment. Try again."
        raise HTTPException(503, detail, {"Retry-After": "1", "Cache-Control": "no-store"}) from None


async def current_session(claims: Annotated[Claims, Depends(current_token)]) -> Claims:
    """Like :func:`current_token`, for signed-in users only: a service client's own token is answered with 401."""
    if claims.is_service_client:
        raise _invalid_token()
    return claims


def require_role(*roles: str) -> Callable[[Claims], Awaitable[Claims]]:
    """Returns a dependency like :func:`current_session` that responds 403 unless the account has one of the roles."""

    async def dependency(claims: Annotated[Claims, Depends(current_session)]) -> Claims:
        if not any(claims.has_role(role) for role in roles):
            raise HTTPException(403, "The account lacks the required role.", {"Cache-Control": "no-store"})
        return claims

    return dependency


def require_scope(*scopes: str, allow_clients: bool = False) -> Callable[[Claims], Awaitable[Claims]]:
    """Returns a dependency that responds 403 unless the token has all of the scopes.

    Like :func:`current_session`; with ``allow_clients``, like :func:`current_token`.
    """
    authenticate = current_token if allow_clients else current_session

    async def dependency(claims: Annotated[Claims, Depends(authenticate)]) -> Claims:
        if not all(claims.has_scope(scope) for scope in scopes):
            challenge = f'Bearer realm="latchkey", error="insufficient_scope", scope="{" ".join(scopes)}"'
            headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
            raise HTTPException(403, "The access token lacks a required scope.", headers)
        return claims

    return dependency


def _invalid_token() -> HTTPException:
    return _unauthorized("The access token is not valid, or its session has ended.", ', error="invalid_token"')


def _unauthorized(detail: str, error: str) -> HTTPException:
    challenge = f'Bearer realm="latchkey"{error}'
    return HTTPException(401, detail, {"WWW-Authenticate": challenge, "Cache-Control": "no-store"})


def _latchkey(request: Request) -> Latchkey:
    latchkey = getattr(request.state, "latchkey", None) or getattr(request.app.state, "latchkey", None)
    if not isinstance(latchkey, Latchkey):
        raise RuntimeError('the app has no Latchkey: have its lifespan yield {"latchkey": latchkey}')
    return latchkey
