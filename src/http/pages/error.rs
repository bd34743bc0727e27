//! Renders the errors of requests for pages as HTML pages.

use poem::{Request, Response, http::header};

use super::{
    PREFIX, is_page,
    respond::{form_errors, render_bare, url_path},
    visit::languages,
};
use crate::{
    http::problem::{Code, ProblemError},
    pages::{Frame, views::Message},
    state::AppState,
};

/// The languages that a request asks for. They are kept for the page that reports an error of the request.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct VisitorLocale {
    ui_locales: Option<String>,
    accept_language: Option<String>,
}

impl VisitorLocale {
    /// The languages of a request.
    pub(super) fn of(request: &Request) -> Self {
        let (ui_locales, accept_language) = languages(request);
        Self { ui_locales, accept_language }
    }
}

/// The page of an error. `None` if no page has this path. After a temporary error of a GET request (`is_get`), which loads a page
/// and submits no form, the user can load the page again.
pub(in crate::http) fn error_page(
    state: &AppState,
    path: &str,
    visitor: Option<&VisitorLocale>,
    is_get: bool,
    problem: &ProblemError,
    request_id: &str,
) -> Option<Response> {
    let pages = state.pages.as_ref().filter(|_| is_page(path))?;
    let VisitorLocale { ui_locales, accept_language } = visitor.cloned().unwrap_or_default();
    let locale = pages.locale(ui_locales.as_deref(), None, accept_language.as_deref());
    let errors = form_errors(problem);
    let code = problem.code;
    let is_missing = matches!(code, Code::NotFound | Code::MethodNotAllowed);
    let is_temporary = matches!(code, Code::Unavailable | Code::TooManyRequests);
    let account_page = "";
    let view = Message {
        code: Some(code.as_str().to_owned()),
        // With the id, the operator finds the cause in the log. A wrong URL needs no search.
        request_id: (!is_missing).then(|| request_id.to_owned()),
        can_retry: is_get && is_temporary,
        ..Message::new("error", account_page)
    };
    let pages_path = url_path(&state.config.issuer) + PREFIX;
    let frame = Frame { locale, errors, path: pages_path, ..Frame::default() };
    // Logged here: the log line of the request has the first error as its cause, and cannot have this one too.
    let rendered = render_bare(pages, &frame, code.status(), &view).inspect_err(|error| {
        tracing::error!(request_id, %error, "an error page can't be rendered, so the browser gets the error as JSON: correct pages.templates");
    });
    let mut response = rendered.ok()?;
    let headers = response.headers_mut();
    if let Some(retry_after) = problem.retry_after {
        // At least 1 s: 0 would ask for a retry at once.
        headers.insert(header::RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    if let Some(allow) = problem.allow.as_ref().and_then(|allow| allow.parse().ok()) {
        headers.insert(header::ALLOW, allow);
    }
    Some(response)
}
