import { LatchkeyClient, LatchkeyProblem, LatchkeyUnreachable, passkeysSupported } from "latchkey-browser";

// The page and Latchkey must be the same site for the transport `cookie`: both on localhost here.
const parameters = new URLSearchParams(location.search);
const auth = new LatchkeyClient({
  baseUrl: parameters.get("api") ?? "http://localhost:8080",
  transport: parameters.get("transport") ?? "cookie",
});
globalThis.latchkey = auth; // for the developer console

const find = (id) => document.getElementById(id);
const showMessage = (text) => (find("message").textContent = text);

/** The second factor that the current sign-in waits for, if any. */
let secondFactor;
/** The second factor that the account must set up before the current sign-in succeeds, if any. */
let enrolment;
/** The action to repeat after the step-up. */
let pendingAction;
/** Cancels the offer of passkeys in the browser's list of usernames. */
let passkeyOffer;

/** Shows the part of the page for this session (null without one) or for the step of the sign-in. */
async function show(session) {
  let part = "sign-in";
  if (session !== null) part = "account";
  else if (secondFactor) part = "second-factor";
  else if (enrolment) part = "enrol";
  for (const id of ["sign-in", "second-factor", "enrol", "account"]) find(id).hidden = id !== part;
  find("totp").hidden = true;
  find("step-up").hidden = true;
  passkeyOffer?.abort();
  if (part === "sign-in") return offerPasskeys();
  if (part !== "account") return;
  const [account, sessions, { factors }] = await Promise.all([auth.me(), auth.sessions(), auth.factors()]);
  const factorRows = (kind) => factors.filter((factor) => factor.kind === kind).map(factorRow);
  find("name").textContent = account.email;
  find("sessions").replaceChildren(...sessions.map(sessionRow));
  find("passkeys").replaceChildren(...factorRows("passkey"));
  find("totps").replaceChildren(...factorRows("totp"));
}

