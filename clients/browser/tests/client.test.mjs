// Unit tests with a fake Latchkey: what the client sends, and how it handles each response.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import {
  LatchkeyClient,
  LatchkeyProblem,
  LatchkeyUnreachable,
  SignedOut,
  memoryTokenStorage,
  passkeysSupported,
} from "../dist/index.js";

const BASE = "https://auth.example.com";

/**
 * A fake service: `answer(path, request, count)` returns a Response, or throws for a lost connection. `count` is the number of calls of
 * the path so far, this one included.
 */
function service(answer) {
  const calls = [];
  const fetch = async (input, init) => {
    const request = new Request(input, init);
    const path = new URL(request.url).pathname;
    calls.push(path);
    return answer(path, request, calls.filter((call) => call === path).length);
  };
  return { fetch, calls };
}

const json = (status, body, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const problem = (status, code, headers) =>
  json(status, { type: "about:blank", title: code, status, detail: `${code}!`, code, request_id: "r1" }, headers);
/** A response with the tokens number `n`. `expiresIn` is the lifetime of the access token in seconds. */
const tokens = (n, { expiresIn = 300, session = "s1" } = {}) =>
  json(200, {
    access_token: `access-${n}`,
    refresh_token: `lk_rt_${n}`,
    token_type: "Bearer",
    expires_in: expiresIn,
    refresh_expires_in: 1000,
    session_id: session,
  });

let clients = 0;
/** A client with a name of its own, so that tests do not share tokens: clients with the same name do, like the tabs of a browser. */
function client(fake, options = {}) {
  return new LatchkeyClient({
    baseUrl: BASE,
    transport: "bearer",
    storage: memoryTokenStorage(),
    fetch: fake.fetch,
    name: `test-${clients++}`,
    ...options,
  });
}

/** A client that has signed in. */
async function signedIn(fake, options) {
  const auth = client(fake, options);
  await auth.signIn({ identifier: "ada", password: "x" });
  return auth;
}

/** The session that `auth` next reports to its listeners. Call it before the change. */
const nextChange = (auth) => new Promise((resolve) => auth.onChange(resolve));

test("parallel_calls_with_a_stale_token_share_one_refresh", async () => {
  const fake = service((path, request, count) => {
    if (path === "/v1/login") return tokens(0, { expiresIn: 1 });
    if (path === "/v1/refresh") return tokens(count);
    return new Response(request.headers.get("authorization"));
  });
  const auth = await signedIn(fake);
  const realNow = Date.now;
  // A minute passes: the access token lives for a second.
  Date.now = () => realNow() + 60_000;
  try {
    const calls = Array.from({ length: 5 }, () => auth.fetch(`${BASE}/data`));
    for (const response of await Promise.all(calls)) assert.equal(await response.text(), "Bearer access-1");
    assert.equal(fake.calls.filter((path) => path === "/v1/refresh").length, 1);
  } finally {
    Date.now = realNow;
  }
});

test("a_refresh_that_ends_after_a_new_sign_in_leaves_the_newer_refresh_shared", async () => {
  // The tokens of each sign-in are stale at once. The first two refreshes wait until they are answered.
  const answers = [];
  const fake = service((path, _, count) => {
    if (path === "/v1/login") return tokens(0, { expiresIn: 0, session: `s${count}` });
    if (path === "/v1/refresh") return new Promise((resolve) => answers.push(resolve));
    return json(200, {});
  });
  const auth = await signedIn(fake);
  const older = auth.me().catch((error) => error);
  while (answers.length < 1) await new Promise(setImmediate);
  await auth.signIn({ identifier: "ada", password: "x" });
  const newer = auth.me();
  answers[0](tokens(1));
  assert.ok((await older) instanceof SignedOut);
  const joined = auth.me();
  while (answers.length < 2) await new Promise(setImmediate);
  answers[1](tokens(2, { session: "s2" }));
  await Promise.all([newer, joined]);
  assert.equal(answers.length, 2, "the third call shared the second refresh");
});

test("a_refused_access_token_is_refreshed_once_and_the_request_retried_with_its_body", async () => {
  const fake = service(async (path, request) => {
    if (path === "/v1/login") return tokens(0);
    if (path === "/v1/refresh") return tokens(1);
    if (request.headers.get("authorization") === "Bearer access-0") return problem(401, "invalid_token");
    return new Response(await request.text());
  });
  const auth = await signedIn(fake);
  const response = await auth.fetch(`${BASE}/data`, { method: "POST", body: "hello" });
  assert.equal(await response.text(), "hello");
  assert.deepEqual(fake.calls, ["/v1/login", "/data", "/v1/refresh", "/data"]);
});

test("a_second_refusal_is_returned_and_not_retried_again", async () => {
  const fake = service((path) => {
    if (path === "/v1/login") return tokens(0);
    if (path === "/v1/refresh") return tokens(1);
    return problem(401, "invalid_token");
  });
  const auth = await signedIn(fake);
  assert.equal((await auth.fetch(`${BASE}/data`)).status, 401);
  assert.equal(fake.calls.filter((path) => path === "/data").length, 2);
});

test("a_lost_refresh_response_is_retried_with_the_same_token", async () => {
  const presented = [];
  const fake = service(async (path, request, count) => {
    presented.push((await request.json()).refresh_token);
    if (count === 1) throw new TypeError("network error");
    return tokens(1);
  });
  const storage = memoryTokenStorage();
  storage.set("lk_rt_0");
  assert.deepEqual(await client(fake, { storage }).resume(), { id: "s1" });
  assert.deepEqual(presented, ["lk_rt_0", "lk_rt_0"]);
});

test("an_unreachable_service_does_not_sign_out", async () => {
  const storage = memoryTokenStorage();
  storage.set("lk_rt_0");
  const fake = service(() => {
    throw new TypeError("offline");
  });
  const auth = client(fake, { storage });
  await assert.rejects(auth.resume(), LatchkeyUnreachable);
  assert.equal(storage.get(), "lk_rt_0");
});

test("a_call_with_the_access_token_to_an_unreachable_service_is_typed", async () => {
  const fake = service((path) => {
    if (path === "/v1/login") return tokens(0);
    throw new TypeError("offline");
  });
  const auth = await signedIn(fake);
  await assert.rejects(auth.me(), LatchkeyUnreachable);
  await assert.rejects(auth.sessions(), LatchkeyUnreachable);
});

test("an_overloaded_service_is_retried_after_retry_after_and_does_not_sign_out", async () => {
  const storage = memoryTokenStorage();
  storage.set("lk_rt_0");
  const fake = service((path, _, count) => (count === 1 ? problem(503, "unavailable", { "Retry-After": "0" }) : tokens(1)));
  assert.deepEqual(await client(fake, { storage }).resume(), { id: "s1" });
  assert.equal(storage.get(), "lk_rt_1");
  // The client does not wait for an hour.
  const busy = service(() => problem(429, "too_many_requests", { "Retry-After": "3600" }));
  await assert.rejects(client(busy, { storage }).resume(), (error) => error.code === "too_many_requests" && error.retryAfter === 3600);
  assert.equal(storage.get(), "lk_rt_1");
});

for (const code of ["invalid_refresh_token", "refresh_token_reused", "session_expired", "authentication_required"]) {
  test(`a_refresh_refused_with_${code}_signs_out_and_clears_the_storage`, async () => {
    const storage = memoryTokenStorage();
    // The API refuses the access token, and Latchkey refuses the refresh that follows.
    const fake = service((path) => (path === "/v1/login" ? tokens(0) : problem(401, code)));
    const auth = await signedIn(fake, { storage });
    const seen = [];
    auth.onChange((session) => seen.push(session));
    await assert.rejects(auth.fetch(`${BASE}/data`), SignedOut);
    assert.deepEqual(seen, [null]);
    assert.equal(storage.get(), null);
    assert.equal(await auth.resume(), null);
  });
}

test("the_access_token_is_not_sent_to_other_origins", async () => {
  const fake = service((path) => (path === "/v1/login" ? tokens(0) : new Response("")));
  const auth = await signedIn(fake, { origins: ["https://api.example.com"] });
  await assert.rejects(auth.fetch("https://evil.example/"), TypeError);
  await auth.fetch("https://api.example.com/data");
  assert.deepEqual(fake.calls, ["/v1/login", "/data"]);
});

test("sign_out_clears_the_tokens_even_if_the_service_is_unreachable", async () => {
  const storage = memoryTokenStorage();
  const fake = service((path) => {
    if (path === "/v1/login") return tokens(0);
    throw new TypeError("offline");
  });
  const auth = await signedIn(fake, { storage });
  await assert.rejects(auth.signOut(), LatchkeyUnreachable);
  assert.equal(auth.session, null);
  assert.equal(storage.get(), null);
});

test("field_errors_are_typed_and_found_by_name", async () => {
  const body = { status: 422, title: "t", detail: "d", code: "invalid_fields", errors: [{ field: "email", code: "invalid_email", detail: "x" }] };
  const fake = service(() => json(422, body));
  const error = await client(fake).register({ email: "nope", password: "x" }).catch((error) => error);
  assert.ok(error instanceof LatchkeyProblem);
  assert.equal(error.field("email").code, "invalid_email");
  assert.equal(error.field("password"), undefined);
});

test("a_proxys_error_page_becomes_a_problem", async () => {
  const fake = service(() => new Response("<html>bad gateway</html>", { status: 502 }));
  const isProblem = (error) => error instanceof LatchkeyProblem && error.status === 502;
  await assert.rejects(client(fake).signIn({ identifier: "a", password: "b" }), isProblem);
});

test("tabs_share_tokens_and_the_sign_out", async () => {
  const fake = service((path) => (path === "/v1/login" ? tokens(0) : new Response(null, { status: 204 })));
  const storage = memoryTokenStorage();
  const name = "shared";
  const one = client(fake, { storage, name });
  const two = client(fake, { storage, name });
  const signInOfOne = nextChange(two);
  await one.signIn({ identifier: "ada", password: "x" });
  assert.deepEqual(await signInOfOne, { id: "s1" });
  const signOutOfOne = nextChange(two);
  await one.signOut();
  assert.equal(await signOutOfOne, null);
  one.close();
  two.close();
});

test("change_password_continues_with_the_tokens_of_the_new_session_in_all_tabs", async () => {
  const fake = service(async (path, request) => {
    if (path === "/v1/login") return tokens(0);
    if (path !== "/v1/me/password") return new Response(request.headers.get("authorization"));
    assert.equal(request.headers.get("authorization"), "Bearer access-0");
    assert.deepEqual(await request.json(), { current_password: "x", new_password: "y" });
    return tokens(1, { session: "s2" });
  });
  const storage = memoryTokenStorage();
  const name = "password";
  const one = client(fake, { storage, name });
  const two = client(fake, { storage, name });
  const signInOfOne = nextChange(two);
  await one.signIn({ identifier: "ada", password: "x" });
  await signInOfOne;
  const newSessionOfOne = nextChange(two);
  assert.deepEqual(await one.changePassword("x", "y"), { id: "s2" });
  assert.deepEqual(one.session, { id: "s2" });
  assert.deepEqual(await newSessionOfOne, { id: "s2" });
  assert.equal(storage.get(), "lk_rt_1");
  for (const tab of [one, two]) {
    assert.equal(await (await tab.fetch(`${BASE}/data`)).text(), "Bearer access-1");
    tab.close();
  }
  assert.ok(!fake.calls.includes("/v1/refresh"));
});

test("change_password_with_a_wrong_password_keeps_the_session", async () => {
  const storage = memoryTokenStorage();
  const fake = service((path) => (path === "/v1/login" ? tokens(0) : problem(403, "wrong_password")));
  const auth = await signedIn(fake, { storage });
  await assert.rejects(auth.changePassword("x", "y"), (error) => error.code === "wrong_password");
  assert.deepEqual(auth.session, { id: "s1" });
  assert.equal(storage.get(), "lk_rt_0");
  assert.deepEqual(fake.calls, ["/v1/login", "/v1/me/password"]);
});

test("change_password_with_a_refused_access_token_refreshes_once", async () => {
  const fake = service((path, request) => {
    if (path === "/v1/login") return tokens(0);
    if (path === "/v1/refresh") return tokens(1);
    if (request.headers.get("authorization") === "Bearer access-0") return problem(401, "invalid_token");
    return tokens(2, { session: "s2" });
  });
  const auth = await signedIn(fake);
  assert.deepEqual(await auth.changePassword("x", "y"), { id: "s2" });
  assert.deepEqual(fake.calls, ["/v1/login", "/v1/me/password", "/v1/refresh", "/v1/me/password"]);
});

/** A storage with asynchronous operations, like a phone's key store. */
function slowStorage() {
  const storage = memoryTokenStorage();
  const delayed = (operation) => (token) => new Promise((resolve) => setTimeout(() => resolve(operation(token)), 1));
  return { get: delayed(storage.get), set: delayed(storage.set), remove: delayed(storage.remove) };
}

test("an_asynchronous_storage_keeps_the_session_from_one_client_to_the_next", async () => {
  const presented = [];
  const fake = service(async (path, request, count) => {
    if (path === "/v1/login") return tokens(0);
    if (path === "/v1/logout") return new Response(null, { status: 204 });
    presented.push((await request.json()).refresh_token);
    return tokens(count);
  });
  const storage = slowStorage();
  const first = await signedIn(fake, { storage });
  first.close();
  assert.deepEqual(await client(fake, { storage }).resume(), { id: "s1" });
  const last = client(fake, { storage });
  assert.deepEqual(await last.resume(), { id: "s1" });
  assert.deepEqual(presented, ["lk_rt_0", "lk_rt_1"]);
  await last.signOut();
  assert.equal(await storage.get(), null);
  assert.equal(await client(fake, { storage }).resume(), null);
});

test("a_runtime_without_the_globals_of_browsers_signs_in_refreshes_and_signs_out", async () => {
  // React Native has none of these, and a version of Node may lack some.
  const missing = [
    [AbortSignal, "timeout"],
    ...["BroadcastChannel", "localStorage", "location", "navigator"].map((name) => [globalThis, name]),
  ];
  const descriptors = missing.map(([owner, name]) => Object.getOwnPropertyDescriptor(owner, name));
  for (const [owner, name] of missing) delete owner[name];
  try {
    const fake = service(async (path, request) => {
      if (path === "/v1/login") return tokens(0);
      if (path === "/v1/refresh") return tokens(1);
      if (path === "/v1/logout") return new Response(null, { status: 204 });
      if (request.headers.get("authorization") === "Bearer access-0") return problem(401, "invalid_token");
      return new Response(await request.text());
    });
    const storage = slowStorage();
    const auth = await signedIn(fake, { storage });
    const response = await auth.fetch(`${BASE}/data`, { method: "POST", body: "hello" });
    assert.equal(await response.text(), "hello");
    assert.equal(await storage.get(), "lk_rt_1");
    await auth.signOut();
    assert.equal(await storage.get(), null);
  } finally {
    missing.forEach(([owner, name], i) => {
      if (descriptors[i]) Object.defineProperty(owner, name, descriptors[i]);
    });
  }
});

test("a_call_without_a_response_fails_after_the_timeout", async () => {
  // Like the real fetch, it rejects when the client aborts it.
  const fetch = (_, { signal }) =>
    new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const auth = client({ fetch }, { timeout: 1 }); // ms
  await assert.rejects(auth.signIn({ identifier: "ada", password: "x" }), LatchkeyUnreachable);
});

/** The response to a password of an account that has a second factor. */
const secondFactorRequired = () =>
  json(403, {
    type: "about:blank",
    title: "t",
    status: 403,
    detail: "d",
    code: "second_factor_required",
    request_id: "r1",
    challenge: "lk_ch_1",
    methods: ["totp", "passkey"],
    expires_in: 300,
  });

test("sign_in_with_a_second_factor_signs_nobody_in_until_its_second_step", async () => {
  const bodies = [];
  const fake = service(async (path, request, count) => {
    bodies.push([path, await request.json()]);
    if (path === "/v1/login") return secondFactorRequired();
    return count === 1 ? problem(401, "invalid_code") : tokens(1);
  });
  const auth = client(fake);
  const { id, secondFactor } = await auth.signIn({ identifier: "ada", password: "x" });
  assert.equal(id, undefined, "no session has begun");
  assert.deepEqual(secondFactor, { challenge: "lk_ch_1", methods: ["totp", "passkey"], expiresIn: 300 });
  assert.equal(auth.session, null);
  await assert.rejects(auth.signInWithCode(secondFactor, "totp", "000000"), (error) => error.code === "invalid_code");
  assert.equal(auth.session, null);
  assert.deepEqual(await auth.signInWithCode(secondFactor, "totp", "123456"), { id: "s1" });
  assert.deepEqual(auth.session, { id: "s1" });
  const [, , secondAttempt] = bodies;
  assert.deepEqual(secondAttempt, ["/v1/login/second-factor", { challenge: "lk_ch_1", method: "totp", code: "123456" }]);
});

const DAY = 24 * 60 * 60; // seconds

test("remembered_device_sends_its_token_with_the_next_sign_in_and_is_listed_and_forgotten", async () => {
  // Each entry: method, path, device token, and `remember_device` of the body.
  const seen = [];
  const fake = service(async (path, request) => {
    const deviceToken = request.headers.get("x-device-token");
    const body = request.method === "POST" ? await request.json() : undefined;
    seen.push([request.method, path, deviceToken, body?.remember_device]);
    if (path === "/v1/me/devices" && request.method === "GET") return json(200, { devices: [{ id: "d1", current: true }] });
    if (path === "/v1/me/devices") return json(200, { forgotten: 2 });
    if (path === "/v1/me/devices/d1") return new Response(null, { status: 204 });
    if (path === "/v1/login/second-factor/code") return json(202, { expires_in: 600 });
    if (path === "/v1/login/second-factor") {
      return new Response(tokens(1).body, { headers: { "x-device-token": "lk_dt_new" } });
    }
    if (deviceToken) return tokens(2);
    const required = await secondFactorRequired().json();
    return json(403, { ...required, methods: ["email_code"], remember_device_for: 30 * DAY });
  });
  const deviceStorage = memoryTokenStorage();
  const auth = client(fake, { deviceStorage });
  const { secondFactor } = await auth.signIn({ identifier: "ada", password: "x" });
  assert.equal(secondFactor.rememberDeviceFor, 30 * DAY);
  assert.equal(await auth.sendCode(secondFactor), 600);
  await auth.signInWithCode(secondFactor, "email_code", "K7QM-2XWD", { rememberDevice: true });
  assert.equal(deviceStorage.get(), "lk_dt_new");
  assert.deepEqual(await auth.signIn({ identifier: "ada", password: "x" }), { id: "s1" });
  assert.deepEqual(await auth.devices(), [{ id: "d1", current: true }]);
  await auth.forgetDevice("d1");
  assert.equal(await auth.forgetDevices(), 2);
  assert.deepEqual(seen, [
    ["POST", "/v1/login", null, undefined],
    ["POST", "/v1/login/second-factor/code", null, undefined],
    ["POST", "/v1/login/second-factor", null, true],
    ["POST", "/v1/login", "lk_dt_new", undefined],
    ["GET", "/v1/me/devices", "lk_dt_new", undefined],
    ["DELETE", "/v1/me/devices/d1", "lk_dt_new", undefined],
    ["DELETE", "/v1/me/devices", "lk_dt_new", undefined],
  ]);
});

/**
 * Installs a fake of the browser's API for passkeys while `work` runs. `work` receives the list of the fake's calls: each has the
 * function and its options.
 */
async function withPasskeys(work) {
  const requests = [];
  // The credential names the function that returned it, so that tests can recognize it.
  const respond = (kind) => async (options) => {
    requests.push([kind, options]);
    options.signal?.throwIfAborted();
    return { toJSON: () => ({ kind }) };
  };
  const unparsed = (options) => options;
  const fakes = {
    PublicKeyCredential: { parseCreationOptionsFromJSON: unparsed, parseRequestOptionsFromJSON: unparsed },
    navigator: { credentials: { create: respond("create"), get: respond("get") } },
  };
  const originals = Object.keys(fakes).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(fakes)) Object.defineProperty(globalThis, name, { value, configurable: true });
  try {
    return await work(requests);
  } finally {
    for (const [name, original] of originals) {
      if (original) Object.defineProperty(globalThis, name, original);
      else delete globalThis[name];
    }
  }
}

