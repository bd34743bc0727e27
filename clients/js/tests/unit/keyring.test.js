/** The keys: fetched when they must be, kept while the issuer is away, and let go of when they are retired. And the options. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createVerifier } from "latchkey-verify";

import { FakeIssuer, fateOf, PATIENT, revocation, SECRET, SigningKey, until } from "../fake-issuer.js";

test("a new key is fetched when a token names it", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysCooldownMs: 0 });
  assert.equal(await fateOf(verifier, issuer.token()), "in");
  issuer.keys.two = new SigningKey("EdDSA");
  assert.equal(await fateOf(verifier, issuer.token({}, {}, "two")), "in");
  assert.equal(issuer.count("/keys"), 2);
});

test("unknown keys are asked for so often and no more", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysCooldownMs: 600_000 });
  assert.equal(await fateOf(verifier, issuer.token()), "in");
  for (let at = 0; at < 20; at++) assert.equal(await fateOf(verifier, issuer.token({}, { kid: `made up ${at}` })), "InvalidToken");
  assert.equal(issuer.count("/keys"), 1);
});

test("keys are kept while the issuer is away", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysCooldownMs: 0, keysMaxAgeMs: 50 });
  assert.equal(await fateOf(verifier, issuer.token()), "in");
  issuer.away = true;
  const asked = issuer.requests.length;
  await until("it was asked in vain", () => issuer.requests.length > asked + 1);
  assert.equal(await fateOf(verifier, issuer.token()), "in");
  assert.equal(await fateOf(verifier, issuer.token({}, { kid: "another" })), "Unavailable");
});

test("a key that is no longer published is let go of", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysMaxAgeMs: 50 });
  const token = issuer.token();
  assert.equal(await fateOf(verifier, token), "in");
  issuer.keys = { two: new SigningKey("ES256") };
  await until("it is gone", async () => (await fateOf(verifier, token)) === "InvalidToken");
});

test("a retired key is refused at once and doesn't come back", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysMaxAgeMs: 50 });
  const token = issuer.token();
  assert.equal(await fateOf(verifier, token), "in");
  issuer.tell(revocation({ kind: "key", kid: "one", reason: "key_retired", at: "2026-11-23T04:08:30Z" }));
  await until("it is refused", async () => (await fateOf(verifier, token)) === "InvalidToken");
  const asked = issuer.count("/keys");
  await until("what still names it was read", () => issuer.count("/keys") > asked + 1);
  assert.equal(await fateOf(verifier, token), "InvalidToken");
  assert.ok(verifier.live);
});

test("metadata that makes no sense is not used", async (t) => {
  for (const metadata of [
    { issuer: "https://another.example" },
    { jwks_uri: null },
    { introspection_endpoint: "file:///etc/passwd" },
    { latchkey_revocations_endpoint: 7 },
  ]) {
    const issuer = await FakeIssuer.start(t);
    issuer.metadata = metadata;
    const verifier = issuer.verifier(PATIENT);
    assert.equal(await fateOf(verifier, issuer.token()), "Unavailable");
    assert.deepEqual([...new Set(issuer.requests.map(({ path }) => path))], ["/.well-known/openid-configuration"]);
    issuer.metadata = {};
    assert.ok(await verifier.waitLive(60_000));
  }
});

test("options that can't work are refused, by name and without the secret", () => {
  for (const options of [
    { issuer: "https://a.example/" }, { issuer: "a.example" }, { issuer: "https://user@a.example" }, { issuer: "https://a.example?b" },
    { issuer: undefined }, { audience: "" }, { clientSecret: 7 }, { feedLost: "ignore" }, { maxStalenessMs: 0 }, { maxStalenessMs: Number.NaN },
    { leewayMs: 600_000 }, { maxRevocations: -1 }, { keysCooldownMs: "1" },
  ]) {
    const given = { issuer: "https://a.example", audience: "a", clientId: "b", clientSecret: SECRET, ...options };
    assert.throws(() => createVerifier(given), (error) => {
      assert.equal(error.name, "LatchkeyError");
      return error.message.includes(Object.keys(options)[0]) && !error.message.includes("lk_cs");
    });
  }
});

test("a closed verifier lets nobody in and keeps no process alive", async (t) => {
  const { spawn } = await import("node:child_process");
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  await verifier.close();
  assert.equal(await fateOf(verifier, issuer.token()), "Unavailable");
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
