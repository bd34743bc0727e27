// Generated from openapi.json by scripts/generate.mjs (`npm run generate`). Do not edit.

/** An account. */
export interface AccountResponse {
  /** Metadata that operators write, if any. Read-only. */
  app_metadata?: unknown;
  /** When the account was created. */
  created_at: string;
  /** The name to display, if any. */
  display_name?: string;
  /** The e-mail address, as it was entered. Empty if another account has verified the address first. */
  email: string;
  /** Whether the e-mail address is verified: its owner used a link or a code that was sent there, or the account was imported from a system that had verified it. */
  email_verified: boolean;
  /** Whether the account has a password. Absent in the response to a registration. An account without one signs in by passkey or by a code from a mail; a password reset sets one. */
  has_password?: boolean;
  /** The account's id: the `sub` claim of its access tokens. Ids are never reused. */
  id: string;
  /** The language of mails, if it was set: a language tag such as `pt-BR`. */
  locale?: string;
  /** When the password was last changed. */
  password_changed_at: string;
  /** The roles, as in the `roles` claim of its access tokens. */
  roles: Array<string>;
  /** The time zone of times in mails, if it was set: an IANA name such as `Europe/Berlin`. */
  time_zone?: string;
  /** Metadata that the owner or the app writes, if any. */
  user_metadata?: unknown;
  /** The username, if any. */
  username?: string;
}

/** The remembered devices of an account. */
export interface DevicesResponse {
  /** The devices, the newest first. */
  devices: Array<RememberedDevice>;
}

/** A kind of second factor. */
export type FactorKind = "totp" | "passkey";

/** A second factor. */
export interface FactorResponse {
  /** When the factor was set up. */
  created_at: string;
  /** The id. */
  id: string;
  /** The kind. */
  kind: FactorKind;
  /** The name that the owner gave to the factor. */
  label: string;
  /** When the factor was last used. */
  last_used_at?: string;
}

/** The tokens of a new session, and new recovery codes. */
export interface FactorTokensResponse {
  /** A JWT (RFC 9068). Send it as `Authorization: Bearer`. */
  access_token: string;
  /** The lifetime of the access token in seconds. */
  expires_in: number;
  /** Ten recovery codes, each of which replaces a second factor once. Absent if no new ones were made. They are never shown again. */
  recovery_codes?: Array<string>;
  /** The seconds until the session ends unless it is refreshed. */
  refresh_expires_in: number;
  /** The token for the next refresh. Absent if the cookie carries it. */
  refresh_token?: string;
  /** The session's id: the `sid` claim of its access tokens. */
  session_id: string;
  /** Always `Bearer` (RFC 6750). */
  token_type: string;
}

/** The second factors of an account. */
export interface FactorsResponse {
  /** Whether codes by mail are on. Absent if they are off for all accounts (`factors.email_code`). */
  email_code?: boolean;
  /** Authenticator apps and passkeys, oldest first. */
  factors: Array<FactorResponse>;
  /** The number of recovery codes that are left. */
  recovery_codes_left: number;
}

/** A field that is missing or invalid. */
export interface FieldError {
  /** The kind of error. Stable; later releases may add values. */
  code: "required" | "unknown_field" | "unknown_value" | "wrong_type" | "too_short" | "too_long" | "invalid_email" | "invalid_username" | "hidden_characters" | "username_is_uuid" | "mixed_scripts" | "username_reserved" | "token_or_code" | "username_not_yet" | "invalid_display_name" | "invalid_locale" | "invalid_time_zone" | "metadata_too_large" | "invalid_passkey_name" | "taken" | "wrong_password" | "password_too_short" | "password_too_long" | "password_common" | "password_banned_word" | "password_guessable";
  /** A human-readable description. */
  detail: string;
  /** The name of the field. */
  field: string;
}

/** The credentials of a user. */
export interface LoginRequest {
  /** A name for the device, shown in the list of sessions. */
  device?: string;
  /** The account's e-mail address or username, in any case. */
  identifier: string;
  /** The password, byte for byte as it was chosen. */
  password: string;
  /** How the refresh token is delivered. Default: `bearer`. */
  transport?: "bearer" | "cookie" | null;
}

