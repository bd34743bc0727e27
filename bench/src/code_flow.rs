//! Workloads for sign-ins to an app by authorization code with PKCE: [`CodeFlow`] is measured, and [`BrowserSignIn`]
//! prepares the signed-in browsers that it needs.

use std::{collections::VecDeque, io::Write, mem};

use crate::{
    load::{Answer, Workload},
    workload::{post, tokens},
};

/// The redirect URI of the app.
pub const CALLBACK: &str = "https://app.example.com/callback";
/// [`CALLBACK`] as the value of a query or form parameter.
const ENCODED_CALLBACK: &str = "https%3A%2F%2Fapp.example.com%2Fcallback";

/// The `state` of every authorization request. The redirect to the app must return it.
const STATE: &str = "a-state";

/// The PKCE verifier of every sign-in, and the challenge that belongs to it (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Number of sign-ins that one browser may make in a measurement. Each creates a session of the browser's account, and
/// Latchkey ends the browser's session when the account has more than 50 (`session.max_per_account`).
pub const SIGN_INS_PER_BROWSER: usize = 40;

/// A client that signs users in.
#[derive(Clone, Debug)]
pub struct AppClient {
    /// The `client_id`.
    pub id: String,
    /// The `Authorization` header of its token requests.
    pub authorization: String,
}

/// Class of the app's token requests. Only responses of class 0 count as sign-ins.
const EXCHANGE: usize = 0;
/// Class of the browser's authorization requests.
const AUTHORIZE: usize = 1;

fn authorize_path(client_id: &str) -> String {
    format!(
        "/oauth2/authorize?client_id={client_id}&response_type=code&redirect_uri={ENCODED_CALLBACK}&scope=openid\
         &state={STATE}&nonce=a-nonce&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )
}

/// Writes the request of a browser that navigates to a page. Each line of `headers` ends with CRLF.
fn navigate(out: &mut Vec<u8>, path: &str, headers: &str) {
    // writing to a vector cannot fail
    let _ = write!(
        out,
        "GET {path} HTTP/1.1\r\nHost: auth.example.com\r\nUser-Agent: latchkey-bench\r\nAccept: text/html\r\n{headers}\r\n"
    );
}

/// The authorization code in a redirect to the app; `None` for any other response.
fn code_of<'a>(answer: &Answer<'a>) -> Option<&'a str> {
    if answer.status != 303 {
        return None;
    }
    let query = answer.header("location")?.strip_prefix(CALLBACK)?.strip_prefix('?')?;
    let mut parameters = query.split('&').filter_map(|pair| pair.split_once('='));
    if !parameters.clone().any(|parameter| parameter == ("state", STATE)) {
        return None;
    }
    let (_, code) = parameters.find(|(name, _)| *name == "code")?;
    Some(code)
}

/// Signs users in to the app: a signed-in browser requests a code, and the app exchanges the code for tokens.
pub struct CodeFlow<'a> {
    /// The browsers without a request in flight, each as the header lines that it sends ([`header_lines`]).
    browsers: &'a mut VecDeque<String>,
    client: &'a AppClient,
    /// The path and query of the authorization request.
    authorize_path: String,
    /// One per connection.
    in_flight: Vec<InFlight>,
}

/// The sign-in of one connection.
#[derive(Clone, Default)]
struct InFlight {
    /// The header lines of the browser, while its authorization request is in flight.
    browser: String,
    /// The code that the app exchanges next.
    code: Option<String>,
}

impl<'a> CodeFlow<'a> {
    /// Creates the workload for this many connections, with the header lines of browsers that have signed in.
    pub fn new(browsers: &'a mut VecDeque<String>, client: &'a AppClient, connections: usize) -> Self {
        let in_flight = vec![InFlight::default(); connections];
        Self { browsers, client, authorize_path: authorize_path(&client.id), in_flight }
    }
}

