"""The exceptions that this package raises."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal[
    "too_long",
    "malformed",
    "critical_header",
    "wrong_type",
    "unknown_key",
    "wrong_algorithm",
    "bad_signature",
    "missing_claim",
    "wrong_issuer",
    "wrong_audience",
    "expired",
    "not_yet_valid",
    "revoked",
    "claims_changed",
]
"""Why a token is invalid. The codes are stable and the same in Latchkey's Rust and JavaScript packages. That for Rust has a further one."""

_MESSAGES: dict[Reason, str] = {
    "too_long": "the token is longer than 8192 bytes",
    "malformed": "the token is not a well-formed signed JWT",
    "critical_header": "the token's header has crit, which is not supported",
    "wrong_type": "the token is not an access token (typ is not at+jwt)",
    "unknown_key": "the issuer publishes no key with the token's kid",
    "wrong_algorithm": "the token's alg is not the algorithm of its key",
    "bad_signature": "the token's signature is wrong",
    "missing_claim": "the token has no {claim} claim",
    "wrong_issuer": "the token is from another issuer",
    "wrong_audience": "the token is for another audience",
    "expired": "the token has expired",
    "not_yet_valid": "the token is not valid yet",
    "revoked": "the token was revoked",
    "claims_changed": "the claims of the account have changed since the token was issued",
}

EndCause = Literal[
    "session_revoked", "account_revoked", "key_retired", "claims_changed", "token_expired", "feed_lost"
]
"""Why a registration of ``on_end`` ended. The codes are stable and the same in Latchkey's Rust and JavaScript packages."""

# Every reason has a message.
assert tuple(_MESSAGES) == get_args(Reason)


class LatchkeyError(Exception):
    """Base class of the exceptions of this package."""


class InvalidToken(LatchkeyError):
    """The token is forged, damaged, expired, revoked or for another service.

    ``reason`` and the message are for the log and contain nothing of the token. Tell the client only RFC 6750's
    ``invalid_token``, and for ``claims_changed`` also that reason, so that it refreshes the token.
    """

    def __init__(self, reason: Reason, claim: str = "") -> None:
        """Takes the reason, and for ``missing_claim`` the name of the claim."""
        super().__init__(_MESSAGES[reason].format(claim=claim))
        self.reason: Reason = reason


class Unavailable(LatchkeyError):
    """Latchkey is unreachable and the local state is stale, so the token can be neither accepted nor refused.

    Answer 503 with ``Retry-After``: neither let the request in nor sign its user out.
    """


class RenewError(LatchkeyError):
    """A registration of ``on_end`` cannot be renewed: it has ended or is closed, or the token belongs to another session.

    ``ended`` is the cause of the registration's end, if it has ended.
    """

    def __init__(self, message: str, ended: EndCause | None = None) -> None:
        """Takes the message, and the cause if the registration has ended."""
        super().__init__(message)
        self.ended: EndCause | None = ended


class ProtocolError(LatchkeyError):
    """Latchkey, or a server that answers in its place, sent an unexpected response."""
