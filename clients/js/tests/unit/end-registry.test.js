/** Tests of the end registry: when registrations end, with which cause, and that they leave no memory behind. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { EndRegistry } from "../../src/end-registry.js";
import { RevocationSet } from "../../src/revocations.js";
import { SID, SUB } from "../fake-issuer.js";

/** The id of a session or an account other than those of the claims. */
const OTHER = "6a1d3c1f-8e2d-4b69-8b4c-3a2a7b2f1e53";
/** Times in claims are in seconds. The token is refused `leewayMs` (5 s) after `exp`: from 1,305,000 ms on. */
const CLAIMS = { sub: SUB, sid: SID, clientId: "latchkey", exp: 1300, iat: 1000, authTime: 900, sessionStart: 900, claimsVersion: 3 };
/** The claims of a service client's own token, which belongs to no session. */
const SERVICE_CLIENT = { sub: "robot", clientId: "robot", exp: 1300, iat: 1000 };

/** A registry whose clocks stand still until a test moves them. Its timer is real, unless a test mocks it, and never fires in a test. */
class RegistryFixture {
  /** The wall clock, at first at the `iat` of the claims. */
  nowMs = 1_000_000;
  /** The monotonic clock. */
  elapsedMs = 0;
  /** When the feed's last event arrived, by the monotonic clock. */
  lastEventAtMs = 0;
  log = [];
  ends = [];
  revocations = new RevocationSet(100, 1e9); // remembers up to 100 revocations, for longer than any test takes
  registry;

  constructor(options = {}) {
    const settings = { leewayMs: 5_000, maxRegistrations: 1_000_000, endAfterSilenceMs: 5_000, log: (line) => this.log.push(line), ...options };
    this.registry = new EndRegistry(settings, {
      kidOf: (claims) => claims.kid ?? "one",
      causeOf: (kid, claims) => this.revocations.causeOf(kid, claims),
      silentMs: () => this.elapsedMs - this.lastEventAtMs,
      now: () => this.nowMs,
      elapsed: () => this.elapsedMs,
    });
  }

  /** Registers claims. When the registration ends, `ends` gets its name with the cause. The key of the token is "one" unless the claims have a `kid`. */
  add(name = "it", claims = CLAIMS) {
    return this.registry.register(claims, (cause) => this.ends.push(`${name} ${cause}`));
  }

  /** Passes on an event of the feed. */
  receive(revocation) {
    this.revocations.add(revocation, this.elapsedMs);
    this.registry.onRevocation(revocation);
  }

  /** Returns the ends since the last call. */
  takeEnds() {
    return this.ends.splice(0);
  }
}

test("event ends the registrations that it concerns, with its cause, once", () => {
  // The registered session started at second 900, and its token has version 3 of the claims. Without a cause, it does not end.
  for (const [revocation, cause] of [
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
    const fixture = new RegistryFixture();
    const one = fixture.add("one");
    const two = fixture.add("two");
    fixture.receive(revocation);
    fixture.receive(revocation); // the callbacks are not called again
    assert.deepEqual(fixture.takeEnds(), cause ? [`one ${cause}`, `two ${cause}`] : [], JSON.stringify(revocation));
    assert.equal(one.ended, cause);
    assert.equal(two.ended, cause);
    assert.equal(fixture.registry.size, cause ? 0 : 2);
  }
});

test("callback of a registration that has already ended is called before register returns", () => {
  for (const [invalidate, cause] of [
    [(fixture) => fixture.receive({ kind: "session", session: SID }), "session_revoked"],
    [(fixture) => fixture.receive({ kind: "account", account: SUB, before: 901 }), "account_revoked"],
    [(fixture) => fixture.receive({ kind: "key", kid: "one" }), "key_retired"],
    [(fixture) => fixture.receive({ kind: "claims", account: SUB, version: 4, at: 0 }), "claims_changed"],
    [(fixture) => { fixture.nowMs = 1_305_000; }, "token_expired"],
    [(fixture) => fixture.registry.close(), "feed_lost"],
  ]) {
    const fixture = new RegistryFixture();
    invalidate(fixture);
    const registration = fixture.add();
    assert.deepEqual(fixture.takeEnds(), [`it ${cause}`]);
    assert.equal(registration.ended, cause);
    assert.equal(fixture.registry.size + fixture.registry.indexed, 0);
    assert.equal(registration.signal.aborted, true);
    assert.equal(registration.signal.reason, cause);
  }
});

test("token expiry ends the registration unless a successor was accepted", () => {
  const fixture = new RegistryFixture();
  fixture.add();
  fixture.nowMs = 1_304_999;
  fixture.registry.endExpired();
  assert.deepEqual(fixture.takeEnds(), []);
  fixture.registry.onAccepted({ ...CLAIMS, exp: 1600 });
  fixture.registry.onAccepted({ ...CLAIMS, exp: 1100 }); // a token that expires earlier changes nothing
  fixture.registry.onAccepted({ ...CLAIMS, sid: OTHER, exp: 9999 }); // nor does a token of another session
  fixture.nowMs = 1_604_999;
  fixture.registry.endExpired();
  assert.deepEqual(fixture.takeEnds(), []);
  fixture.nowMs = 1_605_000;
  fixture.registry.endExpired();
  assert.deepEqual(fixture.takeEnds(), ["it token_expired"]);
  fixture.registry.onAccepted({ ...CLAIMS, exp: 2000 }); // too late: the registration has ended
  assert.equal(fixture.registry.indexed, 0);
});

test("timer ends the registration when its token expires", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const fixture = new RegistryFixture({ endAfterSilenceMs: 1e9 }); // no registration ends because the feed is silent
  const advance = (ms) => {
    fixture.nowMs += ms;
    fixture.elapsedMs += ms;
    t.mock.timers.tick(ms);
  };
  fixture.add("late", { ...CLAIMS, sid: OTHER, exp: 1010 });
  fixture.add("early", { ...CLAIMS, exp: 1001 });
  // With the leeway of 5 s, "early" ends 6 s from now and "late" 15 s. One step per delay of the timer, which is at most 1 s.
  for (let seconds = 0; seconds < 5; seconds++) advance(1_000);
  advance(999);
  assert.deepEqual(fixture.takeEnds(), []);
  advance(1);
  assert.deepEqual(fixture.takeEnds(), ["early token_expired"]);
  for (let seconds = 0; seconds < 9; seconds++) advance(1_000);
  assert.deepEqual(fixture.takeEnds(), ["late token_expired"]);
});

