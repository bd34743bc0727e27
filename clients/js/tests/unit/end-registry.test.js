/** When registrations end, with which cause, and what they leave behind. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { EndRegistry } from "../../src/end-registry.js";
import { RevocationSet } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

const OTHER = "6a1d3c1f-8e2d-4b69-8b4c-3a2a7b2f1e53";
const CLAIMS = { sub: SUB, sid: SID, clientId: "latchkey", exp: 1300, iat: 1000, authTime: 900, sessionStart: 900, claimsVersion: 3 };
const ROBOT = { sub: "robot", clientId: "robot", exp: 1300, iat: 1000 };

/** A registry whose clocks stand still until a test moves them; its timer is real but far from firing. */
class Bench {
  nowMs = 1_000_000;
  elapsedMs = 0;
  completeAtMs = 0;
  log = [];
  ends = [];
  revocations = new RevocationSet(100, 1e9);
  registry;

  constructor(options = {}) {
    const settings = { leewayMs: 5_000, maxRegistrations: 1_000_000, endAfterSilenceMs: 5_000, log: (line) => this.log.push(line), ...options };
    this.registry = new EndRegistry(settings, {
      kidOf: (claims) => claims.kid ?? "one",
      causeOf: (kid, claims) => this.revocations.causeOf(kid, claims),
      silentMs: () => this.elapsedMs - this.completeAtMs,
      now: () => this.nowMs,
      elapsed: () => this.elapsedMs,
    });
  }

  /** Registers claims; their ends are collected under the name. */
  add(name = "it", claims = CLAIMS) {
    return this.registry.register(claims, (cause) => this.ends.push(`${name} ${cause}`));
  }

  receive(revocation) {
    this.revocations.add(revocation, 0);
    this.registry.onRevocation(revocation);
  }

  /** The ends since the last call. */
  take() {
    return this.ends.splice(0);
  }
}

test("event ends the registrations that it concerns, with its cause, once", () => {
  for (const [revocation, expected] of [
    [{ kind: "session", session: SID }, "session_revoked"],
    [{ kind: "session", session: OTHER }],
    [{ kind: "account", account: SUB, before: 901 }, "account_revoked"],
    [{ kind: "account", account: SUB, before: 900 }],
    [{ kind: "account", account: SUB, before: 901, except: SID }],
    [{ kind: "account", account: OTHER, before: 901 }],
    [{ kind: "key", kid: "one" }, "key_retired"],
    [{ kind: "key", kid: "two" }],
    [{ kind: "claims", account: SUB, version: 4, at: 0 }, "claims_changed"],
    [{ kind: "claims", account: SUB, version: 3, at: 9999 }],
    [{ kind: "claims", account: OTHER, version: 4, at: 9999 }],
  ]) {
    const bench = new Bench();
    const [one, two] = [bench.add("one"), bench.add("two")];
    bench.receive(revocation);
    bench.receive(revocation);
    assert.deepEqual(bench.take(), expected ? [`one ${expected}`, `two ${expected}`] : [], JSON.stringify(revocation));
    assert.deepEqual([one.ended, two.ended], [expected, expected]);
    assert.equal(bench.registry.size, expected ? 0 : 2);
  }
});

test("registration of an ended session is called before onEnd returns", () => {
  for (const [change, cause] of [
    [(bench) => bench.receive({ kind: "session", session: SID }), "session_revoked"],
    [(bench) => bench.receive({ kind: "account", account: SUB, before: 901 }), "account_revoked"],
    [(bench) => bench.receive({ kind: "key", kid: "one" }), "key_retired"],
    [(bench) => bench.receive({ kind: "claims", account: SUB, version: 4, at: 0 }), "claims_changed"],
    [(bench) => (bench.nowMs = 1_305_000), "token_expired"],
    [(bench) => bench.registry.close(), "feed_lost"],
  ]) {
    const bench = new Bench();
    change(bench);
    const registration = bench.add();
    assert.deepEqual([bench.take(), registration.ended, bench.registry.size, bench.registry.indexed], [[`it ${cause}`], cause, 0, 0]);
    assert.deepEqual([registration.signal.aborted, registration.signal.reason], [true, cause]);
  }
});

