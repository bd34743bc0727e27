"""Which tokens a revocation ends, and how long and how many are remembered."""

from dataclasses import replace
from typing import Any

import pytest
from fake_issuer import SID, SUB
from latchkey import Claims
from latchkey.errors import Malformed
from latchkey.revocations import Account, Key, Revocations, Session, read

CLAIMS = Claims(
    sub=SUB, client_id="latchkey", scope=("account",), roles=(), iss="i", aud=("latchkey",), jti="j",
    iat=1000, exp=1300, sid=SID, auth_time=1000,
)  # fmt: skip


def knowing(*revocations: Session | Account | Key) -> Revocations:
    """A memory of these, heard of at 0 and kept for 310."""
    memory = Revocations(max_entries=10, retain=310)
    for revocation in revocations:
        memory.add(revocation, 0)
    return memory


@pytest.mark.parametrize(
    ("revocation", "ends"),
    [
        (Session(SID), True),
        (Session("another"), False),
        (Key("one"), True),
        (Key("two"), False),
        (Account(SUB, 1001, None), True),
        (Account(SUB, 1000, None), False),
        (Account(SUB, 1001, "another"), True),
        (Account(SUB, 1001, SID), False),
        (Account("another", 2000, None), False),
    ],
)
def test_a_revocation_ends_what_it_is_about(revocation: Session | Account | Key, ends: bool) -> None:
    assert knowing(revocation).ends("one", CLAIMS) is ends


def test_what_one_revocation_excepts_another_may_end() -> None:
    memory = knowing(Account(SUB, 1001, SID), Account(SUB, 1001, None))
    assert memory.ends("one", CLAIMS)


def test_a_service_clients_token_has_no_session_to_end() -> None:
    claims = replace(CLAIMS, sid=None, auth_time=None)
    memory = knowing(Account(SUB, 5000, None), Session(SID))
    assert not memory.ends("one", claims)
    memory.add(Key("one"), 0)
    assert memory.ends("one", claims)


def test_each_is_forgotten_when_its_time_has_passed() -> None:
    memory = knowing(Session(SID), Account(SUB, 1001, None), Key("one"))
    memory.add(Session(SID), 100)  # told again: kept longer
    memory.expire(310)
    assert len(memory) == 3
    memory.expire(311)
    assert len(memory) == 1
    assert memory.ends("one", CLAIMS)
    memory.expire(411)
    assert not memory.ends("one", CLAIMS)
    assert memory == Revocations(max_entries=10, retain=310)


def test_a_full_memory_says_so_until_what_it_left_out_has_expired() -> None:
    memory = knowing(*(Session(str(number)) for number in range(10)))
    assert memory.complete(0)
    memory.add(Session("1"), 50)
    assert memory.complete(50), "it was there already"
    memory.add(Session(SID), 60)
    assert len(memory) == 10
    assert not memory.complete(60)
    assert not memory.complete(370)
    assert memory.complete(371)


@pytest.mark.parametrize(
    ("data", "revocation"),
    [
        ({"kind": "session", "account_id": SUB, "session_id": SID, "new": 1}, Session(SID)),
        ({"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41.000Z"}, Account(SUB, 1001, None)),
        (
            {"kind": "account", "account_id": SUB, "before": "1970-01-01T00:16:41Z", "except_session_id": SID},
            Account(SUB, 1001, SID),
        ),
        ({"kind": "key", "kid": "one"}, Key("one")),
    ],
)
def test_the_kinds_are_read(data: dict[str, Any], revocation: Session | Account | Key) -> None:
    assert read(data) == revocation


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
def test_what_is_not_understood_is_not_passed_over(data: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(data)
