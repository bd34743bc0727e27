import { StrictMode, useCallback, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

import { auth, explain, useSession } from "./auth.js";

function App() {
  const [message, setMessage] = useState("");
  const fail = useCallback((error) => setMessage(explain(error)), []);
  const session = useSession(fail);
  /** Runs an action of the user and shows its error. */
  const attempt = async (action) => {
    setMessage("");
    await action().catch(fail);
  };
  return (
    <>
      <h1>Latchkey example in React</h1>
      <p id="message" role="status" aria-live="polite">{message}</p>
      {session === null && <SignIn attempt={attempt} />}
      {session && <Account key={session.id} attempt={attempt} />}
    </>
  );
}

function SignIn({ attempt }) {
  const submit = (event) => {
    event.preventDefault();
    const { identifier, password } = Object.fromEntries(new FormData(event.target));
    const register = event.nativeEvent.submitter?.value === "register";
    return attempt(async () => {
      if (register) await auth.register({ email: identifier, password });
      await auth.signIn({ identifier, password });
    });
  };
  return (
    <form id="sign-in" onSubmit={submit}>
      <label>E-mail or username <input name="identifier" autoComplete="username" required /></label>
      <label>Password <input name="password" type="password" autoComplete="current-password" required /></label>
      <button name="action" value="sign-in">Sign in</button>
      <button name="action" value="register" className="secondary">Create an account</button>
    </form>
  );
}

function Account({ attempt }) {
  const [account, setAccount] = useState(null);
  const [sessions, setSessions] = useState([]);
  const load = useCallback(async () => {
    const [account, sessions] = await Promise.all([auth.me(), auth.sessions()]);
    setAccount(account);
    setSessions(sessions);
  }, []);
  useEffect(() => void attempt(load), [load]);
  if (!account) return null;
  return (
    <section id="account">
      <p>Signed in as <strong id="name">{account.email}</strong>.</p>
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
