//! Builds the responses of pages, and sets all their headers.

use poem::{
    Response, Result,
    http::{HeaderValue, StatusCode, header},
};

use super::{authorization::Authorization, visit::Visit};
use crate::{
    http::{cookie, problem::ProblemError},
    pages::{FormErrors, Frame, Pages, PagesError, View},
    service::limits::DeviceToken,
};

/// The headers of every page and redirect. The referrer policy withholds URLs from other sites. It is not `no-referrer`, because browsers
/// would then submit a form with `Origin: null`, and the check against forged requests needs the origin.
const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("referrer-policy", "same-origin"),
    (
        "permissions-policy",
        "publickey-credentials-get=(self), publickey-credentials-create=(self), camera=(), microphone=(), geolocation=()",
    ),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// The URLs to which a page may submit a form (`form-action`). Browsers also check every redirect that follows the submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Targets {
    /// This service.
    Own,
    /// Any URL: a client may redirect the browser further.
    Any,
}

/// The content security policy of a page. `default-src` does not apply to forms, so without `form-action` any target is allowed.
fn policy(targets: Targets) -> String {
    let form_action = if targets == Targets::Own { " form-action 'self';" } else { "" };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';{form_action} \
         base-uri 'none'; frame-ancestors 'none'"
    )
}

/// A response with an HTML page.
fn html(status: StatusCode, targets: Targets, html: String) -> Response {
    let mut response = Response::builder().status(status).content_type("text/html; charset=utf-8").body(html);
    insert_common_headers(&mut response);
    if let Some(policy) = header_value("Content-Security-Policy", &policy(targets)) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn insert_common_headers(response: &mut Response) {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
}

/// A response that is being built.
pub(super) struct Reply<'a> {
    visit: &'a Visit,
    errors: FormErrors,
    status: StatusCode,
    notice: Option<&'static str>,
    cookies: Vec<String>,
    targets: Targets,
}

impl Visit {
    /// Starts a reply.
    pub(super) fn reply(&self) -> Reply<'_> {
        Reply {
            visit: self,
            errors: FormErrors::default(),
            status: StatusCode::OK,
            notice: None,
            cookies: self.visitor_cookie.clone().into_iter().collect(),
            targets: Targets::Own,
        }
    }
}

