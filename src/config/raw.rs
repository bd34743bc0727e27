//! Settings as written, before their values are parsed: the defaults, overridden by the sources of higher precedence.

use std::{collections::BTreeMap, path::Path};

use toml::de::{DeTable, DeValue};

use super::{
    error::{Problem, SettingOrigin},
    schema::{self, KEYS},
};
use crate::domain::secret::SecretText;

/// A value as it was written. It may be a secret, so it has no `Debug`.
#[derive(Clone)]
pub(super) enum Value {
    /// A string, a number, a boolean or a time, as text.
    One(SecretText),
    /// A list of strings, numbers, booleans or times, as texts.
    Many(Vec<SecretText>),
    /// A list of lists or of tables, which no key accepts.
    Nested,
    /// A section without keys.
    EmptySection,
}

impl Value {
    /// A value of a variable or a flag.
    pub(super) fn text(text: &str) -> Self {
        Self::One(text.into())
    }
}

/// A key's value in a TOML document.
pub(super) struct Entry {
    /// The full key, including its section: `session.grace`.
    pub(super) key: String,
    /// The value as written.
    pub(super) value: Value,
    /// The key's line, counted from 1.
    pub(super) line: usize,
}

/// Parses a TOML document. A problem has an empty subject, which the caller replaces by the file's path. Its text quotes nothing from
/// the document, which may contain secrets.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        Problem::new("", format!("line {line} isn't valid TOML: {}", error.message()))
    })?;
    let mut entries = Vec::new();
    flatten(text, "", table.get_ref(), &mut entries);
    Ok(entries)
}

/// Adds the keys of a table and of the tables in it to `entries`. `section` is the full name of the table.
fn flatten(document: &str, section: &str, table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
        let line = line_of(document, name.span().start);
        let value = match value.get_ref() {
            DeValue::Table(inner) if inner.is_empty() => Value::EmptySection,
            DeValue::Table(inner) => {
                flatten(document, &key, inner, entries);
                continue;
            }
            DeValue::Array(items) => {
                let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
                items.map_or(Value::Nested, Value::Many)
            }
            // `scalar` refuses only lists and tables, which are matched above
            plain => scalar(plain).map_or(Value::Nested, Value::One),
        };
        entries.push(Entry { key, value, line });
    }
}

/// The text of a plain value, which the reader of the key parses as the key's type. `None` for a list or a table.
fn scalar(value: &DeValue<'_>) -> Option<SecretText> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        // 0x10 and 0b1 become decimal. A number that is too large stays as written, and the reader of the key refuses it.
        DeValue::Integer(written) => match i128::from_str_radix(written.as_str(), written.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => written.to_string(),
        },
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) | DeValue::Table(_) => return None,
    };
    Some(text.into())
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A key's value, with its origin.
pub(super) struct Setting {
    /// The value as written.
    pub(super) value: Value,
    /// The source of the value.
    pub(super) origin: SettingOrigin,
}

/// Every key with the value of the source of highest precedence.
pub(super) struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// Every key with its default.
    pub(super) fn defaults() -> Self {
        let setting = |key: &schema::Key| Setting { value: key.default.clone(), origin: SettingOrigin::Default };
        Self(KEYS.iter().map(|key| (key.name.as_str(), setting(key))).collect())
    }

    /// The setting of a key.
    pub(super) fn get(&self, key: &str) -> &Setting {
        self.0.get(key).unwrap_or_else(|| unreachable!("the key {key} is not in defaults.toml; a test reads every key"))
    }

    /// Overrides a key.
    pub(super) fn set(&mut self, key: &'static schema::Key, value: Value, origin: SettingOrigin) {
        self.0.insert(&key.name, Setting { value, origin });
    }

    /// Overrides the keys that a configuration file with this text sets.
    pub(super) fn apply_file(&mut self, text: &str, path: &Path, problems: &mut Vec<Problem>) {
        let entries = match parse(text) {
            Ok(entries) => entries,
            Err(problem) => {
                problems.push(Problem { subject: path.display().to_string(), ..problem });
                return;
            }
        };
        for Entry { key, value, line } in entries {
            let origin = SettingOrigin::File { path: path.to_owned(), line };
            match (schema::find(&key), value) {
                (Some(known), value) => self.set(known, value, origin),
                // an empty section sets nothing
                (None, Value::EmptySection) if schema::is_section(&key) => {}
                (None, _) => problems.push(Problem {
                    subject: key.clone(),
                    value: None,
                    origin: Some(origin),
                    text: schema::unknown_key(&key),
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The problems of a file with this text.
    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        Settings::defaults().apply_file(text, Path::new("latchkey.toml"), &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    /// The value of a key after a file with this text was read.
    fn read_one(text: &str, key: &str) -> String {
        let mut settings = Settings::defaults();
        settings.apply_file(text, Path::new("latchkey.toml"), &mut Vec::new());
        match &settings.get(key).value {
            Value::One(text) => text.expose().to_owned(),
            _ => panic!("{key} has no single value"),
        }
    }

    #[test]
    fn keys_are_read_in_every_toml_notation() {
        assert_eq!(read_one("[session]\ngrace = '1s'", "session.grace"), "1s");
        assert_eq!(read_one("session.grace = '2s'", "session.grace"), "2s");
        assert_eq!(read_one("session = { grace = '3s' }", "session.grace"), "3s");
        assert_eq!(read_one("[session]\nmax_per_account = 0x1_0", "session.max_per_account"), "16");
        assert_eq!(read_one("[session]", "session.grace"), "10s", "an empty section leaves the default");
    }

    #[test]
    fn unknown_keys_are_reported_with_their_line() {
        // The parser sorts the keys by name.
        assert_eq!(
            problems("# mine\n[session]\ngrase = '1s'\n\n[colours]\nred = 1\n[paints]\n"),
            [
                "colours.red (latchkey.toml, line 6): no such key; `latchkey config reference` lists all",
                "paints (latchkey.toml, line 7): no such key; `latchkey config reference` lists all",
                "session.grase (latchkey.toml, line 3): no such key; did you mean session.grace?",
            ]
        );
        assert_eq!(
            problems("token = 5"),
            ["token (latchkey.toml, line 1): is a section, not a key; write [token] and its keys below it"]
        );
    }

    #[test]
    fn invalid_toml_is_located_and_not_quoted() {
        for line in ["secret = \"hunter2", "secret = hunter2", "secret hunter2", "secret = 'a' hunter2", "hunter2 ="] {
            let problems = problems(&format!("listen = '[::1]:80'\n{line}\n"));
            assert!(problems[0].starts_with("latchkey.toml: line 2 isn't valid TOML: "), "{problems:?}");
            assert!(!problems[0].contains("hunter2"), "{problems:?}");
        }
    }
}
