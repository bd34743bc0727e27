/** Which tokens a revocation ends, and how long and how many are remembered. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { readRevocation, Revocations } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

const CLAIMS = { sub: SUB, sid: SID, authTime: 1000 };
const session = (id) => ({ kind: "session", session: id });
const key = (kid) => ({ kind: "key", kid });
const account = (id, before, except) => ({ kind: "account", account: id, before, except });

function knowing(...revocations) {
  const memory = new Revocations(10, 310);
  for (const revocation of revocations) memory.add(revocation, 0);
  return memory;
}

test("a revocation ends what it is about", () => {
  for (const [revocation, ends] of [
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
    assert.equal(knowing(revocation).ends("one", CLAIMS), ends, JSON.stringify(revocation));
  }
  assert.ok(knowing(account(SUB, 1001, SID), account(SUB, 1001)).ends("one", CLAIMS), "what one excepts another may end");
});

test("a service client's token has no session to end", () => {
  const memory = knowing(account(SUB, 5000), session(SID));
  assert.ok(!memory.ends("one", { sub: SUB }));
  memory.add(key("one"), 0);
  assert.ok(memory.ends("one", { sub: SUB }));
});

test("each is forgotten when its time has passed", () => {
  const memory = knowing(session(SID), account(SUB, 1001), key("one"));
  memory.add(session(SID), 100); // told again: kept longer
  memory.expire(310);
  assert.equal(memory.size, 3);
  memory.expire(311);
  assert.equal(memory.size, 1);
  assert.ok(memory.ends("one", CLAIMS));
  memory.expire(411);
  assert.ok(!memory.ends("one", CLAIMS));
});

test("a full memory says so until what it left out has expired", () => {
  const memory = knowing(...Array.from({ length: 10 }, (_, at) => session(String(at))));
  assert.ok(memory.isComplete(0));
  memory.add(session("1"), 50);
  assert.ok(memory.isComplete(50), "it was there already");
  memory.add(session(SID), 60);
  assert.equal(memory.size, 10);
  assert.ok(!memory.isComplete(60));
  assert.ok(!memory.isComplete(370));
  assert.ok(memory.isComplete(371));
});

test("the kinds are read", () => {
  const at = "1970-01-01T00:16:41";
  assert.deepEqual(readRevocation({ kind: "session", account_id: SUB, session_id: SID, new: 1 }), session(SID));
  assert.deepEqual(readRevocation({ kind: "account", account_id: SUB, before: `${at}.000Z` }), account(SUB, 1001));
  const excepting = { kind: "account", account_id: SUB, before: `${at}Z`, except_session_id: SID };
  assert.deepEqual(readRevocation(excepting), account(SUB, 1001, SID));
  assert.deepEqual(readRevocation({ kind: "key", kid: "one" }), key("one"));
});

test("what is not understood is not passed over", () => {
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
    assert.throws(() => readRevocation(data), { name: "Malformed" }, JSON.stringify(data));
  }
});
