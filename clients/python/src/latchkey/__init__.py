"""Verifies Latchkey's access tokens locally, and refuses a token within milliseconds after its session has ended.

    async with Latchkey(issuer, audience="latchkey", client_id="shop", client_secret=secret) as latchkey:
        claims = await latchkey.verify(token)

``verify`` raises ``InvalidToken`` for a token that it refuses. ``on_end`` registers a callback for the end of a
session, and returns its ``Registration``. ``latchkey.fastapi`` has dependencies for FastAPI.
"""

from .claims import Claims
from .end_registry import Registration
from .errors import EndCause, InvalidToken, LatchkeyError, Reason, RenewError, Unavailable
from .settings import FeedLost, Settings
from .verifier import Latchkey

__all__ = [
    "Claims",
    "EndCause",
    "FeedLost",
    "InvalidToken",
    "Latchkey",
    "LatchkeyError",
    "Reason",
    "Registration",
    "RenewError",
    "Settings",
    "Unavailable",
]
