/**
 * An `onRequest` hook: lets requests with a valid access token pass and sets `request.auth` to the claims. Answers others with
 * 401 and a challenge, or with 503 if the token cannot be verified now. Closes WebSockets (of `@fastify/websocket`) and ends
 * streaming responses when the session ends.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {Hook}
 */
export function fastifyHook(verifier: Verifier, options?: import("./guard.js").GuardOptions): Hook;
/**
 * A plugin that adds the hook to every route of the scope that it is registered in.
 *
 * @param {Verifier} verifier
 * @param {import("./guard.js").GuardOptions} [options]
 * @returns {(fastify: FastifyInstance) => Promise<void>}
 */
export function fastifyPlugin(verifier: Verifier, options?: import("./guard.js").GuardOptions): (fastify: FastifyInstance) => Promise<void>;
export type IncomingMessage = import("node:http").IncomingMessage;
export type ServerResponse = import("node:http").ServerResponse;
/**
 * The part of Fastify's request that is used.
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
