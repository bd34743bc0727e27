import { StrictMode, useCallback, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { passkeysSupported } from "latchkey-browser";

import { auth, explain, usePasskeyOffer, useSession } from "./auth.js";

function App() {
  const [message, setMessage] = useState("");
  const onError = useCallback((error) => setMessage(explain(error)), []);
  const session = useSession(onError); // undefined: not known yet, null: signed out
  /** What the sign-in still needs: `secondFactor`, `enrolment` or nothing. */
  const [step, setStep] = useState({});
  /** The action to repeat after the step-up. */
  const [pendingAction, setPendingAction] = useState(undefined);
  useEffect(() => {
    setStep({});
    setPendingAction(undefined);
  }, [session]);
  /** Runs an action of the user and shows its error. An action that needs a recent authentication is repeated after the step-up. */
  const attempt = async (action) => {
    setMessage("");
    try {
      await action();
      setPendingAction(undefined);
    } catch (error) {
      // The setter would call a function that it is given, so the action is the result of a function.
      if (error.code === "insufficient_user_authentication") setPendingAction(() => action);
      else onError(error);
    }
  };
  const showRecoveryCodes = ({ recoveryCodes }) => {
    if (recoveryCodes.length) setMessage(`Keep these recovery codes, they are not shown again: ${recoveryCodes.join(" ")}`);
  };
  const { secondFactor, enrolment } = step;
  const showsSignIn = session === null && !secondFactor && !enrolment;
  return (
    <>
      <h1>Latchkey example in React</h1>
      <p id="message" role="status" aria-live="polite">{message}</p>
      {showsSignIn && <SignIn attempt={attempt} onStep={setStep} onError={onError} />}
      {session === null && secondFactor && <SecondStep attempt={attempt} secondFactor={secondFactor} onStep={setStep} />}
      {session === null && enrolment && <Enrol attempt={attempt} enrolment={enrolment} showRecoveryCodes={showRecoveryCodes} />}
      {session && pendingAction && <StepUp attempt={attempt} action={pendingAction} onError={onError} />}
      {/* A change of factors starts a new session: with a new key, Account loads the factors again. */}
      {session && <Account key={session.id} attempt={attempt} showRecoveryCodes={showRecoveryCodes} onError={onError} />}
    </>
  );
}

function SignIn({ attempt, onStep, onError }) {
  const [offered, setOffered] = useState(true);
  const submit = (event) => {
    event.preventDefault();
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    const register = event.nativeEvent.submitter?.value === "register";
    return attempt(async () => {
      if (register) await auth.register({ email: identifier, password });
      onStep(await auth.signIn({ identifier, password }));
    });
  };
  /** Ends the offer before the dialog opens, because the browser handles one passkey request at a time. */
  const signInWithPasskey = () => {
    setOffered(false);
    return attempt(async () => onStep(await auth.signInWithPasskey()));
  };
  return (
    <form id="sign-in" onSubmit={submit}>
      {offered && <PasskeyOffer onStep={onStep} onError={onError} />}
      <label>E-mail or username <input name="identifier" autoComplete="username webauthn" required /></label>
      <label>Password <input name="password" type="password" autoComplete="current-password" required /></label>
      <button name="action" value="sign-in">Sign in</button>
      <button name="action" value="register" className="secondary">Create an account</button>
      {passkeysSupported() && (
        <button id="use-passkey" type="button" className="secondary" onClick={signInWithPasskey}>Sign in with a passkey</button>
      )}
    </form>
  );
}

/** Offers passkeys in the browser's list of usernames, as long as this component is mounted. */
function PasskeyOffer({ onStep, onError }) {
  usePasskeyOffer(onStep, onError);
  return null;
}

const METHOD_NAMES = {
  totp: "your authenticator app",
  recovery_code: "your recovery codes",
  email_code: "a mail",
  passkey: "a passkey",
  password: "your password",
};

/** Sets up the second factor that the account must have. */
function Enrol({ attempt, enrolment, showRecoveryCodes }) {
  const [app, setApp] = useState(null);
  const createPasskey = () => attempt(async () => showRecoveryCodes(await auth.enrolPasskey(enrolment, "My passkey")));
  return (
    <section id="enrol">
      <p>Your account must have a second factor. Set one up to continue.</p>
      {enrolment.methods.includes("passkey") && passkeysSupported() && (
        <button id="enrol-passkey" onClick={createPasskey}>Create a passkey</button>
      )}
      <button id="enrol-totp" className="secondary" onClick={() => attempt(async () => setApp(await auth.startTotp({ enrolment })))}>
        Use an authenticator app
      </button>
      {app && <Totp attempt={attempt} app={app} enrolment={enrolment} showRecoveryCodes={showRecoveryCodes} />}
    </section>
  );
}

/** Shows the secret of a new authenticator app and takes the app's first code. */
function Totp({ attempt, app, enrolment, showRecoveryCodes }) {
  const submit = (event) => {
    event.preventDefault();
    const code = new FormData(event.target).get("code");
    return attempt(async () => showRecoveryCodes(await auth.confirmTotp(code, { enrolment })));
  };
  return (
    <form id="totp" onSubmit={submit}>
      <p>Scan the code with your authenticator app, or type the secret into it.</p>
      <img id="totp-qr" alt="QR code with the secret" width="200" height="200" src={`data:image/svg+xml,${encodeURIComponent(app.qrCode)}`} />
      <p><code id="totp-secret">{app.secret}</code></p>
      <label>Code that the app shows <input name="code" autoComplete="one-time-code" required /></label>
      <button>Confirm</button>
    </form>
  );
}

/** Asks the user to authenticate again, with a second factor if the account has one. Then the action is repeated. */
function StepUp({ attempt, action, onError }) {
  const [methods, setMethods] = useState([]);
  const [method, setMethod] = useState("");
  useEffect(() => {
    const load = async () => {
      const { factors, recovery_codes_left: codesLeft } = await auth.factors();
      const kinds = ["totp", "passkey"].filter((kind) => factors.some((factor) => factor.kind === kind));
      const usable = kinds.length ? [...kinds, ...(codesLeft > 0 ? ["recovery_code"] : [])] : ["password"];
      setMethods(usable);
      setMethod(usable[0]);
    };
    load().catch(onError);
  }, [onError]);
  const submit = (event) => {
    event.preventDefault();
    const typed = new FormData(event.target).get("proof");
    return attempt(async () => {
      await auth.reauthenticate(proofOf(method, typed));
      await action();
    });
  };
  return (
    <form id="step-up" onSubmit={submit}>
      <p>Confirm that it is you to continue.</p>
      <label>
        With
        <select name="method" value={method} onChange={(event) => setMethod(event.target.value)}>
          {methods.map((name) => <option key={name} value={name}>{METHOD_NAMES[name] ?? name}</option>)}
        </select>
      </label>
      {method !== "passkey" && <label>Password or code <input name="proof" type="password" autoComplete="off" /></label>}
      <button>Continue</button>
    </form>
  );
}

/** The proof for `reauthenticate`. With an empty proof, the browser asks for a passkey. */
function proofOf(method, typed) {
  if (method === "passkey") return {};
  return method === "password" ? { password: typed } : { method, code: typed };
}

/** The second step of a sign-in: a passkey or a code. */
function SecondStep({ attempt, secondFactor, onStep }) {
  const codes = secondFactor.methods.filter((method) => method !== "passkey");
  const submit = (event) => {
    event.preventDefault();
    const { method, code, remember } = Object.fromEntries(new FormData(event.target));
    return attempt(() => auth.signInWithCode(secondFactor, method, code, { rememberDevice: remember === "on" }));
  };
  return (
    <form id="second-factor" onSubmit={submit}>
      <p>Confirm that it is you.</p>
      {secondFactor.methods.includes("passkey") && passkeysSupported() && (
        <button id="confirm-passkey" type="button" onClick={() => attempt(() => auth.signInWithPasskey({ secondFactor }))}>
          Use a passkey
        </button>
      )}
      {codes.length > 0 && (
        <div id="by-code">
          <label>
            Code from
            <select name="method">{codes.map((method) => <option key={method} value={method}>{METHOD_NAMES[method] ?? method}</option>)}</select>
          </label>
          {codes.includes("email_code") && (
            <button id="send-code" type="button" className="secondary" onClick={() => attempt(() => auth.sendCode(secondFactor))}>
              Send a code by mail
            </button>
          )}
          <label>Code <input name="code" autoComplete="one-time-code" /></label>
          {secondFactor.rememberDeviceFor !== undefined && (
            <label id="remember"><input type="checkbox" name="remember" /> Don't ask again on this device</label>
          )}
          <button>Continue</button>
        </div>
      )}
      <button id="cancel" type="button" className="secondary" onClick={() => onStep({})}>Cancel</button>
    </form>
  );
}

function Account({ attempt, showRecoveryCodes, onError }) {
  const [account, setAccount] = useState(null);
  const [sessions, setSessions] = useState([]);
  const [factors, setFactors] = useState([]);
  const [app, setApp] = useState(null);
  const load = useCallback(async () => {
    const [account, sessions, { factors }] = await Promise.all([auth.me(), auth.sessions(), auth.factors()]);
    setAccount(account);
    setSessions(sessions);
    setFactors(factors);
  }, []);
  const addPasskey = (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("name");
    return attempt(async () => showRecoveryCodes(await auth.addPasskey(name)));
  };
  useEffect(() => void load().catch(onError), [load, onError]);
  if (!account) return null;
  const rows = (kind, remove) =>
    factors
      .filter((factor) => factor.kind === kind)
      .map((factor) => (
        <li key={factor.id}>
          {factor.label} <button onClick={() => attempt(() => remove(factor.id))}>Remove</button>
        </li>
      ));
  return (
    <section id="account">
      <p>Signed in as <strong id="name">{account.email}</strong>.</p>
      <h2>Passkeys</h2>
      <ul id="passkeys">{rows("passkey", (id) => auth.removePasskey(id))}</ul>
      <form id="add-passkey" onSubmit={addPasskey}>
        <label>Name <input name="name" maxLength="64" defaultValue="My passkey" required /></label>
        <button className="secondary">Add a passkey</button>
      </form>
      <h2>Authenticator apps</h2>
      <ul id="totps">{rows("totp", (id) => auth.removeTotp(id))}</ul>
      <button id="add-totp" className="secondary" onClick={() => attempt(async () => setApp(await auth.startTotp()))}>
        Add an authenticator app
      </button>
      {app && <Totp attempt={attempt} app={app} showRecoveryCodes={showRecoveryCodes} />}
      <button id="renew-codes" className="secondary" onClick={() => attempt(async () => showRecoveryCodes(await auth.renewRecoveryCodes()))}>
        New recovery codes
      </button>
      <h2>Devices</h2>
      <ul id="sessions">
        {sessions.map((session) => (
          <Device key={session.id} session={session} end={() => attempt(() => auth.endSession(session.id).then(load))} />
        ))}
      </ul>
      <button id="end-others" className="secondary" onClick={() => attempt(() => auth.endOtherSessions().then(load))}>
        Sign out all other devices
      </button>
      <button id="sign-out" onClick={() => attempt(() => auth.signOut())}>Sign out</button>
    </section>
  );
}

function Device({ session, end }) {
  const device = session.device ?? session.user_agent ?? "Unknown device";
  if (session.current) return <li>{device} (this device)</li>;
  return <li>{device} <button onClick={end}>Sign out</button></li>;
}

createRoot(document.getElementById("root")).render(<StrictMode><App /></StrictMode>);
