import { StrictMode, useCallback, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { passkeysSupported } from "latchkey-browser";

import { auth, explain, usePasskeyOffer, useSession } from "./auth.js";

function App() {
  const [message, setMessage] = useState("");
  const fail = useCallback((error) => setMessage(explain(error)), []);
  const session = useSession(fail);
  const [secondFactor, setSecondFactor] = useState(undefined);
  /** Continues with the second step, if the sign-in needs one. */
  const next = useCallback((step) => setSecondFactor(step.secondFactor), []);
  useEffect(() => setSecondFactor(undefined), [session]);
  /** Runs an action of the user and shows its error. */
  const attempt = async (action) => {
    setMessage("");
    await action().catch(fail);
  };
  return (
    <>
      <h1>Latchkey example in React</h1>
      <p id="message" role="status" aria-live="polite">{message}</p>
      {session === null && !secondFactor && <SignIn attempt={attempt} next={next} fail={fail} />}
      {session === null && secondFactor && <SecondStep attempt={attempt} secondFactor={secondFactor} next={next} />}
      {session && <Account key={session.id} attempt={attempt} say={setMessage} />}
    </>
  );
}

function SignIn({ attempt, next, fail }) {
  const [offered, setOffered] = useState(true);
  const submit = (event) => {
    event.preventDefault();
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    const register = event.nativeEvent.submitter?.value === "register";
    return attempt(async () => {
      if (register) await auth.register({ email: identifier, password });
      next(await auth.signIn({ identifier, password }));
    });
  };
  /** The browser shows one request at a time: the offer ends before the dialog opens. */
  const usePasskey = () => {
    setOffered(false);
    return attempt(async () => next(await auth.signInWithPasskey()));
  };
  return (
    <form id="sign-in" onSubmit={submit}>
      {offered && <PasskeyOffer next={next} fail={fail} />}
      <label>E-mail or username <input name="identifier" autoComplete="username webauthn" required /></label>
      <label>Password <input name="password" type="password" autoComplete="current-password" required /></label>
      <button name="action" value="sign-in">Sign in</button>
      <button name="action" value="register" className="secondary">Create an account</button>
      {passkeysSupported() && (
        <button id="use-passkey" type="button" className="secondary" onClick={usePasskey}>Sign in with a passkey</button>
      )}
    </form>
  );
}

function PasskeyOffer({ next, fail }) {
  usePasskeyOffer(next, fail);
  return null;
}

const NAMES = { totp: "your authenticator app", recovery_code: "your recovery codes", email_code: "a mail" };

function SecondStep({ attempt, secondFactor, next }) {
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
            <select name="method">{codes.map((method) => <option key={method} value={method}>{NAMES[method] ?? method}</option>)}</select>
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
      <button id="cancel" type="button" className="secondary" onClick={() => next({})}>Cancel</button>
    </form>
  );
}

function Account({ attempt, say }) {
  const [account, setAccount] = useState(null);
  const [sessions, setSessions] = useState([]);
  const [passkeys, setPasskeys] = useState([]);
  const load = useCallback(async () => {
    const [account, sessions, passkeys] = await Promise.all([auth.me(), auth.sessions(), auth.passkeys()]);
    setAccount(account);
    setSessions(sessions);
    setPasskeys(passkeys);
  }, []);
  const addPasskey = (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("name");
    return attempt(async () => {
      const { recoveryCodes } = await auth.addPasskey(name);
      if (recoveryCodes.length) say(`Keep these recovery codes, they are not shown again: ${recoveryCodes.join(" ")}`);
    });
  };
  useEffect(() => void attempt(load), [load]);
  if (!account) return null;
  return (
    <section id="account">
      <p>Signed in as <strong id="name">{account.email}</strong>.</p>
      <h2>Passkeys</h2>
      <ul id="passkeys">
        {passkeys.map((passkey) => (
          <li key={passkey.id}>
            {passkey.name} <button onClick={() => attempt(() => auth.removePasskey(passkey.id))}>Remove</button>
          </li>
        ))}
      </ul>
      <form id="add-passkey" onSubmit={addPasskey}>
        <label>Name <input name="name" maxLength="64" defaultValue="My passkey" required /></label>
        <button className="secondary">Add a passkey</button>
      </form>
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
