/** WebSockets and streaming responses are closed when their session ends. */

import assert from "node:assert/strict";
import { createServer, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { test } from "node:test";

import websocket from "@fastify/websocket";
import express from "express";
import Fastify from "fastify";
import {
  claimsOf, closeOnEnd, expressMiddleware, fastifyHook, fastifyPlugin, registrationOf, requireAcr, requireRole, webSocketUpgrade,
} from "latchkey-verify";
import { WebSocket, WebSocketServer } from "ws";

import { claimsChange, FakeIssuer, LOGOUT, once, LONG_STALENESS, SUB, until } from "../fake-issuer.js";

/**
 * The handler of a WebSocket: answers each message with the caller's account id and the start of the message. If the message is
 * an access token, it renews the registration first.
 */
function chat(verifier) {
  return (socket, request) => {
    socket.on("message", async (message) => {
      const text = String(message);
      const isToken = text.startsWith("ey"); // the base64url form of `{"`
      if (isToken) await registrationOf(request).renew(text);
      socket.send(`${claimsOf(request).sub}: ${text.slice(0, 10)}`);
    });
  };
}

/** Serves the chat with the package `ws`. Resolves to the server's URL. */
async function serveWithWs(t, verifier, options) {
  const server = createServer((_, response) => response.writeHead(204).end());
  const sockets = new WebSocketServer({ noServer: true, path: "/chat" });
  sockets.on("connection", chat(verifier));
  server.on("upgrade", webSocketUpgrade(verifier, sockets, options));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `ws://127.0.0.1:${server.address().port}`;
}

/** Serves the chat with the Fastify plugin, which authenticates all routes. Resolves to the server's URL. */
async function serveWithFastifyPlugin(t, verifier, options = {}) {
  const app = Fastify();
  await app.register(websocket);
  const { guards = [], ...pluginOptions } = options;
  await app.register(fastifyPlugin(verifier, pluginOptions));
  app.get("/chat", { websocket: true, onRequest: guards }, chat(verifier));
  t.after(() => app.close());
  return (await app.listen({ port: 0, host: "127.0.0.1" })).replace("http", "ws");
}

/** Serves the chat with the Fastify hook on its route. Resolves to the server's URL. */
async function serveWithFastifyHook(t, verifier, options = {}) {
  const app = Fastify();
  const { guards = [], ...hookOptions } = options;
  await app.register(async (inner) => {
    await inner.register(websocket);
    inner.get("/chat", { websocket: true, onRequest: [fastifyHook(verifier, hookOptions), ...guards] }, chat(verifier));
  });
  t.after(() => app.close());
  return (await app.listen({ port: 0, host: "127.0.0.1" })).replace("http", "ws");
}

/** Opens a WebSocket. Resolves to it, or to the status, challenge and content type of the response that refuses the handshake. */
function dial(url, token) {
  const socket = new WebSocket(url, { headers: token ? { Authorization: `Bearer ${token}` } : {} });
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_, response) => {
      const { "www-authenticate": challenge, "content-type": contentType } = response.headers;
      resolve({ status: response.statusCode, challenge, contentType: contentType?.split(";")[0] });
      response.resume();
    });
    socket.on("error", reject);
  });
}

/** Waits until the server closes the WebSocket. Resolves to the close code and the reason. */
const closedWith = async (socket) => {
  const [code, reason] = await once(socket, "close");
  return [code, String(reason)];
};

/** Sends a message. Resolves to the answer. */
const say = async (socket, text) => {
  socket.send(text);
  return String((await once(socket, "message"))[0]);
};

const chatServers = { ws: serveWithWs, "Fastify plugin": serveWithFastifyPlugin, "Fastify hook": serveWithFastifyHook };

