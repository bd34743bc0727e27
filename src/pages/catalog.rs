//! The texts of pages in one language.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::domain::{clock::Timestamp, locale::Locale};

/// The key of [`Catalog::time_pattern`].
const TIME_PATTERN_KEY: &str = "common.date";
/// The key of the names of the twelve months.
const MONTHS_KEY: &str = "common.months";

/// The built-in texts of a language.
pub(super) const fn built_in(locale: Locale) -> &'static str {
    match locale {
        Locale::En => include_str!("templates/en.toml"),
        Locale::De => include_str!("templates/de.toml"),
        Locale::Fr => include_str!("templates/fr.toml"),
        Locale::Es => include_str!("templates/es.toml"),
        Locale::Pt => include_str!("templates/pt.toml"),
    }
}

/// A text with placeholders: `Sign in to {{ product }}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Placeholder(String),
}

impl Text {
    fn parse(source: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some((plain, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or("a placeholder has no end")?;
            let name = name.trim();
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                return Err(format!("{{{{ {name} }}}} is not a placeholder: use lowercase letters and _"));
            }
            parts.push(Part::Plain(plain.to_owned()));
            parts.push(Part::Placeholder(name.to_owned()));
            rest = after;
        }
        parts.push(Part::Plain(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text with the values of its placeholders.
    ///
    /// # Errors
    /// The name of a placeholder without a value.
    pub(super) fn fill(&self, value_of: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Plain(plain) => text.push_str(plain),
                Part::Placeholder(name) => {
                    let value = value_of(name).ok_or_else(|| format!("{{{{ {name} }}}} has no value here"))?;
                    text.push_str(&value);
                }
            }
        }
        Ok(text)
    }
}

/// The texts of a language by key: `sign_in.title`.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    texts: BTreeMap<String, Text>,
    /// How a time is written, with `{day}`, `{month}`, `{year}`, `{time}` and `{zone}`.
    time_pattern: String,
    months: Vec<String>,
}

impl Catalog {
    /// Parses the built-in texts of a language, which define the keys.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let mut catalog = Self { texts: BTreeMap::new(), time_pattern: String::new(), months: Vec::new() };
        let any_key = |_: &str| true;
        catalog.read(source, any_key)?;
        if catalog.time_pattern.is_empty() || catalog.months.len() != 12 {
            return Err(format!("{TIME_PATTERN_KEY} or {MONTHS_KEY} is missing"));
        }
        Ok(catalog)
    }

    /// Replaces texts with the texts of a file, which can only have keys that exist.
    pub(super) fn merge(&mut self, source: &str) -> Result<(), String> {
        let existing = self.texts.clone();
        self.read(source, |key| existing.contains_key(key))
    }

    /// Reads a file of texts into the catalog.
    ///
    /// # Errors
    /// Describes the mistake of the file, such as a key for which `is_known` returns false.
    fn read(&mut self, source: &str, is_known: impl Fn(&str) -> bool) -> Result<(), String> {
        let sections: toml::Table = source.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        for (section, entries) in sections {
            let toml::Value::Table(entries) = entries else { return Err(format!("{section} must be a section")) };
            for (name, value) in entries {
                let key = format!("{section}.{name}");
                match value {
                    toml::Value::Array(months)
                        if key == MONTHS_KEY && months.len() == 12 && months.iter().all(toml::Value::is_str) =>
                    {
                        self.months = months.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect();
                    }
                    toml::Value::String(pattern) if key == TIME_PATTERN_KEY => self.time_pattern = pattern,
                    toml::Value::String(text) if key != MONTHS_KEY => {
                        if !is_known(&key) {
                            return Err(format!("{key}: there is no such text"));
                        }
                        let text = Text::parse(&text).map_err(|error| format!("{key}: {error}"))?;
                        self.texts.insert(key, text);
                    }
                    _ => return Err(format!("{key} must be a string, or twelve strings for months")),
                }
            }
        }
        Ok(())
    }

    /// The text of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Text> {
        self.texts.get(key)
    }

    /// The keys of all texts.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// A time as people of the language write it: `29 November 2026, 22:34`.
    pub(super) fn time(&self, at: Timestamp, zone: &TimeZone) -> String {
        let Ok(time) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return at.to_string() };
        let time = time.to_zoned(zone.clone());
        // `month` counts from 1, and the catalog has twelve names.
        let month_index = usize::from(time.month().unsigned_abs()).saturating_sub(1);
        let month_name = self.months.get(month_index).map_or("", String::as_str);
        self.time_pattern
            .replace("{day}", &time.day().to_string())
            .replace("{month}", month_name)
            .replace("{year}", &time.year().to_string())
            .replace("{time}", &time.strftime("%H:%M").to_string())
            .replace("{zone}", &time.strftime("%Z").to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_placeholders_takes_their_values() {
        let text = Text::parse("Sign in to {{ product }} as {{name}}.").unwrap();
        let value_of = |name: &str| Some(format!("<{name}>"));
        assert_eq!(text.fill(value_of), Ok("Sign in to <product> as <name>.".to_owned()));
        let no_value = |_: &str| None;
        assert!(text.fill(no_value).is_err());
        for bad in ["{{ product", "{{ }}", "{{ a.b }}", "{{ 1 + 1 }}"] {
            assert!(Text::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn months_other_than_twelve_strings_are_refused() {
        let mut catalog = Catalog::parse(built_in(Locale::En)).unwrap();
        for (element, count) in [("'x'", 11), ("1", 12)] {
            let source = format!("[common]\nmonths = [{}]", vec![element; count].join(", "));
            let error = "common.months must be a string, or twelve strings for months";
            assert_eq!(catalog.merge(&source), Err(error.to_owned()), "{source}");
        }
    }
}
