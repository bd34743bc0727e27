/** The revocation feed: snapshots, resumption, gaps, and how tokens are treated meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  claimsChange, FakeIssuer, outcomeOf, SHORT_STALENESS, HEARTBEAT, LIVE, LOGOUT, LONG_STALENESS, RESUMED, revocation, SECRET, SNAPSHOT, SUB, until,
} from "../fake-issuer.js";

/** Waits until a token has an outcome: "accepted", or the name of the error. */
const becomes = (outcome, verifier, token) => until(`the outcome is ${outcome}`, async () => (await outcomeOf(verifier, token)) === outcome);

test("logout event revokes the token", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  assert.equal(await outcomeOf(verifier, token), "accepted");
  issuer.send(LOGOUT);
  await becomes("InvalidToken", verifier, token);
  assert.equal(issuer.count("/introspect"), 0);
  assert.ok(verifier.live);
});

test("revocation in the snapshot revokes the token", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT + LOGOUT + LIVE;
  const verifier = await issuer.live(LONG_STALENESS);
  assert.equal(await outcomeOf(verifier, issuer.token()), "InvalidToken");
});

test("feed request authenticates, and the secret is not printed", async (t) => {
  const { inspect } = await import("node:util");
  const issuer = await FakeIssuer.start(t);
  const log = [];
  const verifier = await issuer.live({ clientId: "a:b c", log: (message) => log.push(message) });
  const { headers } = issuer.requests.find(({ path }) => path === "/v1/revocations");
  // the client id is form-encoded (RFC 6749, section 2.3.1)
  const credentials = Buffer.from(headers.authorization.slice("Basic ".length), "base64").toString();
  assert.equal(credentials, `a%3Ab+c:${SECRET}`);
  const printed = `${inspect(verifier, { depth: 9, showHidden: true })} ${JSON.stringify(verifier)} ${verifier} ${log}`;
  assert.ok(!printed.includes("lk_cs"), printed); // the prefix of secrets
});

test("reconnect resumes after the last event", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.resumed = RESUMED + LOGOUT + LIVE;
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  issuer.disconnect();
  await becomes("InvalidToken", verifier, token);
  assert.deepEqual(issuer.lastEventIds(), [undefined, "event-1"]);
});

test("heartbeat without id keeps the last event id; an empty id removes it", async (t) => {
  for (const [idLine, resumedAfter] of [["", "event-1"], ["id:\n", undefined]]) {
    const issuer = await FakeIssuer.start(t);
    issuer.feed = SNAPSHOT + LIVE + HEARTBEAT.replace("id: event-2\n", idLine) + LOGOUT;
    const verifier = await issuer.live(LONG_STALENESS);
    // Events are processed in order: once the logout is, the heartbeat is too.
    await becomes("InvalidToken", verifier, issuer.token());
    issuer.disconnect();
    await until("the verifier has reconnected", () => issuer.lastEventIds().length === 2);
    assert.deepEqual(issuer.lastEventIds(), [undefined, resumedAfter]);
  }
});

test("new snapshot replaces the old revocations once it is complete", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT + LOGOUT + LIVE;
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  issuer.feed = SNAPSHOT; // not complete until LIVE
  issuer.disconnect();
  await until("the verifier has reconnected", () => issuer.lastEventIds().length === 2 && issuer.subscribers.size === 1);
  assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  issuer.send(LIVE);
  await becomes("accepted", verifier, token);
});

test("gap makes the feed stale until the next snapshot", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  issuer.send(`event: gap\ndata: {"detail":"lost"}\n\n${HEARTBEAT}`);
  await becomes("Unavailable", verifier, token);
  issuer.send(SNAPSHOT + HEARTBEAT);
  assert.equal(await outcomeOf(verifier, token), "Unavailable");
  issuer.send(LOGOUT + LIVE);
  await until("the feed is live", () => verifier.live);
  assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  assert.deepEqual(issuer.lastEventIds(), [undefined], "the verifier has not reconnected");
});

test("unexpected event is treated as a gap", async (t) => {
  for (const event of [
    revocation({ kind: "planet", planet: "mars" }),
    "event: revocation\ndata: {\n\n",
    "event: revocation\ndata: []\n\n",
    claimsChange(-1),
    LIVE,
    RESUMED,
    SNAPSHOT.replace('"retain_seconds":310', '"retain_seconds":-1'),
  ]) {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    issuer.feed = null; // refuses the reconnection, so that the gap stays visible
    issuer.send(event);
    await becomes("Unavailable", verifier, issuer.token());
    issuer.feed = SNAPSHOT + LIVE;
    await until("the feed is live", () => verifier.live);
    assert.ok(issuer.lastEventIds().every((id) => id === undefined), "the reconnections request a new snapshot");
  }
});

test("claims event refuses older tokens until the client refreshes", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const [old, current] = [issuer.token({ claims_version: 6 }), issuer.token({ claims_version: 7 })];
  assert.equal(await outcomeOf(verifier, old), "accepted");
  issuer.send(claimsChange(7));
  await becomes("InvalidToken", verifier, old);
  await assert.rejects(verifier.verify(old), { reason: "claims_changed", message: /claims of the account have changed/ });
  assert.equal(await outcomeOf(verifier, current), "accepted");
  // A token of Latchkey 0.1 has no claims version: its time of issue decides.
  const withoutVersion = issuer.token();
  assert.equal(await outcomeOf(verifier, withoutVersion), "accepted", "it was issued after the change");
  const inOneMinute = new Date(Date.now() + 60_000).toISOString();
  issuer.send(claimsChange(7, inOneMinute));
  await becomes("InvalidToken", verifier, withoutVersion);
  assert.equal(await outcomeOf(verifier, current), "accepted");
});

