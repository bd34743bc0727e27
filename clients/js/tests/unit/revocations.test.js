/** Tests of `RevocationSet`: which tokens a revocation affects, when it expires, and what happens when the set is full. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseClaimsChange, parseRevocation, RevocationSet } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

const CLAIMS = { sub: SUB, sid: SID, authTime: 1000, iat: 1100 };
const session = (id) => ({ kind: "session", session: id });
const key = (kid) => ({ kind: "key", kid });
const claims = (id, version, at) => ({ kind: "claims", account: id, version, at });
const account = (id, before, except) => ({ kind: "account", account: id, before, except });

/** A set of at most 10 revocations, each of which is kept for 310 ms. Adds the given ones at time 0. */
function setOf(...revocations) {
  const set = new RevocationSet(10, 310);
  for (const revocation of revocations) set.add(revocation, 0);
  return set;
}

test("revocation affects its target only", () => {
  for (const [revocation, cause] of [
    [session(SID), "session_revoked"],
    [session("another")],
    [key("one"), "key_retired"],
    [key("two")],
    [account(SUB, 1001), "account_revoked"],
    [account(SUB, 1000)],
    [account(SUB, 1001, "another"), "account_revoked"],
    [account(SUB, 1001, SID)],
    [account("another", 2000)],
    [claims(SUB, 1, 1100), "claims_changed"],
    [claims(SUB, 1, 1099)],
    [claims("another", 1, 2000)],
  ]) {
    assert.equal(setOf(revocation).causeOf("one", CLAIMS), cause, JSON.stringify(revocation));
  }
  assert.ok(setOf(account(SUB, 1001, SID), account(SUB, 1001)).causeOf("one", CLAIMS), "a session excepted by one revocation is ended by another");
});

test("service client token is affected by key revocations only", () => {
  const set = setOf(account(SUB, 5000), session(SID), claims(SUB, 9, 5000));
  const serviceClient = { sub: SUB, iat: 0 }; // its own token names no session
  assert.equal(set.causeOf("one", serviceClient), undefined);
  set.add(key("one"), 0);
  assert.equal(set.causeOf("one", serviceClient), "key_retired");
});

test("account-wide revocation compares session_start if the token has it", () => {
  const set = setOf(account(SUB, 1001));
  for (const [sessionStart, authTime, cause] of [
    [1000, 1000, "account_revoked"],
    [1000, 5000, "account_revoked"],
    [1001, 900],
    [undefined, 1001],
    [undefined, 1000, "account_revoked"],
  ]) {
    assert.equal(set.causeOf("one", { ...CLAIMS, sessionStart, authTime }), cause);
  }
});

test("token with an older version of the claims is refused, whenever it was issued", () => {
  const set = setOf(claims(SUB, 7, 1100));
  for (const [claimsVersion, iat, cause] of [
    [6, 9000, "claims_changed"],
    [7, 0],
    [8, 0],
    [undefined, 1100, "claims_changed"],
    [undefined, 1101],
  ]) {
    assert.equal(set.causeOf("one", { ...CLAIMS, claimsVersion, iat }), cause);
  }
});

test("changes of claims are one entry for an account, in any order of receipt", () => {
  const set = setOf(claims(SUB, 7, 1100), claims(SUB, 5, 1200), claims(SUB, 6, 1000));
  assert.equal(set.size, 1);
  assert.equal(set.causeOf("one", { ...CLAIMS, claimsVersion: 6 }), "claims_changed");
  // a token without a version is compared with the time of the latest change
  assert.equal(set.causeOf("one", { ...CLAIMS, iat: 1200 }), "claims_changed");
  assert.equal(set.causeOf("one", { ...CLAIMS, iat: 1201 }), undefined);
});

test("revocation is evicted after retain", () => {
  const set = setOf(session(SID), account(SUB, 1001), key("one"));
  set.add(session(SID), 100); // received again: kept longer
  set.evictExpired(310);
  assert.equal(set.size, 3);
  set.evictExpired(311);
  assert.equal(set.size, 1);
  assert.equal(set.causeOf("one", CLAIMS), "session_revoked");
  set.evictExpired(411);
  assert.equal(set.causeOf("one", CLAIMS), undefined);
});

test("full set is incomplete until the dropped revocation expires", () => {
  const set = setOf(...Array.from({ length: 10 }, (_, at) => session(String(at))));
  assert.ok(set.isComplete(0));
  set.add(session("1"), 50);
  assert.ok(set.isComplete(50), "it is a duplicate");
  set.add(session(SID), 60);
  assert.equal(set.size, 10);
  assert.ok(!set.isComplete(60));
  assert.ok(!set.isComplete(370));
  assert.ok(set.isComplete(371));
});

test("every kind of revocation is parsed", () => {
  const at = "1970-01-01T00:16:41";
  assert.deepEqual(parseRevocation({ kind: "session", account_id: SUB, session_id: SID, new: 1 }), session(SID));
  assert.deepEqual(parseRevocation({ kind: "account", account_id: SUB, before: `${at}.000Z` }), account(SUB, 1001));
  const excepting = { kind: "account", account_id: SUB, before: `${at}Z`, except_session_id: SID };
  assert.deepEqual(parseRevocation(excepting), account(SUB, 1001, SID));
  assert.deepEqual(parseRevocation({ kind: "key", kid: "one" }), key("one"));
});

test("change of claims is parsed, and a malformed one throws", () => {
  const data = { account_id: SUB, claims_version: 7, at: "1970-01-01T00:16:41.900Z" };
  assert.deepEqual(parseClaimsChange({ ...data, new: 1 }), claims(SUB, 7, 1001));
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
