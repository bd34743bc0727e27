//! The precedence of the sources (flags before environment variables before the file), and the report of the problems of
//! all sources.

use super::*;

#[test]
fn flags_override_variables_and_variables_override_the_file() {
    let folder =
        Folder::with_file("listen = '127.0.0.1:1'\ndata_dir = 'a'\n[session]\ngrace = '1s'\nmax_per_account = 1");
    let config = folder.load(&[]).unwrap();
    assert_eq!((config.listen.port(), config.session.grace, config.session.max_per_account), (1, secs(1), 1));

    let variables = [("LATCHKEY_LISTEN", "127.0.0.1:2"), ("LATCHKEY_DATA_DIR", "b"), ("LATCHKEY_SESSION_GRACE", "2s")];
    let config = folder.load(&variables).unwrap();
    assert_eq!((config.listen.port(), config.session.grace, config.session.max_per_account), (2, secs(2), 1));
    assert_eq!(config.data_dir, folder.path().join("b"));

    let mut sources = folder.sources(&variables);
    sources.data_dir = Some("c".into()); // `--data-dir c`
    // two flags `--set` for one key: the last one wins
    sources.set = vec!["listen=127.0.0.1:3".into(), "listen=127.0.0.1:4".into()];
    let config = load(&sources, &Entropy::system()).unwrap();
    assert_eq!((config.listen.port(), config.session.grace), (4, secs(2)));
    assert_eq!(config.data_dir, folder.path().join("c"));
    // No source sets the issuer. Its default is derived from `listen`.
    assert_eq!(config.issuer, "http://127.0.0.1:4");
}

#[test]
fn relative_paths_of_files_start_at_the_working_directory() {
    let folder = Folder::with_file(
        "[redis]\nurl = 'rediss://r'\ntls_ca = 'ca.pem'\ntls_cert = 'tls/cert.pem'\ntls_key = '/key.pem'\n",
    ); // `rediss`: TLS files are refused with a URL without TLS
    let redis = folder.load(&[]).unwrap().redis;
    let paths = [Some(folder.path().join("ca.pem")), Some(folder.path().join("tls/cert.pem")), Some("/key.pem".into())];
    assert_eq!([redis.tls_ca, redis.tls_cert, redis.tls_key], paths);
}

#[test]
fn configuration_file_is_named_by_flag_before_variable_and_must_exist() {
    let folder = Folder::with_file("session.max_per_account = 1");
    folder.write("b.toml", "session.max_per_account = 2");
    folder.write("c.toml", "session.max_per_account = 3");
    let max_per_account =
        |sources: &Sources| load(sources, &Entropy::system()).map(|config| config.session.max_per_account);

    let mut sources = folder.sources(&[("LATCHKEY_CONFIG", "b.toml")]);
    assert_eq!(max_per_account(&sources), Ok(2));
    sources.config_file = Some("c.toml".into()); // `--config c.toml`
    assert_eq!(max_per_account(&sources), Ok(3));
    sources.config_file = Some("d.toml".into()); // no such file
    assert_eq!(
        max_per_account(&sources).unwrap_err().to_string(),
        "the configuration can't be used:\n  d.toml: can't be read: No such file or directory (os error 2)"
    );
}

#[test]
fn all_problems_are_reported_together() {
    // misspelt keys (`lisen`, `REDIS_URI`, `max_bodi`), and values that break the rule of their key
    let folder = Folder::with_file(
        "lisen = '127.0.0.1:80'\n\n[token]\naccess_ttl = '2h'\nscope = ['a']\n\n[password]\nmin_length = 4\n",
    );
    let mut sources = folder.sources(&[
        ("LATCHKEY_SESSION_GRACE", "90s"),
        ("LATCHKEY_SECRET", "hunter2"),
        ("LATCHKEY_REDIS_URI", "redis://:hunter2@r"),
        ("LATCHKEY_REDIS_URL", "https://:hunter2@r"),
        ("LATCHKEY_DATABASE_URL", "mysql://:hunter2@r"),
        ("LATCHKEY_PASSWORD_PEPPER", "hunter2"),
        ("LATCHKEY_SECRET_PREVIOUS", "hunter2,hunter2"),
    ]);
    sources.set = vec!["log.format=xml".into(), "http.max_bodi=1".into()];
    let error = load(&sources, &Entropy::system()).unwrap_err().to_string();
    // settings that can hold a secret are reported without their value
    assert_eq!(
        error,
        "the configuration can't be used:
  lisen (latchkey.toml, line 1): no such key; did you mean listen?
  LATCHKEY_REDIS_URI: no such variable; did you mean LATCHKEY_REDIS_URL?
  http.max_bodi (--set): no such key; did you mean http.max_body?
  secret_previous (LATCHKEY_SECRET_PREVIOUS): must be at least 32 bytes; make one with `openssl rand -base64 32`
  secret (LATCHKEY_SECRET): must be at least 32 bytes; make one with `openssl rand -base64 32`
  token.access_ttl = \"2h\" (latchkey.toml, line 4): must be 30s to 1h
  token.scope = [\"a\"] (latchkey.toml, line 5): must be a single value, not a list or a section
  redis.url (LATCHKEY_REDIS_URL): must start with one of redis, rediss, redis-cluster, rediss-cluster, redis-sentinel, \
         rediss-sentinel, redis+unix, valkey, valkeys, valkey-cluster, valkeys-cluster, valkey-sentinel, \
         valkeys-sentinel, valkey+unix, followed by :// and an address
  database.url (LATCHKEY_DATABASE_URL): must start with sqlite:// or postgres://
  session.grace = \"90s\" (LATCHKEY_SESSION_GRACE): must be 0s to 1m
  password.min_length = \"4\" (latchkey.toml, line 8): must be a whole number, 8 to 1024
  password.pepper (LATCHKEY_PASSWORD_PEPPER): must be at least 32 bytes; make one with `openssl rand -base64 32`
  log.format = \"xml\" (--set): must be one of auto, text, json"
    );
    assert!(!folder.path().join("latchkey-data").exists(), "an invalid configuration created the data directory");
}
