//! A request for a page: language, cookies, and the authorization request that the sign-in belongs to.

use std::sync::Arc;

use poem::{FromRequest, Request, RequestBody, Result, error::NotFoundError, http::header};

use super::{cookies, form::Form};
use crate::{
    domain::{locale::Locale, session::SessionOrigin},
    http::{
        cookie,
        extract::{browser_session::Browser, client_info::ClientInfo},
        problem::ProblemError,
    },
    pages::Pages,
    service::request_origin::RequestOrigin,
    state::AppState,
};

/// The parameters of a query that links and forms keep.
const KEPT_PARAMETERS: [&str; 3] = ["request", "ui_locales", "next"];
/// The maximum length of the value of a parameter that links keep.
const MAX_KEPT_BYTES: usize = 200;
/// The number of parameters of a query that are read.
const MAX_PARAMETERS: usize = 16;

/// A request for a page.
#[derive(Clone)]
pub(in crate::http) struct Visit {
    pub(in crate::http) state: Arc<AppState>,
    /// The language.
    pub(super) locale: Locale,
    /// The path, without the path of the issuer.
    pub(super) path: String,
    /// The client: its address, its user agent and the token of its device.
    pub(in crate::http) client: ClientInfo,
    /// The client, as mails state where a request came from.
    pub(super) origin: RequestOrigin,
    /// The handle of the authorization request that the sign-in belongs to.
    pub(super) request: Option<String>,
    /// The query that links and forms keep, with its question mark; empty if there are no such parameters.
    pub(super) query: String,
    /// The first [`MAX_PARAMETERS`] parameters of the query, decoded, whether or not links keep them.
    parameters: Vec<(String, String)>,
    /// The cookies of a sign-in that is in progress: name and value.
    cookies: Vec<(&'static str, String)>,
    /// The browser, and its session.
    pub(in crate::http) browser: Browser,
    /// The anti-forgery token of this browser's forms.
    pub(super) csrf: String,
    /// The cookie that the anti-forgery token is bound to, if the browser has none yet.
    pub(super) visitor_cookie: Option<String>,
    /// The name of the signed-in account. The pages that look the account up set the name and the time zone.
    pub(super) account: Option<String>,
    /// The time zone of the signed-in account.
    pub(super) time_zone: Option<String>,
}

impl Visit {
    /// The pages.
    ///
    /// # Errors
    /// 404 if pages are off.
    pub(super) fn pages(&self) -> Result<&Pages> {
        Ok(self.state.pages.as_ref().ok_or(NotFoundError)?)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parameter `ui_locales`: the languages that the user has chosen, or the languages of the authorization request.
    pub(super) fn ui_locales(&self) -> Option<&str> {
        self.parameter("ui_locales").filter(|text| text.len() <= MAX_KEPT_BYTES)
    }

    /// A copy of the visit, for a page whose links to itself lead to `path` and `query`.
    #[must_use]
    pub(super) fn shown_as(&self, path: &str, query: String) -> Self {
        Self { path: path.to_owned(), query, ..self.clone() }
    }

    /// A cookie of a sign-in that is in progress.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The address or username that was typed on the page before.
    pub(super) fn typed_identifier(&self) -> String {
        let text = self.cookie(cookies::TYPED).unwrap_or_default();
        percent_decode(text)
    }

    /// The origin of a session that starts now.
    pub(super) fn session_origin(&self) -> SessionOrigin {
        self.client.clone().into_session_origin()
    }

    /// The path of the account page to go to after a sign-in, without the prefix of all pages; empty for the first account page.
    pub(super) fn next(&self) -> &str {
        self.parameter("next").filter(|next| is_account_page(next)).unwrap_or_default()
    }

    /// Checks that a page of this browser has sent the form.
    ///
    /// # Errors
    /// See [`Form::check_csrf`].
    pub(super) fn check_csrf(&self, form: &mut Form) -> Result<(), ProblemError> {
        form.check_csrf(|token| self.browser.accepts_csrf(&self.state, token))
    }
}

/// Whether the text can be the path of an account page. Such a text can't lead to another site.
fn is_account_page(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    // longer than the name of any page
    let max_length = 31;
    text.strip_prefix('/').is_some_and(|name| name.len() <= max_length && name.bytes().all(allowed))
}

impl<'a> FromRequest<'a> for Visit {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let state = Arc::clone(super::state(request)?);
        let pages = state.pages.as_ref().ok_or(NotFoundError)?;
        let client = ClientInfo::from_request(request, body).await?;
        let origin = RequestOrigin::from_request(request, body).await?;
        let query = request.uri().query().unwrap_or_default();
        let parameters: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes())
            .take(MAX_PARAMETERS)
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let kept: Vec<&(String, String)> = parameters
            .iter()
            .filter(|(name, value)| KEPT_PARAMETERS.contains(&name.as_str()) && value.len() <= MAX_KEPT_BYTES)
            .collect();
        let kept_query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept.iter().copied()).finish();
        let kept_value = |name: &str| kept.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let cookie_names = [cookies::LOGIN_REQUEST, cookies::TYPED, cookies::CHALLENGE];
        let cookies = cookie_names.into_iter().filter_map(|name| Some((name, cookie::named(request, name)?))).collect();
        let mut browser = Browser::from_request(request, body).await?;
        let (csrf, visitor_cookie) = browser.csrf_token(&state);
        // no account is known yet: the account pages choose again, with the language of the account
        let account_locale = None;
        let ui_locales = kept_value("ui_locales");
        let locale = pages.locale(ui_locales.as_deref(), account_locale, origin.accept_language.as_deref());
        Ok(Self {
            locale,
            path: request.uri().path().to_owned(),
            client,
            origin,
            request: kept_value("request"),
            query: if kept_query.is_empty() { kept_query } else { format!("?{kept_query}") },
            cookies,
            browser,
            csrf,
            visitor_cookie,
            account: None,
            time_zone: None,
            parameters,
            state,
        })
    }
}

/// The languages of a request, for pages that report errors: the parameter `ui_locales` and the header `Accept-Language`.
pub(super) fn languages(request: &Request) -> (Option<String>, Option<String>) {
    let query = request.uri().query().unwrap_or_default();
    let ui_locales = url::form_urlencoded::parse(query.as_bytes())
        .take(MAX_PARAMETERS)
        .find(|(name, value)| name == "ui_locales" && value.len() <= MAX_KEPT_BYTES);
    let accepted = request.headers().get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    (ui_locales.map(|(_, value)| value.into_owned()), accepted.map(str::to_owned))
}

/// Encodes text for a cookie.
pub(super) fn percent_encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Decodes text that [`percent_encode`] encoded, with the parser of forms.
fn percent_decode(text: &str) -> String {
    // the parser reads pairs, so the text is the value of a pair
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_of_a_request_leave_out_a_long_ui_locales() {
        let request = |value: &str| Request::builder().uri_str(format!("/account?ui_locales={value}")).finish();
        assert_eq!(languages(&request("de")), (Some("de".to_owned()), None));
        assert_eq!(languages(&request(&"d".repeat(MAX_KEPT_BYTES + 1))), (None, None));
    }
}
