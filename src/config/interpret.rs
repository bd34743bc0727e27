//! Interprets the settings: the type and limits of every key, and the rules across keys.

use std::{
    net::SocketAddr,
    path::{self, Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    AccountSettings, AuditSettings, CacheSettings, Config, DatabaseSettings, FactorSettings, FeedSettings,
    ForwardedHeader, HttpSettings, KeySettings, LogFormat, LogSettings, LoginSettings, MailTransport, MetricsSettings,
    PasswordSettings, RedisSettings, RegistrationSettings, Secrets, SessionSettings, TelemetrySettings, TokenSettings,
    Verification, check, duration, dynamic_clients, limits::limits, mail, pages, passkeys, read::Reader, store_url,
};
use crate::domain::{
    account::Roles, audit::AddressPrecision, factor::FactorPolicy, key::Algorithm, secret::SecretText,
    text::comparison_key,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The highest configurable memory of argon2id, in KiB: 4 GiB.
const MAX_MEMORY_KIB: u32 = 4 << 20;

/// The interpreted settings, without secrets that are in files.
pub(super) struct ParsedConfig {
    /// The configuration. The current secret is not set yet.
    pub(super) config: Config,
    /// The location of the current secret.
    pub(super) secret_location: SecretLocation,
    /// The file that `mail.password_file` names, if any.
    pub(super) mail_password_file: Option<PathBuf>,
}

/// The location of the current secret.
pub(super) enum SecretLocation {
    /// In the configuration.
    Settings(SecretText),
    /// In the configured file.
    File(PathBuf),
    /// In the data directory, where it is generated if it doesn't exist.
    DataDir,
}

/// Reads every key and checks the rules across keys.
pub(super) fn interpret(read: &mut Reader<'_>, working_dir: &Path) -> ParsedConfig {
    let listen: SocketAddr = read.one("listen", |text| {
        text.parse().map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080".into())
    });
    let configured_issuer = read.optional("issuer", check::issuer);
    let issuer = configured_issuer.map_or_else(|| format!("http://{listen}"), |text| text.expose().to_owned());
    let is_reachable = read.is_given("issuer") || !listen.ip().is_unspecified();
    // `rule` refuses the first key unless the condition holds. `warn` warns if it does.
    read.rule(&["issuer", "listen"], is_reachable, |read| {
        format!(
            "must be set to the public URL of the service, such as https://auth.example.com: tokens would name {issuer}, \
             which clients cannot reach, because of {}",
            read.mention("listen")
        )
    });
    read.warn(&["issuer", "listen"], check::is_clear_text_issuer(&issuer), || {
        format!(
            "issuer is {issuer}: without https, passwords and tokens cross the network in clear text, \
             and browsers refuse the cookie"
        )
    });
    let data_dir = read.one("data_dir", |text| match text {
        "" => Err("must be a path".into()),
        path => path::absolute(working_dir.join(path)).map_err(|error| format!("must be a path: {error}")),
    });
    let previous_secrets = read.many("secret_previous", |text| check::secret(text).map(|()| text.into()));
    let secret_location = secret_location(read, working_dir);
    let registration = RegistrationSettings {
        open: read.boolean("registration.open"),
        verification: read.one("registration.verification", |text| match text {
            "off" => Ok(Verification::Off),
            "later" => Ok(Verification::Later),
            "required" => Ok(Verification::Required),
            _ => Err("must be one of off, later, required".into()),
        }),
        conceal: read.boolean("registration.conceal"),
        reserved_usernames: read.many("registration.reserved_usernames", |text| Ok(comparison_key(text))),
    };
    let can_conceal = registration.verification == Verification::Required;
    let holds = !registration.conceal || can_conceal;
    read.rule(&["registration.conceal", "registration.verification"], holds, |read| {
        format!(
            "needs \"required\" in {}: a sign-in would reveal whether the account was created",
            read.mention("registration.verification")
        )
    });
    let login = LoginSettings { email_code: read.boolean("login.email_code") };
    let factors = FactorSettings {
        required: read.one("factors.required", |text| match text {
            "" | "none" => Ok(FactorPolicy::NoAccount),
            "all" => Ok(FactorPolicy::AllAccounts),
            roles => Roles::from_spaced(roles)
                .map(FactorPolicy::Roles)
                .map_err(|error| format!("must be none, all, or names of roles separated by spaces: a role {error}")),
        }),
        grace: read.duration("factors.grace", Duration::ZERO, 365 * DAY),
        challenge_ttl: read.duration("factors.challenge_ttl", MINUTE, HOUR),
        email_code: read.boolean("factors.email_code"),
        remember_device: read.one("factors.remember_device", |text| match text {
            "off" => Ok(None),
            text => duration::parse(text)
                .ok()
                .filter(|time| (HOUR..=365 * DAY).contains(time))
                .map(Some)
                .ok_or_else(|| "must be a time, 1h to 365d, such as 30d, or \"off\"".into()),
        }),
        max_remembered_devices: read.number("factors.max_remembered_devices", 1..=100),
        step_up_ttl: read.duration("factors.step_up_ttl", MINUTE, DAY),
    };
    let account = AccountSettings {
        deletion_grace: read.duration("account.deletion_grace", Duration::ZERO, 365 * DAY),
        undo_window: read.duration("account.undo_window", HOUR, 30 * DAY),
        max_emails: read.number("account.max_emails", 1..=50),
    };
    let mut http = http(read);
    let token = token(read);
    let redis = redis(read, working_dir);
    let cache = cache(read);
    let database = database(read, &data_dir);
    let session = session(read);
    let keys = keys(read);
    let feed = FeedSettings {
        heartbeat: read.duration("feed.heartbeat", 10 * MILLISECOND, MINUTE),
        max_subscribers: read.number("feed.max_subscribers", 1..=100_000),
        max_subscribers_per_client: read.number("feed.max_subscribers_per_client", 1..=100_000),
    };
    let metrics = MetricsSettings {
        listen: read.one("metrics.listen", |text| match text {
            "off" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:9464, or \"off\"".into()),
        }),
    };
    let telemetry = telemetry(read);
    let limits = limits(read);
    let password = password(read);
    let passkeys = passkeys::passkeys(read, &issuer, &http.allowed_origins);
    let mail::ParsedMail { settings: mail, password_file: mail_password_file } =
        mail::mail(read, working_dir, &data_dir, &issuer);
    let pages = pages::pages(read, working_dir, &mail.product_name);
    let dynamic_clients = dynamic_clients::dynamic_clients(read, working_dir);
    let audit = audit(read);
    let log = log(read);

    let multi_node = read.boolean("multi_node");
    // Redis keeps an event until the tokens that it ends have expired. The second rule is the stricter one for leeways over 55 s.
    let is_minute_longer = redis.event_retention >= token.access_ttl + MINUTE;
    read.rule(&["redis.event_retention", "token.access_ttl"], is_minute_longer, |read| {
        format!("must be at least a minute longer than {}", read.mention("token.access_ttl"))
    });
    let covers_valid_tokens = redis.event_retention >= token.revocation_retention();
    read.rule(&["redis.event_retention", "token.access_ttl", "token.leeway"], covers_valid_tokens, |read| {
        let (ttl, leeway) = (read.mention("token.access_ttl"), read.mention("token.leeway"));
        format!("must be at least 5 seconds longer than the sum of {ttl}, and {leeway}")
    });
    if multi_node {
        read.rule(&["redis.url"], redis.url.is_some(), |read| {
            format!("the embedded Redis serves one node only: set a URL, because of {}", read.mention("multi_node"))
        });
        read.rule(&["database.url"], !check::is_sqlite(database.url.expose()), |read| {
            format!("SQLite serves one node only: set a postgres:// URL, because of {}", read.mention("multi_node"))
        });
        let is_shared = !matches!(secret_location, SecretLocation::DataDir);
        read.rule(&["secret", "secret_file"], is_shared, |read| {
            format!("all nodes need the same secret: set it or secret_file, because of {}", read.mention("multi_node"))
        });
    } else {
        // The delay lets load balancers switch to other nodes, which a single node does not have.
        http.drain_delay = Duration::ZERO;
    }

    let uses_data_dir = redis.url.is_none()
        || !read.is_given("database.url")
        || matches!(secret_location, SecretLocation::DataDir)
        || matches!(mail.transport, MailTransport::Files(_));
    // the caller sets the current secret and the warnings
    let secrets = Secrets { current: String::new().into(), previous: previous_secrets };
    let warnings = Vec::new();
    let config = Config {
        listen,
        issuer,
        data_dir,
        uses_data_dir,
        multi_node,
        secrets,
        registration,
        login,
        account,
        factors,
        http,
        redis,
        cache,
        database,
        session,
        token,
        keys,
        feed,
        metrics,
        telemetry,
        limits,
        password,
        passkeys,
        mail,
        pages,
        dynamic_clients,
        audit,
        log,
        warnings,
    };
    ParsedConfig { config, secret_location, mail_password_file }
}

fn telemetry(read: &mut Reader<'_>) -> TelemetrySettings {
    TelemetrySettings {
        otlp_endpoint: read.one("telemetry.otlp_endpoint", |text| match text {
            "" => Ok(None),
            text => match url::Url::parse(text) {
                Ok(url) if url.scheme() == "http" && url.has_host() => Ok(Some(text.to_owned())),
                _ => Err("must be the http URL of a collector, such as http://127.0.0.1:4318".into()),
            },
        }),
        sample_ratio: read.one("telemetry.sample_ratio", |text| match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
            _ => Err("must be a number from 0 to 1, such as 0.1".into()),
        }),
        timeout: read.duration("telemetry.timeout", 100 * MILLISECOND, MINUTE),
        service_name: read.one("telemetry.service_name", |text| match text {
            "" => Err("must not be empty".into()),
            text => Ok(text.to_owned()),
        }),
    }
}

