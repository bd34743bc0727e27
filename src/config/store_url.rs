//! The URLs of Redis and PostgreSQL: which forms and parameters are accepted. Messages name parameters, never their values.

use std::borrow::Cow;

use url::Url;

/// The schemes of `redis.url` that fred, the Redis client library, understands: redis or valkey, an `s` for TLS, and the topology.
const REDIS_SCHEMES: [&str; 14] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "redis+unix",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
    "valkey-sentinel",
    "valkeys-sentinel",
    "valkey+unix",
];

/// The parameters of PostgreSQL URLs that sqlx, the SQL client library, reads. It ignores other parameters.
const POSTGRES_PARAMETERS: [&str; 15] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
];

/// Further, rarely used parameters that sqlx reads. Error texts do not list them.
const MORE_POSTGRES_PARAMETERS: [&str; 3] = ["application_name", "options", "statement-cache-capacity"];

/// The deployment behind a Redis URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology {
    Single,
    Cluster,
    Sentinel,
    Unix,
}

/// Inserts the host `localhost` after `user:password@` if the URL has none. URLs of Unix sockets have no host, but [`Url`]
/// requires one after a user: `postgres://u:p@/db?host=/run/postgresql`, `redis+unix://:p@/run/redis.sock`.
pub(crate) fn insert_missing_host(text: &str) -> Cow<'_, str> {
    let Some(scheme_end) = text.find("://") else { return Cow::Borrowed(text) };
    // The authority is `user:password@host:port`.
    let start = scheme_end + "://".len();
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |length| start + length);
    let may_omit_host = matches!(&text[..scheme_end], "postgres" | "postgresql" | "redis+unix" | "valkey+unix");
    if may_omit_host && text[start..end].ends_with('@') {
        Cow::Owned(format!("{}localhost{}", &text[..end], &text[end..]))
    } else {
        Cow::Borrowed(text)
    }
}

/// Checks a value of `redis.url`.
pub(crate) fn check_redis(text: &str) -> Result<(), String> {
    let scheme = match text.split_once("://") {
        Some((scheme, rest)) if REDIS_SCHEMES.contains(&scheme) && !rest.is_empty() => scheme,
        Some(("unix", _)) => return Err("must start with redis+unix:// for a unix socket".into()),
        _ => {
            return Err(format!("must start with one of {}, followed by :// and an address", REDIS_SCHEMES.join(", ")));
        }
    };
    let topology = match scheme.split_once(['-', '+']) {
        Some((_, "cluster")) => Topology::Cluster,
        Some((_, "sentinel")) => Topology::Sentinel,
        Some((_, "unix")) => Topology::Unix,
        _ => Topology::Single,
    };
    let url = Url::parse(&insert_missing_host(text)).map_err(|error| format!("must be a URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("must not have a fragment: write a # in the password as %23".into());
    }
    if topology != Topology::Unix && url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".into());
    }
    // No user stands for `default`, which every Redis has and which may have no password.
    if !matches!(url.username(), "" | "default") && url.password().is_none_or(str::is_empty) {
        return Err("has a user name and no password; a password alone is written redis://:password@host".into());
    }
    check_redis_parameters(&url, topology)?;
    check_redis_path(&url, topology)
}

fn check_redis_parameters(url: &Url, topology: Topology) -> Result<(), String> {
    let parameters: &[&str] = match topology {
        Topology::Single => &[],
        Topology::Cluster => &["node"],
        Topology::Sentinel => &["sentinelServiceName", "sentinelUsername", "sentinelPassword", "node"],
        Topology::Unix => &["db"],
    };
    check_parameters(url, |name| parameters.contains(&name), parameters)?;
    for (name, value) in url.query_pairs() {
        match &*name {
            "node" if !is_host_and_port(&value) => return Err("node must be host:port".into()),
            "db" if value.parse::<u8>().is_err() => return Err("db must be a database number, 0 to 255".into()),
            _ => {}
        }
    }
    let names_master = url.query_pairs().any(|(name, value)| name == "sentinelServiceName" && !value.is_empty());
    if topology == Topology::Sentinel && !names_master {
        return Err("must name the master that Sentinel watches: ?sentinelServiceName=NAME".into());
    }
    Ok(())
}

/// Checks the path: the number of the database, or the path of a Unix socket.
fn check_redis_path(url: &Url, topology: Topology) -> Result<(), String> {
    let path = url.path().trim_start_matches('/');
    match topology {
        Topology::Unix if path.is_empty() => Err("must name a socket: redis+unix:///run/redis.sock".into()),
        Topology::Cluster if !matches!(path, "" | "0") => {
            Err("must not name a database: a Redis Cluster has only database 0".into())
        }
        Topology::Single | Topology::Sentinel if !path.is_empty() && path.parse::<u8>().is_err() => {
            Err("must end with a database number, 0 to 255, as in redis://host:6379/7".into())
        }
        _ => Ok(()),
    }
}

/// Whether a value of `redis.url` requires TLS.
pub(crate) fn is_tls_redis(text: &str) -> bool {
    // The scheme without the topology: `rediss` of `rediss-cluster://`.
    let scheme = text.split(['-', ':']).next().unwrap_or_default();
    matches!(scheme, "rediss" | "valkeys")
}

/// Checks a value of `database.url` or `database.migrate_url`.
pub(crate) fn check_database(text: &str) -> Result<(), String> {
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => Ok(()),
        Some("postgres" | "postgresql") => check_postgres(text),
        _ => Err("must start with sqlite:// or postgres://".into()),
    }
}