impl Workload for CodeFlow<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        let flow = &mut self.in_flight[connection];
        if let Some(code) = flow.code.take() {
            let content_type = "application/x-www-form-urlencoded";
            let body = [
                "grant_type=authorization_code&redirect_uri=",
                ENCODED_CALLBACK,
                "&code_verifier=",
                VERIFIER,
                "&code=",
                &code,
            ];
            post(out, "/oauth2/token", content_type, Some(&self.client.authorization), &body);
            return Some(EXCHANGE);
        }
        // `None`: all are in use
        flow.browser = self.browsers.pop_front()?;
        navigate(out, &self.authorize_path, &flow.browser);
        Some(AUTHORIZE)
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        let flow = &mut self.in_flight[connection];
        if class == AUTHORIZE {
            self.browsers.push_back(mem::take(&mut flow.browser));
            let code = code_of(answer).ok_or_else(|| answer.unexpected("authorize"))?;
            flow.code = Some(code.to_owned());
            return Ok(());
        }
        // checks only
        tokens(answer, "exchange")?;
        match answer.member("id_token") {
            Some(_) => Ok(()),
            None => Err(answer.unexpected("exchange without an ID token")),
        }
    }
}

/// Signs browsers in at a server that shows no form: each browser keeps the cookies that it gets and follows redirects
/// until one leads to the app.
pub struct BrowserSignIn {
    /// The path and query of the authorization request.
    authorize_path: String,
    /// Header lines of every request, besides `Cookie`, each with its CRLF.
    headers: &'static str,
    /// Number of browsers to sign in.
    wanted: usize,
    /// Number of browsers that have begun to sign in.
    started: usize,
    /// One per connection.
    in_flight: Vec<Navigation>,
    /// The browsers that have signed in, each as the header lines that it sends.
    pub browsers: VecDeque<String>,
}

/// The state of a connection's browser while it signs in.
#[derive(Clone, Default)]
struct Navigation {
    /// The path of the redirect to follow; `None` before the first request and after the sign-in.
    next: Option<String>,
    cookies: Vec<(String, String)>,
    /// The names of cookies that are not for all paths. During the sign-in the workload sends them with every request.
    /// A signed-in browser does not send them to the authorization endpoint.
    path_scoped: Vec<String>,
}

impl BrowserSignIn {
    /// Creates the workload for this many browsers and connections.
    pub fn new(client: &AppClient, headers: &'static str, wanted: usize, connections: usize) -> Self {
        let in_flight = vec![Navigation::default(); connections];
        Self {
            authorize_path: authorize_path(&client.id),
            headers,
            wanted,
            started: 0,
            in_flight,
            browsers: VecDeque::new(),
        }
    }
}

/// The header lines that a browser sends, each with its CRLF: a `Cookie` line if it has cookies, and then `other_lines`.
fn header_lines(cookies: &[(String, String)], other_lines: &str) -> String {
    if cookies.is_empty() {
        return other_lines.to_owned();
    }
    let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Cookie: {}\r\n{other_lines}", pairs.join("; "))
}

impl Workload for BrowserSignIn {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        let browser = &mut self.in_flight[connection];
        let path = if let Some(redirect) = browser.next.take() {
            redirect
        } else {
            // the connection's browser has signed in, so the next one begins
            if self.started == self.wanted {
                return None;
            }
            self.started += 1;
            *browser = Navigation::default();
            self.authorize_path.clone()
        };
        navigate(out, &path, &header_lines(&browser.cookies, self.headers));
        Some(0) // the only class
    }

    fn answer(&mut self, connection: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        let Navigation { next, cookies, path_scoped } = &mut self.in_flight[connection];
        for cookie in answer.headers("set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            let for_all_paths = attributes.split(';').any(|attribute| attribute.trim().eq_ignore_ascii_case("path=/"));
            if !for_all_paths {
                path_scoped.push(name.to_owned());
            }
            // the new value replaces the former one
            cookies.retain(|(known, _)| known != name);
            // a server deletes a cookie by setting an empty value
            if !value.is_empty() {
                cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let location = answer.header("location").ok_or_else(|| answer.unexpected("sign-in of a browser"))?;
        if code_of(answer).is_some() {
            cookies.retain(|(name, _)| !path_scoped.contains(name));
            self.browsers.push_back(header_lines(cookies, self.headers));
        } else {
            // the target may redirect to a path or to an absolute URL of its own
            let path = location.strip_prefix("https://auth.example.com").unwrap_or(location);
            *next = Some(path.to_owned());
        }
        Ok(())
    }
}
