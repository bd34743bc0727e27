//! The effective configuration in readable form, with secrets masked.

use std::fmt::Write;

use url::Url;

use super::{
    ConfigError,
    error::SettingOrigin,
    interpret::{ParsedConfig, interpret},
    load::Sources,
    raw::Value,
    read::Reader,
    schema::{self, KEYS},
};

/// A key with its effective value and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The name: `session.grace`.
    pub key: String,
    /// The value as TOML, masked if it is secret.
    pub value: String,
    /// The origin of the value.
    pub origin: SettingOrigin,
}

/// Reads and checks the configuration. Creates and reads nothing in the data directory. The second result has the warnings.
///
/// # Errors
/// [`ConfigError`] under the conditions of [`super::load`], except for the data directory and the secret file.
pub fn inspect(sources: &Sources) -> Result<(Vec<EffectiveSetting>, Vec<String>), ConfigError> {
    let mut problems = Vec::new();
    let settings = sources.gather(&mut problems);
    let mut reader = Reader::new(&settings);
    let ParsedConfig { config, .. } = interpret(&mut reader, &sources.working_dir);
    problems.append(&mut reader.problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let effective = |key: &schema::Key| {
        let setting = settings.get(&key.name);
        let value = match key.name.as_str() {
            // these keys may be configured as empty, 0 or a relative path; the value that is in effect is shown
            "issuer" => quote(&config.issuer),
            "data_dir" => quote(&config.data_dir.display().to_string()),
            "database.url" => quote(&mask(config.database.url.expose())),
            "password.threads" => config.password.threads.to_string(),
            name => format_value(&setting.value, schema::is_secret(name), &key.default),
        };
        EffectiveSetting { key: key.name.clone(), value, origin: setting.origin.clone() }
    };
    Ok((KEYS.iter().map(effective).collect(), reader.warnings))
}

/// Formats the configuration as TOML with the origin of each value.
pub fn to_toml(settings: &[EffectiveSetting]) -> String {
    let mut text = String::new();
    let mut section = "";
    for EffectiveSetting { key, value, origin } in settings {
        let (key_section, name) = key.rsplit_once('.').unwrap_or(("", key));
        if key_section != section {
            section = key_section;
            text += &format!("\n[{section}]\n");
        }
        let line = format!("{name} = {value}");
        // The origins form a column. Writing to a String can't fail.
        let _ = writeln!(text, "{line:<44} # {origin}");
    }
    text
}

/// Formats a value as TOML, masked if it is secret. The default shows whether the key's value is a list.
fn format_value(value: &Value, is_secret: bool, default: &Value) -> String {
    let shown = |text: &str| if is_secret { mask(text) } else { text.to_owned() };
    match value {
        Value::Many(items) => {
            let items: Vec<_> = items.iter().map(|item| quote(&shown(item.expose()))).collect();
            format!("[{}]", items.join(", "))
        }
        // An environment variable has one text, in which commas separate the items of a list.
        Value::One(text) if matches!(default, Value::Many(_)) => {
            let items = text.expose().split(',').map(str::trim).filter(|item| !item.is_empty());
            format!("[{}]", items.map(|item| quote(&shown(item))).collect::<Vec<_>>().join(", "))
        }
        Value::One(text) => {
            let text = text.expose();
            // TOML's integers are signed, and have no leading zeros.
            let is_integer = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
            let is_number_or_boolean = is_integer || matches!(text, "true" | "false");
            // The mask is no number, whatever the secret is.
            if is_number_or_boolean && !is_secret { text.to_owned() } else { quote(&shown(text)) }
        }
        // the reader has refused these values
        Value::Nested | Value::EmptySection => String::new(),
    }
}

fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// Masks a secret. Of a URL, everything is shown except user, password and parameters.
fn mask(text: &str) -> String {
    const MASK: &str = "[secret]";
    if text.is_empty() {
        return String::new();
    }
    let Ok(mut url) = Url::parse(text) else { return MASK.into() };
    let has_user = !url.username().is_empty() || url.password().is_some();
    // An unescaped /, ? or # in a password ends what the parser reads as the password. A later @ shows that the password continues.
    let ats_before_host = usize::from(has_user);
    let has_stray_at = text.matches('@').count() > ats_before_host;
    // `Url` also parses a password such as `hunter2:hunter2`.
    let is_readable_url = text.contains("://") && !has_stray_at && url.fragment().is_none();
    if !is_readable_url {
        return MASK.into();
    }
    let has_query = url.query().is_some();
    url.set_query(None);
    if has_user && (url.set_username("").is_err() || url.set_password(None).is_err()) {
        return MASK.into();
    }
    let shown = match (has_user, url.as_str().split_once("://")) {
        (true, Some((scheme, rest))) => format!("{scheme}://{MASK}@{rest}"),
        _ => url.to_string(),
    };
    if has_query { format!("{shown}?{MASK}") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_in_urls_are_masked() {
        for (url, shown) in [
            ("redis://localhost:6379/1", "redis://localhost:6379/1"),
            ("redis://:hunter2@localhost", "redis://[secret]@localhost"),
            ("postgres://bob:hunter2@h:5432/d", "postgres://[secret]@h:5432/d"),
            ("postgres://h/d?password=hunter2", "postgres://h/d?[secret]"),
            ("redis+unix:///run/r.sock", "redis+unix:///run/r.sock"),
            ("redis+unix://bob:hunter2@h/run/r.sock", "redis+unix://[secret]@h/run/r.sock"),
            ("sqlite:///var/l.db", "sqlite:///var/l.db"),
            ("redis://:12/hunter2@h", "[secret]"),
            ("redis://h:12/hunter2@h", "[secret]"),
            ("redis://h:12?hunter2@h", "[secret]"),
            ("redis://h:12#hunter2@h", "[secret]"),
            ("redis://bob:hunter@2@h", "[secret]"),
            ("hunter2", "[secret]"),
            ("hunter2:hunter2", "[secret]"),
            ("", ""),
        ] {
            assert_eq!(mask(url), shown, "{url}");
        }
    }

    #[test]
    fn values_that_look_like_numbers_are_valid_toml() {
        let default = Value::text("");
        for (text, shown, shown_if_secret) in [
            ("12345678", "12345678", "\"[secret]\""),
            ("true", "true", "\"[secret]\""),
            ("007", "\"007\"", "\"[secret]\""),
            ("18446744073709551615", "\"18446744073709551615\"", "\"[secret]\""),
            ("", "\"\"", "\"\""),
        ] {
            for (is_secret, expected) in [(false, shown), (true, shown_if_secret)] {
                let value = format_value(&Value::text(text), is_secret, &default);
                assert_eq!(value, expected, "{text}");
                assert!(format!("key = {value}").parse::<toml::Table>().is_ok(), "{value}");
            }
        }
    }

    #[test]
    fn toml_shows_the_origin_of_each_value_and_is_a_valid_configuration() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("latchkey.toml"), "[session]\ngrace = '0s'\nmax_per_account = 3").unwrap();
        let mut sources = Sources::from_environment(
            folder.path(),
            [
                ("LATCHKEY_SECRET", "hunter2-hunter2-hunter2-hunter2-hunter2"),
                ("LATCHKEY_HTTP_TRUSTED_PROXIES", "10.0.0.1, ::1"),
            ],
        );
        sources.data_dir = Some("/data".into());
        sources.set = vec!["password.threads=3".into()];
        let (settings, _warnings) = inspect(&sources).unwrap();
        let text = to_toml(&settings);
        for line in [
            "listen = \"127.0.0.1:8080\"                    # default",
            "issuer = \"http://127.0.0.1:8080\"             # default",
            "data_dir = \"/data\"                           # --data-dir",
            "secret = \"[secret]\"                          # LATCHKEY_SECRET",
            "grace = \"0s\"                                 # latchkey.toml, line 2",
            "max_per_account = 3                          # latchkey.toml, line 3",
            "trusted_proxies = [\"10.0.0.1\", \"::1\"]        # LATCHKEY_HTTP_TRUSTED_PROXIES",
            "threads = 3                                  # --set",
            "url = \"sqlite:///data/latchkey.db\"           # default",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
        assert!(!text.contains("hunter2"));
        assert!(!folder.path().join("latchkey-data").exists(), "inspect created the data directory");

        // With a secret of the minimum length, 32 bytes, the output is a configuration file.
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("latchkey.toml"), text.replace("[secret]", &"x".repeat(32))).unwrap();
        assert!(
            inspect(&Sources { working_dir: copy.path().into(), ..Sources::default() }).is_ok(),
            "the output is refused as a configuration file"
        );
    }
}
