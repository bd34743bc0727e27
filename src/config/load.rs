//! Merges the configuration sources, interprets them, and reads or generates the secret.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, LogSettings, MailSettings, Secrets,
    env::CONFIG_FILE,
    error::{Problem, SettingOrigin},
    interpret::{ParsedConfig, SecretLocation, interpret},
    mail,
    raw::{Settings, Value},
    read::Reader,
    schema, secret_file, secret_strength,
};
use crate::domain::entropy::Entropy;

/// The file of the generated secret, in the data directory.
const SECRET_FILE: &str = "secret";
/// The file of the default database, in the data directory.
const DATABASE_FILE: &str = "latchkey.db";

/// The configuration sources besides the defaults. The caller passes them in: nothing is read from the process itself.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The base of relative paths, and the directory of `latchkey.toml`.
    pub working_dir: PathBuf,
    /// The configuration file (`--config`) to read instead of `latchkey.toml`. It must exist.
    pub config_file: Option<PathBuf>,
    /// The environment; only variables that start with `LATCHKEY_` count.
    pub environment: Vec<(OsString, OsString)>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// The `key=value` of each `--set`.
    pub set: Vec<String>,
}

impl Sources {
    /// Sources with environment variables only.
    pub fn from_environment<K: Into<OsString>, V: Into<OsString>>(
        working_dir: impl Into<PathBuf>,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let environment = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { working_dir: working_dir.into(), environment, ..Self::default() }
    }

    /// Sources without settings: the defaults apply, unless `working_dir` has a `latchkey.toml`.
    pub fn in_dir(working_dir: impl Into<PathBuf>) -> Self {
        Self { working_dir: working_dir.into(), ..Self::default() }
    }

    /// Merges the sources. Each overrides the ones before: defaults, configuration file, environment, `--set`, `--data-dir`.
    pub(super) fn gather(&self, problems: &mut Vec<Problem>) -> Settings {
        let mut settings = Settings::defaults();
        // `CONFIG_FILE` names a variable
        let variable = self.environment.iter().find(|(name, value)| name == CONFIG_FILE && !value.is_empty());
        let named_file = self.config_file.clone().or_else(|| variable.map(|(_, value)| value.into()));
        let path = named_file.clone().unwrap_or_else(|| "latchkey.toml".into());
        match fs::read_to_string(self.working_dir.join(&path)) {
            Ok(text) => settings.apply_file(&text, &path, problems),
            // `latchkey.toml` is optional, a named file is not
            Err(error) if named_file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => problems.push(Problem::new(path.display().to_string(), format!("can't be read: {error}"))),
        }
        settings.read_environment(&self.environment, problems);
        settings.read_flags(&self.set, problems);
        // The schema has this key.
        if let Some(data_dir) = &self.data_dir
            && let Some(key) = schema::find("data_dir")
        {
            match data_dir.to_str() {
                Some(path) => settings.set(key, Value::text(path), SettingOrigin::Flag("--data-dir".into())),
                None => problems.push(Problem::new("--data-dir", "must be UTF-8")),
            }
        }
        settings
    }
}

/// Reads, checks and resolves the configuration. Creates the data directory if the service keeps data in it, and the secret if
/// none is configured. Changes nothing else.
///
/// # Errors
/// [`ConfigError`] with all problems at once, each with its key and the origin of its value.
pub fn load(sources: &Sources, entropy: &Entropy) -> Result<Config, ConfigError> {
    load_with(sources, Some(entropy))
}

/// Like [`load`], for commands that need an existing service: creates nothing, and refuses a data directory without the
/// files that the service keeps there.
///
/// # Errors
/// Like [`load`], and if the data directory or a file in it is missing.
pub fn load_existing(sources: &Sources) -> Result<Config, ConfigError> {
    load_with(sources, None)
}

/// Reads and checks the configuration for the log settings, which a running service can apply.
///
/// # Errors
/// [`ConfigError`] with all problems of the configuration.
pub fn load_log_settings(sources: &Sources) -> Result<LogSettings, ConfigError> {
    Ok(parse(sources)?.log)
}

/// Reads and checks the configuration for the address that the service listens on. Needs neither the secret nor the data
/// directory.
///
/// # Errors
/// [`ConfigError`] with all problems of the configuration.
pub fn load_listen(sources: &Sources) -> Result<SocketAddr, ConfigError> {
    Ok(parse(sources)?.listen)
}

/// The configuration of [`load_data_locations`], without the current secret.
fn parse(sources: &Sources) -> Result<Config, ConfigError> {
    let (config, _secret_path) = load_data_locations(sources)?;
    Ok(config)
}

/// Reads and checks the configuration for the settings of mail and the issuer. The service need not exist.
///
/// # Errors
/// [`ConfigError`] with all problems of the configuration.
pub fn load_mail_settings(sources: &Sources) -> Result<(MailSettings, String), ConfigError> {
    let config = parse(sources)?;
    Ok((config.mail, config.issuer))
}

