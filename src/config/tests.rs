//! The configuration as a whole: the defaults and every key.

mod refusals;
mod secrets;
mod sources;
mod warnings;

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::domain::{
    entropy::Entropy,
    limit::{Backoff, Quota},
};

/// A secret that causes no warning about its strength.
const SECRET: &str = "hunter2-rVZ8YxJ0pQ4nGdK2tLw7BhC5sEuF9mAo";

/// A working directory.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A working directory with a `latchkey.toml`.
    fn with_file(text: &str) -> Self {
        let folder = Self::new();
        folder.write("latchkey.toml", text);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn sources(&self, variables: &[(&str, &str)]) -> Sources {
        Sources::from_environment(self.path(), variables.iter().copied())
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        load(&self.sources(variables), &Entropy::system())
    }
}

/// Loads with `--set` flags.
fn load_flags(flags: &[&str]) -> Result<Config, ConfigError> {
    let folder = Folder::new();
    let set = flags.iter().map(ToString::to_string).collect();
    load(&Sources { set, ..folder.sources(&[]) }, &Entropy::system())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn days(days: u64) -> Duration {
    secs(days * 86_400)
}

#[test]
fn config_without_any_setting_has_the_defaults() {
    let folder = Folder::new();
    let config = folder.load(&[]).unwrap();

    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!(config.issuer, "http://127.0.0.1:8080");
    assert_eq!(config.data_dir, folder.path().join("latchkey-data"));
    assert!(config.uses_data_dir);
    assert!(!config.multi_node);
    assert_eq!(config.secrets.current.expose().len(), 43, "a generated secret is 32 bytes in base64url");
    assert!(config.secrets.previous.is_empty());
    assert!(config.registration.open);
    assert!(config.registration.reserved_usernames.contains(&"postmaster".to_owned()));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    let http = config.http;
    assert_eq!((http.max_connections, http.max_requests), (10_000, 4096));
    assert_eq!((http.first_byte_timeout, http.header_timeout, http.body_timeout), (secs(10), secs(10), secs(10)));
    assert_eq!((http.request_timeout, http.idle_timeout, http.shutdown_timeout), (secs(30), secs(60), secs(30)));
    assert_eq!(http.write_timeout, secs(10));
    assert_eq!(http.drain_delay, secs(0), "a single node has no delay");
    assert_eq!((http.max_body_bytes, http.max_header_bytes), (64 * 1024, 32 * 1024));
    assert!(http.trusted_proxies.is_empty() && http.allowed_origins.is_empty());

    let redis = config.redis;
    assert_eq!((redis.url, redis.prefix.as_str(), redis.pool_size), (None, "lk:", 4));
    assert_eq!((redis.command_timeout, redis.event_retention), (secs(1), secs(3600)));

    let cache = config.cache;
    assert_eq!((cache.max_staleness, cache.max_sessions, cache.max_tokens), (secs(1), 100_000, 20_000));

    let database = config.database;
    let url = format!("sqlite://{}/latchkey-data/latchkey.db", folder.path().display());
    assert_eq!((database.url.expose(), database.migrate_url), (url.as_str(), None));
    assert_eq!((database.max_connections, database.acquire_timeout), (10, secs(5)));

    let session = config.session;
    assert_eq!((session.idle_timeout, session.absolute_timeout), (days(7), days(30)));
    assert_eq!((session.grace, session.max_per_account), (secs(10), 50));
    assert_eq!((session.retry_window, session.counted_repeats_limit), (days(1), 4));

    let token = config.token;
    assert_eq!((token.access_ttl, token.leeway), (secs(300), secs(5)));
    assert_eq!(token.audience, "latchkey");
    assert_eq!(token.client_id, "latchkey");
    assert_eq!(token.scope, "account");

    let keys = config.keys;
    assert_eq!(keys.algorithm, Algorithm::Es256);
    assert_eq!((keys.publish_before, keys.refresh_interval), (secs(600), secs(10)));

    let limits = config.limits;
    let quota = |count, window| Some(Quota { count, window: secs(window) });
    assert_eq!((limits.login_per_address, limits.login_service), (quota(300, 300), quota(60_000, 60)));
    let backoff = Backoff {
        failures_without_delay: 5,
        first_delay: secs(1),
        max_delay: secs(900),
        trust_ttl: days(90),
        max_trusted: 32,
    };
    assert_eq!(limits.login_backoff, Some(backoff));
    assert_eq!((limits.refresh_service, limits.introspection_service), (None, None));

    let password = config.password;
    assert_eq!((password.min_length, password.max_length, password.min_score), (8, 128, 2));
    assert_eq!((password.memory_kib, password.iterations, password.parallelism), (19_456, 2, 1));
    assert_eq!(password.threads, std::thread::available_parallelism().unwrap().get());
    assert_eq!((password.queue, password.max_import_memory_kib, password.max_import_work), (256, 262_144, 32));
    assert!(password.banned_words.is_empty() && password.pepper.is_none() && password.previous_peppers.is_empty());

    let mail = config.mail;
    assert!(matches!(&mail.transport, MailTransport::Files(path) if *path == folder.path().join("latchkey-data/mail")));
    assert_eq!((mail.from.name.as_deref(), mail.from.address.as_str()), (Some("Latchkey"), "no-reply@localhost"));
    assert_eq!((mail.workers, mail.retry_first, mail.give_up_after), (4, secs(30), days(1)));
    let link = mail.links.reset_password.with_token(&"abc".into());
    assert_eq!(link.expose(), "http://127.0.0.1:8080/account/reset-password#token=abc");

    let audit = config.audit;
    assert_eq!((audit.retention, audit.addresses), (Some(days(90)), AddressPrecision::Full));
    assert_eq!((audit.queue, audit.max_refusals), (10_000, 600));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Auto, "info"));
}