test("claims event in the snapshot refuses older tokens; a revocation prevails", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT + claimsChange(7) + LIVE;
  const verifier = await issuer.live(LONG_STALENESS);
  const old = issuer.token({ claims_version: 6 });
  await assert.rejects(verifier.verify(old), { reason: "claims_changed" });
  issuer.send(LOGOUT);
  await until("the token is revoked", async () => {
    const reason = await verifier.verify(old).catch((error) => error.reason);
    return reason === "revoked";
  });
});

test("claims event refuses older tokens while the feed is lost, without introspection", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(SHORT_STALENESS);
  const old = issuer.token({ claims_version: 6 });
  issuer.send(claimsChange(7));
  await becomes("InvalidToken", verifier, old);
  issuer.feed = null; // refuses the reconnection
  issuer.disconnect();
  await until("the feed is lost", () => !verifier.live);
  await assert.rejects(verifier.verify(old), { reason: "claims_changed" });
  assert.equal(issuer.count("/introspect"), 0);
});

test("account-wide revocation compares session_start", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const now = Math.floor(Date.now() / 1000);
  const before = new Date((now - 100) * 1000).toISOString();
  issuer.send(revocation({ kind: "account", account_id: SUB, before, reason: "password_changed", at: before }));
  // The `auth_time` of either token is on the other side of `before`.
  const startedBefore = issuer.token({ session_start: now - 200, auth_time: now });
  const startedAfter = issuer.token({ session_start: now - 50, auth_time: now - 500 });
  await becomes("InvalidToken", verifier, startedBefore);
  assert.equal(await outcomeOf(verifier, startedAfter), "accepted");
});

test("unknown events and members are ignored", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  issuer.send(`event: weather\ndata: rain\n\n${LOGOUT.replace("{", '{"new":{"a":1},')}`);
  await becomes("InvalidToken", verifier, issuer.token());
  assert.deepEqual(issuer.lastEventIds(), [undefined], "the verifier has not reconnected");
});

test("lost feed introspects each token", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(SHORT_STALENESS);
  issuer.feed = null;
  issuer.disconnect();
  await until("the feed is lost", () => !verifier.live);
  const token = issuer.token();
  assert.equal(await outcomeOf(verifier, token), "accepted");
  const { headers, body } = issuer.requests.find(({ path }) => path === "/introspect");
  assert.equal(new URLSearchParams(body).get("token"), token);
  assert.match(headers.authorization, /^Basic /);
  issuer.active = false;
  assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  issuer.active = null; // the introspection endpoint fails
  assert.equal(await outcomeOf(verifier, token), "Unavailable");
  const introspections = issuer.count("/introspect");
  assert.equal(await outcomeOf(verifier, issuer.token({ aud: "another" })), "InvalidToken");
  assert.equal(issuer.count("/introspect"), introspections, "an invalid token is not introspected");
});

test("lost feed refuses all tokens if configured", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...SHORT_STALENESS, feedLost: "refuse" });
  issuer.feed = null;
  issuer.disconnect();
  await becomes("Unavailable", verifier, issuer.token());
  assert.equal(issuer.count("/introspect"), 0);
});

test("feedLost applies before the first snapshot", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT; // not complete, as LIVE does not follow
  const introspecting = issuer.verifier({ ...LONG_STALENESS, feedLost: "introspect" });
  assert.equal(await outcomeOf(introspecting, issuer.token()), "accepted");
  assert.equal(issuer.count("/introspect"), 1);
  const refusing = issuer.verifier(LONG_STALENESS);
  assert.equal(await outcomeOf(refusing, issuer.token()), "Unavailable");
});

test("feed that sends comments only is lost and reconnected", async (t) => {
  const issuer = await FakeIssuer.start(t);
  await issuer.live(SHORT_STALENESS);
  await until("the verifier has reconnected", () => {
    issuer.send(": comments do not count as events\n\n");
    return issuer.lastEventIds().length > 1;
  });
});

test("revocations without heartbeats do not keep the feed current", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(SHORT_STALENESS);
  await until("the feed is lost", () => {
    issuer.send(revocation({ kind: "session", account_id: "x", session_id: "y" }));
    return !verifier.live;
  });
});

test("too many revocations make the feed lost", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, maxRevocations: 2 });
  // one more than the maximum
  for (const id of ["a", "b", "c"]) issuer.send(revocation({ kind: "session", account_id: "x", session_id: id }));
  await becomes("Unavailable", verifier, issuer.token());
  issuer.disconnect();
  await until("a snapshot that fits has arrived", () => verifier.live);
});

test("verifier started before Latchkey recovers", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.unavailable = true;
  const verifier = issuer.verifier(LONG_STALENESS);
  assert.equal(await outcomeOf(verifier, issuer.token()), "Unavailable");
  issuer.unavailable = false;
  assert.ok(await verifier.waitLive(60_000));
  await becomes("accepted", verifier, issuer.token());
});

test("a 401 of the feed is logged to the console by default and names the client", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = null;
  issuer.feedStatus = 401;
  const lines = [];
  t.mock.method(console, "warn", (line) => lines.push(line));
  issuer.verifier({ ...LONG_STALENESS, log: undefined });
  await until("the refusal is logged", () => lines.length > 0);
  assert.match(lines.join(), /^latchkey: the revocation feed is interrupted: \/v1\/revocations answered 401: the service client "shop" is unknown/);
  assert.ok(!lines.join().includes("lk_cs"));
});

test("waitLive resolves to false after the timeout", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.unavailable = true;
  const verifier = issuer.verifier(LONG_STALENESS);
  assert.equal(await verifier.waitLive(50), false);
  await assert.rejects(verifier.verify(issuer.token()), /the issuer's keys cannot be fetched: .* answered 503/);
});
