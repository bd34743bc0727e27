import { LatchkeyClient, LatchkeyProblem, LatchkeyUnreachable, passkeysSupported } from "latchkey-browser";

// The page and Latchkey must be the same site for the transport `cookie`: both on localhost here.
const parameters = new URLSearchParams(location.search);
const auth = new LatchkeyClient({
  baseUrl: parameters.get("api") ?? "http://localhost:8080",
  transport: parameters.get("transport") ?? "cookie",
});
globalThis.latchkey = auth; // for the developer console

const find = (id) => document.getElementById(id);
const say = (text) => (find("message").textContent = text);

/** The second step of the sign-in, if one is needed. */
let secondFactor;
/** The sign-in that waits for a second factor to be set up, if it does. */
let enrolment;
/** The action that waits until its user has authenticated again. */
let waiting;
/** Ends the offer of passkeys in the browser's list of usernames. */
let offer;

async function show(session) {
  const step = session !== null ? "account" : secondFactor ? "second-factor" : enrolment ? "enrol" : "sign-in";
  for (const id of ["sign-in", "second-factor", "enrol", "account"]) find(id).hidden = id !== step;
  find("totp").hidden = find("step-up").hidden = true;
  offer?.abort();
  if (step === "sign-in") return offerPasskeys();
  if (step !== "account") return;
  const [account, sessions, { factors }] = await Promise.all([auth.me(), auth.sessions(), auth.factors()]);
  const rows = (kind) => factors.filter((factor) => factor.kind === kind).map(factorRow);
  find("name").textContent = account.email;
  find("sessions").replaceChildren(...sessions.map(row));
  find("passkeys").replaceChildren(...rows("passkey"));
  find("totps").replaceChildren(...rows("totp"));
}

/** Offers passkeys where the browser fills in the username. Does nothing where it cannot, or where they are off. */
async function offerPasskeys() {
  find("use-passkey").hidden = !passkeysSupported();
  if (!passkeysSupported() || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  offer = new AbortController();
  const options = { conditional: true, signal: offer.signal };
  auth.signInWithPasskey(options).then(next, (error) => error.code === "invalid_passkey" && say(error.detail));
}

/** Continues with the second step, or with the second factor that must be set up, if the sign-in needs it. */
async function next(step) {
  ({ secondFactor, enrolment } = step);
  if (secondFactor) {
    const codes = secondFactor.methods.filter((method) => method !== "passkey");
    find("by-code").hidden = codes.length === 0;
    find("send-code").hidden = !codes.includes("email_code");
    find("remember").hidden = secondFactor.rememberDeviceFor === undefined;
    find("confirm-passkey").hidden = !secondFactor.methods.includes("passkey") || !passkeysSupported();
    find("second-factor").elements.method.replaceChildren(...codes.map(option));
  }
  if (enrolment) find("enrol-passkey").hidden = !enrolment.methods.includes("passkey") || !passkeysSupported();
  if (secondFactor || enrolment) await show(null);
}

const NAMES = {
  totp: "your authenticator app",
  recovery_code: "your recovery codes",
  email_code: "a mail",
  passkey: "a passkey",
  password: "your password",
};
const option = (method) => new Option(NAMES[method] ?? method, method);

function factorRow(factor) {
  const item = document.createElement("li");
  item.textContent = factor.label;
  const button = document.createElement("button");
  button.textContent = "Remove";
  const remove = () => (factor.kind === "totp" ? auth.removeTotp(factor.id) : auth.removePasskey(factor.id));
  button.addEventListener("click", attempt(remove));
  item.append(button);
  return item;
}

/** Shows a new authenticator app, which waits for its first code. */
async function setUpTotp() {
  const { secret, qrCode } = await auth.startTotp({ enrolment });
  find("totp-secret").textContent = secret;
  find("totp-qr").src = `data:image/svg+xml,${encodeURIComponent(qrCode)}`;
  find("totp").hidden = false;
}

function keep({ recoveryCodes }) {
  if (recoveryCodes.length) say(`Keep these recovery codes, they are not shown again: ${recoveryCodes.join(" ")}`);
}

/** Asks the user to authenticate again, with a second factor if the account has one. Then the action is repeated. */
async function stepUp(action) {
  waiting = action;
  const { factors, recovery_codes_left: codes } = await auth.factors();
  const kinds = ["totp", "passkey"].filter((kind) => factors.some((factor) => factor.kind === kind));
  const methods = kinds.length ? [...kinds, ...(codes > 0 ? ["recovery_code"] : [])] : ["password"];
  const form = find("step-up");
  form.elements.method.replaceChildren(...methods.map(option));
  form.elements.method.dispatchEvent(new Event("change"));
  form.hidden = false;
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
      if (error instanceof LatchkeyProblem && error.code === "insufficient_user_authentication") await stepUp(() => work(event));
      else if (error instanceof LatchkeyProblem) say([error.detail, ...error.errors.map((field) => field.detail)].join(" "));
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
    keep(await auth.addPasskey(new FormData(event.target).get("name")));
  }),
);
find("enrol-passkey").addEventListener(
  "click",
  attempt(async () => keep(await auth.enrolPasskey(enrolment, "My passkey"))),
);
find("enrol-totp").addEventListener("click", attempt(setUpTotp));
find("add-totp").addEventListener("click", attempt(setUpTotp));
find("totp").addEventListener(
  "submit",
  attempt(async (event) => {
    const { code } = Object.fromEntries(new FormData(event.target));
    keep(await auth.confirmTotp(code, { enrolment }));
    event.target.reset();
  }),
);
find("renew-codes").addEventListener("click", attempt(async () => keep(await auth.renewRecoveryCodes())));
find("step-up").elements.method.addEventListener("change", (event) => {
  find("step-up-proof").hidden = event.target.value === "passkey";
});
find("step-up").addEventListener(
  "submit",
  attempt(async (event) => {
    const { method, proof } = Object.fromEntries(new FormData(event.target));
    await auth.reauthenticate(method === "passkey" ? {} : method === "password" ? { password: proof } : { method, code: proof });
    event.target.reset();
    event.target.hidden = true;
    await waiting();
  }),
);
find("sign-out").addEventListener("click", attempt(() => auth.signOut()));
find("end-others").addEventListener("click", attempt(() => auth.endOtherSessions().then(() => show(auth.session))));

auth.onChange((session) => {
  secondFactor = enrolment = undefined;
  show(session).catch(() => {});
});
await attempt(async () => show(await auth.resume()))();