fn secret_location(read: &mut Reader<'_>, working_dir: &Path) -> SecretLocation {
    let secret = read.optional("secret", check::secret);
    let file = optional_path(read, working_dir, "secret_file");
    read.rule(&["secret", "secret_file"], secret.is_none() || file.is_none(), |read| {
        format!("must not be set together with {}", read.mention("secret_file"))
    });
    match (secret, file) {
        (Some(secret), _) => SecretLocation::Settings(secret),
        (None, Some(path)) => SecretLocation::File(path),
        (None, None) => SecretLocation::DataDir,
    }
}

/// Reads the path of a file, which may be missing. A relative path starts at the working directory.
fn optional_path(read: &mut Reader<'_>, working_dir: &Path, key: &'static str) -> Option<PathBuf> {
    let path = read.optional(key, |_| Ok(()))?;
    Some(working_dir.join(path.expose()))
}

fn http(read: &mut Reader<'_>) -> HttpSettings {
    HttpSettings {
        max_connections: read.number("http.max_connections", 1..=1_000_000),
        max_connections_per_address: read.number("http.max_connections_per_address", 1..=1_000_000),
        max_requests: read.number("http.max_requests", 1..=1_000_000),
        max_pending_bodies: read.number("http.max_pending_bodies", 1..=1_000_000),
        max_pending_bodies_per_address: read.number("http.max_pending_bodies_per_address", 1..=1_000_000),
        // HTTP/2 has 128 streams per connection (`HTTP2_STREAMS`).
        max_pending_bodies_per_connection: read.number("http.max_pending_bodies_per_connection", 1..=128),
        first_byte_timeout: read.duration("http.first_byte_timeout", 10 * MILLISECOND, 10 * MINUTE),
        header_timeout: read.duration("http.header_timeout", 10 * MILLISECOND, 10 * MINUTE),
        body_timeout: read.duration("http.body_timeout", 10 * MILLISECOND, 10 * MINUTE),
        request_timeout: read.duration("http.request_timeout", 10 * MILLISECOND, 10 * MINUTE),
        idle_timeout: read.duration("http.idle_timeout", 10 * MILLISECOND, HOUR),
        write_timeout: read.duration("http.write_timeout", 10 * MILLISECOND, 10 * MINUTE),
        max_body_bytes: read.size("http.max_body", KIB, 16 * MIB),
        // hyper's smallest buffer has 8 KiB.
        max_header_bytes: read.size("http.max_header", 8 * KIB, MIB),
        drain_delay: read.duration("http.drain_delay", Duration::ZERO, 10 * MINUTE),
        shutdown_timeout: read.duration("http.shutdown_timeout", Duration::ZERO, 10 * MINUTE),
        trusted_proxies: read.many("http.trusted_proxies", check::network),
        forwarded_header: read.one("http.forwarded_header", |text| match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
            "forwarded" => Ok(ForwardedHeader::Forwarded),
            _ => Err("must be \"x-forwarded-for\" or \"forwarded\"".into()),
        }),
        allowed_origins: read.many("http.allowed_origins", check::origin),
        docs: read.boolean("http.docs"),
    }
}

