import type {
  AccountResponse,
  DevicesResponse,
  FactorTokensResponse,
  FactorsResponse,
  LoginRequest,
  Passkey,
  PasskeyAddedResponse,
  PasskeyOptions,
  PasskeysResponse,
  RegisterRequest,
  RememberedDevice,
  SessionsResponse,
  TokensResponse,
  TotpEnrolmentResponse,
} from "./api.js";
import { LatchkeyProblem, LatchkeyUnreachable, SignedOut, problemOf } from "./problem.js";
import { localTokenStorage, memoryTokenStorage, type TokenStorage } from "./storage.js";
import { openTabs, type TabMessage } from "./tabs.js";
import { createPasskey, getPasskey } from "./webauthn.js";

export interface ClientOptions {
  /** The URL of Latchkey, such as `https://auth.example.com`. */
  baseUrl: string;
  /** `cookie` (default) needs page and Latchkey on the same site; `bearer` keeps the refresh token in `storage`. */
  transport?: "cookie" | "bearer";
  /** Where the refresh token is kept with `bearer`; `localStorage` where there is one, else memory. */
  storage?: TokenStorage;
  /**
   * Where the device token is kept with `bearer`; `localStorage` where there is one, else memory. By the device token Latchkey
   * recognizes the device, and skips the second factor if the user chose that. The token stays after `signOut`.
   */
  deviceStorage?: TokenStorage;
  /** Origins that `fetch` sends the access token to, beside the page's and Latchkey's own. */
  origins?: readonly string[];
  /** The name of the lock and channel that tabs share; all clients of one Latchkey must use the same name. */
  name?: string;
  /** How long a call to Latchkey may take, in milliseconds; 10 s by default. */
  timeout?: number;
  /** Replaces the global `fetch`. */
  fetch?: typeof fetch;
}

/** A signed-in session, as this client knows it. */
export interface SessionInfo {
  id: string;
}

export type SignIn = Pick<LoginRequest, "identifier" | "password" | "device">;

/** The second step of a sign-in: pass it to `signInWithCode` or `signInWithPasskey` within `expiresIn` seconds. */
export interface SecondFactor {
  challenge: string;
  /** The factors that the account has: `totp`, `passkey`, `recovery_code`, `email_code`. Later releases may add others. */
  methods: readonly string[];
  expiresIn: number;
  /** For how many seconds the device can skip the second factor afterwards, with `rememberDevice`. Absent if it can't. */
  rememberDeviceFor?: number;
}

export interface SecondStep {
  /** Whether the device skips the second factor at its next sign-ins. Needs `rememberDeviceFor` in the second factor. */
  rememberDevice?: boolean;
}

/**
 * A sign-in to an account that must have a second factor and has none: set one of the `methods` up within `expiresIn` seconds, with
 * `enrolPasskey`, or with `startTotp` and `confirmTotp`.
 */
export type Enrolment = SecondFactor;

/** The session of a sign-in, the second step that it needs, or the second factor that must be set up first. */
export type SignInResult =
  | (SessionInfo & { secondFactor?: undefined; enrolment?: undefined })
  | { id?: undefined; secondFactor: SecondFactor; enrolment?: undefined }
  | { id?: undefined; secondFactor?: undefined; enrolment: Enrolment };

/** An authenticator app that waits for its first code. Show the secret in one of these three forms. */
export interface TotpEnrolment {
  /** The secret in base32, to be typed into the app. */
  secret: string;
  /** The secret as a URI, to be opened by an app on this device. */
  uri: string;
  /** The URI as a QR code: an SVG image. */
  qrCode: string;
}

/** Codes that each replace a second factor once. Show them now; they cannot be read again. Empty if the account has codes already. */
export interface RecoveryCodes {
  recoveryCodes: readonly string[];
}

/** A passkey that was registered. If it is the first factor of the account, recovery codes come with it. */
export interface AddedPasskey extends RecoveryCodes {
  passkey: Passkey;
}