#[test]
fn every_key_can_be_set_by_its_variable() {
    let folder = Folder::new();
    // In the order of `schema::KEYS`. Similar keys have different values, so that the test finds a key that is read into the field of
    // another. The keys of secret files are empty, which means not set: a secret and its file exclude each other.
    let variables = [
        ("LATCHKEY_LISTEN", "[::1]:1"),
        ("LATCHKEY_ISSUER", "https://id.example.com"),
        ("LATCHKEY_DATA_DIR", "d"),
        ("LATCHKEY_MULTI_NODE", "true"),
        ("LATCHKEY_SECRET", SECRET),
        ("LATCHKEY_SECRET_FILE", ""),
        ("LATCHKEY_SECRET_PREVIOUS", "11111111111111111111111111111111, 22222222222222222222222222222222"),
        ("LATCHKEY_REGISTRATION_OPEN", "false"),
        ("LATCHKEY_REGISTRATION_VERIFICATION", "required"),
        ("LATCHKEY_REGISTRATION_CONCEAL", "true"),
        ("LATCHKEY_REGISTRATION_RESERVED_USERNAMES", "Root,Postmaster"),
        ("LATCHKEY_LOGIN_EMAIL_CODE", "true"),
        ("LATCHKEY_ACCOUNT_DELETION_GRACE", "0s"),
        ("LATCHKEY_ACCOUNT_UNDO_WINDOW", "24h"),
        ("LATCHKEY_ACCOUNT_MAX_EMAILS", "7"),
        ("LATCHKEY_FACTORS_REQUIRED", "admin ops"),
        ("LATCHKEY_FACTORS_GRACE", "3d"),
        ("LATCHKEY_FACTORS_CHALLENGE_TTL", "2m"),
        ("LATCHKEY_FACTORS_EMAIL_CODE", "true"),
        ("LATCHKEY_FACTORS_REMEMBER_DEVICE", "30d"),
        ("LATCHKEY_FACTORS_MAX_REMEMBERED_DEVICES", "4"),
        ("LATCHKEY_FACTORS_STEP_UP_TTL", "20m"),
        ("LATCHKEY_HTTP_MAX_CONNECTIONS", "1"),
        ("LATCHKEY_HTTP_MAX_CONNECTIONS_PER_ADDRESS", "15"),
        ("LATCHKEY_HTTP_MAX_REQUESTS", "11"),
        ("LATCHKEY_HTTP_MAX_PENDING_BODIES", "12"),
        ("LATCHKEY_HTTP_MAX_PENDING_BODIES_PER_ADDRESS", "13"),
        ("LATCHKEY_HTTP_MAX_PENDING_BODIES_PER_CONNECTION", "14"),
        ("LATCHKEY_HTTP_FIRST_BYTE_TIMEOUT", "2s"),
        ("LATCHKEY_HTTP_HEADER_TIMEOUT", "3s"),
        ("LATCHKEY_HTTP_BODY_TIMEOUT", "4s"),
        ("LATCHKEY_HTTP_REQUEST_TIMEOUT", "5s"),
        ("LATCHKEY_HTTP_IDLE_TIMEOUT", "6s"),
        ("LATCHKEY_HTTP_WRITE_TIMEOUT", "10s"),
        ("LATCHKEY_HTTP_MAX_BODY", "7KiB"),
        ("LATCHKEY_HTTP_MAX_HEADER", "8192"),
        ("LATCHKEY_HTTP_DRAIN_DELAY", "8s"),
        ("LATCHKEY_HTTP_SHUTDOWN_TIMEOUT", "9s"),
        ("LATCHKEY_HTTP_TRUSTED_PROXIES", "10.0.0.7,fd00::/8"),
        ("LATCHKEY_HTTP_FORWARDED_HEADER", "Forwarded"),
        ("LATCHKEY_HTTP_ALLOWED_ORIGINS", "https://a.example,https://b.example"),
        ("LATCHKEY_HTTP_DOCS", "false"),
        ("LATCHKEY_REDIS_URL", "rediss://r"),
        ("LATCHKEY_REDIS_PREFIX", "x:"),
        ("LATCHKEY_REDIS_POOL_SIZE", "2"),
        ("LATCHKEY_REDIS_COMMAND_TIMEOUT", "500ms"),
        ("LATCHKEY_REDIS_EVENT_RETENTION", "2h"),
        ("LATCHKEY_REDIS_TLS_CA", "/ca.pem"),
        ("LATCHKEY_REDIS_TLS_CERT", "/c.pem"),
        ("LATCHKEY_REDIS_TLS_KEY", "/k.pem"),
        ("LATCHKEY_CACHE_MAX_STALENESS", "500ms"),
        ("LATCHKEY_CACHE_MAX_SESSIONS", "2048"),
        ("LATCHKEY_CACHE_MAX_TOKENS", "7"),
        ("LATCHKEY_DATABASE_URL", "postgres://p/d?sslmode=verify-full"),
        ("LATCHKEY_DATABASE_MIGRATE_URL", "postgres://q/d"),
        ("LATCHKEY_DATABASE_MAX_CONNECTIONS", "3"),
        ("LATCHKEY_DATABASE_ACQUIRE_TIMEOUT", "4s"),
        ("LATCHKEY_SESSION_IDLE_TIMEOUT", "1d"),
        ("LATCHKEY_SESSION_ABSOLUTE_TIMEOUT", "2d"),
        ("LATCHKEY_SESSION_GRACE", "0"),
        ("LATCHKEY_SESSION_RETRY_WINDOW", "1h"),
        ("LATCHKEY_SESSION_COUNTED_REPEATS_LIMIT", "3"),
        ("LATCHKEY_SESSION_MAX_PER_ACCOUNT", "5"),
        ("LATCHKEY_SESSION_RECENT", "7m"),
        ("LATCHKEY_TOKEN_ACCESS_TTL", "10m"),
        ("LATCHKEY_TOKEN_AUDIENCE", "aud"),
        ("LATCHKEY_TOKEN_CLIENT_ID", "cli"),
        ("LATCHKEY_TOKEN_SCOPE", "a b"),
        ("LATCHKEY_TOKEN_LEEWAY", "0s"),
        ("LATCHKEY_TOKEN_EMAIL_VERIFIED", "true"),
        ("LATCHKEY_TOKEN_APP_METADATA", "plan,seats"),
        ("LATCHKEY_KEYS_ALGORITHM", "EdDSA"),
        ("LATCHKEY_KEYS_PUBLISH_BEFORE", "1h"),
        ("LATCHKEY_KEYS_REFRESH_INTERVAL", "1m"),
        ("LATCHKEY_FEED_HEARTBEAT", "2s"),
        ("LATCHKEY_FEED_MAX_SUBSCRIBERS", "7"),
        ("LATCHKEY_FEED_MAX_SUBSCRIBERS_PER_CLIENT", "6"),
        ("LATCHKEY_METRICS_LISTEN", "off"),
        ("LATCHKEY_TELEMETRY_OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("LATCHKEY_TELEMETRY_SAMPLE_RATIO", "0.5"),
        ("LATCHKEY_TELEMETRY_TIMEOUT", "7s"),
        ("LATCHKEY_TELEMETRY_SERVICE_NAME", "svc"),
        ("LATCHKEY_LIMITS_LOGIN_PER_ADDRESS", "1/1s"),
        ("LATCHKEY_LIMITS_LOGIN_SERVICE", "2/2s"),
        ("LATCHKEY_LIMITS_LOGIN_BACKOFF_AFTER", "3"),
        ("LATCHKEY_LIMITS_LOGIN_BACKOFF_FIRST", "4s"),
        ("LATCHKEY_LIMITS_LOGIN_BACKOFF_MAX", "5s"),
        ("LATCHKEY_LIMITS_KNOWN_FOR", "6d"),
        ("LATCHKEY_LIMITS_MAX_KNOWN", "7"),
        ("LATCHKEY_LIMITS_FACTOR_PER_ADDRESS", "35/35s"),
        ("LATCHKEY_LIMITS_FACTOR_BACKOFF_AFTER", "26"),
        ("LATCHKEY_LIMITS_FACTOR_BACKOFF_FIRST", "27s"),
        ("LATCHKEY_LIMITS_FACTOR_BACKOFF_MAX", "28s"),
        ("LATCHKEY_LIMITS_FACTOR_MAIL_PER_ACCOUNT", "36/36s"),
        ("LATCHKEY_LIMITS_REGISTRATION_PER_ADDRESS", "8/8s"),
        ("LATCHKEY_LIMITS_REGISTRATION_PER_ACCOUNT", "9/9s"),
        ("LATCHKEY_LIMITS_REGISTRATION_SERVICE", "off"),
        ("LATCHKEY_LIMITS_PASSWORD_CHANGE_PER_ADDRESS", "11/11s"),
        ("LATCHKEY_LIMITS_PASSWORD_CHANGE_PER_ACCOUNT", "12/12s"),
        ("LATCHKEY_LIMITS_PASSWORD_CHANGE_SERVICE", "13/13s"),
        ("LATCHKEY_LIMITS_RECOVERY_PER_ADDRESS", "22/22s"),
        ("LATCHKEY_LIMITS_MAIL_PER_ACCOUNT", "1/23s"),
        ("LATCHKEY_LIMITS_RECOVERY_SERVICE", "24/24s"),
        ("LATCHKEY_LIMITS_PASSKEY_PER_ADDRESS", "25/25s"),
        ("LATCHKEY_LIMITS_PASSKEY_SERVICE", "26/26s"),
        ("LATCHKEY_LIMITS_AUTHORIZATION_PER_ADDRESS", "28/28s"),
        ("LATCHKEY_LIMITS_AUTHORIZATION_SERVICE", "29/29s"),
        ("LATCHKEY_LIMITS_CLIENT_DOCUMENT_PER_ADDRESS", "31/31s"),
        ("LATCHKEY_LIMITS_CLIENT_DOCUMENT_SERVICE", "32/32s"),
        ("LATCHKEY_LIMITS_CLIENT_REGISTRATION_PER_ADDRESS", "33/33s"),
        ("LATCHKEY_LIMITS_CLIENT_REGISTRATION_SERVICE", "34/34s"),
        ("LATCHKEY_LIMITS_REFRESH_PER_ADDRESS", "14/14s"),
        ("LATCHKEY_LIMITS_REFRESH_PER_ACCOUNT", "15/15s"),
        ("LATCHKEY_LIMITS_REFRESH_SERVICE", "16/16s"),
        ("LATCHKEY_LIMITS_INTROSPECTION_PER_CLIENT", "17/17s"),
        ("LATCHKEY_LIMITS_INTROSPECTION_SERVICE", "18/18s"),
        ("LATCHKEY_LIMITS_CLIENT_AUTHENTICATION_FAILURES_PER_ADDRESS", "19/19s"),
        ("LATCHKEY_LIMITS_IPV6_PREFIX", "40"),
        ("LATCHKEY_LIMITS_IPV6_FACTOR", "21"),
        ("LATCHKEY_PASSWORD_MIN_LENGTH", "15"),
        ("LATCHKEY_PASSWORD_MAX_LENGTH", "256"),
        ("LATCHKEY_PASSWORD_MIN_SCORE", "4"),
        ("LATCHKEY_PASSWORD_BANNED_WORDS", "acme,initech"),
        ("LATCHKEY_PASSWORD_MEMORY_KIB", "47104"),
        ("LATCHKEY_PASSWORD_ITERATIONS", "1"),
        ("LATCHKEY_PASSWORD_PARALLELISM", "2"),
        ("LATCHKEY_PASSWORD_THREADS", "3"),
        ("LATCHKEY_PASSWORD_QUEUE", "4"),
        ("LATCHKEY_PASSWORD_MAX_IMPORT_MEMORY_KIB", "65536"),
        ("LATCHKEY_PASSWORD_MAX_IMPORT_WORK", "7"),
        ("LATCHKEY_PASSWORD_PEPPER", "33333333333333333333333333333333"),
        ("LATCHKEY_PASSWORD_PREVIOUS_PEPPERS", "44444444444444444444444444444444"),
        ("LATCHKEY_PASSKEYS_ENABLED", "true"),
        ("LATCHKEY_PASSKEYS_RP_ID", "example.com"),
        ("LATCHKEY_PASSKEYS_ORIGINS", "https://c.example"),
        ("LATCHKEY_PASSKEYS_USER_VERIFICATION", "preferred"),
        ("LATCHKEY_PASSKEYS_ALLOWED_AAGUIDS", "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4"),
        ("LATCHKEY_PASSKEYS_MAX_PER_ACCOUNT", "9"),
        ("LATCHKEY_PASSKEYS_TIMEOUT", "2m"),
        ("LATCHKEY_MAIL_URL", "smtps://mail.example.com"),
        ("LATCHKEY_MAIL_USERNAME", "u"),
        ("LATCHKEY_MAIL_PASSWORD", "hunter2"),
        ("LATCHKEY_MAIL_PASSWORD_FILE", ""),
        ("LATCHKEY_MAIL_TLS_CA", "/m.pem"),
        ("LATCHKEY_MAIL_EHLO_NAME", "node.example.com"),
        ("LATCHKEY_MAIL_FROM", "Acme <no-reply@example.com>"),
        ("LATCHKEY_MAIL_REPLY_TO", "help@example.com"),
        ("LATCHKEY_MAIL_PRODUCT_NAME", "Acme"),
        ("LATCHKEY_MAIL_TEMPLATES", "/t"),
        ("LATCHKEY_MAIL_DEFAULT_LOCALE", "de"),
        ("LATCHKEY_MAIL_NOTICES_OFF", "new_device,recovery_codes_low"),
        ("LATCHKEY_MAIL_LIST_UNSUBSCRIBE", "mailto:u@example.com"),
        ("LATCHKEY_MAIL_TIMEOUT", "11s"),
        ("LATCHKEY_MAIL_WORKERS", "3"),
        ("LATCHKEY_MAIL_RETRY_FIRST", "1s"),
        ("LATCHKEY_MAIL_RETRY_MAX", "2s"),
        ("LATCHKEY_MAIL_GIVE_UP_AFTER", "1h"),
        ("LATCHKEY_MAIL_MAX_QUEUED", "104"),
        ("LATCHKEY_MAIL_RETENTION", "3h"),
        ("LATCHKEY_MAIL_LINKS_VERIFY_ADDRESS", "https://a.example/1?t={token}"),
        ("LATCHKEY_MAIL_LINKS_RESET_PASSWORD", "https://a.example/2?t={token}"),
        ("LATCHKEY_MAIL_LINKS_CONFIRM_ADDRESS", "https://a.example/3?t={token}"),
        ("LATCHKEY_MAIL_LINKS_UNDO_ADDRESS", "https://a.example/4?t={token}"),
        ("LATCHKEY_MAIL_LINKS_SIGN_IN_CODE", "https://a.example/5?t={token}"),
        ("LATCHKEY_MAIL_LINKS_INVITATION", "https://a.example/7?t={token}"),
        ("LATCHKEY_MAIL_LINKS_NOT_ME", "https://a.example/8?t={token}"),
        ("LATCHKEY_MAIL_LINKS_SIGN_IN", "https://a.example/9"),
        ("LATCHKEY_PAGES_ENABLED", "false"),
        ("LATCHKEY_PAGES_PRODUCT_NAME", "Acme ID"),
        ("LATCHKEY_PAGES_LOGO", "/logo.svg"),
        ("LATCHKEY_PAGES_ACCENT", "#003366"),
        ("LATCHKEY_PAGES_ACCENT_DARK", "#99ccff"),
        ("LATCHKEY_PAGES_TERMS_URL", "https://a.example/terms"),
        ("LATCHKEY_PAGES_PRIVACY_URL", "https://a.example/privacy"),
        ("LATCHKEY_PAGES_SUPPORT_URL", "mailto:help@a.example"),
        ("LATCHKEY_PAGES_TEMPLATES", "/pages"),
        ("LATCHKEY_DYNAMIC_CLIENTS_METADATA_DOCUMENTS", "true"),
        ("LATCHKEY_DYNAMIC_CLIENTS_REGISTRATION", "true"),
        ("LATCHKEY_DYNAMIC_CLIENTS_SCOPES", "openid,mcp:tools"),
        ("LATCHKEY_DYNAMIC_CLIENTS_RESOURCES", "https://mcp.example.com/mcp"),
        ("LATCHKEY_DYNAMIC_CLIENTS_ALLOWED_HOSTS", "app.example.com,.example.org"),
        ("LATCHKEY_DYNAMIC_CLIENTS_MAX_PER_ACCOUNT", "7"),
        ("LATCHKEY_DYNAMIC_CLIENTS_MAX_DOCUMENT", "2KiB"),
        ("LATCHKEY_DYNAMIC_CLIENTS_FETCH_TIMEOUT", "3s"),
        ("LATCHKEY_DYNAMIC_CLIENTS_PRIVATE_NETWORKS", "10.0.0.0/8"),
        ("LATCHKEY_DYNAMIC_CLIENTS_CA_FILE", "/d.pem"),
        ("LATCHKEY_AUDIT_RETENTION", "1d"),
        ("LATCHKEY_AUDIT_ADDRESSES", "truncated"),
        ("LATCHKEY_AUDIT_QUEUE", "101"),
        ("LATCHKEY_AUDIT_MAX_REFUSALS", "102"),
        ("LATCHKEY_AUDIT_MAX_REFUSALS_PER_ACCOUNT", "103"),
        ("LATCHKEY_LOG_FORMAT", "json"),
        ("LATCHKEY_LOG_FILTER", "warn,latchkey=debug"),
    ];
    let tested: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    let existing: Vec<_> = schema::KEYS.iter().map(|key| key.variable.as_str()).collect();
    assert_eq!(tested, existing);

    let config = folder.load(&variables).unwrap();
    // The output of `Debug` has every field (secrets as `[secret]`), so a key that is read into no field, or into a wrong one, fails the test.
    assert_eq!(
        format!("{config:?}"),
        format!(
            "Config {{ listen: [::1]:1, issuer: \"https://id.example.com\", data_dir: {:?}, uses_data_dir: false, multi_node: true, \
             secrets: Secrets {{ current: [secret], previous: [[secret], [secret]] }}, \
             registration: RegistrationSettings {{ open: false, verification: Required, conceal: true, reserved_usernames: [\"root\", \"postmaster\"] }}, login: LoginSettings {{ email_code: true }}, account: AccountSettings {{ deletion_grace: 0ns, undo_window: 86400s, max_emails: 7 }}, factors: FactorSettings {{ required: Roles(Roles([\"admin\", \"ops\"])), grace: 259200s, challenge_ttl: 120s, email_code: true, remember_device: Some(2592000s), max_remembered_devices: 4, step_up_ttl: 1200s }}, \
             http: HttpSettings {{ max_connections: 1, max_connections_per_address: 15, max_requests: 11, max_pending_bodies: 12, max_pending_bodies_per_address: 13, \
             max_pending_bodies_per_connection: 14, first_byte_timeout: 2s, header_timeout: 3s, body_timeout: 4s, \
             request_timeout: 5s, idle_timeout: 6s, write_timeout: 10s, max_body_bytes: 7168, max_header_bytes: 8192, drain_delay: 8s, shutdown_timeout: 9s, \
             trusted_proxies: [10.0.0.7/32, fd00::/8], forwarded_header: Forwarded, allowed_origins: [\"https://a.example\", \"https://b.example\"], docs: false }}, \
             redis: RedisSettings {{ url: Some([secret]), prefix: \"x:\", pool_size: 2, command_timeout: 500ms, \
             event_retention: 7200s, tls_ca: Some(\"/ca.pem\"), tls_cert: Some(\"/c.pem\"), tls_key: Some(\"/k.pem\") }}, \
             cache: CacheSettings {{ max_staleness: 500ms, max_sessions: 2048, max_tokens: 7 }}, \
             database: DatabaseSettings {{ url: [secret], migrate_url: Some([secret]), max_connections: 3, \
             acquire_timeout: 4s }}, \
             session: SessionSettings {{ idle_timeout: 86400s, absolute_timeout: 172800s, grace: 0ns, retry_window: 3600s, counted_repeats_limit: 3, max_per_account: 5, recent: 420s }}, \
             token: TokenSettings {{ access_ttl: 600s, audience: \"aud\", client_id: \"cli\", scope: \"a b\", leeway: 0ns, email_verified: true, app_metadata: [\"plan\", \"seats\"] }}, \
             keys: KeySettings {{ algorithm: EdDsa, publish_before: 3600s, refresh_interval: 60s }}, \
             feed: FeedSettings {{ heartbeat: 2s, max_subscribers: 7, max_subscribers_per_client: 6 }}, \
             metrics: MetricsSettings {{ listen: None }}, \
             telemetry: TelemetrySettings {{ otlp_endpoint: Some(\"http://127.0.0.1:4318\"), sample_ratio: 0.5, timeout: 7s, service_name: \"svc\" }}, \
             limits: LimitSettings {{ login_per_address: Some(Quota {{ count: 1, window: 1s }}), login_service: Some(Quota {{ count: 2, window: 2s }}), \
             login_backoff: Some(Backoff {{ failures_without_delay: 3, first_delay: 4s, max_delay: 5s, trust_ttl: 518400s, max_trusted: 7 }}), \
             factor_per_address: Some(Quota {{ count: 35, window: 35s }}), factor_mail_per_account: Some(Quota {{ count: 36, window: 36s }}), factor_backoff: Some(FactorBackoff {{ failures_without_delay: 26, first_delay: 27s, max_delay: 28s }}), \
             registration_per_address: Some(Quota {{ count: 8, window: 8s }}), registration_per_account: Some(Quota {{ count: 9, window: 9s }}), registration_service: None, \
             password_change_per_address: Some(Quota {{ count: 11, window: 11s }}), password_change_per_account: Some(Quota {{ count: 12, window: 12s }}), \
             password_change_service: Some(Quota {{ count: 13, window: 13s }}), recovery_per_address: Some(Quota {{ count: 22, window: 22s }}), \
             mail_per_account: Some(Quota {{ count: 1, window: 23s }}), recovery_service: Some(Quota {{ count: 24, window: 24s }}), \
             passkey_per_address: Some(Quota {{ count: 25, window: 25s }}), passkey_service: Some(Quota {{ count: 26, window: 26s }}), authorization_per_address: Some(Quota {{ count: 28, window: 28s }}), authorization_service: Some(Quota {{ count: 29, window: 29s }}), client_document_per_address: Some(Quota {{ count: 31, window: 31s }}), client_document_service: Some(Quota {{ count: 32, window: 32s }}), client_registration_per_address: Some(Quota {{ count: 33, window: 33s }}), client_registration_service: Some(Quota {{ count: 34, window: 34s }}), refresh_per_address: Some(Quota {{ count: 14, window: 14s }}), \
             refresh_per_account: Some(Quota {{ count: 15, window: 15s }}), refresh_service: Some(Quota {{ count: 16, window: 16s }}), \
             introspection_per_client: Some(Quota {{ count: 17, window: 17s }}), introspection_service: Some(Quota {{ count: 18, window: 18s }}), client_authentication_failures_per_address: Some(Quota {{ count: 19, window: 19s }}), \
             ipv6_network: Some(Ipv6Network {{ prefix: 40, factor: 21 }}) }}, \
             password: PasswordSettings {{ min_length: 15, max_length: 256, min_score: 4, \
             banned_words: [\"acme\", \"initech\"], memory_kib: 47104, iterations: 1, parallelism: 2, threads: 3, queue: 4, \
             max_import_memory_kib: 65536, max_import_work: 7, pepper: Some([secret]), previous_peppers: [[secret]] }}, \
             passkeys: PasskeySettings {{ relying_party: Some(RelyingParty {{ id: \"example.com\", \
             origins: [\"https://id.example.com\", \"https://a.example\", \"https://b.example\", \"https://c.example\"] }}), user_verification: Preferred, \
             allowed_aaguids: [Aaguid(ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4)], max_per_account: 9, timeout: 120s }}, \
             mail: MailSettings {{ transport: Smtp(SmtpSettings {{ host: \"mail.example.com\", port: 465, security: Tls, \
             credentials: Some(SmtpCredentials {{ username: \"u\", password: [secret] }}), tls_ca: Some(\"/m.pem\"), ehlo_name: \"node.example.com\", timeout: 11s }}), \
             from: Sender {{ name: Some(\"Acme\"), address: Recipient(no-reply@example.com) }}, reply_to: Some(Sender {{ name: None, address: Recipient(help@example.com) }}), \
             product_name: \"Acme\", templates: Some(\"/t\"), default_locale: De, notices_off: [NewDevice, RecoveryCodesLow], list_unsubscribe: Some(\"mailto:u@example.com\"), \
             workers: 3, retry_first: 1s, retry_max: 2s, give_up_after: 3600s, max_queued: 104, retention: 10800s, \
             links: MailLinks {{ verify_address: LinkTemplate(\"https://a.example/1?t={{token}}\"), reset_password: LinkTemplate(\"https://a.example/2?t={{token}}\"), confirm_address: LinkTemplate(\"https://a.example/3?t={{token}}\"), undo_address: LinkTemplate(\"https://a.example/4?t={{token}}\"), \
             sign_in_code: LinkTemplate(\"https://a.example/5?t={{token}}\"), invitation: LinkTemplate(\"https://a.example/7?t={{token}}\"), not_me: LinkTemplate(\"https://a.example/8?t={{token}}\"), sign_in: \"https://a.example/9\" }} }}, \
             pages: PagesSettings {{ enabled: false, product_name: \"Acme ID\", logo: Some(\"/logo.svg\"), \
             accent: Some(Colour {{ red: 0, green: 51, blue: 102 }}), accent_dark: Some(Colour {{ red: 153, green: 204, blue: 255 }}), \
             terms_url: Some(\"https://a.example/terms\"), privacy_url: Some(\"https://a.example/privacy\"), support_url: Some(\"mailto:help@a.example\"), templates: Some(\"/pages\") }}, \
             dynamic_clients: DynamicClientSettings {{ metadata_documents: true, registration: true, scopes: SpaceSeparated([\"openid\", \"mcp:tools\"]), resources: SpaceSeparated([\"https://mcp.example.com/mcp\"]), \
             allowed_hosts: [\"app.example.com\", \".example.org\"], max_per_account: 7, max_document_bytes: 2048, fetch_timeout: 3s, private_networks: [10.0.0.0/8], ca_file: Some(\"/d.pem\") }}, \
             audit: AuditSettings {{ retention: Some(86400s), addresses: Truncated, queue: 101, max_refusals: 102, max_refusals_per_account: 103 }}, \
             log: LogSettings {{ format: Json, filter: \"warn,latchkey=debug\" }}, warnings: [] }}",
            folder.path().join("d")
        )
    );
    assert_eq!(config.secrets.current.expose(), SECRET);
    assert_eq!(config.secrets.previous[1].expose(), "22222222222222222222222222222222");
    assert_eq!(config.redis.url.unwrap().expose(), "rediss://r");
    assert_eq!(config.database.url.expose(), "postgres://p/d?sslmode=verify-full");
    assert!(
        !folder.path().join("d").exists(),
        "the data directory was created, although the secret, the database and Redis are elsewhere"
    );
}

#[test]
fn data_dir_is_used_unless_redis_database_secret_and_mails_are_elsewhere() {
    let folder = Folder::new();
    let elsewhere = [
        ("LATCHKEY_REDIS_URL", "rediss://r"),
        ("LATCHKEY_DATABASE_URL", "postgres://p/d?sslmode=verify-full"),
        ("LATCHKEY_SECRET", SECRET),
        ("LATCHKEY_MAIL_URL", "smtp://mail.example.com"),
        ("LATCHKEY_MAIL_FROM", "a@example.com"),
    ];
    assert!(!folder.load(&elsewhere).unwrap().uses_data_dir);
    for part in ["REDIS", "DATABASE", "SECRET", "MAIL"] {
        let others: Vec<_> = elsewhere.into_iter().filter(|(name, _)| !name.contains(part)).collect();
        assert!(folder.load(&others).unwrap().uses_data_dir, "{part}");
    }
}

#[test]
fn mail_password_is_read_from_its_file() {
    let folder = Folder::new();
    folder.write("mail-password", "hunter2\n");
    let url = ("LATCHKEY_MAIL_URL", "smtp://mail.example.com");
    let from = ("LATCHKEY_MAIL_FROM", "a@example.com");
    let user = ("LATCHKEY_MAIL_USERNAME", "u");
    let config = folder.load(&[url, from, user, ("LATCHKEY_MAIL_PASSWORD_FILE", "mail-password")]).unwrap();
    let MailTransport::Smtp(smtp) = config.mail.transport else { panic!("an SMTP server is configured") };
    assert_eq!(smtp.credentials.unwrap().password.expose(), "hunter2");
}

#[test]
fn mail_username_without_password_and_server_without_sender_are_refused() {
    let folder = Folder::new();
    let url = ("LATCHKEY_MAIL_URL", "smtp://mail.example.com");
    let from = ("LATCHKEY_MAIL_FROM", "a@example.com");
    let user = ("LATCHKEY_MAIL_USERNAME", "u");
    let error = folder.load(&[url, from, user]).unwrap_err().to_string();
    assert!(error.contains("must be set together with mail.password or mail.password_file"), "{error}");
    let error = folder.load(&[url]).unwrap_err().to_string();
    assert!(error.contains("mail.from"), "{error}");
    assert!(error.contains("must be set to the sender"), "{error}");
}

#[test]
fn smtp_url_means_starttls_and_a_server_without_tls_is_a_warning() {
    let folder = Folder::new();
    let load = |url| folder.load(&[("LATCHKEY_MAIL_URL", url), ("LATCHKEY_MAIL_FROM", "a@example.com")]).unwrap();
    let MailTransport::Smtp(smtp) = load("smtp://mail.example.com").mail.transport else {
        panic!("an SMTP server is configured")
    };
    assert_eq!(smtp.security, SmtpSecurity::StartTls);
    let warnings = load("smtp://mail.example.com?tls=none").warnings;
    assert!(warnings[0].contains("without TLS"), "{warnings:?}");
}

#[test]
fn database_path_is_escaped_in_its_url() {
    let folder = Folder::new();
    let config = folder.load(&[("LATCHKEY_DATA_DIR", "./a b?c#d%é")]).unwrap();
    let url = format!("sqlite://{}/a%20b%3Fc%23d%25%C3%A9/latchkey.db", folder.path().display());
    assert_eq!(config.database.url.expose(), url);
}