fn redis(read: &mut Reader<'_>, working_dir: &Path) -> RedisSettings {
    let url = read.optional("redis.url", store_url::check_redis);
    let is_clear_text = url.as_ref().is_some_and(|url| check::is_clear_text_redis(url.expose()));
    read.warn(&["redis.url"], is_clear_text, || {
        "redis.url connects to another machine without TLS: anyone on the network path can read and forge sessions; use \
         rediss:// or a private network"
            .to_owned()
    });
    let tls_ca = optional_path(read, working_dir, "redis.tls_ca");
    let tls_cert = optional_path(read, working_dir, "redis.tls_cert");
    let tls_key = optional_path(read, working_dir, "redis.tls_key");
    let uses_tls = url.as_ref().is_some_and(|url| store_url::is_tls_redis(url.expose()));
    for (key, file) in [("redis.tls_ca", &tls_ca), ("redis.tls_cert", &tls_cert), ("redis.tls_key", &tls_key)] {
        read.rule(&[key, "redis.url"], file.is_none() || uses_tls, |read| {
            format!("needs a rediss:// address in {}", read.mention("redis.url"))
        });
    }
    read.rule(&["redis.tls_cert", "redis.tls_key"], tls_cert.is_some() == tls_key.is_some(), |read| {
        format!("must be set together with {}", read.mention("redis.tls_key"))
    });
    RedisSettings {
        tls_ca,
        tls_cert,
        tls_key,
        url,
        prefix: read.one("redis.prefix", check::prefix),
        pool_size: read.number("redis.pool_size", 1..=64),
        command_timeout: read.duration("redis.command_timeout", 10 * MILLISECOND, MINUTE),
        event_retention: read.duration("redis.event_retention", MINUTE, 30 * DAY),
    }
}

