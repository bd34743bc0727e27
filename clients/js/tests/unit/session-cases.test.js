/** Runs the cases that the verifiers in all languages share: refused claims, ends of sessions, and guards. The file of cases describes its format. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { validateClaims } from "../../src/claims.js";
import { EndRegistry } from "../../src/end-registry.js";
import { InvalidToken } from "../../src/errors.js";
import { insufficientAuthentication } from "../../src/guard.js";
import { setOrigin } from "../../src/origin.js";
import { parseClaimsChange, parseRevocation, RevocationSet } from "../../src/revocations.js";

const CASES = JSON.parse(readFileSync(new URL("../../../../tests/fixtures/verifier_session_cases.json", import.meta.url), "utf8"));
/** The claims that a verifier requires; `validateClaims` checks them. The tolerance for clock skew is that of the cases. */
const RULES = { issuer: "https://a.example", audience: "latchkey", leewayMs: 5_000 };

/** A verifier without network, whose clocks a case moves. */
class VerifierFixture {
  nowMs = CASES.now * 1000;
  /** The time of the monotonic clock. */
  elapsedMs = 0;
  /** When the last event or heartbeat arrived, by the monotonic clock. */
  lastEventAtMs = 0;
  revocations = new RevocationSet(100, 1e9); // room for 100 revocations, and a retention longer than any case
  registry = new EndRegistry(
    { leewayMs: RULES.leewayMs, maxRegistrations: 100, endAfterSilenceMs: 5_000, log: () => {} },
    {
      kidOf: () => "one",
      causeOf: (kid, claims) => this.revocations.causeOf(kid, claims),
      silentMs: () => this.elapsedMs - this.lastEventAtMs,
      now: () => this.nowMs,
      elapsed: () => this.elapsedMs,
    },
  );

  /** Applies an event of the feed. Every event other than "claims" is a revocation. */
  receive(name, data) {
    const revocation = name === "claims" ? parseClaimsChange(data) : parseRevocation(data);
    this.revocations.add(revocation, this.elapsedMs);
    this.registry.onRevocation(revocation);
  }

  /** Validates the claims of the shared token with the changes applied; returns them, or throws an `InvalidToken` with the reason. */
  verify(...changes) {
    // the shared token has no `iss`, `aud` and `jti`
    const payload = Object.assign({ iss: RULES.issuer, aud: RULES.audience, jti: "j", ...CASES.token }, ...changes);
    const claims = validateClaims(payload, RULES, this.nowMs);
    setOrigin(claims, { kid: "one", leewayMs: RULES.leewayMs });
    const cause = this.revocations.causeOf("one", claims);
    if (cause === "claims_changed") throw new InvalidToken("claims_changed");
    if (cause) throw new InvalidToken("revoked");
    return claims;
  }

  advance(seconds) {
    this.nowMs += seconds * 1000;
    this.elapsedMs += seconds * 1000;
  }
}

/** The reason for which the token is refused after the events of the case; null if it is accepted. */
function refusalReason(testCase) {
  const fixture = new VerifierFixture();
  for (const event of testCase.events) fixture.receive(...event);
  try {
    fixture.verify(testCase.token);
    return null;
  } catch (error) {
    return error.reason;
  }
}

/** The cause with which the session of the case ends after its steps; null if it does not end. */
function endCause(testCase) {
  const fixture = new VerifierFixture();
  const claims = fixture.verify(testCase.token);
  const causes = [];
  for (const event of testCase.before ?? []) fixture.receive(...event);
  const registration = fixture.registry.register(claims, (cause) => causes.push(cause));
  for (const [step, data] of testCase.after) {
    if (step === "verify") {
      fixture.registry.onAccepted(fixture.verify(testCase.token, data));
    } else if (step === "renew") {
      registration.renewWith(fixture.verify(testCase.token, data));
    } else if (step === "advance" || step === "silent") {
      fixture.advance(data);
      // the step "advance" ends with a heartbeat, the step "silent" does not
      if (step === "advance") fixture.lastEventAtMs = fixture.elapsedMs;
      fixture.registry.endExpired(); // in place of the timer
    } else {
      fixture.receive(step, data);
    }
  }
  assert.ok(causes.length <= 1, "the callback is called at most once");
  return causes[0] ?? null;
}

for (const testCase of CASES.claims) {
  test(`shared case of claims: ${testCase.name}`, () => assert.equal(refusalReason(testCase), testCase.reason));
}

for (const testCase of CASES.ends) {
  test(`shared case of ends: ${testCase.name}`, () => assert.equal(endCause(testCase), testCase.cause));
}

for (const testCase of CASES.guards) {
  test(`shared case of guards: ${testCase.name}`, () => {
    const fixture = new VerifierFixture();
    const claims = fixture.verify(testCase.token);
    const refusal = insufficientAuthentication(claims, { acr: testCase.acr, maxAge: testCase.max_age }, fixture.nowMs);
    assert.equal(refusal?.headers["WWW-Authenticate"] ?? null, testCase.challenge);
    if (refusal) {
      assert.equal(refusal.status, 401);
      const { code, status } = JSON.parse(refusal.body);
      assert.deepEqual([status, code], [401, "insufficient_user_authentication"]);
    }
  });
}
