/** Tests the middlewares and guards in real servers. unit/cases.test.js tests the statuses and challenges of refusals. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { claimsOf, requireAcr, requireRole, requireScope } from "latchkey-verify";

import { servers, get } from "../apps.js";
import { FakeIssuer, LONG_STALENESS, SUB } from "../fake-issuer.js";

for (const [name, serve] of Object.entries(servers)) {
  test(`${name}: valid token passes with its claims`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = await serve(t, verifier);
    const { text } = await get(`${url}/`, `Bearer ${issuer.token()}`);
    assert.equal(text, SUB); // "/" answers with the claim `sub`
  });

  test(`${name}: refusal is an uncached problem document with type, code and status`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = await serve(t, verifier);
    // /role requires the role admin, and /scope the scopes orders:read and orders:write. The tokens have none of them.
    for (const [path, authorizationHeaders, code] of [
      ["/", [], "authentication_required"],
      ["/", [`Bearer ${issuer.token({ aud: "another" })}`], "invalid_token"],
      ["/role", [`Bearer ${issuer.token()}`], "insufficient_role"],
      ["/scope", [`Bearer ${issuer.token()}`], "insufficient_scope"],
    ]) {
      const { status, headers, text } = await get(url + path, ...authorizationHeaders);
      assert.equal(headers["content-type"].split(";")[0], "application/problem+json");
      assert.equal(headers["cache-control"], "no-store");
      const problem = JSON.parse(text);
      assert.equal(problem.type, `urn:latchkey:problem:${code}`);
      assert.equal(problem.code, code);
      assert.equal(problem.status, status);
      assert.ok(problem.title);
      assert.ok(problem.detail);
    }
  });
}

test("claimsOf throws for a request that is not authenticated", () => {
  assert.throws(() => claimsOf({}), { name: "LatchkeyError" });
});

test("requireRole passes an error to next for a request that is not authenticated", () => {
  const guard = requireRole("admin");
  const request = {}; // no middleware has added claims
  const response = {};
  let passed;
  guard(request, response, (error) => {
    passed = error;
  });
  assert.equal(passed.name, "LatchkeyError");
});

test("guard with a scope or an acr that no challenge can quote is refused", () => {
  for (const value of ["", "orders:read orders:write", 'a"b', "a\\b", "a\tb", "é", 7]) {
    assert.throws(() => requireScope("orders:read", value), { name: "LatchkeyError" }, String(value));
    assert.throws(() => requireAcr("aal1", value), { name: "LatchkeyError" }, String(value));
  }
  // Accepted: the first and the last character that RFC 6749 allows in a scope, and the neighbours of the refused `"` and `\`.
  requireScope("orders:read", "https://api.example.com/", "!#[]~");
});
