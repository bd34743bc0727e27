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
export function fastifyHook(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): Hook;
/**
 * A plugin that has the hook run before every route of the scope that it is registered in.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(fastify: FastifyInstance) => Promise<void>}
 */
export function fastifyPlugin(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): (fastify: FastifyInstance) => Promise<void>;
export type IncomingMessage = import("node:http").IncomingMessage;
/**
 * What is needed of Fastify's.
 */
export type FastifyRequest = {
    raw: IncomingMessage;
};
export type FastifyReply = {
    code(status: number): FastifyReply;
    headers(values: Record<string, string>): FastifyReply;
    send(body: string): unknown;
};
export type Hook = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
export type FastifyInstance = {
    decorateRequest(name: string, value: null): unknown;
    addHook(name: "onRequest", hook: Hook): unknown;
};