fn check_postgres(text: &str) -> Result<(), String> {
    const SEVERAL_HOSTS: &str = "names several hosts, which is not supported: name one address that follows the \
                                 primary, such as the address of PgBouncer, HAProxy or the hosting provider";
    let text = insert_missing_host(text);
    // Checked before the URL is parsed, because `Url` calls the port of `a:1,b:2` invalid.
    let authority =
        text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    if hosts.contains(',') {
        return Err(SEVERAL_HOSTS.into());
    }
    let url = Url::parse(&text).map_err(|error| format!("must be a URL: {error}"))?;
    if url.fragment().is_some() {
        return Err("must not have a fragment: write a # in the password as %23".into());
    }
    if url.query_pairs().any(|(name, value)| matches!(&*name, "host" | "hostaddr" | "port") && value.contains(',')) {
        return Err(SEVERAL_HOSTS.into());
    }
    let is_supported = |name: &str| {
        POSTGRES_PARAMETERS.contains(&name)
            || MORE_POSTGRES_PARAMETERS.contains(&name)
            || (name.starts_with("options[") && name.ends_with(']'))
    };
    check_parameters(&url, is_supported, &POSTGRES_PARAMETERS)
}

/// Refuses parameters that the client library would ignore. `supported` lists parameters for the error text.
fn check_parameters(url: &Url, is_supported: impl Fn(&str) -> bool, supported: &[&str]) -> Result<(), String> {
    let Some(unknown) = url.query_pairs().map(|(name, _)| name).find(|name| !is_supported(name)) else { return Ok(()) };
    // What follows an unescaped `?` in a password looks like a parameter. The error must not repeat it.
    let is_plain = unknown.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'[' | b']'));
    if !is_plain || unknown.len() > 64 || url.query().is_some_and(|query| query.contains('@')) {
        return Err("has an unknown parameter; write a ? in the password as %3F".into());
    }
    // PostgreSQL names its databases, and a Redis Cluster has only one.
    let numbers_databases = !url.scheme().starts_with("postgres") && !url.scheme().ends_with("-cluster");
    if unknown == "db" && numbers_databases {
        return Err("has no parameter db: the database number is the path, as in redis://host:6379/7".into());
    }
    let supported = match supported {
        [] => "no parameters are supported".to_owned(),
        names => format!("supported are: {}", names.join(", ")),
    };
    Err(format!("has no parameter {unknown}; {supported}"))
}

fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_redis_accepts_supported_forms() {
        for good in [
            "redis://localhost",
            "rediss://user:pass@host:6380/1",
            "redis://:pa%20ss@host",
            "redis-cluster://a:1?node=b:2&node=c:3",
            "rediss-sentinel://a:1/2?sentinelServiceName=m&sentinelUsername=u&sentinelPassword=p%40",
            "redis+unix:///run/redis.sock",
            "redis+unix:///run/redis.sock?db=3",
            "redis+unix://:pass@/run/redis.sock",
            "valkeys://[::1]:6380",
        ] {
            assert_eq!(check_redis(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn check_redis_names_unsupported_part_and_no_value() {
        // `hunter2` stands for a secret, which no error may contain
        for (bad, why) in [
            ("localhost:6379", "must start with one of"),
            ("unix:///a", "redis+unix://"),
            ("redis://h:6379?db=7", "the database number is the path"),
            ("redis://h?timeout=hunter2", "has no parameter timeout; no parameters are supported"),
            ("redis+unix:///a?database=3", "has no parameter database; supported are: db"),
            ("redis+unix:///a?db=x", "db must be a database number"),
            ("redis+unix://", "must start with one of"),
            ("redis-sentinel://h:26379", "sentinelServiceName=NAME"),
            ("redis-sentinel://h:26379/0/?sentinelServiceName=m", "must end with a database number"),
            ("redis-cluster://h:1/3", "only database 0"),
            ("redis-cluster://h:1?node=b", "node must be host:port"),
            ("redis-cluster://h:1?db=3", "has no parameter db; supported are: node"),
            ("redis://h/256", "must end with a database number"),
            ("redis://:hunter2@", "must be a URL"),
            ("redis://hunter2@h", "a user name and no password"),
            ("redis://:p@h#x", "as %23"),
            ("redis://u?hunter2@h", "as %3F"),
        ] {
            let error = check_redis(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }

    #[test]
    fn check_database_accepts_supported_forms() {
        for good in [
            "sqlite:///a/b.db",
            "postgres://u:p@h:5432/d?sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=/k.pem",
            "postgresql://u:p@/db?host=/cloudsql/proj:region:inst",
            "postgres:///db?host=/run/postgresql&user=u&password=p",
            "postgres://u@h/d?options[search_path]=x&application_name=latchkey",
        ] {
            assert_eq!(check_database(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn check_database_names_unsupported_part_and_no_value() {
        // `hunter2` stands for a secret, which no error may contain
        for (bad, why) in [
            ("mysql://h/d", "must start with sqlite:// or postgres://"),
            ("postgres://u:p@h/d?sslmode=require&sslpassword=hunter2", "has no parameter sslpassword"),
            ("postgres://u:p@a,b/d", "several hosts"),
            ("postgres://u:p@/d?host=a,b", "several hosts"),
            ("postgres://u:p@h/d?target_session_attrs=read-write", "has no parameter target_session_attrs"),
            ("postgres://u:p@h/?db=d", "has no parameter db; supported are: sslmode, "),
        ] {
            let error = check_database(bad).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
