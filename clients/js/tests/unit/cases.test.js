/** Tests the verifier and its middleware with the cases that the verifiers in all languages share (tests/fixtures/verifier_cases.json). */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { get, servers } from "../apps.js";
import { FakeIssuer, LONG_STALENESS } from "../fake-issuer.js";

const CASES = JSON.parse(readFileSync(new URL("../../../../tests/fixtures/verifier_cases.json", import.meta.url), "utf8"));
/** The object without the members with these names. */
const without = (object, names = []) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));
/** Inserts a member as text, because a case may repeat a member, and an object cannot have a member twice. */
const withMember = (json, member) => (member === undefined ? json : `{${member},${json.slice(1)}`);

/** The token that a case describes. */
function tokenOf(issuer, testCase) {
  if (testCase.token !== undefined) return testCase.token;
  const now = Math.floor(Date.now() / 1000);
  // "__6000__" in a case stands for a text of 6000 characters, which makes the token longer than verifiers accept.
  const claims = JSON.parse(JSON.stringify(testCase.claims ?? {}).replace("__6000__", "x".repeat(6000)));
  const times = Object.fromEntries(Object.entries(testCase.times ?? {}).map(([name, offset]) => [name, now + offset]));
  const header = without({ ...issuer.header(), ...testCase.header }, testCase.remove_header);
  const payload = without({ ...issuer.payload(), ...claims, ...times }, testCase.remove);
  const headerText = withMember(JSON.stringify(header), testCase.header_member);
  const payloadText = withMember(testCase.payload ?? JSON.stringify(payload), testCase.payload_member);
  const signed = issuer.keys.one.sign(headerText, payloadText);
  const signature = /[^.]*$/;
  const token = testCase.signature === undefined ? signed : signed.replace(signature, testCase.signature);
  return token + (testCase.suffix ?? "");
}

test("shared cases: valid tokens are accepted", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  for (const testCase of CASES.valid) {
    const claims = await verifier.verify(tokenOf(issuer, testCase)).catch((error) => assert.fail(`${testCase.name}: ${error}`));
    assert.equal(claims.iss, issuer.url);
  }
});

test("shared cases: invalid tokens are refused with their reason", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  for (const testCase of CASES.tokens) {
    const outcome = await verifier.verify(tokenOf(issuer, testCase)).then(() => "accepted", (error) => error.reason ?? String(error));
    assert.equal(outcome, testCase.reason, testCase.name);
  }
});

for (const [name, serve] of Object.entries(servers)) {
  test(`shared cases: ${name} answers each request with the expected status and challenge`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const tokens = {
      user: issuer.token(),
      admin: issuer.token({ roles: ["admin"], scope: "account orders:read orders:write" }),
      // A service client's own token has no session.
      client: issuer.token({ sub: "robot", client_id: "robot", sid: undefined, auth_time: undefined }),
      expired: issuer.token({ exp: Math.floor(Date.now() / 1000) - 60 }),
    };
    const liveUrl = await serve(t, await issuer.live(LONG_STALENESS));
    // From here on the issuer refuses subscriptions, so the feed of the second verifier never becomes live.
    issuer.feed = null;
    const lostUrl = await serve(t, issuer.verifier(LONG_STALENESS));
    for (const { name, path = "/", authorization, status, www_authenticate, retry_after } of CASES.requests) {
      // "{user}" in a case stands for the token `tokens.user`.
      const values = authorization.map((value) => value.replace(/\{(\w+)\}/, (_, token) => tokens[token]));
      const baseUrl = path === "/lost" ? lostUrl : liveUrl;
      const response = await get(baseUrl + path, ...values);
      const got = [response.status, response.headers["www-authenticate"], response.headers["retry-after"]];
      assert.deepEqual(got, [status, www_authenticate, retry_after], name);
    }
  });
}