fn cache(read: &mut Reader<'_>) -> CacheSettings {
    let settings = CacheSettings {
        max_staleness: read.duration("cache.max_staleness", Duration::ZERO, 10 * SECOND),
        max_sessions: read.number("cache.max_sessions", 1024..=100_000_000),
        max_tokens: read.number("cache.max_tokens", 0..=100_000_000),
    };
    // A node synchronizes with Redis five times within `max_staleness` (`revocation_log/timing.rs`).
    let leaves_time = settings.max_staleness.is_zero() || settings.max_staleness >= 100 * MILLISECOND;
    read.rule(&["cache.max_staleness"], leaves_time, |_| {
        "must be 0 (query Redis on every request) or at least 100ms".to_owned()
    });
    settings
}

fn database(read: &mut Reader<'_>, data_dir: &Path) -> DatabaseSettings {
    let url = read.optional("database.url", store_url::check_database);
    let url = url.unwrap_or_else(|| sqlite_url(&data_dir.join("latchkey.db")));
    read.warn(&["database.url"], check::is_unverified_postgres(url.expose()), || {
        "database.url connects to another machine without sslmode=verify-full: anyone on the network path can \
         impersonate the database"
            .to_owned()
    });
    let migrate_url = read.optional("database.migrate_url", store_url::check_database);
    let is_sqlite = check::is_sqlite(url.expose());
    let is_same_kind = migrate_url.as_ref().is_none_or(|other| check::is_sqlite(other.expose()) == is_sqlite);
    read.rule(&["database.migrate_url", "database.url"], is_same_kind, |read| {
        format!("must lead to the same database as {}", read.mention("database.url"))
    });
    DatabaseSettings {
        url,
        migrate_url,
        max_connections: read.number("database.max_connections", 1..=1000),
        acquire_timeout: read.duration("database.acquire_timeout", 10 * MILLISECOND, MINUTE),
    }
}

/// The URL of a SQLite file, with special characters percent-encoded.
fn sqlite_url(path: &Path) -> SecretText {
    let mut url = String::from("sqlite://");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url.into()
}

fn session(read: &mut Reader<'_>) -> SessionSettings {
    let settings = SessionSettings {
        idle_timeout: read.duration("session.idle_timeout", SECOND, 3650 * DAY),
        absolute_timeout: read.duration("session.absolute_timeout", SECOND, 3650 * DAY),
        // the session record stores the grace as milliseconds in 16 bits
        grace: read.duration("session.grace", Duration::ZERO, MINUTE),
        retry_window: read.duration("session.retry_window", Duration::ZERO, 30 * DAY),
        // a session has a mark for each of its last 8 generations
        counted_repeats_limit: read.number("session.counted_repeats_limit", 2..=8),
        max_per_account: read.number("session.max_per_account", 1..=1000),
        recent: read.duration("session.recent", MINUTE, DAY),
    };
    let is_within_lifetime = settings.idle_timeout <= settings.absolute_timeout;
    read.rule(&["session.idle_timeout", "session.absolute_timeout"], is_within_lifetime, |read| {
        format!("must not be longer than {}", read.mention("session.absolute_timeout"))
    });
    settings
}

fn token(read: &mut Reader<'_>) -> TokenSettings {
    TokenSettings {
        access_ttl: read.duration("token.access_ttl", 30 * SECOND, HOUR),
        audience: read.one("token.audience", check::name),
        client_id: read.one("token.client_id", check::name),
        scope: read.one("token.scope", check::scope),
        leeway: read.duration("token.leeway", Duration::ZERO, MINUTE),
        email_verified: read.boolean("token.email_verified"),
        app_metadata: read.many("token.app_metadata", check::name),
    }
}

