import { LatchkeyClient, LatchkeyProblem, LatchkeyUnreachable, passkeysSupported } from "latchkey-browser";

// The page and Latchkey must be the same site for the transport `cookie`: both on localhost here.
const parameters = new URLSearchParams(location.search);
const auth = new LatchkeyClient({
  baseUrl: parameters.get("api") ?? "http://localhost:8080",
  transport: parameters.get("transport") ?? "cookie",
});

const find = (id) => document.getElementById(id);
const say = (text) => (find("message").textContent = text);

/** The second step of the sign-in, if one is needed. */
let secondFactor;
/** Ends the offer of passkeys in the browser's list of usernames. */
let offer;

async function show(session) {
  find("second-factor").hidden = session !== null || !secondFactor;
  find("sign-in").hidden = session !== null || Boolean(secondFactor);
  find("account").hidden = session === null;
  offer?.abort();
  if (!session) return secondFactor ? undefined : offerPasskeys();
  const [account, sessions, passkeys] = await Promise.all([auth.me(), auth.sessions(), auth.passkeys()]);
  find("name").textContent = account.email;
  find("sessions").replaceChildren(...sessions.map(row));
  find("passkeys").replaceChildren(...passkeys.map(passkeyRow));
}

/** Offers passkeys where the browser fills in the username. Does nothing where it cannot, or where they are off. */
async function offerPasskeys() {
  find("use-passkey").hidden = !passkeysSupported();
  if (!passkeysSupported() || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  offer = new AbortController();
  const options = { conditional: true, signal: offer.signal };
  auth.signInWithPasskey(options).then(next, (error) => error.code === "invalid_passkey" && say(error.detail));
}

/** Continues with the second step, if the sign-in needs one. */
async function next(step) {
  secondFactor = step.secondFactor;
  if (!secondFactor) return;
  const codes = secondFactor.methods.filter((method) => method !== "passkey");
  find("by-code").hidden = codes.length === 0;
  find("send-code").hidden = !codes.includes("email_code");
  find("remember").hidden = secondFactor.rememberDeviceFor === undefined;
  find("confirm-passkey").hidden = !secondFactor.methods.includes("passkey") || !passkeysSupported();
  find("second-factor").elements.method.replaceChildren(...codes.map((method) => new Option(NAMES[method] ?? method, method)));
  await show(null);
}

const NAMES = { totp: "your authenticator app", recovery_code: "your recovery codes", email_code: "a mail" };

function passkeyRow(passkey) {
  const item = document.createElement("li");
  item.textContent = passkey.name;
  const button = document.createElement("button");
  button.textContent = "Remove";
  button.addEventListener("click", attempt(() => auth.removePasskey(passkey.id)));
  item.append(button);
  return item;
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
      else if (error instanceof DOMException) say("The passkey was not used."); // by the user, or by the browser
      else throw error;
    }
  };
}

find("sign-in").addEventListener(
  "submit",
  attempt(async (event) => {
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    if (event.submitter?.value === "register") await auth.register({ email: identifier, password });
    await next(await auth.signIn({ identifier, password }));
    event.target.reset();
  }),
);
find("use-passkey").addEventListener(
  "click",
  attempt(async () => {
    offer?.abort();
    await next(await auth.signInWithPasskey());
  }),
);
find("second-factor").addEventListener(
  "submit",
  attempt(async (event) => {
    const { method, code, remember } = Object.fromEntries(new FormData(event.target));
    await auth.signInWithCode(secondFactor, method, code, { rememberDevice: remember === "on" });
    event.target.reset();
  }),
);
find("send-code").addEventListener(
  "click",
  attempt(async () => {
    await auth.sendCode(secondFactor);
    find("second-factor").elements.method.value = "email_code";
    say("A mail is on its way.");
  }),
);
find("confirm-passkey").addEventListener("click", attempt(() => auth.signInWithPasskey({ secondFactor })));
find("cancel").addEventListener("click", attempt(() => next({}).then(() => show(null))));
find("add-passkey").addEventListener(
  "submit",
  attempt(async (event) => {
    const { recoveryCodes } = await auth.addPasskey(new FormData(event.target).get("name"));
    if (recoveryCodes.length) say(`Keep these recovery codes, they are not shown again: ${recoveryCodes.join(" ")}`);
  }),
);
find("sign-out").addEventListener("click", attempt(() => auth.signOut()));
find("end-others").addEventListener("click", attempt(() => auth.endOtherSessions().then(() => show(auth.session))));

auth.onChange((session) => {
  secondFactor = undefined;
  show(session).catch(() => {});
});
await attempt(async () => show(await auth.resume()))();
globalThis.latchkey = auth; // for the developer console