/** A registered passkey. */
export interface Passkey {
  /** The model of the authenticator, as it claims: all zeros if it does not say. */
  aaguid: string;
  /** Whether a copy of its key existed at the last use. */
  backed_up: boolean;
  /** Whether its key can be copied to a backup or another device. */
  backup_eligible: boolean;
  /** When it was registered. */
  created_at: string;
  /** Whether the passkey can be used without a username. Absent if the browser did not say. */
  discoverable?: boolean;
  /** The passkey's id. */
  id: string;
  /** When it was last used to sign in. Absent before the first time. */
  last_used_at?: string;
  /** The name that the owner gave to it. */
  name: string;
  /** How the browser may reach the authenticator: `internal`, `hybrid`, `usb`, `nfc`, `ble`. */
  transports: Array<string>;
}

/** A new passkey, and the tokens of the session that takes the place of the calling one. */
export interface PasskeyAddedResponse {
  /** The passkey. */
  passkey: Passkey;
  /** Ten recovery codes, if the account had none, or no other second factor than codes by mail. Each replaces a second factor once. They are never shown again. */
  recovery_codes?: Array<string>;
  /** The tokens, as after a sign-in. */
  tokens: TokensResponse;
}

/** The options of a ceremony for `navigator.credentials`. */
export interface PasskeyOptions {
  /** For how many seconds the authenticator's response is accepted. */
  expires_in: number;
  /** The options in the JSON form of WebAuthn: `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON` reads them. */
  public_key: unknown;
}

/** The passkeys of an account. */
export interface PasskeysResponse {
  /** The passkeys, oldest first. */
  passkeys: Array<Passkey>;
}

/** An error response (RFC 9457). */
export interface Problem {
  /** With `second_factor_required` and `factor_enrolment_required`: the challenge with which the sign-in continues. */
  challenge?: string;
  /** The kind of problem. Stable; later releases may add values. */
  code: "malformed_request" | "authentication_required" | "invalid_credentials" | "invalid_token" | "insufficient_scope" | "claims_changed" | "invalid_client" | "invalid_refresh_token" | "refresh_token_reused" | "invalid_code" | "invalid_challenge" | "insufficient_user_authentication" | "invalid_passkey" | "session_expired" | "registration_closed" | "email_not_verified" | "second_factor_required" | "factor_enrolment_required" | "proof_required" | "password_required" | "login_method_off" | "passkey_model_not_allowed" | "forbidden" | "wrong_password" | "cross_site_request" | "cookie_cross_site" | "form_expired" | "request_expired" | "not_found" | "unknown_account" | "unknown_factor" | "unknown_session" | "unknown_device" | "unknown_app" | "unknown_email" | "unknown_passkey" | "method_not_allowed" | "request_timeout" | "email_taken" | "email_exists" | "too_many_emails" | "primary_email" | "username_taken" | "too_many_factors" | "factor_required" | "no_second_factor" | "passkey_exists" | "too_many_apps" | "too_many_passkeys" | "payload_too_large" | "unsupported_media_type" | "headers_too_large" | "invalid_fields" | "weak_password" | "passkey_rejected" | "too_many_requests" | "internal_error" | "unavailable";
  /** A human-readable description of this occurrence. */
  detail: string;
  /** The fields that are missing or invalid. */
  errors?: Array<FieldError>;
  /** With a challenge: its lifetime in seconds. */
  expires_in?: number;
  /** With a challenge: the factors with which the sign-in can continue, such as `totp`. Later releases may add values. */
  methods?: Array<string>;
  /** With `second_factor_required`: for how many seconds the device can skip the second factor afterwards, with `remember_device`. Absent if it can't. */
  remember_device_for?: number;
  /** The id of the request, as in the header `X-Request-Id` and in the service's log. */
  request_id: string;
  /** The HTTP status code. */
  status: number;
  /** A short summary of the kind of problem. */
  title: string;
  /** A URI that identifies the kind of problem: `urn:latchkey:problem:` and the code. */
  type: string;
}

