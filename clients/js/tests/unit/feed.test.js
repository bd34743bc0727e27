/** Following the feed: what is heard, what is missed, and what becomes of tokens meanwhile. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeIssuer, fateOf, HASTY, HEARTBEAT, LIVE, LOGOUT, PATIENT, RESUMED, revocation, SECRET, SNAPSHOT, until } from "../fake-issuer.js";

const becomes = (fate, verifier, token) => until(`it is ${fate}`, async () => (await fateOf(verifier, token)) === fate);

test("a sign-out is heard of at once", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const token = issuer.token();
  assert.equal(await fateOf(verifier, token), "in");
  issuer.tell(LOGOUT);
  await becomes("InvalidToken", verifier, token);
  assert.equal(issuer.count("/introspect"), 0);
  assert.ok(verifier.live);
});

test("the snapshot counts too", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT + LOGOUT + LIVE;
  assert.equal(await fateOf(await issuer.live(PATIENT), issuer.token()), "InvalidToken");
});

test("it says who it is, and the secret prints nowhere", async (t) => {
  const { inspect } = await import("node:util");
  const issuer = await FakeIssuer.start(t);
  const log = [];
  const verifier = await issuer.live({ clientId: "a:b c", log: (message) => log.push(message) });
  const { headers } = issuer.requests.find(({ path }) => path === "/v1/revocations");
  assert.equal(Buffer.from(headers.authorization.slice(6), "base64").toString(), `a%3Ab+c:${SECRET}`);
  const printed = `${inspect(verifier, { depth: 9, showHidden: true })} ${JSON.stringify(verifier)} ${verifier} ${log}`;
  assert.ok(!printed.includes("lk_cs"), printed);
});

test("after a cut it resumes where it was", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.resumed = RESUMED + LOGOUT + LIVE;
  const verifier = await issuer.live(PATIENT);
  const token = issuer.token();
  issuer.cut();
  await becomes("InvalidToken", verifier, token);
  assert.deepEqual(issuer.followed(), [undefined, "place-1"]);
});

test("a new snapshot replaces what was known, once it is complete", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT + LOGOUT + LIVE;
  const verifier = await issuer.live(PATIENT);
  const token = issuer.token();
  issuer.feed = SNAPSHOT;
  issuer.cut();
  await until("it is back", () => issuer.followed().length === 2 && issuer.followers.size === 1);
  assert.equal(await fateOf(verifier, token), "InvalidToken");
  issuer.tell(LIVE);
  await becomes("in", verifier, token);
});

test("after a gap nothing counts until the snapshot", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const token = issuer.token();
  issuer.tell(`event: gap\ndata: {"detail":"lost"}\n\n${HEARTBEAT}`);
  await becomes("Unavailable", verifier, token);
  issuer.tell(SNAPSHOT + HEARTBEAT);
  assert.equal(await fateOf(verifier, token), "Unavailable");
  issuer.tell(LOGOUT + LIVE);
  await until("it is live", () => verifier.live);
  assert.equal(await fateOf(verifier, token), "InvalidToken");
  assert.deepEqual(issuer.followed(), [undefined]);
});

test("what is not understood is a gap", async (t) => {
  for (const event of [
    revocation({ kind: "planet", planet: "mars" }),
    "event: revocation\ndata: {\n\n",
    "event: revocation\ndata: []\n\n",
    LIVE,
    RESUMED,
    SNAPSHOT.replace("310", "-1"),
  ]) {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(PATIENT);
    issuer.feed = null;
    issuer.tell(event);
    await becomes("Unavailable", verifier, issuer.token());
    issuer.feed = SNAPSHOT + LIVE;
    await until("it came back, and is live", () => verifier.live);
    assert.deepEqual([...new Set(issuer.followed())], [undefined]);
  }
});

test("unknown events and members are passed over", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  issuer.tell(`event: weather\ndata: rain\n\n${LOGOUT.replace("{", '{"new":{"a":1},')}`);
  await becomes("InvalidToken", verifier, issuer.token());
  assert.deepEqual(issuer.followed(), [undefined]);
});

test("without the feed, Latchkey is asked about each token", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(HASTY);
  issuer.feed = null;
  issuer.cut();
  await until("the feed is lost", () => !verifier.live);
  const token = issuer.token();
  assert.equal(await fateOf(verifier, token), "in");
  const { headers, body } = issuer.requests.find(({ path }) => path === "/introspect");
  assert.equal(new URLSearchParams(body).get("token"), token);
  assert.match(headers.authorization, /^Basic /);
  issuer.active = false;
  assert.equal(await fateOf(verifier, token), "InvalidToken");
  issuer.active = null;
  assert.equal(await fateOf(verifier, token), "Unavailable");
  const asked = issuer.count("/introspect");
  assert.equal(await fateOf(verifier, issuer.token({ aud: "another" })), "InvalidToken");
  assert.equal(issuer.count("/introspect"), asked, "what is bad anyway is not asked about");
});

test("without the feed all are refused where that is wanted", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...HASTY, feedLost: "refuse" });
  issuer.feed = null;
  issuer.cut();
  await becomes("Unavailable", verifier, issuer.token());
  assert.equal(issuer.count("/introspect"), 0);
});

test("before the feed is there the same holds", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.feed = SNAPSHOT;
  assert.equal(await fateOf(issuer.verifier({ ...PATIENT, feedLost: "introspect" }), issuer.token()), "in");
  assert.equal(issuer.count("/introspect"), 1);
  assert.equal(await fateOf(issuer.verifier(PATIENT), issuer.token()), "Unavailable");
});

test("a feed without events is lost and left, comments or not", async (t) => {
  const issuer = await FakeIssuer.start(t);
  await issuer.live(HASTY);
  await until("it came again", () => {
    issuer.tell(": comments and old words are no sign of life\n\n");
    return issuer.followed().length > 1;
  });
});

test("revocations without heartbeats are no proof that all is told", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(HASTY);
  await until("the feed is lost", () => {
    issuer.tell(revocation({ kind: "session", account_id: "x", session_id: "y" }));
    return !verifier.live;
  });
});

test("more than can be remembered is as if the feed were lost", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, maxRevocations: 2 });
  for (const id of ["a", "b", "c"]) issuer.tell(revocation({ kind: "session", account_id: "x", session_id: id }));
  await becomes("Unavailable", verifier, issuer.token());
  issuer.cut();
  await until("a snapshot that fits has come", () => verifier.live);
});

test("Latchkey may come later", async (t) => {
  const issuer = await FakeIssuer.start(t);
  issuer.away = true;
  const verifier = issuer.verifier(PATIENT);
  assert.equal(await fateOf(verifier, issuer.token()), "Unavailable");
  issuer.away = false;
  assert.ok(await verifier.waitLive(60_000));
  await becomes("in", verifier, issuer.token());
});
