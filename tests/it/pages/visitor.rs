//! A browser without scripts: it keeps cookies, and the CSRF token of the last page with a form.

use std::collections::BTreeMap;

use reqwest::Method;

use crate::harness::{
    client::{Answer, Client},
    test_cluster::Node,
};

/// A browser without scripts.
#[derive(Clone)]
pub struct Visitor {
    client: Client,
    /// The cookies by name.
    pub cookies: BTreeMap<String, String>,
    /// The CSRF token of the last page with a form; empty before the first.
    pub csrf: String,
    /// Additional headers of each request.
    pub headers: Vec<(&'static str, String)>,
}

impl Visitor {
    /// A browser without cookies.
    pub fn new(node: &Node) -> Self {
        Self { client: node.client.clone(), cookies: BTreeMap::new(), csrf: String::new(), headers: Vec::new() }
    }

    /// Opens a page.
    pub async fn open(&mut self, path: &str) -> Answer {
        let body = None;
        self.send(Method::GET, path, body).await
    }

    /// Submits a form with the CSRF token of the last page with a form.
    pub async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.csrf.clone();
        self.submit_with(path, fields, &csrf).await
    }

    /// Submits a form with this CSRF token.
    pub async fn submit_with(&mut self, path: &str, fields: &[(&str, &str)], csrf: &str) -> Answer {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        body.append_pair("csrf", csrf);
        self.send(Method::POST, path, Some(body.finish())).await
    }

    /// Follows the redirect of an answer, which must lead to a page of the service.
    pub async fn follow(&mut self, answer: &Answer) -> Answer {
        let location = answer.header("location").to_owned();
        assert!(location.starts_with('/'), "{answer:?}");
        self.open(&location).await
    }

    /// Sends a request, and keeps the cookies and the CSRF token of the answer. Asserts that every cookie is protected.
    async fn send(&mut self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.client.request(method, path);
        if !self.cookies.is_empty() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header("cookie", cookies.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = self.client.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.starts_with("__Host-") && cookie.contains("; Path=/;"), "{cookie}");
            assert!(cookie.contains("; Secure") && cookie.contains("; HttpOnly"), "{cookie}");
            let name_and_value = cookie.split(';').next().unwrap();
            let (name, value) = name_and_value.split_once('=').unwrap();
            if cookie.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some((_, rest)) = answer.text.split_once("name=\"csrf\" value=\"") {
            self.csrf = rest.split('"').next().unwrap().to_owned();
        }
        answer
    }
}

/// The paths to which the forms of a page are submitted.
pub fn actions(answer: &Answer) -> Vec<String> {
    // the first part is the text before the first form; each further part begins with a form's path
    let forms = answer.text.split("<form method=\"post\" action=\"").skip(1);
    forms.map(|form| form.split('"').next().unwrap().replace("&amp;", "&")).collect()
}

/// The text of the error alert of a page, if it has one.
pub fn alert(answer: &Answer) -> Option<&str> {
    let (_, rest) = answer.text.split_once("<div class=\"alert\" role=\"alert\">")?;
    rest.split("</div>").next()
}

/// The text of the error beside a field, if it has one.
pub fn field_error<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let (_, rest) = answer.text.split_once(&format!("id=\"{name}-error\">"))?;
    rest.split('<').next()
}