/** The proof of a step-up: the password, or a code of `totp` or `recovery_code`. Without either, the browser asks for a passkey. */
export type StepUp = { password: string } | { method: string; code: string } | { signal?: AbortSignal };

export interface PasskeySignIn extends SecondStep {
  /** The second step of a sign-in with a password. Without it the passkey signs in by itself, without a username. */
  secondFactor?: SecondFactor;
  /** A name for the device, shown in the list of sessions. */
  device?: string;
  /**
   * Offers passkeys where the browser fills in the username: an input with `autocomplete="username webauthn"`. The promise is
   * pending until the user chooses one: abort it with `signal` before another sign-in.
   */
  conditional?: boolean;
  signal?: AbortSignal;
}

export type Listener = (session: SessionInfo | null) => void;

interface Access {
  token: string;
  sessionId: string;
  /** Local time in milliseconds after which the token is not used any more. */
  staleAt: number;
}

/** Problems that end the session; any other leaves it unchanged. */
const ENDS_SESSION = new Set(["authentication_required", "invalid_refresh_token", "refresh_token_reused", "session_expired"]);

/** Problems of an access token that a refresh solves. */
const SOLVED_BY_REFRESH = new Set(["invalid_token", "claims_changed"]);

/** An access token is replaced this many seconds before it expires. */
const EXPIRY_MARGIN = 10;

/** The longest `Retry-After`, in seconds, for which a refresh waits and retries by itself. */
const MAX_RETRY_AFTER = 5;

/** Signs users in, keeps them signed in, and signs them out, in all tabs. */
export class LatchkeyClient {
  readonly #base: string;
  readonly #usesCookie: boolean;
  readonly #storage: TokenStorage;
  readonly #deviceStorage: TokenStorage;
  readonly #origins: Set<string>;
  readonly #timeout: number;
  readonly #fetch: typeof fetch;
  readonly #tabs;
  readonly #listeners = new Set<Listener>();
  #access: Access | null = null;
  #refreshing: Promise<Access> | null = null;
  /** Counts sign-ins and sign-outs. The result of a refresh that began at an earlier count is dropped. */
  #epoch = 0;
  /** The session that ended last: late messages of other tabs about it are ignored. */
  #endedSession: string | undefined;

  constructor(options: ClientOptions) {
    const page = globalThis.location?.href;
    this.#base = new URL(options.baseUrl, page).href.replace(/\/$/, "");
    this.#usesCookie = (options.transport ?? "cookie") === "cookie";
    const defaultStorage = (key?: string) =>
      typeof localStorage === "undefined" ? memoryTokenStorage() : localTokenStorage(key);
    this.#storage = options.storage ?? defaultStorage();
    this.#deviceStorage = options.deviceStorage ?? defaultStorage("latchkey.device_token");
    // about:blank has no origin
    const pageOrigin = page && page !== "about:blank" ? [new URL(page).origin] : [];
    this.#origins = new Set([new URL(this.#base).origin, ...pageOrigin, ...(options.origins ?? [])]);
    this.#timeout = options.timeout ?? 10_000;
    // browsers refuse `fetch` as a method of another object than the global one
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.#tabs = openTabs(options.name ?? "latchkey", (message) => this.#receive(message));
  }

  /** The session, if this tab knows that someone is signed in. After a reload, call `resume` first. */
  get session(): SessionInfo | null {
    return this.#access && { id: this.#access.sessionId };
  }

