//! Renders the errors of requests for pages as HTML pages.

use poem::{Request, Response, http::header};

use super::{
    respond::{form_errors, render_bare},
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

/// The page of an error. `None` if no page has this path. After a temporary error of a request that loads a page (`is_load`) instead of
/// submitting a form, the user can load the page again.
pub(in crate::http) fn error_page(
    state: &AppState,
    path: &str,
    languages: Option<&VisitorLocale>,
    is_load: bool,
    problem: &ProblemError,
    request_id: &str,
) -> Option<Response> {
    let pages = state.pages.as_ref().filter(|_| super::is_page(path))?;
    let languages = languages.cloned().unwrap_or_default();
    let locale = pages.locale(languages.ui_locales.as_deref(), None, languages.accept_language.as_deref());
    let errors = form_errors(problem);
    let code = problem.code;
    let is_missing = matches!(code, Code::NotFound | Code::MethodNotAllowed);
    let is_temporary = matches!(code, Code::Unavailable | Code::TooManyRequests);
    let account_page = "";
    let view = Message {
        code: Some(code.as_str().to_owned()),
        // for finding the cause in the log: a wrong URL needs no search
        request_id: (!is_missing).then(|| request_id.to_owned()),
        can_retry: is_load && is_temporary,
        ..Message::new("error", account_page)
    };
    let path = super::respond::url_path(&state.config.issuer) + super::PREFIX;
    let frame = Frame { locale, errors, path, ..Frame::default() };
    // The cause of the request is collected already, so the request's line can't have this error.
    let rendered = render_bare(pages, &frame, code.status(), &view).inspect_err(|error| {
        tracing::error!(request_id, %error, "an error page can't be rendered, so the browser gets the error as JSON: correct pages.templates");
    });
    let mut response = rendered.ok()?;
    let headers = response.headers_mut();
    if let Some(after) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    if let Some(allow) = problem.allow.as_ref().and_then(|allow| allow.parse().ok()) {
        headers.insert(header::ALLOW, allow);
    }
    Some(response)
}
