//! The section `dynamic_clients`: apps that no operator has registered.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use url::{Host, Url};

use super::{check, read::Reader};
use crate::domain::client::SpaceSeparated;

/// Settings of apps that no operator has registered.
#[derive(Clone, Debug)]
pub struct DynamicClientSettings {
    /// Whether the URL of a metadata document is accepted as `client_id`.
    pub metadata_documents: bool,
    /// Whether apps can register themselves (RFC 7591).
    pub registration: bool,
    /// The scopes that these apps may request.
    pub scopes: SpaceSeparated,
    /// The resources that these apps may request (RFC 8707).
    pub resources: SpaceSeparated,
    /// The hosts at which metadata documents and https redirect URIs may be; empty for any. `.example.com` stands for the
    /// subdomains of `example.com`.
    pub allowed_hosts: Vec<String>,
    /// Maximum number of apps of this kind that an account can allow.
    pub max_per_account: u32,
    /// Maximum size of a metadata document in bytes.
    pub max_document_bytes: usize,
    /// Time to fetch a metadata document.
    pub fetch_timeout: Duration,
    /// Private networks whose hosts may serve metadata documents.
    pub private_networks: Vec<IpNet>,
    /// PEM file of certificate authorities; `None` for the system's authorities.
    pub ca_file: Option<PathBuf>,
}

impl DynamicClientSettings {
    /// Whether a metadata document or an https redirect URI may be at this host.
    pub fn allows_host(&self, host: &str) -> bool {
        let matches = |allowed: &String| {
            if allowed.starts_with('.') {
                // longer, because a subdomain has a name before the dot
                host.len() > allowed.len() && host.ends_with(allowed.as_str())
            } else {
                host == allowed
            }
        };
        self.allowed_hosts.is_empty() || self.allowed_hosts.iter().any(matches)
    }
}

/// Reads the section. A relative `ca_file` is relative to `working_dir`.
pub(super) fn dynamic_clients(read: &mut Reader<'_>, working_dir: &Path) -> DynamicClientSettings {
    let scopes = read.many("dynamic_clients.scopes", |text| check::scope(text).and_then(refuse_several_scopes));
    let resources = read.many("dynamic_clients.resources", check_resource);
    let settings = DynamicClientSettings {
        metadata_documents: read.boolean("dynamic_clients.metadata_documents"),
        registration: read.boolean("dynamic_clients.registration"),
        // `parse` cannot fail: each item was checked above
        scopes: SpaceSeparated::parse(scopes).unwrap_or_default(),
        resources: SpaceSeparated::parse(resources).unwrap_or_default(),
        allowed_hosts: read.many("dynamic_clients.allowed_hosts", check_host),
        max_per_account: read.number("dynamic_clients.max_per_account", 1..=1000),
        max_document_bytes: read.size("dynamic_clients.max_document", 1 << 10, 64 << 10),
        fetch_timeout: read.duration(
            "dynamic_clients.fetch_timeout",
            Duration::from_millis(100),
            Duration::from_secs(30),
        ),
        private_networks: read.many("dynamic_clients.private_networks", check::network),
        ca_file: read.optional("dynamic_clients.ca_file", |_| Ok(())).map(|path| working_dir.join(path.expose())),
    };
    let is_unused = !settings.metadata_documents && !settings.registration;
    read.rule(&["dynamic_clients.scopes"], is_unused || !settings.scopes.is_empty(), |_| {
        "must have at least one scope: an app without a scope can't sign anyone in".to_owned()
    });
    settings
}

/// Refuses an item of the list that holds several scopes.
fn refuse_several_scopes(text: String) -> Result<String, String> {
    if text.contains(' ') { Err("must be a list of single scopes".into()) } else { Ok(text) }
}

/// Checks a resource indicator (RFC 8707, section 2).
fn check_resource(text: &str) -> Result<String, String> {
    let is_absolute = Url::parse(text).is_ok_and(|url| url.fragment().is_none());
    let is_one_item = SpaceSeparated::parse([text]).is_ok();
    if is_absolute && is_one_item {
        Ok(text.to_owned())
    } else {
        Err("must hold absolute URLs without a fragment, such as https://mcp.example.com/mcp".into())
    }
}

/// Checks an item of `allowed_hosts`: a host name in lower case, or a dot and the name of a domain.
fn check_host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix('.').unwrap_or(text);
    match Host::parse(name) {
        Ok(Host::Domain(parsed)) if parsed == name && !name.ends_with('.') => Ok(text.to_owned()),
        _ => Err("must hold host names in lower case, such as app.example.com or .example.com".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings with these allowed hosts. The other values don't matter.
    fn settings(allowed_hosts: &[&str]) -> DynamicClientSettings {
        DynamicClientSettings {
            metadata_documents: true,
            registration: true,
            scopes: SpaceSeparated::default(),
            resources: SpaceSeparated::default(),
            allowed_hosts: allowed_hosts.iter().map(|host| (*host).to_owned()).collect(),
            max_per_account: 1,
            max_document_bytes: 1024,
            fetch_timeout: Duration::from_secs(1),
            private_networks: Vec::new(),
            ca_file: None,
        }
    }

    #[test]
    fn host_is_allowed_by_name_or_domain() {
        assert!(settings(&[]).allows_host("anything.example"), "an empty list allows any host");
        let some = settings(&["app.example.com", ".example.org"]);
        for host in ["app.example.com", "a.example.org", "a.b.example.org"] {
            assert!(some.allows_host(host), "{host}");
        }
        for host in ["example.com", "x.app.example.com", "example.org", ".example.org", "badexample.org", ""] {
            assert!(!some.allows_host(host), "{host}");
        }
    }

    #[test]
    fn allowed_host_must_be_a_plain_name() {
        for text in ["app.example.com", ".example.com", "localhost"] {
            assert_eq!(check_host(text), Ok(text.to_owned()));
        }
        for text in ["", ".", "https://a.example", "a.example:443", "A.example", "127.0.0.1", "a.example.", "a b"] {
            assert!(check_host(text).is_err(), "{text}");
        }
    }
}
