"""Authenticates the requests and WebSockets of Starlette apps.

    app = Starlette(routes=routes, middleware=[Middleware(CloseOnEnd)], lifespan=lifespan)

    async def orders(request: Request) -> Response:
        session = await authenticate(request)

The lifespan yields ``{"latchkey": latchkey}``, as in the example of ``latchkey.fastapi``.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from .asgi import CloseOnEnd, registration_of, watch
from .claims import Claims
from .errors import InvalidToken, Unavailable
from .verifier import Latchkey

__all__ = ["CloseOnEnd", "authenticate", "registration_of"]


async def authenticate(connection: HTTPConnection, *, allow_clients: bool = False) -> Claims:
    """Returns the claims of the access token of a request, or of the handshake of a WebSocket before it is accepted.

    Raises ``HTTPException``, which Starlette turns into the response: 401 with a challenge (RFC 6750, section 3) without a
    valid token, and 503 if its validity cannot be decided now. A service client's own token is answered with 401, unless
    ``allow_clients``. With :class:`CloseOnEnd`, which WebSockets require, the connection is closed when the session ends.
    """
    values = connection.headers.getlist("Authorization")
    if len(values) > 1:
        raise invalid_token()
    header = values[0] if values else ""
    scheme, _, token = header.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthorized("Send an access token.")
    latchkey = latchkey_of(connection)
    try:
        claims = await latchkey.verify(token)
        if claims.is_service_client and not allow_clients:
            raise invalid_token()
        # raises Unavailable if too many connections are watched already
        watch(connection.scope, latchkey, claims)
    except InvalidToken as error:
        if error.reason == "claims_changed":
            detail = "The claims of the account have changed. Refresh the access token."
            parameters = f', error="invalid_token", error_description="{detail}", reason="claims_changed"'
            raise unauthorized(detail, parameters) from None
        raise invalid_token() from None
    except Unavailable:
        detail = "The access token cannot be verified at the moment. Try again."
        raise HTTPException(503, detail, {"Retry-After": "1", "Cache-Control": "no-store"}) from None
    return claims


def invalid_token() -> HTTPException:
    """The refusal of an invalid token."""
    return unauthorized("The access token is not valid, or its session has ended.", ', error="invalid_token"')


def unauthorized(detail: str, parameters: str = "") -> HTTPException:
    """A 401 whose challenge has these parameters after the realm, each with a comma before it: ``, error="invalid_token"``."""
    challenge = f'Bearer realm="latchkey"{parameters}'
    return HTTPException(401, detail, {"WWW-Authenticate": challenge, "Cache-Control": "no-store"})


def latchkey_of(connection: HTTPConnection) -> Latchkey:
    """The verifier of the app, which its lifespan yields or which is set as ``app.state.latchkey``.

    Raises ``RuntimeError`` if the app has none.
    """
    latchkey = getattr(connection.state, "latchkey", None) or getattr(connection.app.state, "latchkey", None)
    if not isinstance(latchkey, Latchkey):
        raise RuntimeError('the app has no Latchkey: have its lifespan yield {"latchkey": latchkey}')
    return latchkey
