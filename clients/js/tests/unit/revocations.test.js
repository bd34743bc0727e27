/** Which tokens a revocation affects, and how long and how many are kept. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { parseRevocation, RevocationSet } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

const CLAIMS = { sub: SUB, sid: SID, authTime: 1000 };
const session = (id) => ({ kind: "session", session: id });
const key = (kid) => ({ kind: "key", kid });
const account = (id, before, except) => ({ kind: "account", account: id, before, except });

function setOf(...revocations) {
  const set = new RevocationSet(10, 310);
  for (const revocation of revocations) set.add(revocation, 0);
  return set;
}

test("revocation affects its target only", () => {
  for (const [revocation, revokes] of [
    [session(SID), true],
    [session("another"), false],
    [key("one"), true],
    [key("two"), false],
    [account(SUB, 1001), true],
    [account(SUB, 1000), false],
    [account(SUB, 1001, "another"), true],
    [account(SUB, 1001, SID), false],
    [account("another", 2000), false],
  ]) {
    assert.equal(setOf(revocation).revokes("one", CLAIMS), revokes, JSON.stringify(revocation));
  }
  assert.ok(setOf(account(SUB, 1001, SID), account(SUB, 1001)).revokes("one", CLAIMS), "a session excepted by one revocation is ended by another");
});

test("service client token is affected by key revocations only", () => {
  const set = setOf(account(SUB, 5000), session(SID));
  assert.ok(!set.revokes("one", { sub: SUB }));
  set.add(key("one"), 0);
  assert.ok(set.revokes("one", { sub: SUB }));
});

test("revocation is evicted after retain", () => {
  const set = setOf(session(SID), account(SUB, 1001), key("one"));
  set.add(session(SID), 100); // received again: kept longer
  set.evictExpired(310);
  assert.equal(set.size, 3);
  set.evictExpired(311);
  assert.equal(set.size, 1);
  assert.ok(set.revokes("one", CLAIMS));
  set.evictExpired(411);
  assert.ok(!set.revokes("one", CLAIMS));
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

test("every kind is parsed", () => {
  const at = "1970-01-01T00:16:41";
  assert.deepEqual(parseRevocation({ kind: "session", account_id: SUB, session_id: SID, new: 1 }), session(SID));
  assert.deepEqual(parseRevocation({ kind: "account", account_id: SUB, before: `${at}.000Z` }), account(SUB, 1001));
  const excepting = { kind: "account", account_id: SUB, before: `${at}Z`, except_session_id: SID };
  assert.deepEqual(parseRevocation(excepting), account(SUB, 1001, SID));
  assert.deepEqual(parseRevocation({ kind: "key", kid: "one" }), key("one"));
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
