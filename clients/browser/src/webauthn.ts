// The ceremonies of WebAuthn level 3 in their JSON form, which browsers read and write since 2025. `options` are the `public_key` of
// Latchkey's response. The spreads leave out members without a value: WebAuthn's types refuse `undefined`.

/** Whether this browser can use passkeys. An older browser has the class, but not its methods for JSON. */
export function passkeysSupported(): boolean {
  return typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function";
}

/** Asks the user to create a passkey. Rejects with a DOMException if the user cancels. */
export async function createPasskey(options: unknown, signal?: AbortSignal): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options as PublicKeyCredentialCreationOptionsJSON);
  return toJson(await navigator.credentials.create({ publicKey, ...(signal && { signal }) }));
}

/**
 * Asks the user to sign in with a passkey. With `conditional`, the browser shows no dialog: it offers passkeys where it fills in
 * usernames. Rejects with a DOMException if the user cancels.
 */
export async function getPasskey(options: unknown, conditional: boolean, signal?: AbortSignal): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as PublicKeyCredentialRequestOptionsJSON);
  const request = { publicKey, ...(conditional && { mediation: "conditional" as const }), ...(signal && { signal }) };
  return toJson(await navigator.credentials.get(request));
}

/** The JSON form of a passkey. It is never `null`: browsers return `null` only for other kinds of credentials. */
function toJson(credential: Credential | null): unknown {
  return (credential as PublicKeyCredential).toJSON();
}
