/** Tests of the verifier's key cache (refreshes, outages of the issuer, retired keys), of its options and of closing it. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createVerifier } from "latchkey-verify";

import { FakeIssuer, outcomeOf, LONG_STALENESS, revocation, SECRET, SigningKey, until } from "../fake-issuer.js";

test("unknown kid triggers a refresh", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 0 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  issuer.keys.two = new SigningKey("EdDSA");
  assert.equal(await outcomeOf(verifier, issuer.token({}, {}, "two")), "accepted");
  assert.equal(issuer.count("/keys"), 2);
});

test("refreshes for unknown kids are rate limited", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 600_000 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  for (let at = 0; at < 20; at++) assert.equal(await outcomeOf(verifier, issuer.token({}, { kid: `unknown ${at}` })), "InvalidToken");
  assert.equal(issuer.count("/keys"), 1);
});

test("keys are kept while the issuer is unreachable", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...LONG_STALENESS, keysCooldownMs: 0, keysMaxAgeMs: 50 });
  assert.equal(await outcomeOf(verifier, issuer.token()), "accepted");
  issuer.unavailable = true;
  const requests = issuer.requests.length;
  // The second of these requests begins after the first has failed.
  await until("a refresh has failed", () => issuer.requests.length > requests + 1);
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
  const requests = issuer.count("/keys");
  // The second of these requests begins after the JWK Set of the first was read.
  await until("the stale JWK Set was fetched", () => issuer.count("/keys") > requests + 1);
  assert.equal(await outcomeOf(verifier, token), "InvalidToken");
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
    assert.deepEqual([...new Set(issuer.requests.map(({ path }) => path))], ["/.well-known/openid-configuration"]);
    issuer.metadata = {};
    assert.ok(await verifier.waitLive(60_000));
  }
});

test("invalid option is refused by name and without the secret", () => {
  for (const options of [
    { issuer: "https://a.example/" }, { issuer: "a.example" }, { issuer: "https://user@a.example" }, { issuer: "https://a.example?b" },
    { issuer: undefined }, { audience: "" }, { clientSecret: 7 }, { feedLost: "ignore" }, { maxStalenessMs: 0 }, { maxStalenessMs: Number.NaN },
    { leewayMs: 600_000 }, { maxRevocations: -1 }, { keysCooldownMs: "1" },
  ]) {
    const settings = { issuer: "https://a.example", audience: "a", clientId: "b", clientSecret: SECRET, ...options };
    assert.throws(() => createVerifier(settings), (error) => {
      assert.equal(error.name, "LatchkeyError");
      return error.message.includes(Object.keys(options)[0]) && !error.message.includes(SECRET);
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
  const { spawn } = await import("node:child_process");
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  await verifier.close();
  assert.equal(await outcomeOf(verifier, issuer.token()), "Unavailable");
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
  const code = await new Promise((resolve) => child.on("exit", resolve));
  assert.equal(code, 0);
});

test("request that closing the verifier aborts is not logged", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const log = [];
  let fetching = false;
  const hanging = (url, request) => {
    if (!String(url).endsWith("/keys")) return fetch(url, request);
    fetching = true;
    return new Promise((_, reject) => request.signal.addEventListener("abort", () => reject(new Error("aborted"))));
  };
  const verifier = issuer.verifier({ ...LONG_STALENESS, fetch: hanging, log: (line) => log.push(line) });
  assert.ok(await verifier.waitLive(60_000));
  await until("the keys are being fetched", () => fetching);
  await verifier.close();
  assert.deepEqual(log, []);
});
