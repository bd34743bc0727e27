//! The few pages that the OAuth endpoints answer with themselves: a message, a form for the client, and the question whether to sign out.

use std::fmt::Write;

use poem::{
    Response,
    http::{HeaderValue, StatusCode, header},
};

/// The script that submits the form of a page, so that no page needs inline code.
pub(super) const SUBMIT_SCRIPT: &str = "document.forms[0].submit();\n";
/// The path of the script.
pub(in crate::http) const SUBMIT_PATH: &str = "/oauth2/submit.js";

/// A page that may load nothing but [`SUBMIT_SCRIPT`].
pub(super) fn response(status: StatusCode, html: String) -> Response {
    let mut response = Response::builder().status(status).content_type("text/html; charset=utf-8").body(html);
    let headers = response.headers_mut();
    let policy = "default-src 'none'; script-src 'self'; base-uri 'none'; frame-ancestors 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{title}</title></head>\n<body><main><h1>{title}</h1>\n{body}\
         </main></body>\n</html>\n"
    )
}

/// A message for the user.
pub(super) fn message(title: &str, text: &str) -> String {
    document(title, &format!("<p>{}</p>\n", escape(text)))
}

/// A form that the browser posts to the client at once (OAuth 2.0 Form Post Response Mode).
pub(super) fn form_post(action: &str, parameters: &[(&'static str, String)]) -> String {
    let fields = hidden_fields(parameters.iter().map(|(name, value)| (*name, value.as_str())));
    let body = format!(
        "<form method=\"post\" action=\"{}\">\n{fields}<button>Continue</button>\n</form>\n<script src=\"{SUBMIT_PATH}\"></script>\n",
        escape(action)
    );
    document("Continue to the app", &body)
}

/// The question whether to sign out.
pub(super) fn confirm_sign_out<'a>(action: &str, fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let body = format!(
        "<p>You will be signed out here, and in the apps that you use with this sign-in.</p>\n\
         <form method=\"post\" action=\"{}\">\n{}<button>Sign out</button>\n</form>\n",
        escape(action),
        hidden_fields(fields)
    );
    document("Sign out?", &body)
}

fn hidden_fields<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    fields.fold(String::new(), |mut all, (name, value)| {
        let _ = writeln!(all, "<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value));
        all
    })
}

/// Escapes text for HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut all, c| {
        match c {
            '&' => all.push_str("&amp;"),
            '<' => all.push_str("&lt;"),
            '>' => all.push_str("&gt;"),
            '"' => all.push_str("&quot;"),
            '\'' => all.push_str("&#39;"),
            c => all.push(c),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_form_are_escaped() {
        let page =
            form_post("https://app.example/cb?a=1&b=2", &[("state", "\"><script>alert('x')</script>".to_owned())]);
        assert!(page.contains("action=\"https://app.example/cb?a=1&amp;b=2\""));
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;\""));
        assert_eq!(page.matches("<script").count(), 1);
    }
}
