// The Latchkey client of the example, and React hooks for it.

import { LatchkeyClient, LatchkeyProblem, LatchkeyUnreachable, SignedOut, passkeysSupported } from "latchkey-browser";
import { useEffect, useState } from "react";

// `?api=` and `?transport=` in the address of the page replace the defaults.
const parameters = new URLSearchParams(location.search);
export const auth = new LatchkeyClient({
  baseUrl: parameters.get("api") ?? "http://localhost:8080",
  // `cookie` requires that the page and Latchkey are on the same site. Here both are on localhost.
  transport: parameters.get("transport") ?? "cookie",
});
globalThis.latchkey = auth; // for the developer console

/**
 * The session of this tab: undefined until it is known, null if no user is signed in. Changes with each sign-in and sign-out,
 * also in other tabs. `onError` receives the error if Latchkey cannot be reached.
 */
export function useSession(onError) {
  const [session, setSession] = useState(undefined);
  useEffect(() => {
    const stop = auth.onChange(setSession);
    auth.resume().then(setSession, onError);
    return stop;
  }, [onError]);
  return session;
}

/** Returns a text for the user about an error of a call to Latchkey, empty if there is nothing to show. Rethrows any other error. */
export function explain(error) {
  if (error instanceof SignedOut) return ""; // useSession reports the change
  if (error instanceof LatchkeyProblem) return [error.detail, ...error.errors.map((field) => field.detail)].join(" ");
  if (error instanceof LatchkeyUnreachable) return "The service cannot be reached. Try again.";
  if (error instanceof DOMException) return "The passkey was not used."; // the user or the browser cancelled
  throw error;
}

/**
 * Offers passkeys in the browser's list of usernames, until the component is unmounted. Does nothing if the browser or Latchkey
 * does not support that. `onStep` receives the result of `signInWithPasskey` when the user chooses a passkey. `onError` receives
 * the error if Latchkey refuses the passkey. Other errors are ignored: the user has not asked for a sign-in yet.
 */
export function usePasskeyOffer(onStep, onError) {
  useEffect(() => {
    const offer = new AbortController();
    const start = async () => {
      if (!passkeysSupported() || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
      if (!offer.signal.aborted) onStep(await auth.signInWithPasskey({ conditional: true, signal: offer.signal }));
    };
    start().catch((error) => {
      if (error.code === "invalid_passkey") onError(error);
    });
    return () => offer.abort();
  }, [onStep, onError]);
}
