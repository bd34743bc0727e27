import { LatchkeyClient, LatchkeyProblem, LatchkeyUnreachable } from "latchkey-browser";

// The page and Latchkey must be the same site for the transport `cookie`: both on localhost here.
const parameters = new URLSearchParams(location.search);
const auth = new LatchkeyClient({
  baseUrl: parameters.get("api") ?? "http://localhost:8080",
  transport: parameters.get("transport") ?? "cookie",
});

const find = (id) => document.getElementById(id);
const say = (text) => (find("message").textContent = text);

async function show(session) {
  find("sign-in").hidden = session !== null;
  find("account").hidden = session === null;
  if (!session) return;
  const [account, sessions] = await Promise.all([auth.me(), auth.sessions()]);
  find("name").textContent = account.email;
  find("sessions").replaceChildren(...sessions.map(row));
}

function row(session) {
  const item = document.createElement("li");
  const device = session.device ?? session.user_agent ?? "Unknown device";
  item.textContent = session.current ? `${device} (this device)` : device;
  if (!session.current) {
    const button = document.createElement("button");
    button.textContent = "Sign out";
    button.addEventListener("click", attempt(() => auth.endSession(session.id).then(() => show(auth.session))));
    item.append(button);
  }
  return item;
}

/** Wraps a handler so that its errors are shown to the user. */
function attempt(work) {
  return async (event) => {
    event?.preventDefault();
    say("");
    try {
      await work(event);
    } catch (error) {
      if (error instanceof LatchkeyProblem) say([error.detail, ...error.errors.map((field) => field.detail)].join(" "));
      else if (error instanceof LatchkeyUnreachable) say("The service cannot be reached. Try again.");
      else throw error;
    }
  };
}

find("sign-in").addEventListener(
  "submit",
  attempt(async (event) => {
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    if (event.submitter?.value === "register") await auth.register({ email: identifier, password });
    await auth.signIn({ identifier, password });
    event.target.reset();
  }),
);
find("sign-out").addEventListener("click", attempt(() => auth.signOut()));
find("end-others").addEventListener("click", attempt(() => auth.endOtherSessions().then(() => show(auth.session))));

auth.onChange((session) => show(session).catch(() => {}));
await attempt(async () => show(await auth.resume()))();
globalThis.latchkey = auth; // for the developer console
