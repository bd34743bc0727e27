//! The claims about an account, other than its roles, that access tokens can contain: whether the account's e-mail address is
//! verified, and members of its metadata. The configuration decides which of them tokens contain.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::account::{Roles, RolesError};

/// The maximum size of the metadata in a token, in bytes of JSON. Checked when either changes.
pub const MAX_TOKEN_METADATA: usize = 1024;

/// The claims of an account other than its roles. Empty unless the configuration enables them (`token.email_verified`,
/// `token.app_metadata`). An empty value is `None`, so that it takes no space in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdditionalClaims(Option<Box<Members>>);

/// The claims, not all of them empty, in the form of their JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Members {
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    app_metadata: Map<String, Value>,
}

/// Why [`AdditionalClaims::decode_with_roles`] refuses a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsTextError {
    /// The roles are invalid.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// The claims beside the roles are not JSON of the expected form.
    #[error("the claims beside the roles are not JSON of the expected form")]
    Additional,
}

impl AdditionalClaims {
    /// Creates the claims from `email_verified`, if tokens contain it, and the members of the metadata that tokens contain.
    pub fn new(email_verified: Option<bool>, app_metadata: Map<String, Value>) -> Self {
        let is_empty = email_verified.is_none() && app_metadata.is_empty();
        Self((!is_empty).then(|| Box::new(Members { email_verified, app_metadata })))
    }

    /// The claim `email_verified`; `None` if tokens do not contain it.
    pub fn email_verified(&self) -> Option<bool> {
        self.0.as_ref().and_then(|members| members.email_verified)
    }

    /// The claim `app_metadata`; `None` if it is empty.
    pub fn app_metadata(&self) -> Option<&Map<String, Value>> {
        self.0.as_ref().map(|members| &members.app_metadata).filter(|metadata| !metadata.is_empty())
    }

    /// Encodes roles and claims as one text: the roles, separated by spaces; then, if there are claims, a line feed and their JSON.
    /// Neither roles nor JSON contain a line feed.
    pub fn encode_with(&self, roles: &Roles) -> String {
        let mut text = roles.to_string();
        if let Some(members) = &self.0 {
            text.push('\n');
            text.push_str(&serde_json::to_string(members).expect("text, numbers and booleans can be written as JSON"));
        }
        text
    }

    /// Decodes the text of [`AdditionalClaims::encode_with`].
    ///
    /// # Errors
    /// [`ClaimsTextError`]
    pub fn decode_with_roles(text: &str) -> Result<(Roles, Self), ClaimsTextError> {
        let Some((roles, additional)) = text.split_once('\n') else {
            return Ok((Roles::from_spaced(text)?, Self(None)));
        };
        let members = serde_json::from_str(additional).map_err(|_| ClaimsTextError::Additional)?;
        Ok((Roles::from_spaced(roles)?, Self(Some(members))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_round_trip_beside_roles_and_empty_ones_add_nothing() {
        // The line feed in the value must not be taken for the one after the roles.
        let Value::Object(metadata) = json!({ "plan": "gold\n", "seats": [1, { "a": null }] }) else { panic!() };
        for roles in [Roles::default(), Roles::parse(["admin", "editor"]).unwrap()] {
            let without_claims = AdditionalClaims::default().encode_with(&roles);
            assert_eq!(without_claims, roles.to_string());
            for claims in [
                AdditionalClaims::default(),
                AdditionalClaims::new(Some(false), Map::new()),
                AdditionalClaims::new(None, metadata.clone()),
                AdditionalClaims::new(Some(true), metadata.clone()),
            ] {
                let text = claims.encode_with(&roles);
                let decoded = AdditionalClaims::decode_with_roles(&text);
                assert_eq!(decoded, Ok((roles.clone(), claims)), "{text}");
            }
        }
        assert_eq!(AdditionalClaims::decode_with_roles("admin\n{"), Err(ClaimsTextError::Additional));
    }
}
