// The ceremonies of WebAuthn level 3 in their JSON form, which browsers read and write since 2025.

/** Whether this browser can use passkeys. */
export function passkeysSupported(): boolean {
  return typeof globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON === "function";
}

/** Asks for a new passkey. Rejects with a DOMException if the user cancels. */
export async function createPasskey(options: unknown, signal?: AbortSignal): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options as PublicKeyCredentialCreationOptionsJSON);
  return toJson(await navigator.credentials.create({ publicKey, ...(signal && { signal }) }));
}

/** Asks for the response of a passkey. With `conditional`, the browser offers passkeys where it fills in usernames. */
export async function getPasskey(options: unknown, conditional: boolean, signal?: AbortSignal): Promise<unknown> {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as PublicKeyCredentialRequestOptionsJSON);
  const request = { publicKey, ...(conditional && { mediation: "conditional" as const }), ...(signal && { signal }) };
  return toJson(await navigator.credentials.get(request));
}

function toJson(credential: Credential | null): unknown {
  return (credential as PublicKeyCredential).toJSON();
}
