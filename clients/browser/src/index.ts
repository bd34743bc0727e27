// The public names of the package.
export {
  LatchkeyClient,
  type AddedPasskey,
  type ClientOptions,
  type Enrolment,
  type Listener,
  type PasskeySignIn,
  type RecoveryCodes,
  type SecondFactor,
  type SecondStep,
  type SessionInfo,
  type SignIn,
  type SignInResult,
  type StepUp,
  type TotpEnrolment,
} from "./client.js";
export { LatchkeyProblem, LatchkeyUnreachable, SignedOut } from "./problem.js";
export { localTokenStorage, memoryTokenStorage, type TokenStorage } from "./storage.js";
export { passkeysSupported } from "./webauthn.js";
// the bodies of the REST API, generated from its OpenAPI document
export type * from "./api.js";