test("lost feed ends registrations after endAfterSilenceMs, counted from the registration at the earliest", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const fixture = new RegistryFixture(); // endAfterSilenceMs is 5,000
  // only the monotonic clock, so that no token expires
  const advance = (ms) => {
    fixture.elapsedMs += ms;
    t.mock.timers.tick(ms);
  };
  fixture.add("old");
  advance(4_000);
  fixture.lastEventAtMs = fixture.elapsedMs; // a heartbeat
  advance(4_000);
  fixture.add("new");
  advance(1_001); // 5,001 since the heartbeat
  assert.deepEqual(fixture.takeEnds(), ["old feed_lost"]);
  advance(3_900); // 4,901 since the registration of "new"
  assert.deepEqual(fixture.takeEnds(), []);
  advance(100); // 5,001
  assert.deepEqual(fixture.takeEnds(), ["new feed_lost"]);
});

test("accepted token with a newer claims version ends registrations with an older version", () => {
  const fixture = new RegistryFixture();
  fixture.add("old");
  fixture.add("without a version", { ...CLAIMS, claimsVersion: undefined });
  fixture.add("other session", { ...CLAIMS, sid: OTHER });
  fixture.registry.onAccepted({ ...CLAIMS, claimsVersion: 4 });
  assert.deepEqual(fixture.takeEnds(), ["old claims_changed"]);
  fixture.add("late"); // has version 3, too
  assert.deepEqual(fixture.takeEnds(), ["late claims_changed"]);
  fixture.add("new", { ...CLAIMS, claimsVersion: 4 });
  assert.deepEqual(fixture.takeEnds(), []);
});

test("renewed registration continues with the newer token", () => {
  const fixture = new RegistryFixture();
  const registration = fixture.add();
  fixture.elapsedMs = 4_000;
  registration.renewWith({ ...CLAIMS, exp: 1600, claimsVersion: 4, kid: "two" });
  // each of these would have ended the registration of the older token
  fixture.receive({ kind: "claims", account: SUB, version: 4, at: 9999 });
  fixture.receive({ kind: "key", kid: "one" });
  fixture.nowMs = 1_604_999;
  fixture.elapsedMs = 9_000; // 9,000 ms of silence, but endAfterSilenceMs (5,000) counts from the renewal
  fixture.registry.endExpired();
  assert.deepEqual(fixture.takeEnds(), []);
  assert.throws(() => registration.renewWith({ ...CLAIMS, sid: OTHER }), { name: "RenewError", ended: undefined });
  assert.throws(() => registration.renewWith({ ...CLAIMS, sub: OTHER }), { name: "RenewError" });
  fixture.receive({ kind: "session", session: SID });
  assert.throws(() => registration.renewWith(CLAIMS), { name: "RenewError", ended: "session_revoked" });
  // these claims are valid after the events above
  const closed = fixture.add("closed", { ...CLAIMS, sid: OTHER, exp: 1900, claimsVersion: 4, kid: "two" });
  closed.close();
  assert.throws(() => closed.renewWith({ ...CLAIMS, sid: OTHER }), { name: "RenewError", ended: undefined });
});

test("renewal with claims of an outdated version ends the registration", () => {
  const fixture = new RegistryFixture();
  const registration = fixture.add("it", { ...CLAIMS, claimsVersion: 4 });
  fixture.receive({ kind: "claims", account: SUB, version: 4, at: 0 }); // does not concern version 4
  registration.renewWith(CLAIMS);
  assert.deepEqual(fixture.takeEnds(), ["it claims_changed"]);
});

