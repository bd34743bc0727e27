/** The real service that the driver in tests/it/clients started, and its users. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { env } from "node:process";

import { createVerifier } from "latchkey-verify";

export const PASSWORD = "tidal engine verse marmalade";
export const ISSUER = env.TEST_SERVICE_ISSUER;
export const CLIENT = { clientId: env.TEST_SERVICE_CLIENT_ID, clientSecret: env.TEST_SERVICE_CLIENT_SECRET };

/**
 * Sends a POST request with `body` as JSON, or as a form if it is `URLSearchParams`. Resolves to the body of the response, and rejects if
 * it is not a success.
 */
export async function call(path, body, headers = {}) {
  const isForm = body instanceof URLSearchParams;
  // `fetch` sets the content type of a form itself
  const contentType = isForm ? {} : { "Content-Type": "application/json" };
  const request = { method: "POST", headers: { ...contentType, ...headers }, body: isForm ? body : JSON.stringify(body) };
  const response = await fetch(ISSUER + path, request);
  const text = await response.text();
  assert.ok(response.ok, text);
  return text === "" ? undefined : JSON.parse(text);
}

/** Runs a `latchkey` command, such as `client add`, and returns its output. */
export const command = (...words) => execFileSync(env.TEST_SERVICE_BINARY, words, { cwd: env.TEST_SERVICE_FOLDER, encoding: "utf8" });

/** Starts a verifier, and resolves when its feed is live. The verifier is closed when the test ends. */
export async function liveVerifier(t, options) {
  const verifier = createVerifier({ issuer: ISSUER, audience: "latchkey", ...CLIENT, ...options });
  t.after(() => verifier.close());
  assert.ok(await verifier.waitLive(60_000), "the feed is not live after a minute");
  return verifier;
}

/** A user with an account, whose username is random because the tests share one service. */
export class User {
  name = `u${randomUUID().replaceAll("-", "").slice(0, 12)}`;

  static async register() {
    const user = new User();
    await call("/v1/users", { email: `${user.name}@example.com`, username: user.name, password: PASSWORD });
    return user;
  }

  signIn(password = PASSWORD) {
    return call("/v1/login", { identifier: this.name, password });
  }

  signOut({ refresh_token }) {
    return call("/v1/logout", { refresh_token });
  }

  /** Changes the password from PASSWORD to a new one. */
  changePassword({ access_token }, newPassword) {
    const body = { current_password: PASSWORD, new_password: newPassword };
    return call("/v1/me/password", body, { Authorization: `Bearer ${access_token}` });
  }
}
