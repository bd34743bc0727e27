/** Express and Fastify apps with the paths that tests/fixtures/verifier_cases.json names, and an HTTP client. */

import { request } from "node:http";

import express from "express";
import Fastify from "fastify";
import { claimsOf, expressMiddleware, fastifyHook, fastifyPlugin, requireRole, requireScope } from "latchkey-verify";

const adminsOnly = requireRole("admin");
const ordersScopes = requireScope("orders:read", "orders:write");

async function onExpress(t, verifier) {
  const app = express();
  const sendSubject = (request, response) => response.send(claimsOf(request).sub);
  // before the middleware of all other paths, which refuses the tokens of service clients
  app.get("/clients", expressMiddleware(verifier, { allowClients: true }), sendSubject);
  app.use(expressMiddleware(verifier));
  app.get(["/", "/lost"], sendSubject);
  app.get("/role", adminsOnly, sendSubject);
  app.get("/scope", ordersScopes, sendSubject);
  const server = app.listen(0, "127.0.0.1");
  await new Promise((resolve) => server.on("listening", resolve));
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

async function onFastify(t, verifier) {
  const app = Fastify();
  const sendSubject = async (request) => claimsOf(request).sub;
  // the plugin applies to the paths of this scope only, so not to `/clients`
  await app.register(async (scope) => {
    await scope.register(fastifyPlugin(verifier));
    for (const path of ["/", "/lost"]) scope.get(path, sendSubject);
    scope.get("/role", { onRequest: adminsOnly }, sendSubject);
    scope.get("/scope", { onRequest: ordersScopes }, sendSubject);
  });
  app.get("/clients", { onRequest: fastifyHook(verifier, { allowClients: true }) }, sendSubject);
  t.after(() => app.close());
  return app.listen({ port: 0, host: "127.0.0.1" });
}

/**
 * Each function starts an app, which runs until the test ends, and resolves to its URL. The app answers `/lost` like `/`: the test
 * that requests `/lost` starts the app with a verifier whose feed is lost.
 */
export const servers = { Express: onExpress, Fastify: onFastify };

/** Sends a GET with any number of Authorization headers. */
export const get = (url, ...authorization) =>
  new Promise((resolve, reject) => {
    const headers = authorization.length > 0 ? { Authorization: authorization } : {};
    // without an agent, each request has a connection of its own, and none stays open
    request(url, { headers, agent: false }, async (response) => {
      let text = "";
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, headers: response.headers, text });
    })
      .on("error", reject)
      .end();
  });
