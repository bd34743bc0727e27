/**
 * Creates an `onRequest` hook. The hook lets requests with a valid access token pass and sets `request.auth` to the claims. It answers
 * other requests with 401 and a challenge, or with 503 if the token cannot be verified now. When the session ends, it closes the
 * session's WebSockets (of `@fastify/websocket`) and ends its streaming responses.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {Hook}
 */
export function fastifyHook(verifier: Verifier, options?: import("./guard.js").GuardOptions): Hook;
/**
 * Creates a plugin that adds the hook of {@link fastifyHook} to every route of the scope that it is registered in.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(fastify: FastifyInstance) => Promise<void>}
 */
export function fastifyPlugin(verifier: Verifier, options?: import("./guard.js").GuardOptions): (fastify: FastifyInstance) => Promise<void>;
export type IncomingMessage = import("node:http").IncomingMessage;
export type ServerResponse = import("node:http").ServerResponse;
/**
 * The part of Fastify's request that the hook uses.
 */
export type FastifyRequest = {
    raw: IncomingMessage;
    server?: object;
};
export type FastifyReply = {
    code(status: number): FastifyReply;
    headers(values: Record<string, string>): FastifyReply;
    send(body: string): unknown;
    raw: ServerResponse;
};
export type Hook = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;
export type FastifyInstance = {
    decorateRequest(name: string, value: null): unknown;
    addHook(name: "onRequest", hook: Hook): unknown;
};
export type Verifier = import("./verifier.js").Verifier;
export type Claims = import("./guard.js").Claims;
