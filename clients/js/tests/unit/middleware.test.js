/** The middlewares, in real servers. */

import assert from "node:assert/strict";
import { request } from "node:http";
import { test } from "node:test";

import express from "express";
import Fastify from "fastify";
import { claimsOf, expressMiddleware, fastifyHook, fastifyPlugin } from "latchkey-verify";

import { FakeIssuer, PATIENT, SID } from "../fake-issuer.js";

async function onExpress(t, verifier) {
  const app = express();
  app.get("/stock", expressMiddleware(verifier, { allowClients: true }), (request, response) => response.send(claimsOf(request).sub));
  app.use(expressMiddleware(verifier));
  app.get("/orders", (request, response) => response.send(claimsOf(request).sid));
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

async function onFastify(t, verifier) {
  const app = Fastify();
  await app.register(async (inner) => {
    await inner.register(fastifyPlugin(verifier));
    inner.get("/orders", async (request) => claimsOf(request).sid);
  });
  app.get("/stock", { onRequest: fastifyHook(verifier, { allowClients: true }) }, async (request) => claimsOf(request).sub);
  t.after(() => app.close());
  return app.listen({ port: 0, host: "127.0.0.1" });
}

const get = (url, ...authorization) =>
  new Promise((resolve, reject) => {
    const headers = authorization.length > 0 ? { Authorization: authorization } : {};
    request(url, { headers, agent: false }, async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, headers: response.headers, text });
    })
      .on("error", reject)
      .end();
  });

for (const [name, serve] of Object.entries({ Express: onExpress, Fastify: onFastify })) {
  test(`${name}: a good token passes, another is challenged`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const url = await serve(t, await issuer.live(PATIENT));
    const good = `Bearer ${issuer.token()}`;
    assert.deepEqual([(await get(`${url}/orders`, good)).text, (await get(`${url}/orders`, good)).status], [SID, 200]);
    for (const wrong of [[], ["Basic YTpi"], ["Bearer"], [good, good]]) {
      const { status, headers } = await get(`${url}/orders`, ...wrong);
      assert.deepEqual([status, headers["www-authenticate"]], [401, 'Bearer realm="latchkey"'], String(wrong));
    }
    const { status, headers, text } = await get(`${url}/orders`, `Bearer ${issuer.token({ aud: "another" })}`);
    assert.deepEqual([status, headers["www-authenticate"]], [401, 'Bearer realm="latchkey", error="invalid_token"']);
    assert.equal(headers["content-type"].split(";")[0], "application/problem+json");
    assert.equal(JSON.parse(text).status, 401);
  });

  test(`${name}: a service client is no user`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const url = await serve(t, await issuer.live(PATIENT));
    const robot = `Bearer ${issuer.token({ sub: "robot", sid: undefined, auth_time: undefined })}`;
    assert.equal((await get(`${url}/orders`, robot)).status, 401);
    assert.equal((await get(`${url}/stock`, robot)).text, "robot");
  });

  test(`${name}: what can't be known is said so`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    issuer.feed = null;
    const url = await serve(t, issuer.verifier(PATIENT));
    const { status, headers } = await get(`${url}/orders`, `Bearer ${issuer.token()}`);
    assert.deepEqual([status, headers["retry-after"]], [503, "1"]);
  });
}

test("claims of a request that went past no middleware are not made up", () => {
  assert.throws(() => claimsOf({}), { name: "LatchkeyError" });
});
