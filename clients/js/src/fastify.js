/** For Fastify: a hook for single routes, and a plugin for all routes of a scope. */

import { authenticate } from "./guard.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {{ raw: IncomingMessage }} FastifyRequest The part of Fastify's request that is used. */
/** @typedef {{ code(status: number): FastifyReply, headers(values: Record<string, string>): FastifyReply, send(body: string): unknown }} FastifyReply */
/** @typedef {(request: FastifyRequest, reply: FastifyReply) => Promise<unknown>} Hook */
/** @typedef {{ decorateRequest(name: string, value: null): unknown, addHook(name: "onRequest", hook: Hook): unknown }} FastifyInstance */

/**
 * An `onRequest` hook: lets requests with a valid access token pass and sets `request.auth` to the claims. Answers others with
 * 401 and a challenge, or with 503 if the token cannot be verified now.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {Hook}
 */
export function fastifyHook(verifier, options = {}) {
  return async (request, reply) => {
    const outcome = await authenticate(verifier, request.raw, options);
    if ("claims" in outcome) {
      Object.assign(request, { auth: outcome.claims });
      return undefined;
    }
    const { status, headers, body } = outcome.refusal;
    reply.code(status).headers(headers).send(body);
    return reply;
  };
}

/**
 * A plugin that adds the hook to every route of the scope that it is registered in.
 *
 * @param {import("./verifier.js").Verifier} verifier
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
