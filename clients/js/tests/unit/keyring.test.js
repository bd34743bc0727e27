/** Tests of the verifier's key cache (refreshes, outages of the issuer, retired keys), of its options and of closing it. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";

import { createVerifier } from "latchkey-verify";

import { FakeIssuer, LONG_STALENESS, once, outcomeOf, revocation, SECRET, SigningKey, until } from "../fake-issuer.js";

test("unknown kid triggers a refresh", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 0 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  issuer.keys.two = new SigningKey("EdDSA");
  const signedByNewKey = issuer.token({}, {}, "two");
  assert.equal(await outcomeOf(verifier, signedByNewKey), "accepted");
  // The first request for the keys, and the refresh.
  assert.equal(issuer.count("/keys"), 2);
});

test("refreshes for unknown kids are rate limited", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 600_000 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  for (let attempt = 0; attempt < 20; attempt++) {
    const token = issuer.token({}, { kid: `unknown ${attempt}` });
    assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  }
  assert.equal(issuer.count("/keys"), 1);
});

test("keys are kept while the issuer is unreachable", async (t) => {
  const issuer = await FakeIssuer.start(t);
  // Refreshes are soon due, and the cooldown does not suppress the refresh for the unknown kid at the end.
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 0, keysMaxAgeMs: 50 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  issuer.unavailable = true;
  const requestsBefore = issuer.requests.length;
  // The second of these requests begins after the first has failed.
  await until("a refresh has failed", () => issuer.requests.length > requestsBefore + 1);
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  assert.equal(await outcomeOf(verifier, issuer.token({}, { kid: "another" })), "Unavailable");
});

test("key that is no longer published is dropped", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysMaxAgeMs: 50 });
  const token = issuer.token();
  assert.equal(await outcomeOf(verifier, token), "accepted");
  issuer.keys = { two: new SigningKey("ES256") };
  await until("the key is dropped", async () => (await outcomeOf(verifier, token)) === "InvalidToken");
});

test("retired key is refused though still published", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysMaxAgeMs: 50 });
  const token = issuer.token();
  assert.equal(await outcomeOf(verifier, token), "accepted");
  issuer.send(revocation({ kind: "key", kid: "one", reason: "key_retired", at: "2026-11-23T04:08:30Z" }));
  await until("the token is refused", async () => (await outcomeOf(verifier, token)) === "InvalidToken");
  const fetchesBefore = issuer.count("/keys");
  // The second of these requests begins after the JWK Set of the first was read.
  await until("the JWK Set that still has the key was fetched", () => issuer.count("/keys") > fetchesBefore + 1);
  assert.equal(await outcomeOf(verifier, token), "InvalidToken");
  // The token is refused because of the key, and not because the feed is lost.
  assert.ok(verifier.live);
});

test("invalid metadata is not used", async (t) => {
  for (const metadata of [
    { issuer: "https://another.example" },
    { jwks_uri: null },
    { introspection_endpoint: "file:///etc/passwd" },
    { latchkey_revocations_endpoint: 7 },
  ]) {
    const issuer = await FakeIssuer.start(t);
    issuer.metadata = metadata;
    const verifier = issuer.verifier(LONG_STALENESS);
    assert.equal(await outcomeOf(verifier, issuer.token()), "Unavailable");
    // No endpoint of the invalid metadata was called.
    const requestedPaths = new Set(issuer.requests.map(({ path }) => path));
    assert.deepEqual([...requestedPaths], ["/.well-known/openid-configuration"]);
    // The verifier retries, and goes live once the metadata is valid.
    issuer.metadata = {};
    assert.ok(await verifier.waitLive(60_000));
  }
});

test("message about an invalid option names the option and hides the secret", () => {
  for (const options of [
    { issuer: "https://a.example/" }, { issuer: "a.example" }, { issuer: "https://user@a.example" }, { issuer: "https://a.example?b" },
    { issuer: undefined }, { audience: "" }, { clientSecret: 7 }, { feedLost: "ignore" }, { maxStalenessMs: 0 }, { maxStalenessMs: Number.NaN },
    { leewayMs: 600_000 }, { maxRevocations: -1 }, { keysCooldownMs: "1" },
  ]) {
    const settings = { issuer: "https://a.example", audience: "a", clientId: "b", clientSecret: SECRET, ...options };
    assert.throws(() => createVerifier(settings), (error) => {
      assert.equal(error.name, "LatchkeyError");
      const [invalidOption] = Object.keys(options);
      return error.message.includes(invalidOption) && !error.message.includes(SECRET);
    });
  }
});

test("message about an invalid number names the minimum", () => {
  const settings = { issuer: "https://a.example", audience: "a", clientId: "b", clientSecret: SECRET };
  for (const [name, minimum] of [["maxStalenessMs", "above 0"], ["leewayMs", "of at least 0"], ["keysCooldownMs", "of at least 0"]]) {
    const message = `${name} must be a number ${minimum} and below 2^31`;
    assert.throws(() => createVerifier({ ...settings, [name]: -1 }), { name: "LatchkeyError", message });
  }
});

test("closed verifier refuses tokens and does not keep the process alive", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  await verifier.close();
  assert.equal(await outcomeOf(verifier, issuer.token()), "Unavailable");
  // A process exits by itself once nothing keeps it alive: no timer and no connection of the verifier may be left.
  const program = `
    import { createVerifier } from "latchkey-verify";
    const verifier = createVerifier({ issuer: "${issuer.url}", audience: "latchkey", clientId: "shop", clientSecret: "s" });
    await verifier.waitLive(60_000);
    await verifier.verify("${issuer.token()}");
    await verifier.close();`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["ignore", "inherit", "inherit"],
    cwd: new URL("../..", import.meta.url),
  });
  const [exitCode] = await once(child, "exit");
  assert.equal(exitCode, 0);
});

test("request that closing the verifier aborts is not logged", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const warnings = [];
  let keysRequested = false;
  const fetchAllButKeys = (url, request) => {
    if (!String(url).endsWith("/keys")) return fetch(url, request);
    keysRequested = true;
    return new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  const verifier = issuer.verifier({ ...LONG_STALENESS, fetch: fetchAllButKeys, log: (warning) => warnings.push(warning) });
  assert.ok(await verifier.waitLive(60_000));
  await until("the keys are requested", () => keysRequested);
  await verifier.close();
  assert.deepEqual(warnings, []);
});
