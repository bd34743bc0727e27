//! A client of the REST API.

use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// The password of every account that [`Client::register`] creates.
pub const PASSWORD: &str = "tidal engine verse marmalade";

/// A client of one node. It does not follow redirects.
#[derive(Clone)]
pub struct Client {
    /// The URL of the node, without a path.
    pub base: String,
    http: reqwest::Client,
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// Parses the body as JSON; null if it is empty.
    pub fn json(&self) -> Value {
        if self.text.is_empty() { Value::Null } else { serde_json::from_str(&self.text).expect(&self.text) }
    }

    /// Returns a string field of the body.
    pub fn text_of(&self, field: &str) -> String {
        self.json()[field].as_str().unwrap_or_else(|| panic!("no {field} in {}", self.text)).to_owned()
    }

    /// Returns the status and `code` of a problem, and asserts that the problem is complete.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        for field in ["type", "title", "detail", "code"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {body}");
        }
        assert_eq!(body["request_id"], self.header("x-request-id"));
        // This header accompanies 401 and no other status.
        assert_eq!(self.headers.contains_key("www-authenticate"), self.status == 401, "{self:?}");
        (self.status.as_u16(), self.text_of("code"))
    }

    /// Returns the value of a header, or an empty string if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts the status, and returns the response.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }
}

/// The tokens of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    pub session: String,
}

impl Tokens {
    /// Reads the tokens of an answer.
    pub fn of(answer: &Answer) -> Self {
        Self {
            access: answer.text_of("access_token"),
            refresh: answer.text_of("refresh_token"),
            session: answer.text_of("session_id"),
        }
    }
}

impl Client {
    pub fn new(base: String) -> Self {
        Self { base, http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap() }
    }

    /// Starts a request that the caller completes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status();
        let headers = response.headers().clone();
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// Sends a GET request without credentials.
    pub async fn get_anonymously(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// Sends a GET request with an access token.
    pub async fn get(&self, path: &str, access: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(access)).await
    }

    /// Sends a DELETE request with an access token.
    pub async fn delete(&self, path: &str, access: &str) -> Answer {
        self.send(self.request(Method::DELETE, path).bearer_auth(access)).await
    }

    /// Sends a POST request with a JSON body and without credentials in headers.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    /// Registers the username `name` and the address `NAME@example.com` with [`PASSWORD`].
    pub async fn register(&self, name: &str) -> Answer {
        let body = json!({ "email": format!("{name}@example.com"), "username": name, "password": PASSWORD });
        self.post("/v1/users", body).await.expect(201)
    }

    /// Sends a sign-in by password. Returns the answer with any status.
    pub async fn try_login(&self, identifier: &str, password: &str) -> Answer {
        self.post("/v1/login", json!({ "identifier": identifier, "password": password })).await
    }

    /// Signs in to an account of [`Client::register`], and asserts success.
    pub async fn login(&self, name: &str) -> Tokens {
        self.login_with(name, PASSWORD).await
    }

    /// Like [`Client::login`], with a given password.
    pub async fn login_with(&self, name: &str, password: &str) -> Tokens {
        Tokens::of(&self.try_login(name, password).await.expect(200))
    }

    pub async fn refresh(&self, refresh_token: &str) -> Answer {
        self.post("/v1/refresh", json!({ "refresh_token": refresh_token })).await
    }

    pub async fn logout(&self, refresh_token: &str) -> Answer {
        self.post("/v1/logout", json!({ "refresh_token": refresh_token })).await
    }

    pub async fn change_password(&self, access: &str, current: &str, new: &str) -> Answer {
        let body = json!({ "current_password": current, "new_password": new });
        self.send(self.request(Method::POST, "/v1/me/password").bearer_auth(access).json(&body)).await
    }
}
