//! Workloads: the requests that a real caller would send, and the checks of the responses.
//!
//! [`Workload::request`] returns the class of a request, for which latencies are recorded separately. The workloads here use only
//! class 0, except for [`Mix`] and [`DuringFlood`].

use std::{collections::VecDeque, io::Write, sync::LazyLock};

use memchr::memmem;

use crate::{
    load::{Answer, Workload},
    target::{PASSWORD, email},
};

/// Writes a POST request with a JSON body, given in parts, and without authorization.
pub fn post_json(out: &mut Vec<u8>, path: &str, body: &[&str]) {
    post(out, path, "application/json", None, body);
}

/// Writes a POST request. The parts of `body` are sent one after another, without a separator.
pub fn post(out: &mut Vec<u8>, path: &str, content_type: &str, authorization: Option<&str>, body: &[&str]) {
    let length: usize = body.iter().map(|part| part.len()).sum();
    // writing to a vector cannot fail
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: auth.example.com\r\nUser-Agent: latchkey-bench\r\nAccept: application/json\r\n\
         Content-Type: {content_type}\r\nContent-Length: {length}\r\n"
    );
    if let Some(authorization) = authorization {
        let _ = write!(out, "Authorization: {authorization}\r\n");
    }
    out.extend(b"\r\n");
    for part in body {
        out.extend(part.as_bytes());
    }
}

fn post_refresh_token(out: &mut Vec<u8>, path: &str, token: &str) {
    post_json(out, path, &["{\"refresh_token\":\"", token, "\"}"]);
}

/// The access token and the refresh token in the response to a sign-in or refresh. `what` names the request in errors.
pub fn tokens<'a>(answer: &Answer<'a>, what: &str) -> Result<(&'a str, &'a str), String> {
    let looks_like_jwt = |token: &&str| token.matches('.').count() == 2;
    let access = answer.member("access_token").filter(looks_like_jwt);
    let refresh = answer.member("refresh_token");
    match (answer.status, access, refresh) {
        (200, Some(access), Some(refresh)) => Ok((access, refresh)),
        _ => Err(answer.unexpected(what)),
    }
}

/// Refreshes the least recently used session each time. As in production, few sessions are refreshed twice within the
/// grace window.
pub struct Refresh<'a> {
    /// Refresh tokens, least recently used first.
    sessions: &'a mut VecDeque<String>,
    /// The refresh token that each connection has sent.
    presented: Vec<String>,
    /// If present, the workload stops after this many requests, and collects their access tokens.
    pub tokens_to_collect: Option<usize>,
    /// The collected access tokens, each with its session id.
    pub collected: Vec<(String, String)>,
    /// The number of requests so far.
    started: usize,
}

impl<'a> Refresh<'a> {
    /// Creates the workload for this many connections.
    pub fn new(sessions: &'a mut VecDeque<String>, connections: usize) -> Self {
        let presented = vec![String::new(); connections];
        Self { sessions, presented, tokens_to_collect: None, collected: Vec::new(), started: 0 }
    }
}

impl Workload for Refresh<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        if self.tokens_to_collect == Some(self.started) {
            return None;
        }
        self.started += 1;
        let token = self.sessions.pop_front()?;
        post_refresh_token(out, "/v1/refresh", &token);
        self.presented[connection] = token;
        Some(0)
    }

    fn answer(&mut self, connection: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        let (access, refresh) = tokens(answer, "refresh")?;
        if refresh == self.presented[connection] {
            return Err("refresh: the same refresh token again".to_owned());
        }
        self.sessions.push_back(refresh.to_owned());
        if self.tokens_to_collect.is_some() {
            let session =
                answer.member("session_id").ok_or_else(|| answer.unexpected("refresh without a session_id"))?;
            self.collected.push((access.to_owned(), session.to_owned()));
        }
        Ok(())
    }
}

/// Introspects access tokens one after another.
pub struct Introspect<'a> {
    /// Prepared requests, each with a matcher of the token's session id in the response. Building both per request would take
    /// a tenth of the fastest response's time.
    requests: Vec<(Vec<u8>, memmem::Finder<'a>)>,
    active_text: memmem::Finder<'static>,
    /// The index of the request that each connection has sent.
    in_flight: Vec<usize>,
    latest_request: usize,
}

