/** A small API whose callers sign in with Latchkey. This process verifies their tokens locally. */

import { env } from "node:process";

import express from "express";
import { claimsOf, createVerifier, expressMiddleware, registrationOf, requireAuthentication, requireRole, webSocketUpgrade } from "latchkey-verify";
import { WebSocketServer } from "ws";

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

// signed-in users who authenticated with two factors (aal2) in the last five minutes (RFC 9470)
app.delete("/orders", signedIn, requireAuthentication({ acr: "aal2", maxAge: 300 }), (request, response) => {
  response.json({ deleted: true });
});

const server = app.listen(Number(env.PORT ?? 8000), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`);
});

// A chat of signed-in users. A WebSocket closes by itself when its session ends. A client that has refreshed its access token sends
// "/token", a space and the new token: otherwise its WebSocket closes when the old token expires.
const TOKEN_COMMAND = "/token ";
const chat = new WebSocketServer({ noServer: true, path: "/chat", maxPayload: 4096 });
server.on("upgrade", webSocketUpgrade(verifier, chat));

chat.on("connection", (socket, request) => {
  const name = claimsOf(request).sub;
  // without this listener, an error of one socket would end the process
  socket.on("error", () => socket.terminate());
  socket.on("message", async (data) => {
    const message = String(data);
    if (!message.startsWith(TOKEN_COMMAND)) {
      for (const member of chat.clients) member.send(`${name}: ${message}`);
      return;
    }
    try {
      await registrationOf(request).renew(message.slice(TOKEN_COMMAND.length));
    } catch (error) {
      socket.send(`not renewed: ${error.message}`);
    }
  });
});

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.close();
    // ends idle and running requests; the verifier closes the WebSockets
    server.closeAllConnections();
    verifier.close();
  });
}
