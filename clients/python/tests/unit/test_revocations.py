"""Which tokens a revocation affects, and how long and how many are kept."""

from dataclasses import replace
from typing import Any

import pytest
from fake_issuer import SID, SUB
from latchkey import Claims
from latchkey.errors import ProtocolError
from latchkey.revocations import AccountRevocation, KeyRevocation, Revocation, RevocationSet, SessionRevocation, parse_revocation

CLAIMS = Claims(
    sub=SUB, client_id="latchkey", scope=("account",), roles=(), iss="i", aud=("latchkey",), jti="j",
    iat=1000, exp=1300, sid=SID, auth_time=1000,
)  # fmt: skip


def set_of(*added: Revocation) -> RevocationSet:
    """A set of these, received at 0 and kept for 310 seconds."""
    revocations = RevocationSet(max_entries=10, retain=310)
    for revocation in added:
        revocations.add(revocation, 0)
    return revocations


@pytest.mark.parametrize(
    ("revocation", "revokes"),
    [
        (SessionRevocation(SID), True),
        (SessionRevocation("another"), False),
        (KeyRevocation("one"), True),
        (KeyRevocation("two"), False),
        (AccountRevocation(SUB, 1001, None), True),
        (AccountRevocation(SUB, 1000, None), False),
        (AccountRevocation(SUB, 1001, "another"), True),
        (AccountRevocation(SUB, 1001, SID), False),
        (AccountRevocation("another", 2000, None), False),
    ],
)
def test_revocation_affects_its_target_only(revocation: Revocation, revokes: bool) -> None:
    assert set_of(revocation).revokes("one", CLAIMS) is revokes


def test_session_excepted_by_one_revocation_is_ended_by_another() -> None:
    revocations = set_of(AccountRevocation(SUB, 1001, SID), AccountRevocation(SUB, 1001, None))
    assert revocations.revokes("one", CLAIMS)


def test_service_client_token_is_affected_by_key_revocations_only() -> None:
    claims = replace(CLAIMS, sid=None, auth_time=None)
    revocations = set_of(AccountRevocation(SUB, 5000, None), SessionRevocation(SID))
    assert not revocations.revokes("one", claims)
    revocations.add(KeyRevocation("one"), 0)
    assert revocations.revokes("one", claims)


def test_revocation_is_evicted_after_retain() -> None:
    revocations = set_of(SessionRevocation(SID), AccountRevocation(SUB, 1001, None), KeyRevocation("one"))
    revocations.add(SessionRevocation(SID), 100)  # received again: kept longer
    revocations.evict_expired(310)
    assert len(revocations) == 3
    revocations.evict_expired(311)
    assert len(revocations) == 1
    assert revocations.revokes("one", CLAIMS)
    revocations.evict_expired(411)
    assert not revocations.revokes("one", CLAIMS)
    assert revocations == RevocationSet(max_entries=10, retain=310)


def test_full_set_is_incomplete_until_the_dropped_revocation_expires() -> None:
    revocations = set_of(*(SessionRevocation(str(number)) for number in range(10)))
    assert revocations.is_complete(0)
    revocations.add(SessionRevocation("1"), 50)
    assert revocations.is_complete(50), "it is a duplicate"
    revocations.add(SessionRevocation(SID), 60)
    assert len(revocations) == 10
    assert not revocations.is_complete(60)
    assert not revocations.is_complete(370)
    assert revocations.is_complete(371)


@pytest.mark.parametrize(
    ("data", "revocation"),
    [
        ({"kind": "session", "account_id": SUB, "session_id": SID, "new": 1}, SessionRevocation(SID)),
        ({"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41.000Z"}, AccountRevocation(SUB, 1001, None)),
        (
            {"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41Z", "except_session_id": SID},
            AccountRevocation(SUB, 1001, SID),
        ),
        ({"kind": "key", "kid": "one"}, KeyRevocation("one")),
    ],
)
def test_every_kind_is_parsed(data: dict[str, Any], revocation: Revocation) -> None:
    assert parse_revocation(data) == revocation


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "planet"},
        {"kind": ["session"]},
        {"kind": "session", "account_id": SUB},
        {"kind": "session", "session_id": 7},
        {"kind": "account", "account_id": SUB, "before": "yesterday"},
        {"kind": "account", "account_id": SUB, "before": 1000},
        {"kind": "key", "kid": ""},
    ],
)
def test_malformed_revocation_raises(data: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_revocation(data)
