//! Forms: their fields, and the check that a page of this service sent them.

use poem::{FromRequest, Request, RequestBody, Result};

use crate::{
    domain::secret::SecretText,
    http::{
        cookie,
        oauth::form::{CONTENT_TYPE, Parameters},
        problem::{Code, ProblemError},
    },
};

/// Maximum length of a text field. The size of the body limits secrets.
const MAX_TEXT_BYTES: usize = 4096;

/// The fields of a submitted form. A method removes the field that it reads.
pub(super) struct Form {
    parameters: Parameters,
    /// The refusal of a form that a page of another site sent. [`Form::check_csrf`] returns it, for the page.
    cross_site: Option<ProblemError>,
}

impl Form {
    /// Takes a text without surrounding blanks. Empty if the field is absent or too long.
    pub(super) fn text(&mut self, name: &str) -> String {
        let text = self.parameters.take(name).unwrap_or_default();
        if text.len() > MAX_TEXT_BYTES { String::new() } else { text.trim().to_owned() }
    }

    /// Takes a secret, exactly as it was typed. None if the field is absent or empty.
    pub(super) fn secret(&mut self, name: &str) -> Option<SecretText> {
        self.parameters.take(name).map(Into::into)
    }

    /// Takes the token of a mailed link. The page's script fills in the token alone, but people paste the whole link.
    pub(super) fn link_token(&mut self, name: &str) -> Option<SecretText> {
        let text = self.text(name);
        let token = text.rsplit_once("token=").map_or(text.as_str(), |(_, token)| token);
        (!token.is_empty()).then(|| token.into())
    }

    /// Whether a box is checked. Browsers leave an unchecked box out of the form.
    pub(super) fn is_checked(&mut self, name: &str) -> bool {
        self.parameters.take(name).is_some()
    }

    /// Checks that a page of this service in this browser sent the form. `is_browsers_token` checks the form's CSRF token.
    ///
    /// # Errors
    /// [`Code::CrossSiteRequest`] if a page of another site sent the form, [`Code::FormExpired`] if its token is not the browser's.
    pub(super) fn check_csrf(&mut self, is_browsers_token: impl FnOnce(&str) -> bool) -> Result<(), ProblemError> {
        if let Some(refused) = self.cross_site.take() {
            return Err(refused);
        }
        let token = self.parameters.take("csrf").unwrap_or_default();
        if is_browsers_token(&token) {
            return Ok(());
        }
        let detail = "The form's token is missing, or belongs to another browser or session. Open the page again.";
        Err(ProblemError::new(Code::FormExpired, detail))
    }
}

impl<'a> FromRequest<'a> for Form {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        let media_type = request.content_type().and_then(|text| text.split(';').next()).map(str::trim);
        if !media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(CONTENT_TYPE)) {
            return Err(ProblemError::new(Code::UnsupportedMediaType, "Send the form as browsers do.").into());
        }
        let malformed = |_| ProblemError::new(Code::MalformedRequest, "The form can't be read.");
        let parameters = Parameters::parse(&bytes).map_err(malformed)?;
        let cross_site = cookie::refuse_cross_site(super::state(request)?, request).err();
        Ok(Self { parameters, cross_site })
    }
}
