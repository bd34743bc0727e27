"""Which tokens a revocation affects, and how long and how many are kept."""

from dataclasses import replace
from typing import Any

import pytest
from fake_issuer import SID, SUB
from latchkey import Claims
from latchkey.errors import ProtocolError
from latchkey.revocations import (
    AccountRevocation,
    ClaimsChange,
    KeyRevocation,
    Revocation,
    RevocationSet,
    SessionRevocation,
    parse_claims_change,
    parse_revocation,
)

# A token of a session that began in second 1000. The tests treat it as signed by the key "one".
CLAIMS = Claims(
    sub=SUB, client_id="latchkey", scope=("account",), roles=(), iss="i", aud=("latchkey",), jti="j",
    iat=1000, exp=1300, sid=SID, auth_time=1000,
)  # fmt: skip


def empty_set() -> RevocationSet:
    """A set of at most 10 revocations, each kept until more than 310 seconds have passed."""
    return RevocationSet(max_entries=10, retain=310)


def set_of(*added: Revocation) -> RevocationSet:
    """A set of these revocations, all received in second 0."""
    revocations = empty_set()
    for revocation in added:
        revocations.add(revocation, now=0)
    return revocations


@pytest.mark.parametrize(
    ("revocation", "cause"),
    [
        (SessionRevocation(SID), "session_revoked"),
        (SessionRevocation("another"), None),
        (KeyRevocation("one"), "key_retired"),
        (KeyRevocation("two"), None),
        # account, start of the first session that is not revoked, excepted session
        (AccountRevocation(SUB, 1001, None), "account_revoked"),
        (AccountRevocation(SUB, 1000, None), None),
        (AccountRevocation(SUB, 1001, "another"), "account_revoked"),
        (AccountRevocation(SUB, 1001, SID), None),
        (AccountRevocation("another", 2000, None), None),
        # account, version, second of the change
        (ClaimsChange(SUB, 1, 1000), "claims_changed"),
        (ClaimsChange(SUB, 1, 999), None),
        (ClaimsChange("another", 1, 2000), None),
    ],
)
def test_revocation_affects_its_target_only(revocation: Revocation, cause: str | None) -> None:
    assert set_of(revocation).cause_of("one", CLAIMS) == cause


def test_session_excepted_by_one_revocation_is_ended_by_another() -> None:
    revocations = set_of(AccountRevocation(SUB, 1001, SID), AccountRevocation(SUB, 1001, None))
    assert revocations.cause_of("one", CLAIMS) == "account_revoked"


def test_service_client_token_is_affected_by_key_revocations_only() -> None:
    # A token without a user has neither a session nor a time of authentication.
    claims = replace(CLAIMS, sid=None, auth_time=None)
    revocations = set_of(AccountRevocation(SUB, 5000, None), SessionRevocation(SID), ClaimsChange(SUB, 9, 5000))
    assert revocations.cause_of("one", claims) is None
    revocations.add(KeyRevocation("one"), now=0)
    assert revocations.cause_of("one", claims) == "key_retired"


@pytest.mark.parametrize(
    ("session_start", "auth_time", "cause"),
    [
        (1000, 1000, "account_revoked"),
        (1000, 5000, "account_revoked"),
        (1001, 900, None),
        (None, 1001, None),
        (None, 1000, "account_revoked"),
    ],
)
def test_account_wide_revocation_compares_session_start_if_the_token_has_it(
    session_start: int | None, auth_time: int, cause: str | None
) -> None:
    claims = replace(CLAIMS, session_start=session_start, auth_time=auth_time)
    # Sessions that began before second 1001 are revoked.
    assert set_of(AccountRevocation(SUB, 1001, None)).cause_of("one", claims) == cause


@pytest.mark.parametrize(
    ("version", "iat", "cause"),
    [(6, 9000, "claims_changed"), (7, 0, None), (8, 0, None), (None, 1100, "claims_changed"), (None, 1101, None)],
)
def test_token_with_an_older_version_of_the_claims_is_refused(version: int | None, iat: int, cause: str | None) -> None:
    claims = replace(CLAIMS, claims_version=version, iat=iat)
    # The change to version 7 in second 1100. A token without a version is compared by its `iat`.
    assert set_of(ClaimsChange(SUB, 7, 1100)).cause_of("one", claims) == cause


def test_changes_of_claims_in_any_order_are_merged_into_one_entry_of_the_account() -> None:
    revocations = set_of(ClaimsChange(SUB, 7, 1100), ClaimsChange(SUB, 5, 1200), ClaimsChange(SUB, 6, 1000))
    # The merged entry has the latest version (7) and the latest second (1200).
    assert len(revocations) == 1
    assert revocations.cause_of("one", replace(CLAIMS, claims_version=6)) == "claims_changed"
    assert revocations.cause_of("one", replace(CLAIMS, iat=1200)) == "claims_changed"
    assert revocations.cause_of("one", replace(CLAIMS, iat=1201)) is None
    revocations.evict_expired(311)
    assert revocations == empty_set()


def test_change_of_claims_is_parsed_and_its_time_rounded_down() -> None:
    data = {"account_id": SUB, "claims_version": 7, "at": "1970-01-01T00:16:41.900Z", "unknown_member": 1}
    assert parse_claims_change(data) == ClaimsChange(SUB, 7, 1001)


@pytest.mark.parametrize(
    "change",
    [{"account_id": ""}, {"claims_version": -1}, {"claims_version": 1.5}, {"claims_version": True}, {"at": 7}, {"at": "soon"}],
    ids=str,
)
def test_malformed_change_of_claims_raises(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_claims_change({"account_id": SUB, "claims_version": 7, "at": "1970-01-01T00:16:41Z", **change})


def test_revocation_is_evicted_after_retain() -> None:
    revocations = set_of(SessionRevocation(SID), AccountRevocation(SUB, 1001, None), KeyRevocation("one"))
    revocations.add(SessionRevocation(SID), now=100)  # received again: kept until 410
    revocations.evict_expired(310)
    assert len(revocations) == 3
    revocations.evict_expired(311)
    assert len(revocations) == 1
    assert revocations.cause_of("one", CLAIMS) == "session_revoked"
    revocations.evict_expired(411)
    assert revocations.cause_of("one", CLAIMS) is None
    assert revocations == empty_set()


def test_full_set_is_incomplete_until_the_dropped_revocation_expires() -> None:
    revocations = set_of(*(SessionRevocation(str(number)) for number in range(10)))
    assert revocations.is_complete(0)
    revocations.add(SessionRevocation("1"), now=50)
    assert revocations.is_complete(50), "nothing is dropped: the set has this revocation already"
    revocations.add(SessionRevocation(SID), now=60)
    assert len(revocations) == 10, "the new revocation is dropped"
    assert not revocations.is_complete(60)
    # The dropped revocation would have been kept until 60 + 310.
    assert not revocations.is_complete(370)
    assert revocations.is_complete(371)


@pytest.mark.parametrize(
    ("data", "revocation"),
    [
        ({"kind": "session", "account_id": SUB, "session_id": SID, "unknown_member": 1}, SessionRevocation(SID)),
        ({"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41.000Z"}, AccountRevocation(SUB, 1001, None)),
        (
            {"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41Z", "except_session_id": SID},
            AccountRevocation(SUB, 1001, SID),
        ),
        ({"kind": "key", "kid": "one"}, KeyRevocation("one")),
    ],
)
def test_every_kind_of_revocation_is_parsed(data: dict[str, Any], revocation: Revocation) -> None:
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
