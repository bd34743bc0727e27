export { LatchkeyClient, type ClientOptions, type Listener, type SessionInfo, type SignIn } from "./client.js";
export { LatchkeyProblem, LatchkeyUnreachable, SignedOut } from "./problem.js";
export { localTokenStorage, memoryTokenStorage, type TokenStorage } from "./storage.js";
export type * from "./api.js";
