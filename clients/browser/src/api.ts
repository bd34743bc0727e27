// Generated from openapi.json by scripts/generate.mjs (`npm run generate`). Do not edit.

/** An account. */
export interface AccountResponse {
  /** When it was made. */
  created_at: string;
  /** Its e-mail address, as it was written. */
  email: string;
  /** Its id: the `sub` of its access tokens. Never another account's. */
  id: string;
  /** When its password was last changed. */
  password_changed_at: string;
  /** Its roles, as in the `roles` of its access tokens. */
  roles: Array<string>;
  /** Its username, if it has one. */
  username?: string;
}

/** A field that is missing or wrong. */
export interface FieldError {
  /** What is wrong, for programs. Stable. */
  code: string;
  /** What is wrong, for people. */
  detail: string;
  /** Its name. */
  field: string;
}

/** Who wants to sign in. */
export interface LoginRequest {
  /** What the user calls this device, to recognise the session by. */
  device?: string;
  /** The account's e-mail address or username; upper and lower case are the same. */
  identifier: string;
  /** The password, exactly as it was chosen. */
  password: string;
  /** How the refresh token shall travel; `bearer` if left out. */
  transport?: Transport;
}

/** An error (RFC 9457). */
export interface Problem {
  /** The kind of error, for programs. Stable. */
  code: string;
  /** What happened this time. */
  detail: string;
  /** The fields that are missing or wrong, if that is the error. */
  errors?: Array<FieldError>;
  /** The id of the request, as in the header `X-Request-Id` and in the service's log. */
  request_id: string;
  /** The status, again. */
  status: number;
  /** What this kind of error means, in a few words that never change. */
  title: string;
  /** A URI that names the kind of error: `urn:latchkey:problem:` and the code. */
  type: string;
}

/** Who wants to register. */
export interface RegisterRequest {
  /** The account's e-mail address. Unique; upper and lower case are the same. */
  email: string;
  /** The password: 8 to 128 characters of any kind, 15 or more advised. Common and guessable ones are refused. */
  password: string;
  /** A name to sign in with beside the e-mail address: letters, digits, `.`, `_` and `-`. Unique; upper and lower case are the same. */
  username?: string;
}

/** A live session. */
export interface Session {
  /** When its owner signed in. */
  created_at: string;
  /** Whether it is the session that asks. */
  current: boolean;
  /** What its owner calls the device. */
  device?: string;
  /** When it ends unless it is refreshed before. */
  expires_at: string;
  /** Its id: the `sid` of its access tokens. */
  id: string;
  /** The address it was started from. */
  ip?: string;
  /** When it was last refreshed. */
  last_used_at: string;
  /** The user agent it was started with. */
  user_agent?: string;
}

/** The live sessions of an account. */
export interface SessionsResponse {
  /** Oldest first. */
  sessions: Array<Session>;
}

/** A session's tokens. */
export interface TokensResponse {
  /** A JWT (RFC 9068), to be sent as `Authorization: Bearer`. */
  access_token: string;
  /** How long the access token is valid, in seconds. */
  expires_in: number;
  /** How long the session lasts unless it is refreshed, in seconds. */
  refresh_expires_in: number;
  /** What to refresh with next; not there where the cookie carries it. */
  refresh_token?: string;
  /** The session's id: the `sid` of its access tokens. */
  session_id: string;
  /** Always `Bearer` (RFC 6750). */
  token_type: string;
}

/** How the refresh token travels. */
export type Transport = "bearer" | "cookie";
