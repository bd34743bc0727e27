/** A server-rendered app whose users sign in on Latchkey's pages. */

import { env } from "node:process";

import express from "express";
import { createVerifier } from "latchkey-verify";
import * as oidc from "openid-client";

import { eventsScript, page } from "./pages.js";
import { Sessions } from "./sessions.js";

const port = Number(env.PORT ?? 8000);
const origin = env.APP_ORIGIN ?? `http://localhost:${port}`;
const issuer = new URL(env.AUTH_ISSUER ?? "http://localhost:8080");

// the id and the secret have no default: the libraries refuse an empty text
const clientAuthentication = oidc.ClientSecretBasic(env.AUTH_CLIENT_SECRET ?? "");
const clientMetadata = undefined;
const provider = await oidc.discovery(issuer, env.AUTH_CLIENT_ID ?? "", clientMetadata, clientAuthentication, {
  // plain http is for development on one machine
  execute: issuer.protocol === "http:" ? [oidc.allowInsecureRequests] : [],
});
const verifier = createVerifier({
  issuer: provider.serverMetadata().issuer,
  audience: env.AUTH_AUDIENCE ?? origin,
  clientId: env.FEED_CLIENT_ID ?? "",
  clientSecret: env.FEED_CLIENT_SECRET ?? "",
});
const sessions = new Sessions(provider, verifier);

const app = express();
const cookieOptions = { httpOnly: true, sameSite: "lax", secure: origin.startsWith("https:"), path: "/" };
// splitting at `=` is enough for the cookies of this app: their values are base64url without padding
const cookiesOf = (request) => Object.fromEntries((request.headers.cookie ?? "").split("; ").map((pair) => pair.split("=")));

app.use((request, response, next) => {
  // form-action allows the issuer too, because the form of /sign-out redirects there
  const policy = `default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self' ${issuer.origin}; base-uri 'none'; frame-ancestors 'none'`;
  response.set({ "Content-Security-Policy": policy, "Cache-Control": "no-store" });
  next();
});
app.use(async (request, response, next) => {
  request.session = await sessions.find(cookiesOf(request).app_session);
  next();
});

app.get("/", (request, response) => {
  response.send(page(request.session?.user));
});

// Starts a sign-in. Latchkey's account page links here, too: /sign-in?iss=…&target_link_uri=… (OpenID Connect Core, section 4).
app.get("/sign-in", async (request, response) => {
  const { iss, login_hint: hint, target_link_uri: target } = request.query;
  if (iss !== undefined && iss !== provider.serverMetadata().issuer) {
    response.status(400).send(page(undefined, "This app does not know that issuer."));
    return;
  }
  const codeVerifier = oidc.randomPKCECodeVerifier();
  const state = oidc.randomState();
  const nonce = oidc.randomNonce();
  const pendingSignIn = JSON.stringify({ codeVerifier, state, nonce, target: pathOf(target) });
  const tenMinutesMs = 600_000;
  response.cookie("app_sign_in", Buffer.from(pendingSignIn).toString("base64url"), { ...cookieOptions, maxAge: tenMinutesMs });
  const url = oidc.buildAuthorizationUrl(provider, {
    redirect_uri: `${origin}/callback`,
    scope: "openid profile email",
    code_challenge: await oidc.calculatePKCECodeChallenge(codeVerifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...(typeof hint === "string" && { login_hint: hint }),
  });
  response.redirect(url.href);
});

/** The path of a URL of this app; `/` for any other URL, so that a link cannot send users to another site. */
function pathOf(target) {
  const url = typeof target === "string" && URL.canParse(target) ? new URL(target) : undefined;
  return url?.origin === origin ? url.pathname + url.search : "/";
}

app.get("/callback", async (request, response) => {
  const pendingSignIn = cookiesOf(request).app_sign_in;
  response.clearCookie("app_sign_in", cookieOptions);
  if (!pendingSignIn) {
    response.redirect("/");
    return;
  }
  try {
    const { codeVerifier, state, nonce, target } = JSON.parse(Buffer.from(pendingSignIn, "base64url").toString());
    const checks = { pkceCodeVerifier: codeVerifier, expectedState: state, expectedNonce: nonce, idTokenExpected: true };
    const tokens = await oidc.authorizationCodeGrant(provider, new URL(request.originalUrl, origin), checks);
    await request.session?.revoke(); // the new session replaces the browser's former one
    const session = await sessions.start(tokens);
    response.cookie("app_session", session.id, cookieOptions);
    response.redirect(target);
  } catch (error) {
    console.warn("sign-in failed:", error.message);
    response.status(400).send(page(undefined, "The sign-in did not succeed."));
  }
});

// The open pages of the browser learn here that the session has ended.
app.get("/events", (request, response) => {
  const { session } = request;
  if (!session) {
    response.sendStatus(401);
    return;
  }
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(": open\n\n"); // a comment, with which the headers are sent
  const ended = () => response.end("event: ended\ndata:\n\n");
  session.endListeners.add(ended);
  response.on("close", () => session.endListeners.delete(ended));
});
app.get("/events.js", (request, response) => {
  response.type("text/javascript").send(eventsScript);
});

// A form of another site is sent without the cookie (SameSite=Lax), so it does not sign the user out.
app.post("/sign-out", (request, response) => {
  const { session } = request;
  if (!session) {
    response.redirect(303, "/");
    return;
  }
  session.end();
  response.clearCookie("app_session", cookieOptions);
  const parameters = { id_token_hint: session.idToken, post_logout_redirect_uri: `${origin}/` };
  response.redirect(303, oidc.buildEndSessionUrl(provider, parameters).href);
});

const server = app.listen(port, "127.0.0.1", () => {
  console.log(`listening on ${origin}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    server.close();
    server.closeAllConnections(); // responses of /events stay open as long as their pages
    verifier.close();
  });
}