for (const [name, serve] of Object.entries(chatServers)) {
  test(`${name}: WebSocket closes when its session ends, and leaves no registration`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = `${await serve(t, verifier)}/chat`;
    const leaving = await dial(url, issuer.token());
    const staying = await dial(url, issuer.token());
    assert.equal(await say(leaving, "hello"), `${SUB}: hello`);
    assert.equal(verifier.registrations, 2);
    leaving.close();
    await until("the closed WebSocket is deregistered", () => verifier.registrations === 1);
    issuer.send(LOGOUT);
    assert.deepEqual(await closedWith(staying), [1008, "session_revoked"]);
    assert.equal(verifier.registrations, 0);
  });

  test(`${name}: WebSocket with older claims closes when the claims change, and a renewed one with the new claims stays open`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = `${await serve(t, verifier)}/chat`;
    const now = Math.floor(Date.now() / 1000);
    const anotherSession = "0d9b6c1e-52aa-4c0f-8f57-6a1f3f6f2b11";
    const notRenewed = await dial(url, issuer.token({ claims_version: 6 }));
    const renewed = await dial(url, issuer.token({ claims_version: 6 }));
    const ofAnotherSession = await dial(url, issuer.token({ claims_version: 6, sid: anotherSession }));
    // The newer claims end the session's other WebSocket before the event arrives. The new token expires later than the old one.
    const answer = await say(renewed, issuer.token({ claims_version: 7, exp: now + 900 }));
    assert.match(answer, /: ey/);
    assert.deepEqual(await closedWith(notRenewed), [1008, "claims_changed"]);
    issuer.send(claimsChange(7));
    assert.deepEqual(await closedWith(ofAnotherSession), [1008, "claims_changed"]);
    assert.equal(await say(renewed, "hello"), `${SUB}: hello`);
  });

  test(`${name}: WebSocket closes with 1013 when the verifier is closed`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const socket = await dial(`${await serve(t, verifier)}/chat`, issuer.token());
    verifier.close();
    assert.deepEqual(await closedWith(socket), [1013, "feed_lost"]);
  });

  test(`${name}: handshake without a sufficient token is refused with a problem`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = `${await serve(t, verifier, { guards: [requireRole("member"), requireAcr("aal2")] })}/chat`;
    const contentType = "application/problem+json";
    for (const [token, status, challenge] of [
      [undefined, 401, 'Bearer realm="latchkey"'],
      [issuer.token({ aud: "another" }), 401, 'Bearer realm="latchkey", error="invalid_token"'],
      [issuer.token(), 403, undefined],
      [issuer.token({ roles: ["member"] }), 401, 'Bearer realm="latchkey", error="insufficient_user_authentication", acr_values="aal2"'],
    ]) {
      assert.deepEqual(await dial(url, token), { status, challenge, contentType });
    }
    const socket = await dial(url, issuer.token({ roles: ["member"], acr: "aal2" }));
    assert.ok(socket instanceof WebSocket);
    socket.close();
    await until("nothing is registered", () => verifier.registrations === 0);
  });

  test(`${name}: WebSocket above maxRegistrations is closed at once`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live({ ...LONG_STALENESS, maxRegistrations: 1 });
    const url = `${await serve(t, verifier)}/chat`;
    const registered = await dial(url, issuer.token());
    const excess = await dial(url, issuer.token());
    assert.deepEqual(await closedWith(excess), [1013, "unavailable"]);
    assert.equal(await say(registered, "hello"), `${SUB}: hello`);
  });
}

test("webSocketUpgrade answers 404 for paths that the WebSocket server does not handle", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const url = await serveWithWs(t, await issuer.live(LONG_STALENESS));
  assert.equal((await dial(`${url}/other`, issuer.token())).status, 404);
});

test("webSocketUpgrade closes a WebSocket with 1011 after a fault, and sends no HTTP response into it", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  // the registration of the WebSocket, which follows its handshake, calls this
  verifier.onEnd = () => {
    throw new TypeError("a fault");
  };
  const warnings = [];
  const onWarning = ({ message }) => warnings.push(message);
  process.on("warning", onWarning);
  t.after(() => process.off("warning", onWarning));
  const socket = await dial(`${await serveWithWs(t, verifier)}/chat`, issuer.token());
  assert.deepEqual(await closedWith(socket), [1011, "internal error"]);
  assert.ok(warnings.some((warning) => warning.includes("closed with 1011: a fault")), String(warnings));
});

test("webSocketUpgrade throws for a guard that is not of this package", async (t) => {
  const issuer = await FakeIssuer.start(t);
  assert.throws(() => webSocketUpgrade(issuer.verifier(), new WebSocketServer({ noServer: true }), { guards: [() => {}] }), { name: "LatchkeyError" });
});

test("closeOnEnd: messages after the end are not delivered, and a silent peer is cut off", async (t) => {
  const issuer = await FakeIssuer.start(t);
  const verifier = await issuer.live(LONG_STALENESS);
  const delivered = [];
  const sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  t.after(() => sockets.close());
  await once(sockets, "listening");
  const accepted = new Promise((resolve) => {
    sockets.on("connection", async (socket) => {
      socket.on("message", (message) => delivered.push(String(message)));
      closeOnEnd(verifier, await verifier.verify(issuer.token()), socket);
      resolve(socket);
    });
  });
  // A peer of bare TCP, which does not answer the closing handshake and keeps sending.
  const peer = connect(sockets.address().port, "127.0.0.1");
  peer.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
  await accepted;
  // a text frame: final, two bytes, masked with zeros, "hi" (RFC 6455, section 5.2)
  const message = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
  peer.write(message);
  await until("the message is delivered", () => delivered.length === 1);
  const received = [];
  peer.on("data", (data) => {
    received.push(data);
    // a second message, after the server's close frame: it must not be delivered
    if (String(data).includes("session_revoked")) peer.write(message);
  });
  issuer.send(LOGOUT);
  await once(peer, "close");
  assert.deepEqual(delivered, ["hi"]);
  assert.match(String(Buffer.concat(received)), /session_revoked/);
});

/** For each path of the request, a function that starts a response without ending it. */
const STREAMS = {
  /** An event stream with the header passed to `writeHead`, which may not store it for `getHeader`. */
  events_write_head(response) {
    response.writeHead(200, { "Content-Type": "text/event-stream" }).write("data: 1\n\n");
  },
  /** An event stream with the header set by `setHeader`. */
  events_set_header(response) {
    response.setHeader("Content-Type", "text/event-stream; charset=utf-8");
    response.write("data: 1\n\n");
  },
  /** A body of unknown length. */
  bytes(response) {
    response.write("some");
  },
  /** The first half of a body of known length. */
  known_length(response) {
    response.writeHead(200, { "Content-Length": "8" }).write("some");
  },
};