impl<'a> Introspect<'a> {
    /// Creates the workload for this many connections. `access` are the access tokens, each with its session id.
    pub fn new(access: &'a [(String, String)], authorization: &str, connections: usize) -> Self {
        let request_for = |(token, session): &'a (String, String)| {
            let mut out = Vec::new();
            let form = "application/x-www-form-urlencoded";
            post(&mut out, "/oauth2/introspect", form, Some(authorization), &["token=", token]);
            (out, memmem::Finder::new(session))
        };
        let requests = access.iter().map(request_for).collect();
        let active_text = memmem::Finder::new("\"active\":true");
        Self { requests, active_text, in_flight: vec![0; connections], latest_request: 0 }
    }
}

impl Workload for Introspect<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        self.latest_request = (self.latest_request + 1) % self.requests.len();
        self.in_flight[connection] = self.latest_request;
        out.extend_from_slice(&self.requests[self.latest_request].0);
        Some(0)
    }

    fn answer(&mut self, connection: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        let (_, session) = &self.requests[self.in_flight[connection]];
        let is_active = answer.status == 200 && answer.holds(&self.active_text) && answer.holds(session);
        if is_active { Ok(()) } else { Err(answer.unexpected("introspect")) }
    }
}

/// Signs in to one account after another.
pub struct Login {
    accounts: usize,
    latest_account: usize,
}

impl Login {
    /// Creates the workload for this many accounts.
    pub fn new(accounts: usize) -> Self {
        Self { accounts, latest_account: 0 }
    }
}

impl Workload for Login {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
        self.latest_account = (self.latest_account + 1) % self.accounts;
        let body = ["{\"identifier\":\"", &email(self.latest_account), "\",\"password\":\"", PASSWORD, "\"}"];
        post_json(out, "/v1/login", &body);
        Some(0)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        tokens(answer, "login").map(|_| ())
    }
}

/// Signs in to a number of accounts and keeps their access tokens; for preparation.
pub struct SignIn {
    login: Limited<Login>,
    /// The access tokens.
    pub tokens: Vec<String>,
}

impl SignIn {
    /// Creates the workload for this many accounts.
    pub fn new(count: usize) -> Self {
        Self { login: Limited::new(Login::new(count), count), tokens: Vec::with_capacity(count) }
    }
}

impl Workload for SignIn {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        self.login.request(connection, out)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        let (access, _) = tokens(answer, "login")?;
        self.tokens.push(access.to_owned());
        Ok(())
    }
}

/// Sends prepared GET requests one after another. Each response must contain the text `expected`.
pub struct Get {
    requests: Vec<Vec<u8>>,
    expected: memmem::Finder<'static>,
    latest_request: usize,
}

impl Get {
    /// `GET /v1/me` with each of these access tokens.
    pub fn me(tokens: &[String]) -> Self {
        let headers = |token: &String| format!("Accept: application/json\r\nAuthorization: Bearer {token}\r\n");
        let requests = tokens.iter().map(|token| get("/v1/me", &headers(token))).collect();
        Self { requests, expected: memmem::Finder::new("\"email\":\"user"), latest_request: 0 }
    }

    /// `GET /account/sign-in` without cookies.
    pub fn sign_in_page() -> Self {
        let headers = "Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\n";
        let requests = vec![get("/account/sign-in", headers)];
        Self { requests, expected: memmem::Finder::new("autocomplete=\"current-password\""), latest_request: 0 }
    }
}

/// A GET request with these complete header lines.
fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: auth.example.com\r\nUser-Agent: latchkey-bench\r\n{headers}\r\n").into_bytes()
}

impl Workload for Get {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
        self.latest_request = (self.latest_request + 1) % self.requests.len();
        out.extend_from_slice(&self.requests[self.latest_request]);
        Some(0)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        if answer.status == 200 && answer.holds(&self.expected) { Ok(()) } else { Err(answer.unexpected("get")) }
    }
}

/// Signs out of one session after another.
pub struct Logout {
    /// The refresh tokens of the sessions that are left.
    refresh_tokens: Vec<String>,
    /// The refresh tokens of the first 100 sessions that the workload signs out of, for [`RefreshEnded`].
    pub ended: Vec<String>,
}

impl Logout {
    /// Creates the workload for the sessions with these refresh tokens.
    pub fn new(refresh_tokens: Vec<String>) -> Self {
        Self { refresh_tokens, ended: Vec::new() }
    }
}

impl Workload for Logout {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
        let token = self.refresh_tokens.pop()?;
        post_refresh_token(out, "/v1/logout", &token);
        if self.ended.len() < 100 {
            self.ended.push(token);
        }
        Some(0)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        if answer.status == 204 { Ok(()) } else { Err(answer.unexpected("logout")) }
    }
}

/// Presents refresh tokens of ended sessions: none may be accepted.
pub struct RefreshEnded(pub Vec<String>);

