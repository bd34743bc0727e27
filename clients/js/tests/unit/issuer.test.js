/** The documents of the issuer: bodies that are not unambiguous JSON, and JWK Sets with many keys. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { IssuerClient } from "../../src/issuer.js";
import { parseJwks } from "../../src/jwks.js";
import { SigningKey } from "../fake-issuer.js";

const INVALID_BODIES = {
  "incomplete JSON": "{",
  "invalid UTF-8": Buffer.from([0x22, 0xff, 0x22]),
  "a duplicate member": '{"issuer": "one", "issuer": "two"}',
};

for (const [name, body] of Object.entries(INVALID_BODIES)) {
  test(`document with ${name} is refused with a ProtocolError that names its path`, async (t) => {
    const server = createServer((_, response) => response.end(body));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    const issuer = new IssuerClient({
      issuer: `http://127.0.0.1:${server.address().port}`,
      clientId: "shop",
      clientSecret: "secret",
      requestTimeoutMs: 60_000,
      keysMaxAgeMs: 60_000,
      fetch,
    });
    const message = "/.well-known/openid-configuration did not answer with valid JSON";
    await assert.rejects(issuer.keys(), { name: "ProtocolError", message });
  });
}

test("keys after the hundredth of a JWK Set are ignored", async () => {
  const jwk = new SigningKey("ES256").jwk("any");
  const published = Array.from({ length: 101 }, (_, number) => ({ ...jwk, kid: String(number) }));
  const keys = await parseJwks({ keys: published });
  assert.deepEqual([...keys.keys()], published.slice(0, 100).map(({ kid }) => kid));
});
