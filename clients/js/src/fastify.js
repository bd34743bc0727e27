/** For Fastify: a hook for single routes, and a plugin for all routes of a scope. */

import { endResponseOnEnd } from "./connections.js";
import { authenticate, refusalOfError } from "./guard.js";
import { watch as closeSocketOnEnd } from "./upgrade.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {import("node:http").ServerResponse} ServerResponse */
/** @typedef {{ raw: IncomingMessage, server?: object }} FastifyRequest The part of Fastify's request that the hook uses. */
/** @typedef {{ code(status: number): FastifyReply, headers(values: Record<string, string>): FastifyReply, send(body: string): unknown, raw: ServerResponse }} FastifyReply */
/** @typedef {(request: FastifyRequest, reply: FastifyReply) => Promise<unknown>} Hook */
/** @typedef {{ decorateRequest(name: string, value: null): unknown, addHook(name: "onRequest", hook: Hook): unknown }} FastifyInstance */
/** @typedef {import("./verifier.js").Verifier} Verifier */
/** @typedef {import("./guard.js").Claims} Claims */

/**
 * The verifier and the claims of each WebSocket handshake that the hook has let pass.
 *
 * @type {WeakMap<IncomingMessage, { verifier: Verifier, claims: Claims }>}
 */
const HANDSHAKES = new WeakMap();

/**
 * The servers of `@fastify/websocket` that already have the listener {@link onConnection}.
 *
 * @type {WeakSet<object>}
 */
const WITH_LISTENER = new WeakSet();

/**
 * Creates an `onRequest` hook. The hook lets requests with a valid access token pass and sets `request.auth` to the claims. It answers
 * other requests with 401 and a challenge, or with 503 if the token cannot be verified now. When the session ends, it closes the
 * session's WebSockets (of `@fastify/websocket`) and ends its streaming responses.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {Hook}
 */
export function fastifyHook(verifier, options = {}) {
  return async (request, reply) => {
    const outcome = await authenticate(verifier, request.raw, options);
    if ("refusal" in outcome) return refuse(reply, outcome.refusal);
    try {
      if (options.closeOnEnd ?? true) closeConnectionOnEnd(verifier, outcome.claims, request, reply);
    } catch (error) {
      // `refusalOfError` knows the error of a verifier that has `maxRegistrations` already.
      const refusal = refusalOfError(error);
      if (refusal) return refuse(reply, refusal);
      throw error;
    }
    Object.assign(request, { auth: outcome.claims });
    return undefined;
  };
}

/**
 * Creates a plugin that adds the hook of {@link fastifyHook} to every route of the scope that it is registered in.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(fastify: FastifyInstance) => Promise<void>}
 */
export function fastifyPlugin(verifier, options = {}) {
  /** @param {FastifyInstance} fastify */
  const plugin = async (fastify) => {
    fastify.decorateRequest("auth", null);
    fastify.addHook("onRequest", fastifyHook(verifier, options));
  };
  // Without this symbol Fastify would confine the hook to a scope of its own.
  return Object.assign(plugin, { [Symbol.for("skip-override")]: true });
}

/**
 * Sends a refusal. Returns the reply, so that the hook can tell Fastify by returning it that the request is answered.
 *
 * @param {FastifyReply} reply
 * @param {import("./guard.js").Refusal} refusal
 */
function refuse(reply, { status, headers, body }) {
  reply.code(status).headers(headers).send(body);
  return reply;
}

/**
 * Ends the response when the session ends. If the request is the handshake of a WebSocket, closes the WebSocket instead.
 *
 * @param {Verifier} verifier
 * @param {Claims} claims
 * @param {FastifyRequest} request
 * @param {FastifyReply} reply
 */
function closeConnectionOnEnd(verifier, claims, { raw, server }, reply) {
  // `@fastify/websocket` adds this property to Fastify's instance.
  const { websocketServer } = /** @type {{ websocketServer?: import("node:events").EventEmitter }} */ (server ?? {});
  if (raw.headers.upgrade === undefined || !websocketServer) {
    endResponseOnEnd(verifier, claims, raw, reply.raw);
    return;
  }
  // The WebSocket exists only after the handshake: the listener gets it, together with the request of the handshake.
  HANDSHAKES.set(raw, { verifier, claims });
  if (WITH_LISTENER.has(websocketServer)) return;
  WITH_LISTENER.add(websocketServer);
  websocketServer.on("connection", onConnection);
}

/**
 * When the session ends, closes a WebSocket that `@fastify/websocket` has accepted.
 *
 * @param {import("./connections.js").WebSocketLike} socket
 * @param {IncomingMessage} request
 */
function onConnection(socket, request) {
  const handshake = HANDSHAKES.get(request);
  // Missing if the route of the handshake does not have the hook.
  if (handshake) closeSocketOnEnd(handshake.verifier, handshake.claims, socket, request);
}