test("passkey_signs_in_alone_and_as_the_second_step", async () => {
  assert.equal(passkeysSupported(), false, "Node has no passkeys");
  let bodies = [];
  const fake = service(async (path, request) => {
    bodies.push([path, request.body ? await request.json() : undefined]);
    return path.endsWith("/options") ? json(200, { public_key: { challenge: path }, expires_in: 300 }) : tokens(1);
  });
  await withPasskeys(async (requests) => {
    assert.equal(passkeysSupported(), true);
    const auth = client(fake);
    assert.deepEqual(await auth.signInWithPasskey({ conditional: true, device: "d" }), { id: "s1" });
    const [, alone] = requests[0];
    assert.equal(alone.mediation, "conditional");
    assert.deepEqual(bodies, [
      ["/v1/login/passkey/options", undefined],
      ["/v1/login/passkey", { credential: { kind: "get" }, transport: "bearer", device: "d" }],
    ]);
    bodies = [];
    const secondFactor = { challenge: "lk_ch_1", methods: ["passkey"], expiresIn: 300 };
    assert.deepEqual(await auth.signInWithPasskey({ secondFactor }), { id: "s1" });
    const [, secondStep] = requests[1];
    assert.equal(secondStep.mediation, undefined);
    assert.deepEqual(bodies, [
      ["/v1/login/second-factor/options", { challenge: "lk_ch_1" }],
      ["/v1/login/second-factor", { challenge: "lk_ch_1", method: "passkey", credential: { kind: "get" } }],
    ]);
    bodies = [];
    await assert.rejects(auth.signInWithPasskey({ signal: AbortSignal.abort() }), (error) => error.name === "AbortError");
    assert.deepEqual(bodies.map(([path]) => path), ["/v1/login/passkey/options"], "no credential was sent");
  });
});