/**
 * Sends a GET. Resolves to the response when its first bytes have arrived. The response's `outcome` resolves to "complete" or
 * "cut" when it has ended.
 */
function startResponse(url, token) {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { agent: false, headers: { Authorization: `Bearer ${token}` } }, (response) => {
      const outcome = new Promise((resolveOutcome) => {
        response.on("error", () => resolveOutcome("cut"));
        response.on("end", () => resolveOutcome("complete"));
      });
      response.once("data", () => resolve(Object.assign(response, { outcome })));
    });
    sent.on("error", reject).end();
  });
}

/**
 * For each framework, a function that starts an app and resolves to its URL. The app pushes its open responses to `open`, which
 * is not an option of the middleware. At `/late` the app sends nothing: the test does.
 */
const frameworks = {
  async Express(t, verifier, { open = [], ...options } = {}) {
    const app = express();
    app.use(expressMiddleware(verifier, options));
    for (const [name, stream] of Object.entries(STREAMS)) {
      app.get(`/${name}`, (_, response) => {
        stream(response);
        open.push(response);
      });
    }
    app.get("/late", (_, response) => open.push(response));
    const server = app.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    return `http://127.0.0.1:${server.address().port}`;
  },
  async Fastify(t, verifier, { open = [], ...options } = {}) {
    const app = Fastify({ forceCloseConnections: true });
    await app.register(fastifyPlugin(verifier, options));
    for (const [name, stream] of Object.entries(STREAMS)) {
      app.get(`/${name}`, (_, reply) => {
        reply.hijack();
        stream(reply.raw);
        open.push(reply.raw);
      });
    }
    app.get("/late", (_, reply) => {
      reply.hijack();
      open.push(reply.raw);
    });
    t.after(() => app.close());
    return app.listen({ port: 0, host: "127.0.0.1" });
  },
};

for (const [name, serve] of Object.entries(frameworks)) {
  test(`${name}: streaming response ends with its session, and a body of known length does not`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const open = [];
    const url = await serve(t, verifier, { open });
    const paths = ["events_set_header", "bytes", "known_length"];
    const [events, bytes, known] = await Promise.all(paths.map((path) => startResponse(`${url}/${path}`, issuer.token())));
    assert.equal(verifier.registrations, 3);
    issuer.send(LOGOUT);
    assert.deepEqual(await Promise.all([events.outcome, bytes.outcome]), ["complete", "cut"]);
    // The second half of the body of known length. The other two responses have ended: writing to them must not crash the app.
    for (const response of open) response.write("more");
    assert.equal(await known.outcome, "complete");
    await until("nothing is registered", () => verifier.registrations === 0);
  });

  test(`${name}: event stream whose headers the framework did not see ends, too`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const url = await serve(t, verifier);
    const response = await startResponse(`${url}/events_write_head`, issuer.token());
    issuer.send(LOGOUT);
    // Either outcome is right: the middleware recognizes an event stream, and completes it, only if `writeHead` stored its headers.
    assert.ok(["complete", "cut"].includes(await response.outcome));
  });

  test(`${name}: response that the app sends as a whole after the session's end is let through, a stream is cut`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const open = [];
    const url = await serve(t, verifier, { open });
    const responses = [startResponse(`${url}/late`, issuer.token()), startResponse(`${url}/late`, issuer.token())];
    await until("both requests are being handled", () => open.length === 2);
    issuer.send(LOGOUT);
    await until("the session has ended", () => verifier.registrations === 0);
    open[0].end("whole");
    open[1].write("some");
    // A stream may be cut before its first bytes arrive: `startResponse` then rejects.
    const outcomes = await Promise.all(responses.map((response) => response.then(({ outcome }) => outcome, () => "cut")));
    // sorted, since the app may have got the requests in either order
    assert.deepEqual(outcomes.sort(), ["complete", "cut"]);
  });

  test(`${name}: closeOnEnd: false leaves responses alone`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live(LONG_STALENESS);
    const open = [];
    const url = await serve(t, verifier, { open, closeOnEnd: false });
    const response = await startResponse(`${url}/bytes`, issuer.token());
    assert.equal(verifier.registrations, 0);
    issuer.send(LOGOUT);
    await until("the session has ended", () => verifier.verify(issuer.token()).then(() => false, () => true));
    open[0].end("more");
    assert.equal(await response.outcome, "complete");
  });

  test(`${name}: request above maxRegistrations is answered 503`, async (t) => {
    const issuer = await FakeIssuer.start(t);
    const verifier = await issuer.live({ ...LONG_STALENESS, maxRegistrations: 1 });
    const url = await serve(t, verifier);
    await startResponse(`${url}/bytes`, issuer.token());
    const refused = await startResponse(`${url}/bytes`, issuer.token());
    assert.equal(refused.statusCode, 503);
    assert.equal(refused.headers["retry-after"], "1");
  });
}
