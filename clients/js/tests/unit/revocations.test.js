/** Tests of `RevocationSet`: which tokens a revocation affects, when it expires, and what happens when the set is full. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseClaimsChange, parseRevocation, RevocationSet } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

const KID = "one";
/** Claims of a token of Latchkey 0.1, without the start of the session and the version of the claims. Times of claims and revocations are in seconds. */
const CLAIMS = { sub: SUB, sid: SID, authTime: 1000, iat: 1100 };
const CAPACITY = 10;
const RETAIN_MS = 310;

// The revocations as `RevocationSet` takes them. One of an account ends the sessions that started earlier than `before`, except one.
const session = (id) => ({ kind: "session", session: id });
const key = (kid) => ({ kind: "key", kid });
const claims = (id, version, at) => ({ kind: "claims", account: id, version, at });
const account = (id, before, except) => ({ kind: "account", account: id, before, except });

/** A set to which these revocations were added at 0 ms. */
function setOf(...revocations) {
  const set = new RevocationSet(CAPACITY, RETAIN_MS);
  for (const revocation of revocations) set.add(revocation, 0);
  return set;
}

test("revocation affects its target only", () => {
  // a row without a cause: the revocation does not affect the token
  for (const [revocation, cause] of [
    [session(SID), "session_revoked"],
    [session("another")],
    [key(KID), "key_retired"],
    [key("another")],
    [account(SUB, 1001), "account_revoked"],
    [account(SUB, 1000)],
    [account(SUB, 1001, "another"), "account_revoked"],
    [account(SUB, 1001, SID)],
    [account("another", 2000)],
    [claims(SUB, 1, 1100), "claims_changed"],
    [claims(SUB, 1, 1099)],
    [claims("another", 1, 2000)],
  ]) {
    assert.equal(setOf(revocation).causeOf(KID, CLAIMS), cause, JSON.stringify(revocation));
  }
  const withException = account(SUB, 1001, SID);
  const withoutException = account(SUB, 1001);
  const cause = setOf(withException, withoutException).causeOf(KID, CLAIMS);
  assert.equal(cause, "account_revoked", "a session excepted by one revocation is ended by another");
});

test("service client token is affected by key revocations only", () => {
  const set = setOf(account(SUB, 5000), session(SID), claims(SUB, 9, 5000));
  const claimsWithoutSession = { sub: SUB, iat: 0 };
  assert.equal(set.causeOf(KID, claimsWithoutSession), undefined);
  set.add(key(KID), 0);
  assert.equal(set.causeOf(KID, claimsWithoutSession), "key_retired");
});

test("account-wide revocation compares session_start if the token has it", () => {
  const set = setOf(account(SUB, 1001));
  // a token without a session start is compared by its authentication time
  for (const [sessionStart, authTime, cause] of [
    [1000, 1000, "account_revoked"],
    [1000, 5000, "account_revoked"],
    [1001, 900],
    [undefined, 1001],
    [undefined, 1000, "account_revoked"],
  ]) {
    assert.equal(set.causeOf(KID, { ...CLAIMS, sessionStart, authTime }), cause);
  }
});

test("token with an older version of the claims is refused, whenever it was issued", () => {
  const set = setOf(claims(SUB, 7, 1100));
  // a token without a version is compared by the second in which it was issued
  for (const [claimsVersion, iat, cause] of [
    [6, 9000, "claims_changed"],
    [7, 0],
    [8, 0],
    [undefined, 1100, "claims_changed"],
    [undefined, 1101],
  ]) {
    assert.equal(set.causeOf(KID, { ...CLAIMS, claimsVersion, iat }), cause);
  }
});

test("changes of claims are one entry for an account, in any order of receipt", () => {
  const set = setOf(claims(SUB, 7, 1100), claims(SUB, 5, 1200), claims(SUB, 6, 1000));
  assert.equal(set.size, 1);
  assert.equal(set.causeOf(KID, { ...CLAIMS, claimsVersion: 6 }), "claims_changed");
  // a token without a version is compared with the latest time of a change: 1200
  assert.equal(set.causeOf(KID, { ...CLAIMS, iat: 1200 }), "claims_changed");
  assert.equal(set.causeOf(KID, { ...CLAIMS, iat: 1201 }), undefined);
});

test("revocation is evicted after RETAIN_MS", () => {
  const set = setOf(session(SID), account(SUB, 1001), key(KID));
  set.add(session(SID), 100); // received again: kept longer
  set.evictExpired(RETAIN_MS);
  assert.equal(set.size, 3);
  set.evictExpired(RETAIN_MS + 1);
  assert.equal(set.size, 1);
  assert.equal(set.causeOf(KID, CLAIMS), "session_revoked");
  set.evictExpired(100 + RETAIN_MS + 1);
  assert.equal(set.causeOf(KID, CLAIMS), undefined);
});

test("full set is incomplete until the dropped revocation expires", () => {
  const set = setOf(...Array.from({ length: CAPACITY }, (_, index) => session(String(index))));
  assert.ok(set.isComplete(0));
  set.add(session("1"), 50);
  assert.ok(set.isComplete(50), "a duplicate needs no further entry");
  set.add(session(SID), 60);
  assert.equal(set.size, CAPACITY);
  assert.ok(!set.isComplete(60), "the set had no room for SID");
  assert.ok(!set.isComplete(60 + RETAIN_MS));
  assert.ok(set.isComplete(60 + RETAIN_MS + 1));
});

test("every kind of revocation is parsed", () => {
  const second1001 = "1970-01-01T00:16:41";
  assert.deepEqual(parseRevocation({ kind: "session", account_id: SUB, session_id: SID, unknown_member: 1 }), session(SID));
  assert.deepEqual(parseRevocation({ kind: "account", account_id: SUB, before: `${second1001}.000Z` }), account(SUB, 1001));
  const excepting = { kind: "account", account_id: SUB, before: `${second1001}Z`, except_session_id: SID };
  assert.deepEqual(parseRevocation(excepting), account(SUB, 1001, SID));
  assert.deepEqual(parseRevocation({ kind: "key", kid: KID }), key(KID));
});

test("change of claims is parsed, and a malformed one throws", () => {
  const data = { account_id: SUB, claims_version: 7, at: "1970-01-01T00:16:41.900Z" };
  // the time is rounded down to a second
  assert.deepEqual(parseClaimsChange({ ...data, unknown_member: 1 }), claims(SUB, 7, 1001));
  for (const change of [{ account_id: "" }, { claims_version: -1 }, { claims_version: 1.5 }, { claims_version: "7" }, { at: 7 }, { at: "soon" }]) {
    assert.throws(() => parseClaimsChange({ ...data, ...change }), { name: "ProtocolError" }, JSON.stringify(change));
  }
});

test("malformed revocation throws", () => {
  for (const data of [
    {},
    { kind: "planet" },
    { kind: ["session"] },
    { kind: "session", account_id: SUB },
    { kind: "session", session_id: 7 },
    { kind: "account", account_id: SUB, before: "yesterday" },
    { kind: "account", account_id: SUB, before: "1000" },
    { kind: "account", account_id: SUB, before: 1000 },
    { kind: "key", kid: "" },
  ]) {
    assert.throws(() => parseRevocation(data), { name: "ProtocolError" }, JSON.stringify(data));
  }
});
