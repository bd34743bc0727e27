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
export function fastifyHook(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): Hook;
/**
 * A plugin that adds the hook to every route of the scope that it is registered in.
 *
 * @param {import("./verifier.js").Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(fastify: FastifyInstance) => Promise<void>}
 */
export function fastifyPlugin(verifier: import("./verifier.js").Verifier, options?: import("./guard.js").GuardOptions): (fastify: FastifyInstance) => Promise<void>;
export type IncomingMessage = import("node:http").IncomingMessage;
/**
 * The part of Fastify's request that is used.
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