/** Offers passkeys in the browser's list of usernames. Does nothing if the browser or Latchkey does not support that. */
async function offerPasskeys() {
  find("use-passkey").hidden = !passkeysSupported();
  if (!passkeysSupported() || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  passkeyOffer = new AbortController();
  const options = { conditional: true, signal: passkeyOffer.signal };
  // Other errors are not shown: they only mean that the user did not choose a passkey from the list.
  auth.signInWithPasskey(options).then(continueSignIn, (error) => error.code === "invalid_passkey" && showMessage(error.detail));
}

/** Shows the next step of a sign-in, if any: the second factor, or the set-up of one. Without a step, forgets the former step. */
async function continueSignIn(step) {
  ({ secondFactor, enrolment } = step);
  if (secondFactor) {
    const codes = secondFactor.methods.filter((method) => method !== "passkey");
    find("by-code").hidden = codes.length === 0;
    find("send-code").hidden = !codes.includes("email_code");
    find("remember").hidden = secondFactor.rememberDeviceFor === undefined;
    find("confirm-passkey").hidden = !secondFactor.methods.includes("passkey") || !passkeysSupported();
    find("second-factor").elements.method.replaceChildren(...codes.map(methodOption));
  }
  if (enrolment) find("enrol-passkey").hidden = !enrolment.methods.includes("passkey") || !passkeysSupported();
  if (secondFactor || enrolment) await show(null);
}

const METHOD_NAMES = {
  totp: "your authenticator app",
  recovery_code: "your recovery codes",
  email_code: "a mail",
  passkey: "a passkey",
  password: "your password",
};
const methodOption = (method) => new Option(METHOD_NAMES[method] ?? method, method);

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

/**
 * Starts to add an authenticator app, of the sign-in or else of the signed-in account, and shows its secret. The form then takes
 * the app's first code.
 */
async function setUpTotp() {
  const { secret, qrCode } = await auth.startTotp({ enrolment });
  find("totp-secret").textContent = secret;
  find("totp-qr").src = `data:image/svg+xml,${encodeURIComponent(qrCode)}`;
  find("totp").hidden = false;
}

/** Shows new recovery codes, if any: an account gets them with its first factor, and when it renews them. */
function showRecoveryCodes({ recoveryCodes }) {
  if (recoveryCodes.length > 0) showMessage(`Keep these recovery codes, they are not shown again: ${recoveryCodes.join(" ")}`);
}

/** Asks the user to authenticate again, with a second factor if the account has one. The form then repeats the action. */
async function stepUp(action) {
  pendingAction = action;
  const { factors, recovery_codes_left: codes } = await auth.factors();
  const kinds = ["totp", "passkey"].filter((kind) => factors.some((factor) => factor.kind === kind));
  const withFactor = codes > 0 ? [...kinds, "recovery_code"] : kinds;
  const methods = kinds.length > 0 ? withFactor : ["password"];
  const form = find("step-up");
  form.elements.method.replaceChildren(...methods.map(methodOption));
  form.elements.method.dispatchEvent(new Event("change")); // shows or hides the field for the proof
  form.hidden = false;
}

function sessionRow(session) {
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

/**
 * Wraps an event handler so that its errors are shown to the user. If Latchkey requires a recent authentication, asks for it and
 * then repeats the handler.
 */
function attempt(work) {
  return async (event) => {
    event?.preventDefault();
    showMessage("");
    try {
      await work(event);
    } catch (error) {
      if (error instanceof LatchkeyProblem && error.code === "insufficient_user_authentication") await stepUp(() => work(event));
      else if (error instanceof LatchkeyProblem) showMessage([error.detail, ...error.errors.map((field) => field.detail)].join(" "));
      else if (error instanceof LatchkeyUnreachable) showMessage("The service cannot be reached. Try again.");
      else if (error instanceof DOMException) showMessage("The passkey was not used."); // the user or the browser cancelled
      else throw error;
    }
  };
}

find("sign-in").addEventListener(
  "submit",
  attempt(async (event) => {
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    if (event.submitter?.value === "register") await auth.register({ email: identifier, password });
    await continueSignIn(await auth.signIn({ identifier, password }));
    event.target.reset();
  }),
);
find("use-passkey").addEventListener(
  "click",
  attempt(async () => {
    passkeyOffer?.abort(); // a browser allows one passkey request at a time
    await continueSignIn(await auth.signInWithPasskey());
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
    showMessage("A mail is on its way.");
  }),
);
find("confirm-passkey").addEventListener("click", attempt(() => auth.signInWithPasskey({ secondFactor })));
find("cancel").addEventListener("click", attempt(() => continueSignIn({}).then(() => show(null))));
find("add-passkey").addEventListener(
  "submit",
  attempt(async (event) => {
    showRecoveryCodes(await auth.addPasskey(new FormData(event.target).get("name")));
  }),
);
find("enrol-passkey").addEventListener(
  "click",
  attempt(async () => showRecoveryCodes(await auth.enrolPasskey(enrolment, "My passkey"))),
);
find("enrol-totp").addEventListener("click", attempt(setUpTotp));
find("add-totp").addEventListener("click", attempt(setUpTotp));
find("totp").addEventListener(
  "submit",
  attempt(async (event) => {
    const { code } = Object.fromEntries(new FormData(event.target));
    showRecoveryCodes(await auth.confirmTotp(code, { enrolment }));
    event.target.reset();
  }),
);
find("renew-codes").addEventListener("click", attempt(async () => showRecoveryCodes(await auth.renewRecoveryCodes())));
find("step-up").elements.method.addEventListener("change", (event) => {
  find("step-up-proof").hidden = event.target.value === "passkey";
});
find("step-up").addEventListener(
  "submit",
  attempt(async (event) => {
    const { method, proof } = Object.fromEntries(new FormData(event.target));
    let credentials = { method, code: proof };
    if (method === "password") credentials = { password: proof };
    if (method === "passkey") credentials = {}; // without a proof, the client asks the browser for a passkey
    await auth.reauthenticate(credentials);
    event.target.reset();
    event.target.hidden = true;
    await pendingAction();
  }),
);
find("sign-out").addEventListener("click", attempt(() => auth.signOut()));
find("end-others").addEventListener("click", attempt(() => auth.endOtherSessions().then(() => show(auth.session))));

// Called after each sign-in and sign-out. A change of factors starts a new session, so it calls this listener, too.
auth.onChange((session) => {
  secondFactor = undefined;
  enrolment = undefined;
  show(session).catch(() => {}); // a failure to load the lists is not shown
});
// shows the session that the browser had before the page was loaded, if it lives
await attempt(async () => show(await auth.resume()))();
