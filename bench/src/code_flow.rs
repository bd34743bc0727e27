//! Sign-ins to an app: the workload of a browser that has signed in and of the app (authorization code with PKCE), and
//! the preparation of such browsers.

use std::{collections::VecDeque, io::Write, mem};

use crate::{
    load::{Answer, Workload},
    workload::{request, tokens},
};

/// The redirect URI of the app.
pub const CALLBACK: &str = "https://app.example.com/callback";

/// The verifier and the challenge of every request (RFC 7636, appendix B).
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Number of sign-ins of one browser: fewer than the maximum number of sessions per account in Latchkey.
pub const SIGN_INS_PER_BROWSER: usize = 40;

/// A client that signs users in.
#[derive(Clone, Debug)]
pub struct AppClient {
    /// The `client_id`.
    pub id: String,
    /// `Authorization` of its token requests.
    pub authorization: String,
}

fn authorize_path(client_id: &str) -> String {
    format!(
        "/oauth2/authorize?client_id={client_id}&response_type=code&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&scope=openid\
         &state=a-state&nonce=a-nonce&code_challenge={CHALLENGE}&code_challenge_method=S256"
    )
}

/// Writes the request of a browser that navigates to a page. `headers` are complete lines.
fn navigate(out: &mut Vec<u8>, path: &str, headers: &str) {
    // writing to a vector cannot fail
    let _ = write!(
        out,
        "GET {path} HTTP/1.1\r\nHost: auth.example.com\r\nUser-Agent: latchkey-bench\r\nAccept: text/html\r\n{headers}\r\n"
    );
}

/// The code in a redirect to the app.
fn code_of<'a>(answer: &Answer<'a>) -> Option<&'a str> {
    let location = answer.header("location").filter(|_| answer.status == 303)?;
    let query = location.strip_prefix(CALLBACK)?.strip_prefix('?')?;
    query.split('&').any(|pair| pair == "state=a-state").then_some(())?;
    query.split('&').find_map(|pair| pair.strip_prefix("code="))
}

/// A browser that has signed in gets a code (class 1), and the app exchanges it (class 0). The exchanges count as sign-ins.
pub struct CodeFlow<'a> {
    /// The header lines of the browsers without a request in flight.
    browsers: &'a mut VecDeque<String>,
    client: &'a AppClient,
    path: String,
    in_flight: Vec<InFlight>,
}

/// The sign-in of one connection.
#[derive(Clone, Default)]
struct InFlight {
    /// The header lines of the browser.
    browser: String,
    /// The code to exchange.
    code: Option<String>,
}

impl<'a> CodeFlow<'a> {
    /// Creates the workload for this many connections, with the header lines of browsers that have signed in.
    pub fn new(browsers: &'a mut VecDeque<String>, client: &'a AppClient, connections: usize) -> Self {
        let path = authorize_path(&client.id);
        Self { browsers, client, path, in_flight: vec![InFlight::default(); connections] }
    }
}

impl Workload for CodeFlow<'_> {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        let flow = &mut self.in_flight[connection];
        if let Some(code) = flow.code.take() {
            let form = "application/x-www-form-urlencoded";
            let body = [
                "grant_type=authorization_code&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcallback&code_verifier=",
                VERIFIER,
                "&code=",
                &code,
            ];
            request(out, "/oauth2/token", form, Some(&self.client.authorization), &body);
            return Some(0);
        }
        flow.browser = self.browsers.pop_front()?;
        navigate(out, &self.path, &flow.browser);
        Some(1)
    }

    fn answer(&mut self, connection: usize, class: usize, answer: &Answer<'_>) -> Result<(), String> {
        let flow = &mut self.in_flight[connection];
        if class == 1 {
            self.browsers.push_back(mem::take(&mut flow.browser));
            flow.code = Some(code_of(answer).ok_or_else(|| answer.unexpected("authorize"))?.to_owned());
            return Ok(());
        }
        tokens(answer, "exchange")?;
        answer.member("id_token").map(drop).ok_or_else(|| answer.unexpected("exchange without an ID token"))
    }
}

/// Signs browsers in at a target that needs no form: follows its redirects with cookies until they reach the app.
pub struct BrowserSignIn {
    path: String,
    /// Header lines of every request.
    headers: &'static str,
    /// Number of browsers to sign in.
    wanted: usize,
    /// Number of browsers that have begun to sign in.
    started: usize,
    in_flight: Vec<Navigation>,
    /// The header lines of browsers that have signed in.
    pub browsers: VecDeque<String>,
}

/// The next path of a connection's browser, and its cookies.
#[derive(Clone, Default)]
struct Navigation {
    next: Option<String>,
    cookies: Vec<(String, String)>,
    /// The names of cookies for single paths, which the browser does not send to the authorization endpoint.
    path_scoped: Vec<String>,
}

impl BrowserSignIn {
    /// Creates the workload for this many browsers and connections.
    pub fn new(client: &AppClient, headers: &'static str, wanted: usize, connections: usize) -> Self {
        let in_flight = vec![Navigation::default(); connections];
        Self { path: authorize_path(&client.id), headers, wanted, started: 0, in_flight, browsers: VecDeque::new() }
    }
}

/// The header lines of a browser with these cookies.
fn header_lines(cookies: &[(String, String)], further: &str) -> String {
    if cookies.is_empty() {
        return further.to_owned();
    }
    let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("Cookie: {}\r\n{further}", pairs.join("; "))
}

impl Workload for BrowserSignIn {
    fn request(&mut self, connection: usize, out: &mut Vec<u8>) -> Option<usize> {
        let browser = &mut self.in_flight[connection];
        let path = match browser.next.take() {
            Some(path) => path,
            None if self.started == self.wanted => return None,
            None => {
                self.started += 1;
                *browser = Navigation::default();
                self.path.clone()
            }
        };
        navigate(out, &path, &header_lines(&browser.cookies, self.headers));
        Some(0)
    }

    fn answer(&mut self, connection: usize, _: usize, answer: &Answer<'_>) -> Result<(), String> {
        let Navigation { next, cookies, path_scoped } = &mut self.in_flight[connection];
        for cookie in answer.headers("set-cookie") {
            let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) else { continue };
            cookies.retain(|(known, _)| known != name);
            if !cookie.split("; ").any(|attribute| attribute.eq_ignore_ascii_case("path=/")) {
                path_scoped.push(name.to_owned());
            }
            if !value.is_empty() {
                cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        let location = answer.header("location").ok_or_else(|| answer.unexpected("sign-in of a browser"))?;
        if code_of(answer).is_some() {
            cookies.retain(|(name, _)| !path_scoped.contains(name));
            self.browsers.push_back(header_lines(cookies, self.headers));
        } else {
            *next = Some(location.strip_prefix("https://auth.example.com").unwrap_or(location).to_owned());
        }
        Ok(())
    }
}
