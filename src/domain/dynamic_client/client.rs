//! Builds a client from its metadata.

use url::Url;

use super::{ClientMetadata, DynamicClient, DynamicSource};
use crate::domain::{
    app_client::{AppSettings, ClientAuthMethod, ClientKind},
    client::{Client, ClientId, ClientSecretHash, SpaceSeparated},
    clock::Timestamp,
};

/// The parts of a dynamic client that its metadata does not contain.
#[derive(Clone, Debug)]
pub struct DynamicClientParts<'a> {
    /// The short id that the store and the sessions hold, with a digest of the `client_id`.
    pub reference: ClientId,
    /// The `client_id` that the client sends.
    pub client_id: String,
    /// Where the metadata comes from.
    pub source: DynamicSource,
    /// The scopes that dynamic clients may request.
    pub scopes: &'a SpaceSeparated,
    /// The resources for which dynamic clients may request tokens.
    pub resources: &'a SpaceSeparated,
    /// The hash of the client's secret.
    pub secret: ClientSecretHash,
    /// When the client was created.
    pub created_at: Timestamp,
}

impl ClientMetadata {
    /// Builds the client with this metadata. The client may request the scopes that all dynamic clients may request, unless
    /// its metadata names fewer. Its users always consent.
    pub fn into_client(self, parts: DynamicClientParts<'_>) -> Client {
        let DynamicClientParts { reference, client_id, source, scopes, resources, secret, created_at } = parts;
        // an unreadable list permits no scope
        let requested = self.scope.as_deref().map(|scope| SpaceSeparated::from_spaced(scope).unwrap_or_default());
        let is_requested = |scope: &str| requested.as_ref().is_none_or(|requested| requested.contains(scope));
        let granted = scopes.items().iter().filter(|scope| is_requested(scope));
        let method = self.method();
        let jwks = self.jwks.clone();
        let dynamic = DynamicClient { client_id, source, metadata: self };
        let metadata = &dynamic.metadata;
        // a client that has registered itself has no document: it is named after the host that its users return to
        let host_as_name = || dynamic.host().or_else(|| host_of(metadata.redirect_uris.first()?));
        Client {
            id: reference,
            kind: kind_of(method),
            app: AppSettings {
                name: metadata.name.clone().or_else(host_as_name),
                redirect_uris: metadata.redirect_uris.clone(),
                post_logout_redirect_uris: metadata.post_logout_redirect_uris.clone(),
                grant_types: metadata.grant_types(),
                auth_method: Some(method),
                asks_consent: true,
                client_uri: metadata.client_uri.clone(),
                initiate_login_uri: metadata.initiate_login_uri.clone(),
                ..AppSettings::default()
            },
            scopes: SpaceSeparated::parse(granted).unwrap_or_default(),
            audiences: resources.clone(),
            jwks,
            secret,
            former_secret: None,
            created_at,
            disabled_at: None,
            dynamic: Some(Box::new(dynamic)),
        }
    }
}

/// The kind of a client that authenticates by this method.
pub(super) fn kind_of(method: ClientAuthMethod) -> ClientKind {
    if method == ClientAuthMethod::None { ClientKind::Public } else { ClientKind::Web }
}

/// The host of a URI. For a URI without a host, its scheme: the scheme names an app on the user's device.
fn host_of(uri: &str) -> Option<String> {
    let url = Url::parse(uri).ok()?;
    Some(url.host_str().map_or_else(|| url.scheme().to_owned(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::{
            DIGEST_CHARS,
            read::testing::{URL, document},
        },
        *,
    };

    /// The client with this metadata. Dynamic clients may request the scopes `allowed`.
    fn client(metadata: ClientMetadata, allowed: &SpaceSeparated) -> Client {
        let resources = SpaceSeparated::parse(["https://mcp.example.com/mcp"]).unwrap();
        metadata.into_client(DynamicClientParts {
            reference: DynamicClient::reference(DynamicSource::Document, &"a".repeat(DIGEST_CHARS)),
            client_id: URL.to_owned(),
            source: DynamicSource::Document,
            scopes: allowed,
            resources: &resources,
            secret: ClientSecretHash::new([0; 32]),
            created_at: Timestamp::from_millis(0),
        })
    }

    #[test]
    fn client_with_an_unreadable_stored_scope_has_no_scope() {
        let allowed = SpaceSeparated::parse(["openid"]).unwrap();
        // two spaces between the scopes, which `ClientMetadata::read` refuses
        let metadata = ClientMetadata { scope: Some("openid  email".to_owned()), ..document(&[]).unwrap() };
        assert!(client(metadata, &allowed).scopes.is_empty());
    }

    #[test]
    fn client_has_only_allowed_scopes_asks_for_consent_and_is_named_after_its_host() {
        let allowed = SpaceSeparated::parse(["openid", "email", "mcp:read"]).unwrap();
        let client_with_scope = |scope: Value| {
            // without a name, so that the client gets the host of its document, app.example.com
            client(document(&[("scope", scope), ("client_name", Value::Null)]).unwrap(), &allowed)
        };
        let mut client = client_with_scope(json!("openid admin"));
        assert_eq!(client.scopes.to_string(), "openid", "admin is not allowed");
        assert_eq!(client_with_scope(Value::Null).scopes, allowed);
        assert!(client.app.asks_consent);
        assert_eq!(client.client_id(), URL);
        assert_eq!(client.display_name(), "app.example.com");
        client.app.name = None;
        assert_eq!(client.display_name(), URL, "not the reference, which contains a digest");
        assert!(DynamicClient::is_reference(client.id.as_str()));
        assert!(!DynamicClient::is_reference("grafana"), "the id of a client that an operator has registered");
        let not_base64url = format!("url.{}.", "a".repeat(DIGEST_CHARS - 1));
        assert!(!DynamicClient::is_reference(&not_base64url));
    }
}