test("token expiry ends the registration unless a successor was accepted", () => {
  const bench = new Bench();
  bench.add();
  bench.nowMs = 1_304_999;
  bench.registry.endExpired();
  assert.deepEqual(bench.take(), []);
  bench.registry.onAccepted({ ...CLAIMS, exp: 1600 });
  bench.registry.onAccepted({ ...CLAIMS, exp: 1100 }); // an older token does not shorten it
  bench.registry.onAccepted({ ...CLAIMS, sid: OTHER, exp: 9999 }); // nor does another session lengthen it
  bench.nowMs = 1_604_999;
  bench.registry.endExpired();
  assert.deepEqual(bench.take(), []);
  bench.nowMs = 1_605_000;
  bench.registry.endExpired();
  assert.deepEqual(bench.take(), ["it token_expired"]);
  bench.registry.onAccepted({ ...CLAIMS, exp: 2000 });
  assert.equal(bench.registry.indexed, 0);
});

test("timer ends the registration when its token expires", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const bench = new Bench({ endAfterSilenceMs: 1e9 });
  const pass = (ms) => {
    [bench.nowMs, bench.elapsedMs] = [bench.nowMs + ms, bench.elapsedMs + ms];
    t.mock.timers.tick(ms);
  };
  bench.add("late", { ...CLAIMS, sid: OTHER, exp: 1010 });
  bench.add("early", { ...CLAIMS, exp: 1001 });
  for (let seconds = 0; seconds < 5; seconds++) pass(1_000);
  pass(999);
  assert.deepEqual(bench.take(), []);
  pass(1);
  assert.deepEqual(bench.take(), ["early token_expired"]);
  for (let seconds = 0; seconds < 9; seconds++) pass(1_000);
  assert.deepEqual(bench.take(), ["late token_expired"]);
});

test("lost feed ends registrations after endAfterSilenceMs, counted from the registration at the earliest", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const bench = new Bench();
  const pass = (ms) => {
    bench.elapsedMs += ms;
    t.mock.timers.tick(ms);
  };
  bench.add("old");
  pass(4_000);
  bench.completeAtMs = bench.elapsedMs; // a heartbeat
  pass(4_000);
  bench.add("new");
  pass(1_001);
  assert.deepEqual(bench.take(), ["old feed_lost"]);
  pass(3_900);
  assert.deepEqual(bench.take(), []);
  pass(100);
  assert.deepEqual(bench.take(), ["new feed_lost"]);
});

test("newer version of the claims in a token of the session ends registrations of the older one", () => {
  const bench = new Bench();
  bench.add("old");
  bench.add("without", { ...CLAIMS, claimsVersion: undefined });
  bench.add("other", { ...CLAIMS, sid: OTHER });
  bench.registry.onAccepted({ ...CLAIMS, claimsVersion: 4 });
  assert.deepEqual(bench.take(), ["old claims_changed"]);
  bench.add("late");
  assert.deepEqual(bench.take(), ["late claims_changed"]);
  bench.add("new", { ...CLAIMS, claimsVersion: 4 });
  assert.deepEqual(bench.take(), []);
});

test("renewed registration continues with the newer token", () => {
  const bench = new Bench();
  const registration = bench.add();
  bench.elapsedMs = 4_000;
  registration.renew({ ...CLAIMS, exp: 1600, claimsVersion: 4, kid: "two" });
  bench.receive({ kind: "claims", account: SUB, version: 4, at: 9999 });
  bench.receive({ kind: "key", kid: "one" });
  bench.nowMs = 1_604_999;
  bench.elapsedMs = 9_000;
  bench.registry.endExpired();
  assert.deepEqual(bench.take(), []);
  assert.throws(() => registration.renew({ ...CLAIMS, sid: OTHER }), { name: "RenewError", ended: undefined });
  assert.throws(() => registration.renew({ ...CLAIMS, sub: OTHER }), { name: "RenewError" });
  bench.receive({ kind: "session", session: SID });
  assert.throws(() => registration.renew(CLAIMS), { name: "RenewError", ended: "session_revoked" });
  const closed = bench.add("closed", { ...CLAIMS, sid: OTHER, exp: 1900, claimsVersion: 4, kid: "two" });
  closed.close();
  assert.throws(() => closed.renew({ ...CLAIMS, sid: OTHER }), { name: "RenewError", ended: undefined });
});