/// Reads and checks the configuration for the locations of a service's data. Creates nothing, and the service need not exist. The
/// second result is the file of the secret, if the secret is kept in the data directory.
///
/// # Errors
/// [`ConfigError`] with all problems of the configuration.
pub fn load_data_locations(sources: &Sources) -> Result<(Config, Option<PathBuf>), ConfigError> {
    let mut problems = Vec::new();
    let settings = sources.gather(&mut problems);
    let mut reader = Reader::new(&settings);
    let ParsedConfig { config, secret_location, .. } = interpret(&mut reader, &sources.working_dir);
    problems.append(&mut reader.problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let is_secret_in_data_dir = matches!(secret_location, SecretLocation::DataDir);
    let secret_path = is_secret_in_data_dir.then(|| config.data_dir.join(SECRET_FILE));
    Ok((config, secret_path))
}

/// Loads the configuration. A missing secret is generated with `entropy`. Without `entropy`, the service must exist, and nothing is
/// created.
fn load_with(sources: &Sources, entropy: Option<&Entropy>) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let settings = sources.gather(&mut problems);
    let mut reader = Reader::new(&settings);
    let ParsedConfig { mut config, secret_location, mail_password_file } = interpret(&mut reader, &sources.working_dir);
    config.warnings.append(&mut reader.warnings);
    problems.append(&mut reader.problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }

    let error_about = |key: &str, text: String| {
        ConfigError::from(Problem { origin: Some(reader.origin(key).clone()), ..Problem::new(key, text) })
    };
    // Redis and the database are in the data directory by default.
    let has_stores_in_data_dir = !reader.is_given("redis.url") || !reader.is_given("database.url");
    let is_secret_in_data_dir = matches!(secret_location, SecretLocation::DataDir);
    if entropy.is_none() {
        let mut required = Vec::new();
        if !reader.is_given("database.url") {
            required.push(("database", config.data_dir.join(DATABASE_FILE)));
        }
        if is_secret_in_data_dir {
            required.push(("secret", config.data_dir.join(SECRET_FILE)));
        }
        if has_stores_in_data_dir {
            required.push(("data directory", config.data_dir.clone()));
        }
        for (kind, path) in required {
            check_exists(kind, &path).map_err(|text| error_about("data_dir", text))?;
        }
    }
    // Without `entropy`, the directory exists: this checks its permissions only.
    if has_stores_in_data_dir || is_secret_in_data_dir {
        let folder = config.data_dir.display();
        let is_open_to_others = secret_file::create_data_dir(&config.data_dir)
            .map_err(|text| error_about("data_dir", format!("{folder} {text}")))?;
        if is_open_to_others {
            config.warnings.push(format!("others have access to {folder}; run `chmod 700 {folder}`"));
        }
    }
    let secrets = match secret_location {
        SecretLocation::Settings(secret) => Secrets { current: secret, previous: Vec::new() },
        SecretLocation::File(path) => {
            let file = secret_file::read(&path).map_err(|text| error_about("secret_file", text))?;
            if file.is_open_to_others {
                // No error: some orchestrators mount secrets only with such permissions.
                config.warnings.push(format!("others have access to the secret: run `chmod 600 {}`", path.display()));
            }
            file.secrets
        }
        SecretLocation::DataDir => {
            let path = config.data_dir.join(SECRET_FILE);
            let database = config.data_dir.join(DATABASE_FILE);
            // A new secret could not decrypt what the existing database holds.
            if database.exists() && !path.exists() {
                let text = format!(
                    "none is configured, and {} is missing, although {} exists. Restore the file from a backup, or configure the secret \
                     that the service used before",
                    path.display(),
                    database.display()
                );
                return Err(error_about("secret", text));
            }
            let secrets = match entropy {
                Some(entropy) => secret_file::read_or_create(&path, entropy),
                None => secret_file::read_generated(&path),
            };
            secrets.map_err(|text| error_about("secret", format!("none is configured, and {text}")))?
        }
    };
    if let Some(path) = mail_password_file {
        let is_open_to_others =
            mail::read_password(&path, &mut config.mail).map_err(|text| error_about("mail.password_file", text))?;
        if is_open_to_others {
            config.warnings.push(format!(
                "others have access to the password of the SMTP server: run `chmod 600 {}`",
                path.display()
            ));
        }
    }
    if secret_strength::is_weak(secrets.current.expose()) {
        config.warnings.push(
            "the secret cannot have 128 bits of entropy: an attacker who guesses it can forge tokens. Generate one with `openssl rand \
             -base64 32`, and keep the present one as a previous secret until the last session that uses it has ended"
                .to_owned(),
        );
    }
    config.secrets.current = secrets.current;
    // the previous secrets in the file, after those of `secret_previous`
    config.secrets.previous.extend(secrets.previous);
    Ok(config)
}

/// Checks that a file or directory of the service exists.
fn check_exists(kind: &str, path: &Path) -> Result<(), String> {
    let exists = path.try_exists();
    let path = path.display();
    match exists {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "there is no {kind} at {path}; name the service's data directory with --data-dir, or create the service with \
             `latchkey serve` or `latchkey migrate`"
        )),
        Err(error) => {
            Err(format!("the {kind} {path} can't be read: {error}; run the command as the user of the service"))
        }
    }
}