impl Reply<'_> {
    /// Reports the error of a submitted form.
    pub(super) fn error(mut self, problem: &ProblemError) -> Self {
        self.status = problem.code.status();
        if self.status == StatusCode::UNAUTHORIZED {
            // 401 requires a `WWW-Authenticate` challenge, which a page has no use for.
            self.status = StatusCode::UNPROCESSABLE_ENTITY;
        }
        self.errors = form_errors(problem);
        self
    }

    /// Reports success, by the key of a text; `None` reports nothing.
    pub(super) const fn notice(mut self, key: Option<&'static str>) -> Self {
        self.notice = key;
        self
    }

    /// Adds a value of `Set-Cookie`.
    pub(super) fn cookie(mut self, cookie: String) -> Self {
        self.cookies.push(cookie);
        self
    }

    /// Sets the cookie by which a later sign-in recognizes the device.
    pub(super) fn device(self, device: &DeviceToken) -> Self {
        let cookie = cookie::set_device(device.expose());
        self.cookie(cookie)
    }

    /// Reports an error of the whole form. `code` is the key of its text.
    pub(super) fn form_error(mut self, code: &str) -> Self {
        self.status = StatusCode::UNPROCESSABLE_ENTITY;
        self.errors = FormErrors::general(code);
        self
    }

    /// Reports the error of a field. `code` is the key of its text.
    pub(super) fn field_error(mut self, field: &str, code: &str) -> Self {
        self.status = StatusCode::UNPROCESSABLE_ENTITY;
        self.errors = FormErrors::field(field, code);
        self
    }

    /// Allows the form's submission to end at a client, if the page belongs to an authorization request.
    pub(super) fn client_target(self, authorization: Option<&Authorization>) -> Self {
        if authorization.is_some() { self.any_target() } else { self }
    }

    /// Allows the form's submission to end at any URL.
    pub(super) const fn any_target(mut self) -> Self {
        self.targets = Targets::Any;
        self
    }

    /// Sets the status.
    pub(super) const fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The response with a page.
    pub(super) fn page<V: View>(self, view: &V) -> Result<Response> {
        let visit = self.visit;
        let frame = Frame {
            locale: visit.locale,
            time_zone: visit.time_zone.clone(),
            csrf: visit.csrf.clone(),
            query: visit.query.clone(),
            path: issuer_path(visit) + &visit.path,
            errors: self.errors,
            notice: self.notice,
            account: visit.account.clone(),
        };
        let rendered = visit.pages()?.render(&frame, view).map_err(|error| record_render_error(&error))?;
        let mut response = html(self.status, self.targets, rendered);
        append_cookies(&mut response, self.cookies);
        Ok(response)
    }

    /// A redirect to a page, with the query that all links of the visit keep. `page` is a path below `/account`, and may have a query.
    pub(super) fn redirect_to_page(self, page: &str) -> Response {
        // `query` begins with `?`, unless it is empty.
        let separator = if page.contains('?') { "&" } else { "?" };
        let query = self.visit.query.replacen('?', separator, 1);
        let location = format!("{}{}{page}{query}", issuer_path(self.visit), super::PREFIX);
        self.redirect_to(&location)
    }

    /// A redirect to a path of the service, or to a client.
    pub(super) fn redirect_to(self, location: &str) -> Response {
        let mut response = Response::builder().status(StatusCode::SEE_OTHER).finish();
        insert_common_headers(&mut response);
        if let Some(location) = header_value("Location", location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        append_cookies(&mut response, self.cookies);
        response
    }
}

/// The value of the header `name`; `None` if it has characters that HTTP does not permit.
fn header_value(name: &str, value: &str) -> Option<HeaderValue> {
    let parsed = HeaderValue::from_str(value);
    if parsed.is_err() {
        // without the value, which may be a secret
        tracing::error!(
            header = name,
            "a page was answered without this header because of a bug: its value has characters that HTTP does not permit. The sign-in \
             of this user may fail. Report it with the name of the header"
        );
    }
    parsed.ok()
}

fn append_cookies(response: &mut Response, cookies: Vec<String>) {
    for cookie in cookies {
        if let Some(cookie) = header_value("Set-Cookie", &cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// The path of the issuer. URLs in pages start with it, although a proxy may strip it from requests.
pub(super) fn issuer_path(visit: &Visit) -> String {
    url_path(&visit.state.config.issuer)
}

/// The path of an issuer's URL, without a slash at the end. Empty if the issuer is an origin.
pub(super) fn url_path(issuer: &str) -> String {
    url::Url::parse(issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default()
}

/// The errors of a form, by their codes. If fields have errors, the form as a whole has none.
pub(super) fn form_errors(problem: &ProblemError) -> FormErrors {
    let fields: Vec<_> = problem.fields.iter().map(|field| (field.field.clone(), field.code.clone())).collect();
    FormErrors {
        general: fields.is_empty().then(|| problem.code.as_str().to_owned()),
        fields,
        retry_after: problem.retry_after,
    }
}

/// Records that a page can't be rendered, and returns the problem. This is unlikely, because start-up renders every page once.
fn record_render_error(error: &PagesError) -> ProblemError {
    ProblemError::internal_because(format!("a page can't be rendered: {error}"))
}

/// Renders a page without a visit: the page of an error.
pub(super) fn render_bare<V: View>(
    pages: &Pages,
    frame: &Frame,
    status: StatusCode,
    view: &V,
) -> Result<Response, PagesError> {
    Ok(html(status, Targets::Own, pages.render(frame, view)?))
}
