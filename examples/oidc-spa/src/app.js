// A single-page app whose users sign in on Latchkey's pages, with oidc-client-ts.
import { ErrorResponse, UserManager } from "oidc-client-ts";

import { clientId, issuer } from "./settings.js";

const page = `${location.origin}/`;
const parameters = new URLSearchParams(location.search);

const users = new UserManager({
  authority: issuer,
  client_id: clientId,
  redirect_uri: page,
  post_logout_redirect_uri: page,
  scope: "openid profile email",
  loadUserInfo: true,
  // Renews the access token before it expires, with the refresh token and without a frame.
  automaticSilentRenew: true,
});
globalThis.users = users; // for the developer console

const element = (id) => document.getElementById(id);

function show(user) {
  element("signed-in").hidden = !user;
  element("signed-out").hidden = Boolean(user);
  element("name").textContent = user?.profile.name ?? user?.profile.preferred_username ?? "";
  element("email").textContent = user?.profile.email ?? "";
  element("expires").textContent = user ? new Date(user.expires_at * 1000).toLocaleTimeString() : "";
}

/** The timer of the next attempt after a failed renewal; undefined if none is due. */
let retryTimer;

function stopRetrying() {
  clearTimeout(retryTimer);
  retryTimer = undefined;
}

/** Renews the access token now. */
function renew() {
  stopRetrying();
  return users.signinSilent().catch(handleRenewalError);
}

/**
 * Handles a failed renewal. If Latchkey refuses the refresh token, the session has ended. After any other error, such as a lost network,
 * the app retries after 30 seconds, or earlier if the browser comes online.
 */
async function handleRenewalError(error) {
  stopRetrying();
  if (error instanceof ErrorResponse && error.error === "invalid_grant") {
    await users.removeUser();
    element("message").textContent = "You were signed out.";
  } else {
    element("message").textContent = error.message;
    retryTimer = setTimeout(renew, 30_000);
  }
}

users.events.addUserLoaded((user) => {
  stopRetrying();
  element("message").textContent = "";
  show(user);
});
users.events.addUserUnloaded(() => {
  stopRetrying();
  show(undefined);
});
users.events.addSilentRenewError(handleRenewalError); // of automatic renewals
element("sign-in").addEventListener("click", () => users.signinRedirect());
element("sign-out").addEventListener("click", () => users.signoutRedirect());
element("renew").addEventListener("click", renew);
addEventListener("online", () => {
  if (retryTimer) renew();
});

try {
  if (parameters.has("code") || parameters.has("error")) {
    // the browser returns from the sign-in: remove the code from the address bar, because it works only once
    history.replaceState({}, "", page);
    await users.signinRedirectCallback(`${page}?${parameters}`);
  } else if (parameters.get("iss") === issuer) {
    // a link on Latchkey's account page asks this app to start a sign-in (OpenID Connect Core, section 4)
    await users.signinRedirect({ login_hint: parameters.get("login_hint") ?? undefined });
  }
} catch (error) {
  element("message").textContent = error.message;
}
show(await users.getUser());