test("added_and_removed_passkey_continue_with_the_tokens_of_the_new_session", async () => {
  const fake = service(async (path, request) => {
    if (path === "/v1/login") return tokens(0);
    if (path.endsWith("/options")) return json(200, { public_key: {}, expires_in: 300 });
    if (request.method === "DELETE") return tokens(2, { session: "s3" });
    assert.deepEqual(await request.json(), { name: "Phone", credential: { kind: "create" } });
    return json(201, {
      passkey: { id: "p1", name: "Phone" },
      tokens: await tokens(1, { session: "s2" }).json(),
      recovery_codes: ["a", "b"],
    });
  });
  await withPasskeys(async () => {
    const auth = await signedIn(fake);
    const changes = [];
    auth.onChange((session) => changes.push(session?.id));
    const added = await auth.addPasskey("Phone");
    assert.equal(added.passkey.id, "p1");
    assert.deepEqual(added.recoveryCodes, ["a", "b"]);
    await auth.removePasskey("p1");
    assert.deepEqual(changes, ["s2", "s3"]);
  });
});

test("sign_in_that_requires_enrolment_is_completed_by_an_authenticator_app_or_a_passkey", async () => {
  let bodies = [];
  const fake = service(async (path, request) => {
    bodies.push([path, await request.json()]);
    const required = { type: "about:blank", title: "t", status: 403, detail: "d", code: "factor_enrolment_required", request_id: "r1" };
    if (path === "/v1/login") return json(403, { ...required, challenge: "lk_ch_2", methods: ["totp", "passkey"], expires_in: 300 });
    if (path === "/v1/login/enrolment/totp") return json(200, { secret: "S", uri: "otpauth:x", qr_code: "<svg/>", expires_at: "" });
    if (path.endsWith("/options")) return json(200, { public_key: {}, expires_in: 300 });
    return json(200, { ...(await tokens(1).json()), recovery_codes: ["a", "b"] });
  });
  await withPasskeys(async () => {
    const auth = client(fake);
    const { id, secondFactor, enrolment } = await auth.signIn({ identifier: "ada", password: "x" });
    assert.equal(id, undefined);
    assert.equal(secondFactor, undefined);
    assert.equal(auth.session, null);
    assert.deepEqual(enrolment, { challenge: "lk_ch_2", methods: ["totp", "passkey"], expiresIn: 300 });
    bodies = [];
    assert.deepEqual(await auth.startTotp({ enrolment, label: "App" }), { secret: "S", uri: "otpauth:x", qrCode: "<svg/>" });
    assert.deepEqual(await auth.confirmTotp("123456", { enrolment }), { recoveryCodes: ["a", "b"] });
    assert.deepEqual(auth.session, { id: "s1" });
    // The other way to complete the same sign-in: the fake accepts its challenge again.
    assert.deepEqual(await auth.enrolPasskey(enrolment, "Phone"), { recoveryCodes: ["a", "b"] });
    const challenge = { challenge: "lk_ch_2" };
    assert.deepEqual(bodies, [
      ["/v1/login/enrolment/totp", { label: "App", ...challenge }],
      ["/v1/login/enrolment/totp/confirm", { ...challenge, code: "123456" }],
      ["/v1/login/enrolment/passkey/options", challenge],
      ["/v1/login/enrolment/passkey", { ...challenge, name: "Phone", credential: { kind: "create" } }],
    ]);
  });
});

