/** The middlewares and guards in real servers. unit/cases.test.js has the statuses and challenges. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { claimsOf, requireAcr, requireRole, requireScope } from "latchkey-verify";

import { servers, get } from "../apps.js";
import { FakeIssuer, LONG_STALENESS, SUB } from "../fake-issuer.js";

for (const [name, serve] of Object.entries(servers)) {
  test(`${name}: valid token passes with its claims`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const url = await serve(t, await issuer.live(LONG_STALENESS));
    assert.equal((await get(`${url}/`, `Bearer ${issuer.token()}`)).text, SUB);
  });

  test(`${name}: refusal is an uncached problem document with type, code and status`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const url = await serve(t, await issuer.live(LONG_STALENESS));
    // /role requires the role admin, /scope requires orders scopes: the tokens have neither.
    for (const [path, authorization, code] of [
      ["/", [], "authentication_required"],
      ["/", [`Bearer ${issuer.token({ aud: "another" })}`], "invalid_token"],
      ["/role", [`Bearer ${issuer.token()}`], "insufficient_role"],
      ["/scope", [`Bearer ${issuer.token()}`], "insufficient_scope"],
    ]) {
      const { status, headers, text } = await get(url + path, ...authorization);
      assert.equal(headers["content-type"].split(";")[0], "application/problem+json");
      assert.equal(headers["cache-control"], "no-store");
      const problem = JSON.parse(text);
      assert.deepEqual([problem.type, problem.code, problem.status], [`urn:latchkey:problem:${code}`, code, status]);
      assert.ok(problem.title && problem.detail);
    }
  });
}

test("claimsOf throws for a request that is not authenticated", () => {
  assert.throws(() => claimsOf({}), { name: "LatchkeyError" });
});

test("requireRole passes an error to next for a request that is not authenticated", () => {
  let error;
  requireRole("admin")({}, {}, (passed) => (error = passed));
  assert.equal(error.name, "LatchkeyError");
});

test("guard with a scope or an acr that no challenge can quote is refused", () => {
  for (const value of ["", "orders:read orders:write", 'a"b', "a\\b", "a\tb", "é", 7]) {
    assert.throws(() => requireScope("orders:read", value), { name: "LatchkeyError" }, String(value));
    assert.throws(() => requireAcr("aal1", value), { name: "LatchkeyError" }, String(value));
  }
  requireScope("orders:read", "https://api.example.com/", "!#[]~");
});
