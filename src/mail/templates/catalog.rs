//! The texts of mails in one language. An operator's file can replace built-in texts.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use crate::domain::{clock::Timestamp, locale::Locale, mail::Template};

/// The keys of the texts that every mail can use, in the section `common`.
const COMMON: [&str; 10] = [
    "code_label",
    "only_code_label",
    "link_hint",
    "expires_line",
    "when",
    "from_address",
    "on_device",
    "not_me_text",
    "not_me_action",
    "footer",
];

/// The key of [`Catalog::time_pattern`], in the section `common`.
const TIME_PATTERN: &str = "date";
/// The key of the names of the months, in the section `common`.
const MONTHS: &str = "months";

/// The keys of the texts that every mail must have, in its own section.
const REQUIRED: [&str; 3] = ["subject", "title", "intro"];
/// The keys of the texts that a mail may have.
const OPTIONAL: [&str; 2] = ["action", "outro"];

/// The built-in texts of a language.
pub(super) const fn built_in(locale: Locale) -> &'static str {
    match locale {
        Locale::En => include_str!("en.toml"),
        Locale::De => include_str!("de.toml"),
        Locale::Fr => include_str!("fr.toml"),
        Locale::Es => include_str!("es.toml"),
        Locale::Pt => include_str!("pt.toml"),
    }
}

/// The texts of a language.
#[derive(Clone, Debug)]
pub(super) struct Catalog {
    /// The texts by section and key, such as `password_reset.subject`. minijinja fills in their placeholders.
    messages: BTreeMap<String, String>,
    /// How a time is written. The placeholders are `{day}`, `{month}`, `{year}`, `{time}` and `{zone}`.
    time_pattern: String,
    months: Vec<String>,
}

/// Writes times in one language.
pub(super) struct TimeFormat<'a> {
    pattern: &'a str,
    months: &'a [String],
}

impl Catalog {
    /// Parses the texts of a language, and checks that no required text is missing.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let mut catalog = Self { messages: BTreeMap::new(), time_pattern: String::new(), months: Vec::new() };
        catalog.merge(source)?;
        let common = COMMON.iter().map(|key| format!("common.{key}"));
        let per_mail = Template::ALL.iter().flat_map(|template| REQUIRED.map(|key| format!("{template}.{key}")));
        if let Some(key) = common.chain(per_mail).find(|key| !catalog.has(key)) {
            return Err(format!("{key} is missing"));
        }
        if catalog.time_pattern.is_empty() || catalog.months.is_empty() {
            return Err("common.date or common.months is missing".to_owned());
        }
        Ok(catalog)
    }

    /// Replaces texts with those of `source`, a TOML file that need not have all sections and keys.
    pub(super) fn merge(&mut self, source: &str) -> Result<(), String> {
        let table: toml::Table = source.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        for (section, texts) in table {
            let is_common = section == "common";
            if !is_common && section.parse::<Template>().is_err() {
                return Err(format!("[{section}]: there is no such mail"));
            }
            let toml::Value::Table(texts) = texts else { return Err(format!("{section} must be a section")) };
            for (key, value) in texts {
                let known = if is_common {
                    COMMON.contains(&key.as_str()) || key == TIME_PATTERN || key == MONTHS
                } else {
                    REQUIRED.contains(&key.as_str()) || OPTIONAL.contains(&key.as_str())
                };
                let full_key = format!("{section}.{key}");
                if !known {
                    return Err(format!("{full_key}: there is no such text"));
                }
                match value {
                    toml::Value::Array(months)
                        if is_common
                            && key == MONTHS
                            && months.len() == 12
                            && months.iter().all(toml::Value::is_str) =>
                    {
                        self.months = months.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect();
                    }
                    toml::Value::String(text) if is_common && key == TIME_PATTERN => self.time_pattern = text,
                    toml::Value::String(text) if key != MONTHS => {
                        self.messages.insert(full_key, text);
                    }
                    _ => return Err(format!("{full_key} must be a string, or twelve strings for months")),
                }
            }
        }
        Ok(())
    }

    /// Whether there is a text with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.messages.contains_key(key)
    }

    /// All texts except the pattern of times and the months, with their keys.
    pub(super) fn messages(&self) -> impl Iterator<Item = (&str, &str)> {
        self.messages.iter().map(|(key, text)| (key.as_str(), text.as_str()))
    }

    /// The text with this key.
    pub(super) fn message(&self, key: &str) -> Option<&str> {
        self.messages.get(key).map(String::as_str)
    }

    pub(super) fn time_format(&self) -> TimeFormat<'_> {
        TimeFormat { pattern: &self.time_pattern, months: &self.months }
    }
}

impl TimeFormat<'_> {
    /// Formats a time in a time zone, such as `29 November 2026, 22:34 UTC`.
    pub(super) fn format(&self, at: Timestamp, zone: &TimeZone) -> String {
        // fails for years that jiff can't represent
        let Ok(time) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return at.to_string() };
        let time = time.to_zoned(zone.clone());
        // jiff counts months from 1
        let month_index = usize::from(time.month().unsigned_abs()).saturating_sub(1);
        let month = self.months.get(month_index).map_or("", String::as_str);
        self.pattern
            .replace("{day}", &time.day().to_string())
            .replace("{month}", month)
            .replace("{year}", &time.year().to_string())
            .replace("{time}", &time.strftime("%H:%M").to_string())
            .replace("{zone}", &time.strftime("%Z").to_string())
    }
}
