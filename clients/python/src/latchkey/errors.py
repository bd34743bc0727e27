"""What checking a token can end with beside its claims."""


class LatchkeyError(Exception):
    """The base of what this package raises."""


class InvalidToken(LatchkeyError):
    """The token is not one to let in: forged, damaged, expired, for somebody else, or its session has ended.

    Its text says why, for the log. Tell the client no more than RFC 6750's ``invalid_token``. It holds nothing of the
    token itself.
    """


class Unavailable(LatchkeyError):
    """Whether the token is good can't be known now: Latchkey can't be reached, and what is known here is too old.

    Answer 503 with ``Retry-After``: neither let the request in nor sign its user out.
    """


class Malformed(LatchkeyError):
    """Latchkey, or what stands in for it, answered something that makes no sense here."""
