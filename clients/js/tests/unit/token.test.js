/** Valid tokens, and forged ones beyond the shared cases (RFC 8725, RFC 9068). */

import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";

import { parseJwks } from "../../src/jwks.js";
import { base64url, FakeIssuer, LONG_STALENESS, SID, SigningKey, SUB } from "../fake-issuer.js";

const refusal = (verifier, token) =>
  verifier.verify(token).then(
    () => assert.fail(`accepted: ${token}`),
    (error) => (assert.equal(error.name, "InvalidToken", error.stack), error.reason),
  );

test("valid token of each algorithm is accepted", async (t) => {
  for (const alg of ["ES256", "EdDSA", "RS256", "PS256"]) {
    const issuer = await FakeIssuer.start(t);
    issuer.keys.one = new SigningKey(alg);
    const verifier = await issuer.live(LONG_STALENESS);
    const claims = await verifier.verify(issuer.token({ roles: ["admin"], aud: ["shop", "latchkey"], scope: "a b" }));
    assert.deepEqual([claims.sub, claims.sid, claims.roles, claims.scope, claims.aud], [SUB, SID, ["admin"], ["a", "b"], ["shop", "latchkey"]]);
  }
});

test("algorithm other than the key's is refused, with an HMAC by the public key and without a signature", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const { publicKey } = issuer.keys.one;
  const secrets = [
    publicKey.export({ format: "pem", type: "spki" }),
    publicKey.export({ format: "der", type: "spki" }),
    JSON.stringify(issuer.keys.one.jwk("one")),
  ];
  // JSON leaves out an undefined alg.
  for (const alg of ["none", "None", "NONE", "nOnE", "", undefined, "HS256", "HS384", "ES384", "EdDSA", "RS256"]) {
    const signed = `${base64url({ alg, kid: "one", typ: "at+jwt" })}.${issuer.token().split(".")[1]}`;
    for (const secret of secrets) {
      const signature = createHmac("sha256", secret).update(signed).digest("base64url");
      assert.equal(await refusal(verifier, `${signed}.${signature}`), alg === undefined ? "malformed" : "wrong_algorithm");
    }
    await refusal(verifier, `${signed}.`);
  }
});

test("key that the token header names or contains is ignored", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const [real, forger] = [issuer.keys.one, new SigningKey("ES256")];
  const evil = `${issuer.url}/evil`;
  for (const header of [{ jku: evil }, { x5u: evil }, { jwk: forger.jwk("one") }, { x5c: ["MAA="] }]) {
    issuer.keys.one = real;
    assert.equal((await verifier.verify(issuer.token({}, header))).sub, SUB);
    // From here `token` signs with the forger's key. The verifier keeps the real key, which it has fetched.
    issuer.keys.one = forger;
    assert.equal(await refusal(verifier, issuer.token({}, header)), "bad_signature");
  }
  assert.equal(issuer.count("/evil"), 0);
});

test("damaged token is refused", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const token = issuer.token();
  const signed = token.slice(0, token.lastIndexOf("."));
  const refreshToken = "lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4";
  const zeroSignature = "A".repeat(86);
  const otherHeader = token.slice(0, 30) + (token[30] === "A" ? "B" : "A") + token.slice(31);
  for (const damaged of [
    "", "..", "é.é.é", undefined, 7, refreshToken,
    token.slice(0, -1), token.slice(0, -4), `${token}A`, `${token}=`, `${token}.`, `${token}\n`, ` ${token}`,
    token.replace(".", ".."), signed, `${signed}.`, `${signed}.${zeroSignature}`, otherHeader,
  ]) {
    await refusal(verifier, damaged);
  }
});

test("unsuitable key of a key set is left out, invalid key set is refused", async () => {
  const [good, other] = [new SigningKey("ES256").jwk("one"), new SigningKey("EdDSA").jwk("two")];
  const weak = new SigningKey("RS256", generateKeyPairSync("rsa", { modulusLength: 1024 })).jwk("one");
  for (const entry of [
    7, null, { ...good, use: "enc" }, { ...good, key_ops: ["encrypt"] }, { ...good, alg: "RS256" }, { ...good, alg: "HS256" },
    { ...good, alg: undefined }, { ...good, kid: 7 }, { ...good, crv: "P-384" }, { ...good, x: "AAAA" },
    { kty: "oct", k: "c2VjcmV0", kid: "one", alg: "HS256" }, weak,
  ]) {
    assert.deepEqual([...(await parseJwks({ keys: [entry, other] })).keys()], ["two"], JSON.stringify(entry));
  }
  for (const document of [null, [], {}, { keys: {} }]) await assert.rejects(parseJwks(document), { name: "ProtocolError" });
});

test("members with the same name are accepted in different objects and refused in one object", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const payload = JSON.stringify(issuer.payload());
  const key = issuer.keys.one;
  await verifier.verify(key.sign(issuer.header(), `${payload.slice(0, -1)},"list":[{"a":1},{"a":1,"b":["a","a"]}]}`));
  assert.equal(await refusal(verifier, key.sign(issuer.header(), `${payload.slice(0, -1)},"a":[{"b":{},"b":{}}]}`)), "malformed");
});
