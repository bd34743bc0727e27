//! Parses settings into typed values, one key at a time. The problem of an invalid value is recorded, and the default or an empty
//! list is used in its place, so that all problems are reported together.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{
    duration,
    error::{Problem, SettingOrigin},
    raw::{Settings, Value},
    schema,
};
use crate::domain::secret::SecretText;

/// The maximum number of characters of a value that a message quotes.
const MAX_QUOTED_CHARS: usize = 80;

/// Reads [`Settings`] and collects problems and warnings.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// Keys with a problem. Rules about these keys are not checked.
    refused: BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: Vec::new(), warnings: Vec::new(), refused: BTreeSet::new() }
    }

    /// Reads a single value. If `parse` fails, its error is the text of the problem.
    pub(super) fn one<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let parsed = match &self.settings.get(key).value {
            Value::One(text) => parse(text.expose()),
            _ => Err("must be a single value, not a list or a section".into()),
        };
        parsed.unwrap_or_else(|problem| {
            self.refuse(key, problem);
            match schema::find(key).map(|entry| &entry.default) {
                Some(Value::One(default)) => {
                    parse(default.expose()).unwrap_or_else(|problem| panic_invalid_default(key, &problem))
                }
                _ => panic_invalid_default(key, "is not a single value"),
            }
        })
    }

    /// Reads a list, or a text with items separated by commas. The result is empty if an item is invalid.
    pub(super) fn many<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let items: Result<Vec<T>, String> = match &self.settings.get(key).value {
            Value::Many(items) => items.iter().map(|item| parse(item.expose())).collect(),
            Value::One(text) => {
                text.expose().split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
            }
            Value::Nested | Value::EmptySection => Err("must be a list of plain values".into()),
        };
        items.unwrap_or_else(|problem| {
            self.refuse(key, problem);
            Vec::new()
        })
    }

    /// Reads `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        self.one(key, |text| text.parse().map_err(|_| "must be true or false".into()))
    }

    /// Reads a whole number within `allowed`.
    pub(super) fn number<N>(&mut self, key: &'static str, allowed: RangeInclusive<N>) -> N
    where
        N: FromStr + PartialOrd + Display,
    {
        self.one(key, |text| {
            let number = text.parse().ok().filter(|number| allowed.contains(number));
            number.ok_or_else(|| format!("must be a whole number, {} to {}", allowed.start(), allowed.end()))
        })
    }

    /// Reads a duration between two limits. The error text shows the limits in the units that docs/configuration.md uses.
    pub(super) fn duration(&mut self, key: &'static str, min: Duration, max: Duration) -> Duration {
        self.one(key, |text| {
            let value = duration::parse(text)?;
            if (min..=max).contains(&value) {
                Ok(value)
            } else {
                Err(format!("must be {} to {}", duration::show(min), duration::show(max)))
            }
        })
    }

    /// Reads a number of bytes between two limits.
    pub(super) fn size(&mut self, key: &'static str, min: u64, max: u64) -> usize {
        self.one(key, |text| {
            let out_of_range = || format!("must be {} to {}", duration::show_size(min), duration::show_size(max));
            let value = duration::parse_size(text)?;
            if !(min..=max).contains(&value) {
                return Err(out_of_range());
            }
            usize::try_from(value).map_err(|_| out_of_range())
        })
    }

    /// Reads an optional string. An empty string means `None`.
    pub(super) fn optional(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Option<SecretText> {
        self.one(key, |text| match text {
            "" => Ok(None),
            text => check(text).map(|()| Some(text.into())),
        })
    }

    /// Checks a rule about several keys. If the rule doesn't hold, refuses the first key with `text`, unless one of the keys is refused
    /// already.
    pub(super) fn rule(&mut self, keys: &[&'static str], holds: bool, text: impl FnOnce(&Self) -> String) {
        if !holds && !keys.iter().any(|key| self.refused.contains(key)) {
            let text = text(self);
            self.refuse(keys[0], text);
        }
    }

    /// Records a warning if it is due, unless one of the keys is refused.
    pub(super) fn warn(&mut self, keys: &[&'static str], is_due: bool, text: impl FnOnce() -> String) {
        if is_due && !keys.iter().any(|key| self.refused.contains(key)) {
            self.warnings.push(text());
        }
    }

    /// Whether a key's value, which may be the default, is not empty.
    pub(super) fn is_given(&self, key: &str) -> bool {
        match &self.settings.get(key).value {
            Value::One(text) => !text.expose().is_empty(),
            Value::Many(items) => !items.is_empty(),
            Value::Nested | Value::EmptySection => true,
        }
    }

    /// A key as messages about other keys mention it: `session.absolute_timeout, which is "1d" (latchkey.toml, line 3)`.
    pub(super) fn mention(&self, key: &str) -> String {
        let origin = &self.settings.get(key).origin;
        match self.quote(key) {
            Some(value) => format!("{key}, which is {value} ({origin})"),
            None => format!("{key} ({origin})"),
        }
    }

    /// Records a problem with a key's value.
    pub(super) fn refuse(&mut self, key: &'static str, text: String) {
        let setting = self.settings.get(key);
        let origin = Some(setting.origin.clone());
        self.problems.push(Problem { subject: key.into(), value: self.quote(key), origin, text });
        self.refused.insert(key);
    }

    /// The value as written, in quotes and shortened. `None` if it is secret, nested or an empty section.
    fn quote(&self, key: &str) -> Option<String> {
        if schema::is_secret(key) {
            return None;
        }
        let quoted = |text: &SecretText| {
            let text = text.expose();
            match text.char_indices().nth(MAX_QUOTED_CHARS) {
                Some((end, _)) => {
                    let shortened = format!("{}…", &text[..end]);
                    format!("{shortened:?}")
                }
                None => format!("{text:?}"),
            }
        };
        match &self.settings.get(key).value {
            Value::One(text) => Some(quoted(text)),
            Value::Many(items) => Some(format!("[{}]", items.iter().map(quoted).collect::<Vec<_>>().join(", "))),
            Value::Nested | Value::EmptySection => None,
        }
    }

    /// The origin of a key's value.
    pub(super) fn origin(&self, key: &str) -> &'a SettingOrigin {
        &self.settings.get(key).origin
    }
}

fn panic_invalid_default(key: &str, problem: &str) -> ! {
    unreachable!("the default of {key} {problem}; a test reads every default")
}
