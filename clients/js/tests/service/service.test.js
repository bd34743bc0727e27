/** Tests of the verifier with the real service: it refuses a token moments after the token's session ended. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createVerifier } from "latchkey-verify";
import { decodeJwt, decodeProtectedHeader } from "jose";

import { outcomeOf, SigningKey, until } from "../fake-issuer.js";
import { call, CLIENT, command, ISSUER, liveVerifier, User } from "../service-users.js";

// The feed counts as lost only after 10 minutes, which no test takes, and no token is introspected.
const LONG_STALENESS = { maxStalenessMs: 600_000, feedLost: "refuse" };
const NEW_PASSWORD = "another tidal engine verse";

/** Polls until the verifier refuses the token. */
const untilRefused = (verifier, token) => until("the token is refused", async () => (await outcomeOf(verifier, token)) === "InvalidToken");

/** A `fetch` that interrupts the feed while `isCut` is set, and counts introspections. */
class FeedFaults {
  introspections = 0;
  isCut = false;
  connections = new Set();

  fetch = (url, request) => {
    const path = new URL(url).pathname;
    if (path === "/oauth2/introspect") this.introspections++;
    if (path !== "/v1/revocations") return fetch(url, request);
    // as `fetch` fails when there is no connection
    if (this.isCut) return Promise.reject(new TypeError("cut"));
    // aborted by the verifier or by `cut`
    const connection = new AbortController();
    request.signal.addEventListener("abort", () => connection.abort());
    this.connections.add(connection);
    return fetch(url, { ...request, signal: connection.signal });
  };

  /** Closes the open feeds, and refuses new ones. */
  cut() {
    this.isCut = true;
    for (const connection of this.connections) connection.abort();
  }
}

test("logout revokes the token", async (t) => {
  const ada = await User.register();
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const [ended, other] = [await ada.signIn(), await ada.signIn()];
  const claims = await verifier.verify(ended.access_token);
  assert.deepEqual([claims.sid, claims.clientId, claims.scope], [ended.session_id, "latchkey", ["account"]]);
  await ada.signOut(ended);
  await untilRefused(verifier, ended.access_token);
  assert.equal((await verifier.verify(other.access_token)).sub, claims.sub);
  const later = await liveVerifier(t, LONG_STALENESS);
  assert.equal(await outcomeOf(later, ended.access_token), "InvalidToken", "the snapshot of a later subscriber has the revocation");
});

test("password change revokes all earlier sessions", async (t) => {
  const ada = await User.register();
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const others = [await ada.signIn(), await ada.signIn(), await ada.signIn()];
  const own = await ada.signIn();
  const changed = await ada.changePassword(own, NEW_PASSWORD);
  for (const ended of [...others, own]) await untilRefused(verifier, ended.access_token);
  await verifier.verify(changed.access_token);
  const signedIn = await ada.signIn(NEW_PASSWORD);
  await verifier.verify(signedIn.access_token);
});

test("removed role refuses older tokens at once, and a refresh returns good ones", async (t) => {
  const ada = await User.register();
  command("user", "roles", ada.name, "--add", "admin");
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const tokens = await ada.signIn();
  const ends = [];
  const claims = await verifier.verify(tokens.access_token);
  assert.deepEqual(claims.roles, ["admin"]);
  // the sign-in started the session and issued the token, at most one full second apart
  assert.ok(Math.abs(claims.sessionStart - claims.iat) <= 1);
  assert.ok(claims.claimsVersion > 0);
  verifier.onEnd(claims, (cause) => ends.push(cause));
  command("user", "roles", ada.name, "--remove", "admin");
  await until("the callback is called", () => ends.length > 0);
  assert.deepEqual(ends, ["claims_changed"]);
  await assert.rejects(verifier.verify(tokens.access_token), { reason: "claims_changed" });
  const refreshed = await call("/v1/refresh", { refresh_token: tokens.refresh_token });
  assert.deepEqual((await verifier.verify(refreshed.access_token)).roles, []);
  const later = await liveVerifier(t, LONG_STALENESS);
  await assert.rejects(later.verify(tokens.access_token), { reason: "claims_changed" }, "the snapshot of a later subscriber has the event");
  await later.verify(refreshed.access_token);
});

test("end of a session calls its callbacks with the cause", async (t) => {
  const ada = await User.register();
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const ends = [];
  const registerCallback = async (name, { access_token }) => {
    const claims = await verifier.verify(access_token);
    verifier.onEnd(claims, (cause) => ends.push(`${name} ${cause}`));
    return claims;
  };
  const [one, two, own] = [await ada.signIn(), await ada.signIn(), await ada.signIn()];
  const claims = await registerCallback("one", one);
  await registerCallback("two", two);
  await ada.signOut(one);
  await until("the first ends", () => ends.length === 1);
  verifier.onEnd(claims, (cause) => ends.push(`late ${cause}`));
  assert.deepEqual(ends, ["one session_revoked", "late session_revoked"], "a callback for an ended session is called at once");
  const changed = await ada.changePassword(own, NEW_PASSWORD);
  await until("the second ends", () => ends.length === 3);
  // the event may name the session, or the account with all its sessions
  assert.match(ends[2], /^two (session|account)_revoked$/);
  await registerCallback("new", changed);
  assert.equal(verifier.registrations, 1, "callbacks that were called are no longer registered");
});

