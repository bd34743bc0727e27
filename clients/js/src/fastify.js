/** For Fastify: a hook for single routes, and a plugin for all routes of a scope. */

import { guard } from "./guard.js";

/** @typedef {import("node:http").IncomingMessage} IncomingMessage */
/** @typedef {{ raw: IncomingMessage }} FastifyRequest What is needed of Fastify's. */
/** @typedef {{ code(status: number): FastifyReply, headers(values: Record<string, string>): FastifyReply, send(body: string): unknown }} FastifyReply */
/** @typedef {(request: FastifyRequest, reply: FastifyReply) => Promise<unknown>} Hook */
/** @typedef {{ decorateRequest(name: string, value: null): unknown, addHook(name: "onRequest", hook: Hook): unknown }} FastifyInstance */

/**
 * An `onRequest` hook: lets requests with a good access token pass, with `request.auth` set to its claims; answers others with
 * 401 and a challenge, or 503 where it can't be known.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {Hook}
 */
export function fastifyHook(verifier, options = {}) {
  return async (request, reply) => {
    const outcome = await guard(verifier, request.raw, options);
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
 * A plugin that has the hook run before every route of the scope that it is registered in.
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
  // Fastify would keep it to a scope of its own
  return Object.assign(plugin, { [Symbol.for("skip-override")]: true });
}
