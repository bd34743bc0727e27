"""Verifies Latchkey's access tokens locally, and refuses a token within milliseconds after its session ended.

    async with Latchkey(issuer, audience="latchkey", client_id="shop", client_secret=secret) as latchkey:
        claims = await latchkey.verify(token)

``latchkey.fastapi`` has dependencies for FastAPI.
"""

from .claims import Claims
from .errors import InvalidToken, LatchkeyError, Reason, Unavailable
from .settings import FeedLost, Settings
from .verifier import Latchkey

__all__ = ["Claims", "FeedLost", "InvalidToken", "Latchkey", "LatchkeyError", "Reason", "Settings", "Unavailable"]
