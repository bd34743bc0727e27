//! Converts `redis.url` to a configuration of fred, the Redis client.

use std::{borrow::Cow, fmt};

use fred::types::config::{ClusterDiscoveryPolicy, Config, ServerConfig};
use url::Url;

use super::{connection::RedisError, tls};
use crate::{
    config::{RedisSettings, store_url},
    domain::secret::SecretText,
};

/// The address of Redis: fred's configuration, and the name of the server in messages.
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) label: Label,
}

/// The name of the server in messages: the setting and the location, without the password.
#[derive(Clone, Debug)]
pub(super) struct Label(String);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Address {
    /// Parses the URL, which leads to the embedded Redis if the settings have no URL.
    ///
    /// # Errors
    /// [`RedisError::Setting`] if the URL or a TLS file is unusable.
    pub(super) fn new(url: &SecretText, settings: &RedisSettings) -> Result<Self, RedisError> {
        let invalid = |detail: String| RedisError::Setting { name: "redis.url", detail };
        let text = store_url::insert_missing_host(url.expose());
        store_url::check_redis(&text).map_err(invalid)?;
        let mut parsed = Url::parse(&text).map_err(|error| invalid(error.to_string()))?;
        // In the URL of a Unix socket the path is the socket, so the parameter `db` names the database. fred doesn't read it.
        // `check_redis` has refused a value that is no number.
        let socket_database =
            parsed.query_pairs().find(|(name, _)| name == "db").and_then(|(_, value)| value.parse().ok());
        let is_socket = parsed.scheme().ends_with("+unix");
        if is_socket {
            parsed.set_query(None);
        }
        // fred's own error quotes the URL, which holds the password.
        let mut config = Config::from_url(parsed.as_str()).map_err(|error| match error.kind() {
            fred::error::ErrorKind::Tls => RedisError::Setting {
                name: "redis.tls_ca",
                detail: "the system's certificate authorities can't be read (SSL_CERT_FILE); name a PEM file"
                    .to_owned(),
            },
            kind => invalid(format!("is not an address of a Redis ({})", kind.to_str())),
        })?;
        if let ServerConfig::Unix { path } = &mut config.server {
            *path = percent_decoded(parsed.path()).into_owned().into();
            config.database = socket_database;
        }
        // Uses the last known nodes, too. Otherwise a client whose configured node is gone never finds the other nodes of the cluster.
        if let ServerConfig::Clustered { policy, .. } = &mut config.server {
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
        if config.tls.is_some() {
            config.tls = Some(tls::client_config(settings)?);
        }
        // fred sends HELLO as an inline command, in which blanks and quotes are syntax.
        config.username = config.username.as_deref().map(inline_argument);
        config.password = config.password.as_deref().map(inline_argument);
        let is_embedded = settings.url.is_none();
        let label = Label::new(&config.server, is_embedded);
        Ok(Self { config, label })
    }
}

impl Label {
    fn new(server: &ServerConfig, is_embedded: bool) -> Self {
        let location = match server {
            ServerConfig::Unix { path } => path.display().to_string(),
            ServerConfig::Centralized { server } => format!("{}:{}", server.host, server.port),
            ServerConfig::Clustered { hosts, .. } => format!("cluster at {}", list(hosts)),
            ServerConfig::Sentinel { hosts, service_name, .. } => {
                format!("master {service_name} of the Sentinels at {}", list(hosts))
            }
        };
        Self(if is_embedded { format!("embedded Redis, {location}") } else { format!("redis.url, {location}") })
    }
}

/// The addresses of servers, separated by commas.
fn list(servers: &[fred::types::config::Server]) -> String {
    let names: Vec<_> = servers.iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
    names.join(", ")
}

/// Encodes an argument of an inline command. An argument with other than plain characters is quoted, and its other bytes are escaped
/// (`sdssplitargs` in Redis' source).
fn inline_argument(argument: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if argument.bytes().all(is_plain) {
        return argument.to_owned();
    }
    let mut quoted = String::from("\"");
    for byte in argument.bytes() {
        if is_plain(byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("\\x{byte:02x}"));
        }
    }
    quoted.push('"');
    quoted
}

/// Decodes the percent-encoding of a URL's path. Returns the path unchanged if the decoded bytes are not UTF-8.
fn percent_decoded(path: &str) -> Cow<'_, str> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        // `from_str_radix` also accepts a sign.
        let is_escape = |hex: &&[u8]| first == b'%' && hex.iter().all(u8::is_ascii_hexdigit);
        let hex = after.get(..2).filter(is_escape).and_then(|hex| str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_argument_with_special_characters_is_quoted_and_escaped() {
        assert_eq!(inline_argument("plain-#%&word"), "plain-#%&word");
        assert_eq!(inline_argument("pa ss"), "\"pa\\x20ss\"");
        assert_eq!(inline_argument("a\"b'c\\d"), "\"a\\x22b\\x27c\\x5cd\"");
        assert_eq!(inline_argument("é\n"), "\"\\xc3\\xa9\\x0a\"");
    }

    #[test]
    fn percent_decoded_path_is_decoded_once() {
        assert_eq!(percent_decoded("/a%20b/%2520"), "/a b/%20");
        assert_eq!(percent_decoded("/100%/%2"), "/100%/%2", "incomplete encodings");
        assert_eq!(percent_decoded("/%+f"), "/%+f", "no hexadecimal digits");
        assert_eq!(percent_decoded("/%FF"), "/%FF", "not UTF-8");
    }
}