test("disabled account revokes all sessions", async (t) => {
  const [ada, bob] = [await User.register(), await User.register()];
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const [tokens, others] = [await ada.signIn(), await bob.signIn()];
  command("user", "disable", ada.name);
  await untilRefused(verifier, tokens.access_token);
  await verifier.verify(others.access_token);
});

test("key rotation and retirement are followed", async (t) => {
  const ada = await User.register();
  // without a cooldown, the verifier fetches the keys as soon as it meets a token of the new key
  const verifier = await liveVerifier(t, { ...LONG_STALENESS, keysCooldownMs: 0 });
  const before = (await ada.signIn()).access_token;
  const { kid } = decodeProtectedHeader(before);
  command("keys", "rotate");
  await until("the new key signs", async () => {
    const tokens = await ada.signIn();
    await verifier.verify(tokens.access_token);
    await verifier.verify(before);
    // an account has a limited number of sessions, and the oldest, that of `before`, must stay
    await ada.signOut(tokens);
    return decodeProtectedHeader(tokens.access_token).kid !== kid;
  });
  command("keys", "retire", kid);
  await untilRefused(verifier, before);
  const after = (await ada.signIn()).access_token;
  await verifier.verify(after);
});

test("lost feed falls back to introspection", async (t) => {
  const [ada, faults] = [await User.register(), new FeedFaults()];
  // the feed counts as lost after 5 s; the timeout of introspections is generous, since test machines can be slow
  const verifier = await liveVerifier(t, { fetch: faults.fetch, maxStalenessMs: 5_000, introspectionTimeoutMs: 60_000 });
  const tokens = await ada.signIn();
  faults.cut();
  await until("the feed is lost", () => !verifier.live);
  await verifier.verify(tokens.access_token);
  assert.equal(faults.introspections, 1);
  await ada.signOut(tokens);
  assert.equal(await outcomeOf(verifier, tokens.access_token), "InvalidToken", "by introspection");
  faults.isCut = false;
  await until("the feed is back", () => verifier.live);
  assert.equal(await outcomeOf(verifier, tokens.access_token), "InvalidToken", "by the feed");
});

test("lost feed refuses all tokens if configured", async (t) => {
  const [ada, faults] = [await User.register(), new FeedFaults()];
  const verifier = await liveVerifier(t, { fetch: faults.fetch, maxStalenessMs: 5_000, feedLost: "refuse" });
  const { access_token: token } = await ada.signIn();
  faults.cut();
  await until("the feed is lost", () => !verifier.live);
  assert.equal(await outcomeOf(verifier, token), "Unavailable");
  faults.isCut = false;
  await until("the feed is back", () => verifier.live);
});

test("forged token is refused", async (t) => {
  const ada = await User.register();
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const tokens = await ada.signIn();
  const good = tokens.access_token;
  const header = decodeProtectedHeader(good);
  const claims = decodeJwt(good);
  const forger = new SigningKey("ES256");
  await verifier.verify(good);
  for (const token of [
    forger.sign(header, claims),
    forger.sign({ ...header, jwk: forger.jwk(header.kid) }, claims),
    forger.sign({ ...header, kid: "another" }, claims),
    forger.sign({ ...header, alg: "none" }, claims).replace(/[^.]+$/, ""), // no signature
    good.slice(0, -1), // a truncated signature
    tokens.refresh_token,
  ]) {
    assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  }
  const verifierOfAnotherAudience = await liveVerifier(t, { ...LONG_STALENESS, audience: "another" });
  assert.equal(await outcomeOf(verifierOfAnotherAudience, good), "InvalidToken");
});

test("service client token is accepted", async (t) => {
  const { clientId, clientSecret } = CLIENT;
  const authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString("base64")}`;
  const form = new URLSearchParams({ grant_type: "client_credentials" });
  const { access_token: token } = await call("/oauth2/token", form, { Authorization: authorization });
  const verifier = await liveVerifier(t, LONG_STALENESS);
  const claims = await verifier.verify(token);
  assert.deepEqual([claims.sub, claims.clientId, claims.sid], [clientId, clientId, undefined]);
});

test("wrong client secret makes verification unavailable, and the error names the client without its secret", async (t) => {
  const ada = await User.register();
  const { access_token: token } = await ada.signIn();
  const clientSecret = "lk_cs_wrong";
  // its feed never goes live, so it introspects the token
  const verifier = createVerifier({ issuer: ISSUER, audience: "latchkey", ...CLIENT, clientSecret, introspectionTimeoutMs: 60_000 });
  t.after(() => verifier.close());
  await assert.rejects(verifier.verify(token), ({ name, message }) => {
    const namesClient = message.includes(`the service client "${CLIENT.clientId}"`);
    return name === "Unavailable" && namesClient && !message.includes(clientSecret);
  });
});