/** An access token that names the new authentication. */
export interface ReauthenticatedResponse {
  /** A JWT (RFC 9068). Send it as `Authorization: Bearer`. */
  access_token: string;
  /** The level of the authentication: the claim `acr`. */
  acr: string;
  /** When the user authenticated, in seconds since the Unix epoch: the claim `auth_time`. */
  auth_time: number;
  /** The lifetime of the access token in seconds. */
  expires_in: number;
  /** The session's id: the `sid` claim of its access tokens. */
  session_id: string;
  /** Always `Bearer` (RFC 6750). */
  token_type: string;
}

/** A new account. */
export interface RegisterRequest {
  /** The account's e-mail address. Unique, regardless of case. */
  email: string;
  /** The password: 8 to 128 characters of any kind, 15 or more recommended. Common and guessable passwords are refused. */
  password: string;
  /** A second identifier to sign in with: letters, digits, `.`, `_` and `-`. Unique, regardless of case. */
  username?: string;
}

/** A device that may skip the second factor. */
export interface RememberedDevice {
  /** When the device showed a second factor. */
  created_at: string;
  /** Whether this is the calling device, by its `X-Device-Token` or cookie. */
  current: boolean;
  /** When the device has to show a second factor again. */
  expires_at: string;
  /** The device's id. */
  id: string;
  /** When the device last skipped the second factor. Absent before the first time. */
  last_used_at?: string;
  /** The name that the user gave the device at the sign-in. */
  name?: string;
  /** The user agent with which the device was remembered. */
  user_agent?: string;
}

/** A live session. */
export interface Session {
  /** The app's name. */
  app?: string;
  /** Whether this is a browser's session on Latchkey's own pages. The app sessions that the browser has signed in to end together with the browser's session, unless they have `offline_access`. */
  browser: boolean;
  /** The app that the user signed in to with OpenID Connect: its `client_id`. */
  client_id?: string;
  /** How many of the last eight refresh tokens some client evidently did not have: it presented an older token, from another network or user agent than the last refresh. A few are a sign of a connection that loses responses while it changes networks. Many are a sign of a second holder of the session. */
  counted_repeats: number;
  /** When the user signed in. */
  created_at: string;
  /** Whether this is the calling session. */
  current: boolean;
  /** The device name that the user gave at the sign-in. */
  device?: string;
  /** When the session ends unless it is refreshed. */
  expires_at: string;
  /** The session's id: the `sid` claim of its access tokens. */
  id: string;
  /** The IP address of the sign-in. */
  ip?: string;
  /** When the session was last refreshed (to the minute), or when the user signed in. */
  last_used_at: string;
  /** The IP address of the last refresh, or of the sign-in. */
  last_used_ip?: string;
  /** If this is an app session that ends together with a browser's session: the id of the browser's session. */
  parent?: string;
  /** The user agent of the sign-in. */
  user_agent?: string;
}

/** The live sessions of an account. */
export interface SessionsResponse {
  /** The sessions, oldest first. */
  sessions: Array<Session>;
}

/** The tokens of a session. */
export interface TokensResponse {
  /** A JWT (RFC 9068). Send it as `Authorization: Bearer`. */
  access_token: string;
  /** The lifetime of the access token in seconds. */
  expires_in: number;
  /** The seconds until the session ends unless it is refreshed. */
  refresh_expires_in: number;
  /** The token for the next refresh. Absent if the cookie carries it. */
  refresh_token?: string;
  /** The session's id: the `sid` claim of its access tokens. */
  session_id: string;
  /** Always `Bearer` (RFC 6750). */
  token_type: string;
}

/** An authenticator app that waits for its first code. */
export interface TotpEnrolmentResponse {
  /** Until when the first code must arrive. */
  expires_at: string;
  /** The URI as a QR code, to be scanned by an app on another device: an SVG image. */
  qr_code: string;
  /** The secret in base32, to be typed into the app. The codes have six digits, change every 30 seconds and use SHA-1. */
  secret: string;
  /** The secret as a URI, to be opened by an app on this device. */
  uri: string;
}
