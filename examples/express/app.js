/** A small API whose callers sign in with Latchkey. Their tokens are checked in this process, without asking anybody. */

import { env } from "node:process";

import express from "express";
import { claimsOf, createVerifier, expressMiddleware } from "latchkey-verify";

const verifier = createVerifier({
  issuer: env.AUTH_ISSUER ?? "http://127.0.0.1:8080",
  audience: env.AUTH_AUDIENCE ?? "latchkey",
  clientId: env.AUTH_CLIENT_ID ?? "",
  clientSecret: env.AUTH_CLIENT_SECRET ?? "",
  log: (message) => console.warn(`latchkey: ${message}`),
});

const app = express();

// for everybody
app.get("/", (request, response) => {
  response.json({ welcome: "Your orders are at /orders." });
});

// for those who are signed in
app.get("/orders", expressMiddleware(verifier), (request, response) => {
  response.json({ orders_of: claimsOf(request).sub, orders: ["a lamp", "two chairs"] });
});

const server = app.listen(Number(env.PORT ?? 8000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.close();
    server.closeAllConnections();
    verifier.close();
  });
}