impl Workload for RefreshEnded {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
        post_refresh_token(out, "/v1/refresh", &self.0.pop()?);
        Some(0)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        match answer.status {
            401 => Ok(()),
            200 => Err(answer.unexpected("an ended session was refreshed")),
            _ => Err(answer.unexpected("the refresh of an ended session")),
        }
    }
}

/// Requests the constant JSON of `GET /hello`.
pub struct Hello;

impl Workload for Hello {
    fn request(&mut self, _: usize, out: &mut Vec<u8>) -> Option<usize> {
        out.extend(
            b"GET /hello HTTP/1.1\r\nHost: auth.example.com\r\nUser-Agent: latchkey-bench\r\nAccept: application/json\r\n\r\n",
        );
        Some(0)
    }

    fn answer(&mut self, _: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        static WORLD: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new("\"world\""));
        if answer.status == 200 && answer.holds(&WORLD) { Ok(()) } else { Err(answer.unexpected("hello")) }
    }
}

/// The classes of the requests of [`Mix`]. [`Introspect`] itself returns class 0.
const INTROSPECTION: usize = 0;
const REFRESH: usize = 1;
const LOGIN: usize = 2;
const LOGOUT: usize = 3;

/// The class of the sign-ins of [`DuringFlood`].
const FLOOD: usize = 1;

/// 90 % introspections, 8 % refreshes, 1 % sign-ins and 1 % sign-outs, in random order.
pub struct Mix<'a> {
    introspect: Introspect<'a>,
    refresh: Refresh<'a>,
    login: Login,
    /// The refresh tokens of the sessions that sign-outs will end.
    to_sign_out: Vec<String>,
    /// The state of [`Self::random_percent`]; never zero.
    random_state: u64,
}

impl<'a> Mix<'a> {
    /// Creates the mix. Its sign-outs end the sessions with the refresh tokens `to_sign_out`, and the sessions of its sign-ins.
    pub fn new(introspect: Introspect<'a>, refresh: Refresh<'a>, login: Login, to_sign_out: Vec<String>) -> Self {
        Self { introspect, refresh, login, to_sign_out, random_state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// A random number from 0 to 99, by xorshift64*. The sequence is the same in every run, so that all targets receive the
    /// same requests.
    fn random_percent(&mut self) -> u64 {
        self.random_state ^= self.random_state >> 12;
        self.random_state ^= self.random_state << 25;
        self.random_state ^= self.random_state >> 27;
        (self.random_state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % 100
    }
}

impl Workload for Mix<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        match self.random_percent() {
            0..90 => self.introspect.request(connection, out),
            90..98 => self.refresh.request(connection, out).map(|_| REFRESH),
            98 => self.login.request(connection, out).map(|_| LOGIN),
            _ => match self.to_sign_out.pop() {
                Some(token) => {
                    post_refresh_token(out, "/v1/logout", &token);
                    Some(LOGOUT)
                }
                // no session is left to sign out of
                None => self.introspect.request(connection, out),
            },
        }
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        match class {
            INTROSPECTION => self.introspect.answer(connection, class, answer),
            REFRESH => self.refresh.answer(connection, class, answer),
            LOGIN => {
                let (_, refresh) = tokens(answer, "login")?;
                self.to_sign_out.push(refresh.to_owned());
                Ok(())
            }
            // the only other class is LOGOUT
            _ if answer.status == 204 => Ok(()),
            _ => Err(answer.unexpected("logout")),
        }
    }
}

/// A workload of class 0 during a flood of sign-ins. The sign-ins have connections and a class of their own.
pub struct DuringFlood<'a> {
    /// The measured workload, on the first connections.
    pub inner: &'a mut dyn Workload,
    /// The number of connections of the measured workload. All others belong to the flood.
    pub connections: usize,
    /// The flood.
    pub login: Login,
}

impl Workload for DuringFlood<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        if connection < self.connections {
            self.inner.request(connection, out)
        } else {
            self.login.request(connection, out).map(|_| FLOOD)
        }
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        if class == FLOOD {
            self.login.answer(connection, class, answer)
        } else {
            self.inner.answer(connection, class, answer)
        }
    }
}

/// Limits a workload to a number of requests.
pub struct Limited<W> {
    inner: W,
    left: usize,
}

impl<W> Limited<W> {
    /// Limits this workload to this many requests.
    pub fn new(inner: W, left: usize) -> Self {
        Self { inner, left }
    }
}

impl<W: Workload> Workload for Limited<W> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        self.inner.request(connection, out)
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        self.inner.answer(connection, class, answer)
    }
}
