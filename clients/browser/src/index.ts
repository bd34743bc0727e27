export {
  LatchkeyClient,
  type AddedPasskey,
  type ClientOptions,
  type Listener,
  type PasskeySignIn,
  type SecondFactor,
  type SecondStep,
  type SessionInfo,
  type SignIn,
  type SignInResult,
} from "./client.js";
export { LatchkeyProblem, LatchkeyUnreachable, SignedOut } from "./problem.js";
export { localTokenStorage, memoryTokenStorage, type TokenStorage } from "./storage.js";
export type * from "./api.js";
export { passkeysSupported } from "./webauthn.js";