  /** Calls `listener` after each sign-in, sign-out and change of the password, also those of other tabs. Returns a function that stops it. */
  onChange(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Creates an account. Does not sign in. */
  async register(account: RegisterRequest): Promise<AccountResponse> {
    return this.#post("/v1/users", account);
  }

  /**
   * Signs in. With the transport `cookie`, ends the cookie's previous session. If the account has a second factor, or must set one
   * up, nobody is signed in yet: continue with the result's `secondFactor` or `enrolment`.
   */
  async signIn(credentials: SignIn): Promise<SignInResult> {
    return this.#signIn("/v1/login", { ...credentials, transport: this.#transport });
  }

  /** Continues a sign-in with a code: of an authenticator app (`totp`), a mail (`email_code`) or a `recovery_code`. */
  async signInWithCode(
    secondFactor: SecondFactor,
    method: string,
    code: string,
    step: SecondStep = {},
  ): Promise<SignInResult> {
    const body = { challenge: secondFactor.challenge, method, code, ...rememberDeviceField(step) };
    return this.#signIn("/v1/login/second-factor", body);
  }

  /** Sends a code by mail for a second step with the method `email_code`. Returns for how many seconds the code works. */
  async sendCode(secondFactor: SecondFactor): Promise<number> {
    const body = { challenge: secondFactor.challenge };
    const sent = await this.#post<{ expires_in: number }>("/v1/login/second-factor/code", body);
    return sent.expires_in;
  }

  /**
   * Signs in with a passkey: by itself, or as the second step of a sign-in. Rejects with a DOMException `NotAllowedError` if the
   * user cancels, and `AbortError` if `signal` is aborted.
   */
  async signInWithPasskey(step: PasskeySignIn = {}): Promise<SignInResult> {
    const { secondFactor, device, conditional, signal } = step;
    const challenge = secondFactor && { challenge: secondFactor.challenge };
    const path = challenge ? "/v1/login/second-factor" : "/v1/login/passkey";
    const options = await this.#post<PasskeyOptions>(`${path}/options`, challenge);
    const credential = await getPasskey(options.public_key, conditional ?? false, signal);
    if (challenge) return this.#signIn(path, { ...challenge, method: "passkey", credential, ...rememberDeviceField(step) });
    return this.#signIn(path, { credential, transport: this.#transport, ...(device && { device }) });
  }

  /** Continues the session after a reload. Returns null if nobody is signed in. */
  async resume(): Promise<SessionInfo | null> {
    try {
      return { id: (await this.#fresh()).sessionId };
    } catch (error) {
      if (error instanceof SignedOut) return null;
      throw error;
    }
  }

  /** Signs out in all tabs. Resolves once the session has ended on every node; signs out locally in any case. */
  async signOut(): Promise<void> {
    const token = this.#usesCookie ? null : await this.#storage.get();
    const access = this.#access?.token;
    await this.#forget({ inOtherTabs: true });
    const hasNothingToRevoke = !this.#usesCookie && !token && !access;
    if (hasNothingToRevoke) return;
    try {
      await this.#call("POST", "/v1/logout", token ? { refresh_token: token } : undefined, access);
    } catch (error) {
      // the session had already ended
      if (!(error instanceof LatchkeyProblem && error.status === 401)) throw error;
    }
  }

  /**
   * Like the global `fetch`, with the access token. Refreshes once and retries when the token is refused. A body that is a
   * stream cannot be sent twice and is not retried.
   *
   * @throws SignedOut if nobody is signed in, LatchkeyUnreachable if the token cannot be refreshed now
   */
  async fetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
    const request = new Request(input instanceof Request ? input : new URL(input, globalThis.location?.href), init);
    if (!this.#origins.has(new URL(request.url).origin)) {
      throw new TypeError(`the access token is not sent to ${new URL(request.url).origin}: name it in "origins"`);
    }
    const initHasStream = typeof ReadableStream !== "undefined" && init.body instanceof ReadableStream;
    // the body of a `Request` is always a stream
    const hasStream = initHasStream || (input instanceof Request && input.body !== null);
    const retry = hasStream ? null : request.clone();
    const access = await this.#fresh();
    const response = await this.#fetch(withAccessToken(request, access));
    if (response.status !== 401 || !retry) return response;
    const next = await this.#fresh(access);
    // the same token would be refused again
    return next.token === access.token ? response : this.#fetch(withAccessToken(retry, next));
  }

  /** The account that is signed in. */
  async me(): Promise<AccountResponse> {
    return this.#json("GET", "/v1/me");
  }

  /** The account's sessions, this one marked `current`. */
  async sessions(): Promise<SessionsResponse["sessions"]> {
    return (await this.#json<SessionsResponse>("GET", "/v1/sessions")).sessions;
  }

  /** Ends one session. Ending the current one signs out. */
  async endSession(id: string): Promise<void> {
    if (id === this.#access?.sessionId) return this.signOut();
    await this.#json("DELETE", `/v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Ends all sessions but this one and returns how many there were. */
  async endOtherSessions(): Promise<number> {
    return (await this.#json<{ revoked: number }>("DELETE", "/v1/sessions?keep_current=true")).revoked;
  }

  /**
   * Changes the password. All sessions of the account end, and a new one replaces this one in all tabs. If no
   * response arrives and the password was changed nevertheless, the next call signs out.
   */
  async changePassword(current: string, next: string): Promise<SessionInfo> {
    const body = { current_password: current, new_password: next };
    const { session } = await this.#replace<TokensResponse>("POST", "/v1/me/password", body, (tokens) => tokens);
    return session;
  }

  /** The account's passkeys, oldest first. */
  async passkeys(): Promise<Passkey[]> {
    return (await this.#json<PasskeysResponse>("GET", "/v1/me/passkeys")).passkeys;
  }

  /**
   * Registers a passkey under this name. All sessions of the account end, and a new one replaces this one. Rejects with a
   * DOMException `NotAllowedError` if the user cancels, and `InvalidStateError` if the authenticator is registered already.
   */
  async addPasskey(name: string, signal?: AbortSignal): Promise<AddedPasskey> {
    const options = await this.#json<PasskeyOptions>("POST", "/v1/me/passkeys/options");
    const body = { name, credential: await createPasskey(options.public_key, signal) };
    const added = await this.#replace<PasskeyAddedResponse>("POST", "/v1/me/passkeys", body, ({ tokens }) => tokens);
    return { passkey: added.response.passkey, recoveryCodes: added.response.recovery_codes ?? [] };
  }

  /** Renames a passkey. */
  async renamePasskey(id: string, name: string): Promise<Passkey> {
    return this.#json("PATCH", `/v1/me/passkeys/${encodeURIComponent(id)}`, { name });
  }

  /** Removes a passkey. All sessions of the account end, and a new one replaces this one. */
  async removePasskey(id: string): Promise<void> {
    const path = `/v1/me/passkeys/${encodeURIComponent(id)}`;
    await this.#replace<TokensResponse>("DELETE", path, undefined, (tokens) => tokens);
  }

  /** The devices that skip the second factor, the newest first, this one marked `current`. */
  async devices(): Promise<RememberedDevice[]> {
    return (await this.#json<DevicesResponse>("GET", "/v1/me/devices")).devices;
  }

  /** Forgets a device: its next sign-in needs the second factor. */
  async forgetDevice(id: string): Promise<void> {
    await this.#json("DELETE", `/v1/me/devices/${encodeURIComponent(id)}`);
  }

  /** Forgets all devices and returns how many there were. */
  async forgetDevices(): Promise<number> {
    return (await this.#json<{ forgotten: number }>("DELETE", "/v1/me/devices")).forgotten;
  }

  /** Registers a passkey under this name for a sign-in that requires a second factor, and signs in. */
  async enrolPasskey(enrolment: Enrolment, name: string, signal?: AbortSignal): Promise<RecoveryCodes> {
    const path = "/v1/login/enrolment/passkey";
    const challenge = { challenge: enrolment.challenge };
    const options = await this.#post<PasskeyOptions>(`${path}/options`, challenge);
    const credential = await createPasskey(options.public_key, signal);
    return this.#enrolled(path, { ...challenge, name, credential });
  }

  /**
   * Starts to set up an authenticator app for the signed-in account, or for the account whose sign-in requires one (`enrolment`).
   * `confirmTotp` completes the set-up with the app's first code.
   */
  async startTotp({ label, enrolment }: { label?: string; enrolment?: Enrolment } = {}): Promise<TotpEnrolment> {
    const body = { ...(label && { label }), ...(enrolment && { challenge: enrolment.challenge }) };
    const started: TotpEnrolmentResponse = enrolment
      ? await this.#post("/v1/login/enrolment/totp", body)
      : await this.#json("POST", "/v1/me/factors/totp", body);
    return { secret: started.secret, uri: started.uri, qrCode: started.qr_code };
  }

  /**
   * Confirms the authenticator app with its first code. With `enrolment`, completes the sign-in. Otherwise all sessions of the
   * account end, and a new one replaces this one.
   */
  async confirmTotp(code: string, { enrolment }: { enrolment?: Enrolment } = {}): Promise<RecoveryCodes> {
    if (enrolment) return this.#enrolled("/v1/login/enrolment/totp/confirm", { challenge: enrolment.challenge, code });
    return this.#changeFactors("POST", "/v1/me/factors/totp/confirm", { code });
  }

  /** Removes an authenticator app. All sessions of the account end, and a new one replaces this one. */
  async removeTotp(id: string): Promise<void> {
    await this.#changeFactors("DELETE", `/v1/me/factors/totp/${encodeURIComponent(id)}`);
  }

  /** The account's authenticator apps and passkeys, and the number of recovery codes that are left. */
  async factors(): Promise<FactorsResponse> {
    return this.#json("GET", "/v1/me/factors");
  }

  /** Replaces the recovery codes. All sessions of the account end, and a new one replaces this one. */
  async renewRecoveryCodes(): Promise<RecoveryCodes> {
    return this.#changeFactors("POST", "/v1/me/recovery-codes");
  }

  /**
   * Authenticates the user of this session again (step-up), for a call that was refused with `insufficient_user_authentication`:
   * repeat that call afterwards. The session continues, in all tabs.
   */
  async reauthenticate(proof: StepUp): Promise<void> {
    const path = "/v1/me/reauthenticate";
    let body: unknown = proof;
    if (!("password" in proof) && !("code" in proof)) {
      const options = await this.#json<PasskeyOptions>("POST", `${path}/passkey/options`);
      body = { credential: await getPasskey(options.public_key, false, proof.signal) };
    }
    await this.#withAccess(async (access) => {
      const response = await this.#call("POST", path, body, access.token);
      return this.#keep(await response.json());
    });
  }

  /** Stops listening to other tabs. */
  close(): void {
    this.#tabs.close();
    this.#listeners.clear();
  }

  get #transport(): "cookie" | "bearer" {
    return this.#usesCookie ? "cookie" : "bearer";
  }

  /** Sends one step of a sign-in. */
  async #signIn(path: string, body: unknown): Promise<SignInResult> {
    let response: Response;
    try {
      response = await this.#call("POST", path, body);
    } catch (error) {
      if (error instanceof LatchkeyProblem) {
        if (error.secondFactor) return { secondFactor: error.secondFactor };
        if (error.enrolment) return { enrolment: error.enrolment };
      }
      throw error;
    }
    return { id: (await this.#signedIn(response)).session_id };
  }

  /** Keeps the tokens of a complete sign-in, and the device token. */
  async #signedIn<T extends TokensResponse>(response: Response): Promise<T> {
    const deviceToken = this.#usesCookie ? null : response.headers.get(DEVICE_HEADER);
    if (deviceToken) await this.#deviceStorage.set(deviceToken);
    const tokens: T = await response.json();
    await this.#begin(tokens);
    return tokens;
  }

  /** Completes a sign-in that required a second factor to be set up. */
  async #enrolled(path: string, body: unknown): Promise<RecoveryCodes> {
    const tokens = await this.#signedIn<FactorTokensResponse>(await this.#call("POST", path, body));
    return { recoveryCodes: tokens.recovery_codes ?? [] };
  }

  /** Keeps the tokens of a session that has begun. */
  #begin(tokens: TokensResponse): Promise<Access> {
    this.#epoch++;
    this.#refreshing = null;
    return this.#keep(tokens);
  }

  /** Changes the factors of the signed-in account. The response may have recovery codes. */
  async #changeFactors(method: string, path: string, body?: unknown): Promise<RecoveryCodes> {
    const { response } = await this.#replace<FactorTokensResponse>(method, path, body, (tokens) => tokens);
    return { recoveryCodes: response.recovery_codes ?? [] };
  }

  /** The header with the device token, for calls that recognize the device. With cookies the browser sends the token. */
  async #deviceHeader(path: string): Promise<Record<string, string>> {
    const recognizesDevice = /^\/v1\/(login|me\/devices)/.test(path);
    if (this.#usesCookie || !recognizesDevice) return {};
    const token = await this.#deviceStorage.get();
    return token ? { [DEVICE_HEADER]: token } : {};
  }

  /**
   * Sends a change whose response has the tokens of a new session, which replaces the current one in all tabs. `tokensOf` takes
   * the tokens from the response.
   */
  async #replace<T>(method: string, path: string, body: unknown, tokensOf: (response: T) => TokensResponse) {
    const change = (access: Access) =>
      // Under the lock: if another tab presented the ended session's cookie meanwhile, the response to it would delete the new cookie.
      this.#tabs.exclusively(async () => {
        const response: T = await (await this.#call(method, path, body, access.token)).json();
        this.#endedSession = access.sessionId;
        const begun = await this.#begin(tokensOf(response));
        return { response, session: { id: begun.sessionId } };
      });
    return this.#withAccess(change);
  }

  /** Makes a call with an access token. If the token is refused, refreshes it and repeats the call once. Other refusals are final. */
  async #withAccess<T>(call: (access: Access) => Promise<T>): Promise<T> {
    const access = await this.#fresh();
    try {
      return await call(access);
    } catch (error) {
      if (!(error instanceof LatchkeyProblem && SOLVED_BY_REFRESH.has(error.code))) throw error;
      return call(await this.#fresh(access));
    }
  }

  /** Makes a call with the access token, and returns the JSON of the response. */
  async #json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await this.#withAccess((access) => this.#call(method, path, body, access.token));
    return (response.status === 204 ? null : await response.json()) as T;
  }

