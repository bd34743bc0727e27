/** Tokens of every kind that must not be let in, each signed as well as its forger can (RFC 8725, RFC 9068). */

import assert from "node:assert/strict";
import { createHmac, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";

import { readKeys } from "../../src/jwks.js";
import { b64, FakeIssuer, PATIENT, SID, SigningKey, SUB } from "../fake-issuer.js";

const refusal = (verifier, token) =>
  verifier.verify(token).then(
    () => assert.fail(`it was let in: ${token}`),
    (error) => (assert.equal(error.name, "InvalidToken", error.stack), error.message),
  );

test("a good token of each algorithm is let in", async (t) => {
  for (const alg of ["ES256", "EdDSA", "RS256", "PS256"]) {
    const issuer = await FakeIssuer.start(t);
    issuer.keys.one = new SigningKey(alg);
    const verifier = await issuer.live(PATIENT);
    const claims = await verifier.verify(issuer.token({ roles: ["admin"], aud: ["shop", "latchkey"], scope: "a b" }));
    assert.deepEqual([claims.sub, claims.sid, claims.roles, claims.scope, claims.aud], [SUB, SID, ["admin"], ["a", "b"], ["shop", "latchkey"]]);
  }
});

test("claims must be as they must", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const now = Math.floor(Date.now() / 1000);
  const bad = [
    { iss: "https://another.example" }, { iss: 7 }, { iss: ["i"] }, { aud: "another" }, { aud: ["another"] }, { aud: { latchkey: 1 } },
    { exp: now - 60 }, { exp: "soon" }, { exp: true }, { exp: null }, { iat: now + 600 }, { nbf: now + 600 }, { nbf: "soon" }, { nbf: null },
    { sub: "" }, { sid: 7 }, { sid: null }, { auth_time: "then" }, { amr: "pwd" }, { amr: null }, { roles: "admin" }, { roles: [1] },
    { scope: ["account"] }, { scope: null }, { acr: 1 },
    ...["iss", "aud", "exp", "iat", "sub", "client_id", "jti", "sid", "auth_time"].map((name) => ({ [name]: undefined })),
  ];
  for (const claims of bad) await refusal(verifier, issuer.token(claims));
  await verifier.verify(issuer.token({ exp: now - 2 }));
  await verifier.verify(issuer.token({ iat: now + 3, nbf: now + 3 }));
  const robot = await verifier.verify(issuer.token({ sub: "robot", sid: undefined, auth_time: undefined, acr: undefined, amr: undefined }));
  assert.equal(robot.sid, undefined);
});

test("headers must be as they must", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live({ ...PATIENT, keysCooldownMs: 600_000 });
  for (const header of [{ typ: "JWT" }, { typ: undefined }, { typ: 7 }, { crit: ["exp"] }, { crit: [] }]) {
    assert.match(await refusal(verifier, issuer.token({}, header)), /^(typ|crit)/);
  }
  for (const kid of [undefined, "", 7, "another", "../one", "one\0", "__proto__"]) {
    assert.match(await refusal(verifier, issuer.token({}, { kid })), /kid|key/);
  }
});

test("another algorithm is refused", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const { publicKey } = issuer.keys.one;
  const secrets = [
    publicKey.export({ format: "pem", type: "spki" }),
    publicKey.export({ format: "der", type: "spki" }),
    JSON.stringify(issuer.keys.one.jwk("one")),
  ];
  for (const alg of ["none", "None", "NONE", "nOnE", "", undefined, "HS256", "HS384", "ES384", "EdDSA", "RS256"]) {
    const signed = `${b64({ alg, kid: "one", typ: "at+jwt" })}.${issuer.token().split(".")[1]}`;
    for (const secret of secrets) {
      const signature = createHmac("sha256", secret).update(signed).digest("base64url");
      assert.match(await refusal(verifier, `${signed}.${signature}`), /alg/);
    }
    await refusal(verifier, `${signed}.`);
  }
});

test("keys that a token brings are not looked at", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const [real, forger] = [issuer.keys.one, new SigningKey("ES256")];
  const evil = `${issuer.url}/evil`;
  for (const header of [{ jku: evil }, { x5u: evil }, { jwk: forger.jwk("one") }, { x5c: ["MAA="] }]) {
    issuer.keys.one = real;
    assert.equal((await verifier.verify(issuer.token({}, header))).sub, SUB, "it says nothing about who signed");
    issuer.keys.one = forger;
    assert.match(await refusal(verifier, issuer.token({}, header)), /signature/);
  }
  assert.equal(issuer.count("/evil"), 0);
});

test("members that stand twice are refused", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const header = '{"alg":"ES256","kid":"one","typ":"at+jwt"}';
  const payload = Buffer.from(issuer.token({ jti: 'a "quoted": {thing' }).split(".")[1], "base64url").toString();
  const key = issuer.keys.one;
  await verifier.verify(key.sign(header, payload));
  await verifier.verify(key.sign(header, `${payload.slice(0, -1)},"list":[{"a":1},{"a":1,"b":["a","a"]}]}`));
  for (const again of ['"sub":"x"', '"s\\u0075b":"x"', '"cnf":{"a":1,"a":2}', '"exp":NaN', '"a":[{"b":{},"b":{}}]']) {
    assert.match(await refusal(verifier, key.sign(header, `${payload.slice(0, -1)},${again}}`)), /payload/);
  }
  assert.match(await refusal(verifier, key.sign(`${header.slice(0, -1)},"alg":"none"}`, payload)), /header/);
  assert.match(await refusal(verifier, key.sign(header, "[]")), /payload/);
});

test("damaged and oversize ones are refused", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(PATIENT);
  const token = issuer.token();
  const signed = token.slice(0, token.lastIndexOf("."));
  for (const damaged of [
    "", "..", "é.é.é", undefined, 7, "lk_rt_AQGiBpdTdXo_pdCBgb1WwyEm96RMSWJBWoWTPpJIMFD4",
    token.slice(0, -1), token.slice(0, -4), `${token}A`, `${token}=`, `${token}.`, `${token}\n`, ` ${token}`,
    token.replace(".", ".."), signed, `${signed}.`, `${signed}.${"A".repeat(86)}`,
    token.slice(0, 30) + (token[30] === "A" ? "B" : "A") + token.slice(31),
  ]) {
    await refusal(verifier, damaged);
  }
  await verifier.verify(issuer.token({ jti: "x".repeat(5000) }));
  assert.match(await refusal(verifier, issuer.token({ jti: "x".repeat(6000) })), /too long/);
});

test("keys for something else, or weak, are left out", async () => {
  const [good, other] = [new SigningKey("ES256").jwk("one"), new SigningKey("EdDSA").jwk("two")];
  const weak = new SigningKey("RS256", generateKeyPairSync("rsa", { modulusLength: 1024 })).jwk("one");
  for (const entry of [
    7, null, { ...good, use: "enc" }, { ...good, key_ops: ["encrypt"] }, { ...good, alg: "RS256" }, { ...good, alg: "HS256" },
    { ...good, alg: undefined }, { ...good, kid: 7 }, { ...good, crv: "P-384" }, { ...good, x: "AAAA" },
    { kty: "oct", k: "c2VjcmV0", kid: "one", alg: "HS256" }, weak,
  ]) {
    assert.deepEqual([...(await readKeys({ keys: [entry, other] })).keys()], ["two"], JSON.stringify(entry));
  }
  for (const document of [null, [], {}, { keys: {} }]) await assert.rejects(readKeys(document), { name: "Malformed" });
});
