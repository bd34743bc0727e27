"""The cases of claims, ends of sessions and guards that the verifiers in all languages share.

``about`` in ``tests/fixtures/verifier_session_cases.json`` describes the cases' fields.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from latchkey import Claims, EndCause, InvalidToken, Latchkey, Settings
from latchkey.claims import validate_claims
from latchkey.end_registry import EndRegistry
from latchkey.fastapi import require_authentication
from latchkey.revocations import RevocationSet, parse_claims_change, parse_revocation

pytestmark = pytest.mark.anyio
CASES = json.loads((Path(__file__).parents[4] / "tests/fixtures/verifier_session_cases.json").read_text())
KID = "one"
SETTINGS = Settings(issuer="https://a.example", audience="latchkey", client_id="b", client_secret="c")  # noqa: S106


class VerifierFixture:
    """A verifier without network, whose clocks a case moves."""

    def __init__(self) -> None:
        """Starts at the time of the cases."""
        self.now = float(CASES["now"])
        # The monotonic clock, now and at the last heartbeat of the feed.
        self.elapsed, self.heartbeat_at = 0.0, 0.0
        # Retains every revocation: no case reaches these limits.
        self.revocations = RevocationSet(max_entries=100, retain=1e9)
        self.registry = EndRegistry(
            SETTINGS,
            self.verify_text,
            self.revocations.cause_of,
            silence=lambda: self.elapsed - self.heartbeat_at,
            now=lambda: self.now,
            elapsed=lambda: self.elapsed,
        )

    async def verify_text(self, token: str) -> Claims:
        """Not used: the cases renew with claims."""
        raise NotImplementedError

    def receive(self, name: str, data: dict[str, Any]) -> None:
        """Processes an event of the feed."""
        event = parse_claims_change(data) if name == "claims" else parse_revocation(data)
        self.revocations.add(event, now=0)
        self.registry.on_revocation(event)

    def verify(self, *changes: dict[str, Any]) -> Claims:
        """Verifies the cases' token with these changes, and returns its claims. Raises ``InvalidToken`` if it is refused.

        The rules after the signature are those of ``Latchkey.verify``.
        """
        payload = {"iss": SETTINGS.issuer, "aud": SETTINGS.audience, "jti": "j", **CASES["token"]}
        for change in changes:
            payload.update(change)
        claims = validate_claims(payload, SETTINGS, self.now, KID)
        cause = self.revocations.cause_of(KID, claims)
        if cause is not None:
            raise InvalidToken("claims_changed" if cause == "claims_changed" else "revoked")
        return claims


@pytest.mark.parametrize("case", CASES["claims"], ids=lambda case: case["name"])
def test_shared_case_of_claims(case: dict[str, Any]) -> None:
    fixture = VerifierFixture()
    for event in case["events"]:
        fixture.receive(*event)
    reason = None
    try:
        fixture.verify(case.get("token", {}))
    except InvalidToken as error:
        reason = error.reason
    assert reason == case["reason"]


@pytest.mark.parametrize("case", CASES["ends"], ids=lambda case: case["name"])
async def test_shared_case_of_ends(case: dict[str, Any]) -> None:
    fixture = VerifierFixture()
    causes: list[EndCause] = []
    token = case.get("token", {})
    claims = fixture.verify(token)
    for event in case.get("before", []):
        fixture.receive(*event)
    registration = fixture.registry.register(claims, causes.append)
    for step, data in case["after"]:
        match step:
            case "verify":
                fixture.registry.on_accepted(fixture.verify(token, data))
            case "renew":
                registration._renew_with(fixture.verify(token, data))
            case "advance" | "silent":
                fixture.now += data
                fixture.elapsed += data
                if step == "advance":
                    fixture.heartbeat_at = fixture.elapsed
                fixture.registry.end_expired()
            case _:  # an event of the feed
                fixture.receive(step, data)
    expected = [] if case["cause"] is None else [case["cause"]]
    assert causes == expected
    registration.close()


@pytest.mark.parametrize("case", CASES["guards"], ids=lambda case: case["name"])
async def test_shared_case_of_guards(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fixture, app = VerifierFixture(), FastAPI()
    app.state.latchkey = Latchkey("https://a.example", audience="latchkey", client_id="b", client_secret="c")  # noqa: S106
    acr = case.get("acr")
    guard = require_authentication(acr=None if acr is None else tuple(acr), max_age=case.get("max_age"))
    # The guard compares the authentication's age with the system's clock.
    monkeypatch.setattr(time, "time", lambda: fixture.now)
    challenge = None
    try:
        await guard(Request({"type": "http", "app": app}), fixture.verify(case.get("token", {})))
    except HTTPException as error:
        assert error.status_code == 401
        challenge = (error.headers or {})["WWW-Authenticate"]
    assert challenge == case["challenge"]
