/** The pages of the app. */

const escapeHtml = (text) => String(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

/** The page for a user, or for a visitor without a session, with an optional message. */
export function page(user, message = "") {
  const body = user
    ? `<p id="user">Signed in as ${escapeHtml(user.name ?? user.preferred_username ?? user.sub)} (${escapeHtml(user.email)}).</p>
<form method="post" action="/sign-out"><button>Sign out</button></form>
<script src="/events.js"></script>`
    : `<p>You are not signed in.</p>
<p><a id="sign-in" href="/sign-in">Sign in</a></p>`;
  // the empty icon keeps browsers from requesting /favicon.ico
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The store</title>
<link rel="icon" href="data:,">
<h1>The store</h1>
${message && `<p role="alert">${escapeHtml(message)}</p>`}
${body}
</html>
`;
}

/** The script `/events.js` of a signed-in user's page: reloads the page when the app reports that the session has ended. */
export const eventsScript = `const events = new EventSource("/events");
events.addEventListener("ended", () => {
  events.close();
  location.reload();
});
// the form for signing out navigates to Latchkey: a reload would interrupt the navigation
document.addEventListener("submit", () => events.close());
`;