test("renewal with claims that are refused ends the registration", () => {
  const bench = new Bench();
  const registration = bench.add("it", { ...CLAIMS, claimsVersion: 4 });
  bench.receive({ kind: "claims", account: SUB, version: 4, at: 0 });
  registration.renew(CLAIMS);
  assert.deepEqual(bench.take(), ["it claims_changed"]);
});

test("key that is no longer published ends registrations of its tokens", () => {
  const bench = new Bench();
  bench.add("one");
  bench.add("two", { ...CLAIMS, sid: OTHER, kid: "two" });
  bench.registry.onKeysReplaced((kid) => kid === "two");
  assert.deepEqual(bench.take(), ["one key_retired"]);
});

test("service client's registration stands alone", () => {
  const bench = new Bench();
  bench.add("a", ROBOT);
  const renewed = bench.add("b", ROBOT);
  bench.registry.onAccepted({ ...ROBOT, exp: 9999 });
  bench.receive({ kind: "account", account: "robot", before: 9999 });
  bench.receive({ kind: "claims", account: "robot", version: 9, at: 9999 });
  renewed.renew({ ...ROBOT, exp: 1600 });
  bench.nowMs = 1_305_000;
  bench.registry.endExpired();
  assert.deepEqual(bench.take(), ["a token_expired"]);
  bench.receive({ kind: "key", kid: "one" });
  assert.deepEqual(bench.take(), ["b key_retired"]);
  assert.equal(bench.registry.indexed, 0);
});

test("closed registration is not called, and closing is idempotent", () => {
  const bench = new Bench();
  const [closed, other] = [bench.add("closed"), bench.add("other")];
  closed.close();
  closed.close();
  bench.receive({ kind: "session", session: SID });
  other.close();
  assert.deepEqual([bench.take(), closed.ended, other.ended], [["other session_revoked"], undefined, "session_revoked"]);
  assert.equal(closed.signal.aborted, false);
});

test("callback that closes or registers others does not disturb the rest", () => {
  const bench = new Bench();
  let last;
  bench.registry.register(CLAIMS, () => {
    last.close();
    bench.add("within");
  });
  bench.add("middle");
  last = bench.add("last");
  bench.receive({ kind: "session", session: SID });
  assert.deepEqual(bench.take(), ["within session_revoked", "middle session_revoked"]);
  assert.equal(bench.registry.size, 0);
});

test("failing callback is logged, and the others are called", async () => {
  const bench = new Bench();
  bench.registry.register(CLAIMS, () => {
    throw new Error("thrown");
  });
  bench.registry.register(CLAIMS, async () => {
    throw new Error("rejected");
  });
  bench.add("other");
  bench.receive({ kind: "session", session: SID });
  await new Promise(setImmediate);
  assert.deepEqual(bench.take(), ["other session_revoked"]);
  assert.deepEqual(bench.log, ["a callback of onEnd failed: thrown", "a callback of onEnd failed: rejected"]);
});

test("registration above the limit is refused as unavailable", () => {
  const bench = new Bench({ maxRegistrations: 2 });
  const first = bench.add();
  bench.add();
  assert.throws(() => bench.add(), { name: "Unavailable", message: /maxRegistrations/ });
  first.close();
  bench.add();
  assert.equal(bench.registry.size, 2);
});

test("a million registrations leave nothing behind, closed or ended", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  const heap = () => (collect(), process.memoryUsage().heapUsed);
  const bench = new Bench();
  const callback = () => {};
  const round = (number) => {
    const open = [];
    for (let at = 0; at < 50_000; at++) {
      const sid = `${number}-${at >> 1}`;
      open.push(bench.registry.register({ ...CLAIMS, sid, sub: `a${at % 1000}`, exp: 2000 + (at % 300) }, callback));
      if (at % 3 === 0) bench.registry.onAccepted({ ...CLAIMS, sid, sub: `a${at % 1000}`, exp: 2400 });
    }
    assert.equal(bench.registry.size, 50_000);
    if (number % 2 === 0) for (const registration of open) registration.close();
    else for (let account = 0; account < 1000; account++) bench.registry.onRevocation({ kind: "account", account: `a${account}`, before: 9999 });
    assert.deepEqual([bench.registry.size, bench.registry.indexed], [0, 0]);
  };
  round(0);
  round(1);
  const before = heap();
  for (let number = 2; number < 20; number++) round(number);
  const grown = heap() - before;
  assert.ok(grown < 4_000_000, `the heap has grown by ${grown} bytes`);
});