fn keys(read: &mut Reader<'_>) -> KeySettings {
    let settings = KeySettings {
        algorithm: read.one("keys.algorithm", |text| {
            text.parse().map_err(|_| format!("must be one of {}", Algorithm::ALL.map(Algorithm::as_str).join(", ")))
        }),
        publish_before: read.duration("keys.publish_before", Duration::ZERO, 7 * DAY),
        refresh_interval: read.duration("keys.refresh_interval", SECOND, HOUR),
    };
    let signs_too_early = settings.publish_before < settings.refresh_interval;
    read.warn(&["keys.publish_before", "keys.refresh_interval"], signs_too_early, || {
        let publish = duration::show(settings.publish_before);
        let refresh = duration::show(settings.refresh_interval);
        format!(
            "keys.publish_before ({publish}) is shorter than keys.refresh_interval ({refresh}): \
             other nodes may not have loaded a new key when it signs"
        )
    });
    settings
}

fn password(read: &mut Reader<'_>) -> PasswordSettings {
    let settings = PasswordSettings {
        min_length: read.number("password.min_length", 8..=1024),
        max_length: read.number("password.max_length", 64..=1024),
        min_score: read.number("password.min_score", 0..=4),
        banned_words: read.many("password.banned_words", |text| Ok(text.to_owned())),
        memory_kib: read.number("password.memory_kib", argon2::Params::MIN_M_COST..=MAX_MEMORY_KIB),
        iterations: read.number("password.iterations", argon2::Params::MIN_T_COST..=100),
        parallelism: read.number("password.parallelism", argon2::Params::MIN_P_COST..=64),
        threads: match read.number("password.threads", 0..=1024) {
            // one for each core
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        },
        queue: read.number("password.queue", 1..=100_000),
        max_import_memory_kib: read
            .number("password.max_import_memory_kib", argon2::Params::MIN_M_COST..=MAX_MEMORY_KIB),
        max_import_work: read.number("password.max_import_work", 1..=1000),
        pepper: read.optional("password.pepper", check::secret),
        previous_peppers: read.many("password.previous_peppers", |text| check::secret(text).map(|()| text.into())),
    };
    read.rule(&["password.min_length", "password.max_length"], settings.min_length <= settings.max_length, |read| {
        format!("must not be more than {}", read.mention("password.max_length"))
    });
    // argon2 needs 8 KiB for each lane
    let has_enough_memory = settings.memory_kib >= 8 * settings.parallelism;
    read.rule(&["password.memory_kib", "password.parallelism"], has_enough_memory, |read| {
        format!("must be at least 8 times {}", read.mention("password.parallelism"))
    });
    let covers_own_hashes = settings.max_import_memory_kib >= settings.memory_kib;
    read.rule(&["password.max_import_memory_kib", "password.memory_kib"], covers_own_hashes, |read| {
        format!("must be at least {}", read.mention("password.memory_kib"))
    });
    let is_weak = !check::is_strong(settings.memory_kib, settings.iterations);
    read.warn(&["password.memory_kib", "password.iterations"], is_weak, || {
        let PasswordSettings { memory_kib, iterations, .. } = settings;
        format!(
            "password.memory_kib = {memory_kib} with password.iterations = {iterations} is weaker than OWASP \
             recommends: 19456 with 2, or 47104 with 1"
        )
    });
    settings
}

fn audit(read: &mut Reader<'_>) -> AuditSettings {
    let retention = read.duration("audit.retention", Duration::ZERO, 3650 * DAY);
    AuditSettings {
        // 0 means that events are kept forever
        retention: if retention.is_zero() { None } else { Some(retention) },
        addresses: read.one("audit.addresses", |text| match text {
            "full" => Ok(AddressPrecision::Full),
            "truncated" => Ok(AddressPrecision::Truncated),
            "none" => Ok(AddressPrecision::None),
            _ => Err("must be one of full, truncated, none".into()),
        }),
        queue: read.number("audit.queue", 100..=1_000_000),
        max_refusals: read.number("audit.max_refusals", 1..=1_000_000),
        max_refusals_per_account: read.number("audit.max_refusals_per_account", 1..=10_000),
    }
}

fn log(read: &mut Reader<'_>) -> LogSettings {
    LogSettings {
        format: read.one("log.format", |text| match text {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("must be one of auto, text, json".into()),
        }),
        filter: read.one("log.filter", |text| check::log_filter(text).map(|_| text.to_owned())),
    }
}