test("step_up_replaces_the_access_token_of_the_session_and_sends_a_wrong_code_once", async () => {
  let seen = [];
  const fake = service(async (path, request, count) => {
    if (path === "/v1/login") return tokens(0);
    if (path === "/v1/refresh") return tokens(1);
    if (path.endsWith("/options")) return json(200, { public_key: {}, expires_in: 300 });
    seen.push([path, request.headers.get("authorization"), request.body ? await request.json() : undefined]);
    if (path === "/v1/me/recovery-codes") {
      const newSession = await tokens(3, { session: "s2" }).json();
      return json(200, { ...newSession, recovery_codes: ["c"] });
    }
    // From here on, `count` counts the calls of /v1/me/reauthenticate.
    if (count === 1) return problem(401, "invalid_code");
    // The client refreshes the access token and repeats the call.
    if (count === 2) return problem(401, "invalid_token");
    return json(200, { access_token: "access-2", token_type: "Bearer", expires_in: 300, session_id: "s1", acr: "aal2", auth_time: 1 });
  });
  await withPasskeys(async () => {
    const auth = await signedIn(fake);
    const totp = { method: "totp", code: "123456" };
    await assert.rejects(auth.reauthenticate(totp), (error) => error.code === "invalid_code");
    assert.equal(seen.length, 1, "a wrong code counts as a failed attempt, so it is not sent again");
    seen = [];
    await auth.reauthenticate(totp);
    // Without a password or code, the client uses a passkey.
    await auth.reauthenticate({});
    assert.deepEqual(await auth.renewRecoveryCodes(), { recoveryCodes: ["c"] });
    const path = "/v1/me/reauthenticate";
    assert.deepEqual(seen, [
      [path, "Bearer access-0", totp],
      [path, "Bearer access-1", totp],
      [path, "Bearer access-2", { credential: { kind: "get" } }],
      ["/v1/me/recovery-codes", "Bearer access-2", undefined],
    ]);
    assert.deepEqual(auth.session, { id: "s2" });
  });
});

test("the_package_is_smaller_than_6_kilobytes_compressed", () => {
  const dist = new URL("../dist/", import.meta.url);
  const files = readdirSync(dist).filter((file) => file.endsWith(".js"));
  // comments are for readers of the package; every bundler drops them
  const code = files.map((file) => readFileSync(new URL(file, dist), "utf8").replace(/^\s*(\/\/|\/?\*).*$/gm, "")).join("\n");
  const size = gzipSync(code).length;
  assert.ok(size < 6 * 1024, `${size} bytes`);
});
