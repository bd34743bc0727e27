"""Checks Latchkey's access tokens in memory, and knows within milliseconds when a session has ended.

    async with Latchkey(issuer, audience="latchkey", client_id="shop", client_secret=secret) as latchkey:
        claims = await latchkey.verify(token)

``latchkey.fastapi`` has the same as a dependency for FastAPI.
"""

from .claims import Claims
from .errors import InvalidToken, LatchkeyError, Unavailable
from .settings import FeedLost, Settings
from .verifier import Latchkey

__all__ = ["Claims", "FeedLost", "InvalidToken", "Latchkey", "LatchkeyError", "Settings", "Unavailable"]
