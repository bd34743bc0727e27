//! The one list of keys, read from `defaults.toml`: which there are, what they default to, and what a typo may mean.

use std::sync::LazyLock;

use super::raw::{self, Value};

/// The manual itself.
pub const TEXT: &str = include_str!("defaults.toml");

/// Keys whose values are never shown, in the order of the manual. URLs are among them because of their passwords.
const SECRET: [&str; 7] = [
    "secret",
    "secret_previous",
    "redis.url",
    "database.url",
    "database.migrate_url",
    "password.pepper",
    "password.previous_peppers",
];

/// What every variable's name starts with.
pub(super) const PREFIX: &str = "LATCHKEY_";

/// A key of the manual.
pub(super) struct Key {
    /// Its name: `session.grace`.
    pub(super) name: String,
    /// Its environment variable: `LATCHKEY_SESSION_GRACE`.
    pub(super) variable: String,
    /// What it is if nobody sets it.
    pub(super) default: Value,
}

/// Every key, in the order of the manual.
pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut entries =
        raw::parse(TEXT).unwrap_or_else(|problem| unreachable!("tests read the manual: {}", problem.text));
    entries.sort_by_key(|entry| entry.line);
    let key = |entry: raw::Entry| Key { variable: variable(&entry.key), name: entry.key, default: entry.value };
    entries.into_iter().map(key).collect()
});

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The default of a key with a single value, as written in `defaults.toml`; empty if there is no such key.
pub(crate) fn default_text(name: &str) -> &'static str {
    match find(name).map(|key| &key.default) {
        Some(Value::One(text)) => text.expose(),
        _ => "",
    }
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}

/// Whether a key's value is never to be shown.
pub(super) fn is_secret(key: &str) -> bool {
    SECRET.contains(&key)
}

/// Whether keys stand below `[name]`.
pub(super) fn is_section(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// Says that there is no such key, and which one may be meant.
pub(super) fn unknown_key(name: &str) -> String {
    if is_section(name) {
        return format!("is a section, not a key; write [{name}] and its keys below it");
    }
    let last = name.rsplit('.').next();
    let moved = KEYS.iter().map(|key| key.name.as_str()).filter(|key| key.rsplit('.').next() == last);
    let moved: Vec<_> = moved.collect();
    match moved[..] {
        // The right word in the wrong section, and only one section has it.
        [key] => meant("key", Some(key)),
        _ => meant("key", nearest(name, KEYS.iter().map(|key| key.name.as_str()))),
    }
}

/// Says that there is no such variable, and which one may be meant.
pub(super) fn unknown_variable(name: &str) -> String {
    let known = KEYS.iter().map(|key| key.variable.as_str()).chain(["LATCHKEY_CONFIG"]);
    // Letters of the common prefix would make every short name look alike.
    let short = known.filter_map(|variable| variable.strip_prefix(PREFIX));
    let near = nearest(name.strip_prefix(PREFIX).unwrap_or(name), short).map(|short| format!("{PREFIX}{short}"));
    meant("variable", near.as_deref())
}

fn meant(kind: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("no such {kind}; did you mean {near}?"),
        None => format!("no such {kind}; `latchkey config --defaults` explains all there are"),
    }
}

/// The candidate that differs least, if it differs by little enough to be meant: one letter in four.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
    let (near, distance) = candidates.map(|key| (key, distance(key))).min_by_key(|(_, distance)| *distance)?;
    (distance <= 1 + near.len() / 4).then_some(near)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The comment lines right above a key, without their marks.
    fn comment(key: &str) -> Vec<&'static str> {
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        let mut here = "";
        let mut lines = Vec::new();
        for line in TEXT.lines() {
            if let Some(header) = line.strip_prefix('[') {
                here = header.trim_end_matches(']');
            }
            match line.strip_prefix("# ") {
                Some(text) => lines.push(text),
                None if here == section && line.split(" = ").next() == Some(name) => return lines,
                None => lines.clear(),
            }
        }
        panic!("{key} is not in the manual")
    }

    #[test]
    fn every_key_has_a_sentence_and_its_variable() {
        for key in KEYS.iter() {
            let comment = comment(&key.name);
            assert!(comment.len() >= 2, "{} needs a sentence and its variable", key.name);
            assert!(comment[0].chars().next().is_some_and(char::is_uppercase), "{}: {}", key.name, comment[0]);
            assert_eq!(comment.last(), Some(&key.variable.as_str()), "the variable of {}", key.name);
        }
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: BTreeSet<_> = KEYS.iter().map(|key| &key.variable).collect();
        assert_eq!(variables.len(), KEYS.len());
    }

    #[test]
    fn secret_keys_exist() {
        for key in SECRET {
            assert!(find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn lines_of_the_manual_are_short() {
        for line in TEXT.lines() {
            assert!(line.len() <= 120, "{line}");
        }
    }

    #[test]
    fn typos_are_understood() {
        for (typo, key) in [
            ("sesion.grace", "session.grace"),
            ("session.max_per_acount", "session.max_per_account"),
            ("tokens.access_ttl", "token.access_ttl"),
            ("access_ttl", "token.access_ttl"),
            ("Listen", "listen"),
        ] {
            assert_eq!(unknown_key(typo), format!("no such key; did you mean {key}?"));
        }
        assert_eq!(unknown_key("colour"), "no such key; `latchkey config --defaults` explains all there are");
        assert_eq!(unknown_key("session"), "is a section, not a key; write [session] and its keys below it");
        assert_eq!(unknown_variable("LATCHKEY_REDIS_URI"), "no such variable; did you mean LATCHKEY_REDIS_URL?");
        assert_eq!(
            unknown_variable("LATCHKEY_COLOUR"),
            "no such variable; `latchkey config --defaults` explains all there are"
        );
    }
}
