/** Valid tokens, and forged ones beyond the shared cases (RFC 8725, RFC 9068). */

import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";

import { parseJwks } from "../../src/jwks.js";
import { base64url, FakeIssuer, LONG_STALENESS, SID, SigningKey, SUB } from "../fake-issuer.js";

/** Asserts that the verifier refuses the token as invalid, and returns the reason. */
async function assertRefused(verifier, token) {
  const error = await verifier.verify(token).then(() => assert.fail(`accepted: ${token}`), (error) => error);
  assert.equal(error.name, "InvalidToken", error.stack);
  return error.reason;
}

test("valid token of each algorithm is accepted", async (t) => {
  for (const alg of ["ES256", "EdDSA", "RS256", "PS256"]) {
    const issuer = await FakeIssuer.start(t);
    issuer.keys.one = new SigningKey(alg);
    const verifier = await issuer.live(LONG_STALENESS);
    const { sub, sid, roles, aud, scope } = await verifier.verify(issuer.token({ roles: ["admin"], aud: ["shop", "latchkey"], scope: "a b" }));
    assert.deepEqual({ sub, sid, roles, aud, scope }, { sub: SUB, sid: SID, roles: ["admin"], aud: ["shop", "latchkey"], scope: ["a", "b"] });
  }
});

// A verifier that trusted the header's `alg` would take the public key for the secret of an HMAC, which an attacker can compute.
test("algorithm other than the key's is refused, with an HMAC by the public key and without a signature", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const { publicKey } = issuer.keys.one; // of ES256
  const hmacSecrets = [
    publicKey.export({ format: "pem", type: "spki" }),
    publicKey.export({ format: "der", type: "spki" }),
    JSON.stringify(issuer.keys.one.jwk("one")),
  ];
  // JSON leaves out an undefined alg, so that the header has none.
  for (const alg of ["none", "None", "NONE", "nOnE", "", undefined, "HS256", "HS384", "ES384", "EdDSA", "RS256"]) {
    const header = base64url({ alg, kid: "one", typ: "at+jwt" });
    const payload = issuer.token().split(".")[1];
    const signed = `${header}.${payload}`;
    for (const secret of hmacSecrets) {
      const signature = createHmac("sha256", secret).update(signed).digest("base64url");
      assert.equal(await assertRefused(verifier, `${signed}.${signature}`), alg === undefined ? "malformed" : "wrong_algorithm");
    }
    await assertRefused(verifier, `${signed}.`);
  }
});

test("key that the token header names or contains is ignored", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const issuersKey = issuer.keys.one;
  const forgersKey = new SigningKey("ES256");
  const evilUrl = `${issuer.url}/evil`;
  const certificate = "MAA="; // an empty ASN.1 sequence
  for (const header of [{ jku: evilUrl }, { x5u: evilUrl }, { jwk: forgersKey.jwk("one") }, { x5c: [certificate] }]) {
    issuer.keys.one = issuersKey;
    assert.equal((await verifier.verify(issuer.token({}, header))).sub, SUB);
    // From here `token` signs with the forger's key. The verifier keeps the issuer's key, which it has fetched.
    issuer.keys.one = forgersKey;
    assert.equal(await assertRefused(verifier, issuer.token({}, header)), "bad_signature");
  }
  assert.equal(issuer.count("/evil"), 0, "the verifier has fetched a key from the URL of a header");
});

test("damaged token is refused", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  const signed = token.slice(0, token.lastIndexOf("."));
  const refreshToken = "lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4";
  const zeroSignature = "A".repeat(86); // 64 zero bytes, the length of a signature by ES256
  // one character of the header replaced by another
  const changedHeader = token.slice(0, 30) + (token[30] === "A" ? "B" : "A") + token.slice(31);
  for (const damaged of [
    "", "..", "é.é.é", undefined, 7, refreshToken,
    token.slice(0, -1), token.slice(0, -4), `${token}A`, `${token}=`, `${token}.`, `${token}\n`, ` ${token}`,
    token.replace(".", ".."), signed, `${signed}.`, `${signed}.${zeroSignature}`, changedHeader,
  ]) {
    await assertRefused(verifier, damaged);
  }
});

test("unsuitable key of a key set is left out, invalid key set is refused", async () => {
  const good = new SigningKey("ES256").jwk("one");
  const other = new SigningKey("EdDSA").jwk("two");
  const weak = new SigningKey("RS256", generateKeyPairSync("rsa", { modulusLength: 1024 })).jwk("one");
  for (const entry of [
    7, null, { ...good, use: "enc" }, { ...good, key_ops: ["encrypt"] }, { ...good, alg: "RS256" }, { ...good, alg: "HS256" },
    { ...good, alg: undefined }, { ...good, kid: 7 }, { ...good, crv: "P-384" }, { ...good, x: "AAAA" },
    { kty: "oct", k: "c2VjcmV0", kid: "one", alg: "HS256" }, weak,
  ]) {
    const keys = await parseJwks({ keys: [entry, other] });
    assert.deepEqual([...keys.keys()], ["two"], JSON.stringify(entry));
  }
  for (const document of [null, [], {}, { keys: {} }]) await assert.rejects(parseJwks(document), { name: "ProtocolError" });
});

test("members with the same name are accepted in different objects and refused in one object", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  // JSON text, since an object cannot have two members with the same name
  const tokenWith = (member) => {
    const payload = JSON.stringify(issuer.payload()).replace(/}$/, `,${member}}`);
    return issuer.keys.one.sign(issuer.header(), payload);
  };
  await verifier.verify(tokenWith('"list":[{"a":1},{"a":1,"b":["a","a"]}]'));
  assert.equal(await assertRefused(verifier, tokenWith('"a":[{"b":{},"b":{}}]')), "malformed");
});
