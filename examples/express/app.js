/** A small API whose callers sign in with Latchkey. This process verifies their tokens locally. */

import { env } from "node:process";

import express from "express";
import { claimsOf, createVerifier, expressMiddleware, requireRole } from "latchkey-verify";

const verifier = createVerifier({
  issuer: env.AUTH_ISSUER ?? "http://127.0.0.1:8080",
  audience: env.AUTH_AUDIENCE ?? "latchkey",
  clientId: env.AUTH_CLIENT_ID ?? "",
  clientSecret: env.AUTH_CLIENT_SECRET ?? "",
});

const app = express();
const signedIn = expressMiddleware(verifier);

// public
app.get("/", (request, response) => {
  response.json({ welcome: "Your orders are at /orders." });
});

// signed-in users
app.get("/orders", signedIn, (request, response) => {
  response.json({ orders_of: claimsOf(request).sub, orders: ["a lamp", "two chairs"] });
});

// signed-in users with the role admin
app.get("/admin/orders", signedIn, requireRole("admin"), (request, response) => {
  response.json({ orders: ["a lamp", "two chairs", "a table"] });
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