test("key that is no longer published ends registrations of its tokens", () => {
  const fixture = new RegistryFixture();
  fixture.add("one");
  fixture.add("two", { ...CLAIMS, sid: OTHER, kid: "two" });
  fixture.registry.onKeysReplaced((kid) => kid === "two");
  assert.deepEqual(fixture.takeEnds(), ["one key_retired"]);
});

test("service client's registrations are independent of each other", () => {
  const fixture = new RegistryFixture();
  fixture.add("a", SERVICE_CLIENT);
  const renewed = fixture.add("b", SERVICE_CLIENT);
  // neither the client's other tokens nor events of accounts concern the registrations
  fixture.registry.onAccepted({ ...SERVICE_CLIENT, exp: 9999 });
  fixture.receive({ kind: "account", account: "robot", before: 9999 });
  fixture.receive({ kind: "claims", account: "robot", version: 9, at: 9999 });
  renewed.renewWith({ ...SERVICE_CLIENT, exp: 1600 });
  fixture.nowMs = 1_305_000;
  fixture.registry.endExpired();
  assert.deepEqual(fixture.takeEnds(), ["a token_expired"]);
  fixture.receive({ kind: "key", kid: "one" });
  assert.deepEqual(fixture.takeEnds(), ["b key_retired"]);
  assert.equal(fixture.registry.indexed, 0);
});

test("closed registration is not called, and closing is idempotent", () => {
  const fixture = new RegistryFixture();
  const closed = fixture.add("closed");
  const other = fixture.add("other");
  closed.close();
  closed.close();
  fixture.receive({ kind: "session", session: SID });
  other.close(); // changes nothing: the registration has ended
  assert.deepEqual(fixture.takeEnds(), ["other session_revoked"]);
  assert.equal(closed.ended, undefined);
  assert.equal(other.ended, "session_revoked");
  assert.equal(closed.signal.aborted, false);
});

test("callback may close other registrations and register new ones", () => {
  const fixture = new RegistryFixture();
  let last;
  fixture.registry.register(CLAIMS, () => {
    last.close();
    fixture.add("within"); // ends at once: the session has been revoked
  });
  fixture.add("middle");
  last = fixture.add("last");
  fixture.receive({ kind: "session", session: SID });
  assert.deepEqual(fixture.takeEnds(), ["within session_revoked", "middle session_revoked"]);
  assert.equal(fixture.registry.size, 0);
});

test("failing callback is logged, and the others are called", async () => {
  const fixture = new RegistryFixture();
  fixture.registry.register(CLAIMS, () => {
    throw new Error("thrown");
  });
  fixture.registry.register(CLAIMS, async () => {
    throw new Error("rejected");
  });
  fixture.add("other");
  fixture.receive({ kind: "session", session: SID });
  await new Promise(setImmediate); // until the rejection has been handled
  assert.deepEqual(fixture.takeEnds(), ["other session_revoked"]);
  assert.deepEqual(fixture.log, ["a callback of onEnd failed: thrown", "a callback of onEnd failed: rejected"]);
});

test("registration above the limit is refused as unavailable", () => {
  const fixture = new RegistryFixture({ maxRegistrations: 2 });
  const first = fixture.add();
  fixture.add();
  assert.throws(() => fixture.add(), { name: "Unavailable", message: /maxRegistrations/ });
  first.close();
  fixture.add();
  assert.equal(fixture.registry.size, 2);
});

test("a million registrations, closed or ended, leave no memory behind", () => {
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc"); // a new context, since this one was created before the flag was set
  const heapAfterCollection = () => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const fixture = new RegistryFixture();
  const ignoreEnd = () => {};
  // Makes 50,000 registrations. An even round closes them, an odd round ends them by revocations of their accounts.
  const round = (number) => {
    const open = [];
    for (let at = 0; at < 50_000; at++) {
      const session = Math.floor(at / 2); // two registrations for each session
      const claims = { ...CLAIMS, sid: `${number}-${session}`, sub: `a${session % 1000}` };
      open.push(fixture.registry.register({ ...claims, exp: 2000 + (at % 300) }, ignoreEnd));
      if (at % 3 === 0) fixture.registry.onAccepted({ ...claims, exp: 2400 }); // a successor, which expires later
    }
    assert.equal(fixture.registry.size, 50_000);
    if (number % 2 === 0) {
      for (const registration of open) registration.close();
    } else {
      for (let account = 0; account < 1000; account++) fixture.registry.onRevocation({ kind: "account", account: `a${account}`, before: 9999 });
    }
    assert.equal(fixture.registry.size + fixture.registry.indexed, 0);
  };
  // the heap is measured from the third round on, when compiled code and the like take no further memory
  round(0);
  round(1);
  const before = heapAfterCollection();
  for (let number = 2; number < 20; number++) round(number);
  const grown = heapAfterCollection() - before;
  // 900,000 registrations since then: if one pointer (8 bytes) of each remained, it would be 7,200,000
  assert.ok(grown < 4_000_000, `the heap has grown by ${grown} bytes`);
});