  /** Makes a POST call without an access token, and returns the JSON of the response. */
  async #post<T>(path: string, body?: unknown): Promise<T> {
    const response = await this.#call("POST", path, body);
    return response.json();
  }

  /** Makes a call without a refresh or retry, with the access token if one is given. */
  async #call(method: string, path: string, body?: unknown, accessToken?: string): Promise<Response> {
    const headers = await this.#deviceHeader(path);
    if (body !== undefined) Object.assign(headers, JSON_TYPE);
    if (accessToken) headers["Authorization"] = `Bearer ${accessToken}`;
    let response: Response;
    // React Native has no AbortSignal.timeout
    const aborter = new AbortController();
    const timer = setTimeout(() => aborter.abort(), this.#timeout);
    try {
      response = await this.#fetch(this.#base + path, {
        method,
        headers,
        credentials: this.#usesCookie ? "include" : "omit",
        signal: aborter.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      throw new LatchkeyUnreachable(error);
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  /** Returns an access token that is not about to expire and is not `refused`. All callers share one refresh. */
  #fresh(refused?: Access): Promise<Access> {
    const held = this.#access;
    if (held && held.token !== refused?.token && Date.now() < held.staleAt) return Promise.resolve(held);
    if (this.#refreshing) return this.#refreshing;
    const refreshing: Promise<Access> = this.#refresh(held).finally(() => {
      // a sign-in or sign-out may have made room for a newer refresh
      if (this.#refreshing === refreshing) this.#refreshing = null;
    });
    this.#refreshing = refreshing;
    return refreshing;
  }

  /** Refreshes the tokens. `before` is the access token when the refresh was requested. */
  async #refresh(before: Access | null): Promise<Access> {
    const epoch = this.#epoch;
    return this.#tabs.exclusively(async () => {
      // another tab may have refreshed while this one waited for the lock
      const held = this.#access;
      if (held && held.token !== before?.token && Date.now() < held.staleAt) return held;
      const token = this.#usesCookie ? null : await this.#storage.get();
      if (!this.#usesCookie && !token) throw new SignedOut();
      try {
        const response = await this.#exchange(token);
        const tokens: TokensResponse = await response.json();
        // a sign-in or sign-out during the refresh
        if (this.#epoch !== epoch) throw new SignedOut();
        return await this.#keep(tokens);
      } catch (error) {
        if (!(error instanceof LatchkeyProblem && ENDS_SESSION.has(error.code))) throw error;
        // A tab that knew of no session, as after a reload, has nothing to report to the other tabs.
        const inOtherTabs = before !== null;
        if (this.#epoch === epoch) await this.#forget({ inOtherTabs });
        throw new SignedOut(error.code);
      }
    });
  }

  /** Presents the refresh token, at most twice: after a lost response Latchkey answers the same token with the same successor. */
  async #exchange(token: string | null): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#call("POST", "/v1/refresh", token ? { refresh_token: token } : undefined);
      } catch (error) {
        const isBusy = error instanceof LatchkeyProblem && (error.status === 429 || error.status === 503);
        const mayRetry = isBusy || error instanceof LatchkeyUnreachable;
        const seconds = isBusy ? (error.retryAfter ?? 1) : 0;
        if (attempt > 0 || !mayRetry || seconds > MAX_RETRY_AFTER) throw error;
        await new Promise((resume) => setTimeout(resume, seconds * 1000));
      }
    }
  }

  /** Stores new tokens, and sends the access token to the other tabs. */
  async #keep(tokens: TokensResponse): Promise<Access> {
    if (!this.#usesCookie && tokens.refresh_token) await this.#storage.set(tokens.refresh_token);
    const access = this.#accept(tokens.access_token, tokens.expires_in, Date.now(), tokens.session_id);
    const { token, sessionId } = access;
    this.#tabs.send({ type: "tokens", access: token, expiresIn: tokens.expires_in, sentAt: Date.now(), sessionId });
    return access;
  }

  /** Starts to use an access token. Its lifetime counts from the moment of receipt by the local clock, whatever the server's clock says. */
  #accept(token: string, expiresIn: number, receivedAt: number, sessionId: string): Access {
    const margin = Math.min(EXPIRY_MARGIN, expiresIn / 2);
    const changed = this.#access?.sessionId !== sessionId;
    this.#access = { token, sessionId, staleAt: receivedAt + (expiresIn - margin) * 1000 };
    if (changed) this.#notify();
    return this.#access;
  }

  /** Drops the tokens, in the other tabs too if `inOtherTabs` is true. */
  async #forget({ inOtherTabs }: { inOtherTabs: boolean }): Promise<void> {
    this.#epoch++;
    this.#refreshing = null;
    const previous = this.#access;
    this.#access = null;
    this.#endedSession = previous?.sessionId;
    if (!this.#usesCookie) await this.#storage.remove();
    if (inOtherTabs) this.#tabs.send({ type: "signed_out", sessionId: previous?.sessionId });
    if (previous) this.#notify();
  }

  /** Applies a message of another tab. */
  #receive(message: TabMessage): void {
    if (message.type === "tokens") {
      if (message.sessionId === this.#endedSession) return;
      this.#accept(message.access, message.expiresIn, message.sentAt, message.sessionId);
    } else {
      this.#epoch++;
      const previous = this.#access;
      this.#access = null;
      this.#endedSession = message.sessionId ?? previous?.sessionId;
      if (previous) this.#notify();
    }
  }

  #notify(): void {
    for (const listener of this.#listeners) listener(this.session);
  }
}

const JSON_TYPE = { "Content-Type": "application/json" };

/** The header of the device token, in requests and responses. */
const DEVICE_HEADER = "X-Device-Token";

/** The field of a second step's body by which Latchkey remembers the device, if the user chose that. */
function rememberDeviceField({ rememberDevice }: SecondStep): { remember_device?: true } {
  return rememberDevice ? { remember_device: true } : {};
}

function withAccessToken(request: Request, access: Access): Request {
  const headers = new Headers(request.headers);
  headers.set("Authorization", `Bearer ${access.token}`);
  return new Request(request, { headers });
}
