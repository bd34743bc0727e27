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

The dependencies work in WebSocket routes, too. With ``app.add_middleware(CloseOnEnd)``, which WebSockets require, connections
are closed when their session ends.

Each worker process runs its own lifespan, and so follows the feed on its own.
"""

# No `from __future__ import annotations` here: it turns annotations into strings, in which FastAPI cannot resolve the local names
# of the dependencies below.
import re
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import HTTPConnection

from .asgi import CloseOnEnd, registration_of
from .claims import Claims
from .end_registry import Registration
from .starlette import authenticate, invalid_token, latchkey_of, unauthorized

__all__ = [
    "CloseOnEnd",
    "current_registration",
    "current_session",
    "current_token",
    "require_acr",
    "require_authentication",
    "require_max_age",
    "require_role",
    "require_scope",
]

_SCOPE_TOKEN = re.compile(r"[!#-\[\]-~]+")
"""A scope, or a value of ``acr``: printable ASCII without spaces, double quotes and backslashes (``scope-token`` in RFC 6749, section 3.3)."""
_LEVELS = ("aal1", "aal2", "aal3")
"""The assurance levels, lowest first."""


class _Bearer(HTTPBearer):
    """Declares the bearer scheme in the app's OpenAPI document, also for WebSockets, which FastAPI's own class does not accept.

    Only the declaration is used: :func:`authenticate` reads and checks the token itself.
    """

    async def __call__(self, connection: HTTPConnection) -> HTTPAuthorizationCredentials | None:
        scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        return HTTPAuthorizationCredentials(scheme=scheme, credentials=token.strip(" "))


_bearer = _Bearer(auto_error=False, bearerFormat="JWT", scheme_name="Latchkey", description="An access token.")


async def current_token(
    connection: HTTPConnection, _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Claims:
    """Returns the claims of the request's access token, a user's or a service client's.

    Responds 401 with a challenge (RFC 6750, section 3) without a valid token, and 503 if its validity cannot be decided now. With
    :class:`CloseOnEnd`, the connection is closed when the session ends.

    The parameter ``_`` only adds the bearer scheme to the app's OpenAPI document.
    """
    try:
        return await authenticate(connection, allow_clients=True)
    except StarletteHTTPException as error:
        raise _as_fastapi(error) from None


async def current_session(claims: Annotated[Claims, Depends(current_token)]) -> Claims:
    """Like :func:`current_token`, for signed-in users only: a service client's own token is answered with 401."""
    if claims.is_service_client:
        raise _as_fastapi(invalid_token())
    return claims


async def current_registration(
    connection: HTTPConnection, claims: Annotated[Claims, Depends(current_token)]
) -> Registration:
    """Returns the registration of the connection, for instance to renew it with a newer token of the client.

    Requires :class:`CloseOnEnd`.
    """
    return registration_of(connection.scope)


def require_role(*roles: str) -> Callable[[Claims], Awaitable[Claims]]:
    """Returns a dependency like :func:`current_session` that responds 403 unless the account has one of the roles."""

    async def dependency(claims: Annotated[Claims, Depends(current_session)]) -> Claims:
        if not any(claims.has_role(role) for role in roles):
            raise HTTPException(403, "The account lacks the required role.", {"Cache-Control": "no-store"})
        return claims

    return dependency


def require_scope(*scopes: str, allow_clients: bool = False) -> Callable[[Claims], Awaitable[Claims]]:
    """Returns a dependency that responds 403 unless the token has all of the scopes.

    It accepts the tokens that :func:`current_session` accepts. With ``allow_clients``, it accepts service clients' tokens, too.
    Raises ``ValueError`` for impossible scopes.
    """
    if not all(isinstance(scope, str) and _SCOPE_TOKEN.fullmatch(scope) for scope in scopes):
        raise ValueError("scopes must be printable ASCII without spaces, double quotes and backslashes")
    authenticated = current_token if allow_clients else current_session

    async def dependency(claims: Annotated[Claims, Depends(authenticated)]) -> Claims:
        if not all(claims.has_scope(scope) for scope in scopes):
            challenge = f'Bearer realm="latchkey", error="insufficient_scope", scope="{" ".join(scopes)}"'
            headers = {"WWW-Authenticate": challenge, "Cache-Control": "no-store"}
            raise HTTPException(403, "The access token lacks a required scope.", headers)
        return claims

    return dependency


def require_acr(*values: str) -> Callable[..., Awaitable[Claims]]:
    """Returns a dependency like :func:`current_session` that requires one of these ``acr`` values.

    A higher level satisfies ``aal1`` and ``aal2``, too. Otherwise the dependency responds 401 with an
    ``insufficient_user_authentication`` challenge (RFC 9470).
    """
    return require_authentication(acr=values)


def require_max_age(seconds: int) -> Callable[..., Awaitable[Claims]]:
    """Returns a dependency like :func:`require_acr` that requires an authentication at most this many seconds ago."""
    return require_authentication(max_age=seconds)


def require_authentication(
    *, acr: str | tuple[str, ...] | None = None, max_age: int | None = None
) -> Callable[..., Awaitable[Claims]]:
    """Combines :func:`require_acr` and :func:`require_max_age` in one dependency, so that the challenge names both.

    Raises ``ValueError`` for impossible values.
    """
    values = (acr,) if isinstance(acr, str) else acr
    if values is not None and not (values and all(isinstance(each, str) and _SCOPE_TOKEN.fullmatch(each) for each in values)):
        raise ValueError("acr must be one or more values of printable ASCII without spaces, double quotes and backslashes")
    # `bool` is a subclass of `int`, and a mistake here.
    if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 0):
        raise ValueError("max_age must be a whole number of seconds")
    if values is None and max_age is None:
        raise ValueError("require acr, max_age or both")
    challenge_parameters = ', error="insufficient_user_authentication"'
    if values is not None:
        challenge_parameters += f', acr_values="{" ".join(values)}"'
    if max_age is not None:
        challenge_parameters += f', max_age="{max_age}"'

    async def dependency(connection: HTTPConnection, claims: Annotated[Claims, Depends(current_session)]) -> Claims:
        strong = values is None or any(_satisfies(claims.acr, value) for value in values)
        # The leeway is for the skew between the clocks of Latchkey and of this service.
        recent = max_age is None or _is_recent(claims, max_age + latchkey_of(connection).settings.leeway)
        if not (strong and recent):
            raise _as_fastapi(unauthorized("Sign in again as the challenge requires.", challenge_parameters))
        return claims

    return dependency


def _satisfies(acr: str | None, required: str) -> bool:
    """Whether the ``acr`` of a token is the required one, or a higher level than the required level."""
    if acr in _LEVELS and required in _LEVELS:
        return _LEVELS.index(acr) >= _LEVELS.index(required)
    return acr == required


def _is_recent(claims: Claims, max_seconds: float) -> bool:
    return claims.auth_time is not None and time.time() - claims.auth_time <= max_seconds


def _as_fastapi(error: StarletteHTTPException) -> HTTPException:
    """Converts a refusal to FastAPI's own exception, for which apps register handlers."""
    return HTTPException(error.status_code, error.detail, dict(error.headers or {}))
