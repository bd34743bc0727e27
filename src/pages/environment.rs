//! The minijinja environments of pages: templates, filters and functions.

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, escape_formatter, value::Kwargs};

use super::{catalog::Catalog, render::PagesError};
use crate::domain::{clock::Timestamp, locale::Locale};

/// Builds the environment that the languages share, with all templates compiled.
pub(super) fn compile_templates(sources: &BTreeMap<String, String>) -> Result<Environment<'static>, PagesError> {
    let mut environment = Environment::new();
    // templates can test an undefined variable with `if`, but not print the variable
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    // minijinja's own escaping would also encode the `/` of links
    environment.set_formatter(|out, state, value| {
        if value.is_safe() {
            return escape_formatter(out, state, value);
        }
        Ok(out.write_str(&escape_html(&value.to_string()))?)
    });
    // `query|with("name=value")` is the query with one more parameter
    environment.add_filter("with", |query: &str, parameter: &str| append_parameter(query, parameter));
    // `query|in_language("de")` is the query that selects this language in place of another
    environment.add_filter("in_language", |query: &str, tag: &str| select_language(query, tag));
    for (name, source) in sources {
        let added = environment.add_template_owned(name.clone(), source.clone());
        added.map_err(|error| PagesError::from_minijinja(name, &error))?;
    }
    Ok(environment)
}

/// Adds what depends on the language to a copy of `shared`: the global `locale`, the function `t` for texts and the filter `time`
/// for times. `defaults` are the values of placeholders that a template does not pass to `t`.
pub(super) fn localize(
    shared: &Environment<'static>,
    locale: Locale,
    catalog: &Arc<Catalog>,
    defaults: &BTreeMap<&'static str, String>,
) -> Environment<'static> {
    let mut environment = shared.clone();
    environment.add_global("locale", locale.as_str());
    let (texts, defaults) = (Arc::clone(catalog), defaults.clone());
    environment.add_function("t", move |key: &str, values: Kwargs| {
        let failed = |reason: String| Error::new(ErrorKind::InvalidOperation, format!("{key}: {reason}"));
        let text = texts.get(key).ok_or_else(|| failed("there is no such text".to_owned()))?;
        let value_of = |placeholder: &str| {
            let passed = values.get::<Option<Value>>(placeholder).ok().flatten();
            passed.map(|value| value.to_string()).or_else(|| defaults.get(placeholder).cloned())
        };
        text.fill(value_of).map_err(failed)
    });
    let catalog = Arc::clone(catalog);
    // `millis|time(zone)` formats a time in milliseconds since the Unix epoch, in UTC if the zone is unknown
    environment.add_filter("time", move |millis: i64, zone: &str| {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        catalog.time(Timestamp::from_millis(millis), &zone)
    });
    environment
}

/// Appends a parameter to a query, which is empty or starts with `?`.
fn append_parameter(query: &str, parameter: &str) -> String {
    let separator = if query.is_empty() { '?' } else { '&' };
    format!("{query}{separator}{parameter}")
}

/// A query with the language `tag` as its only `ui_locales`.
fn select_language(query: &str, tag: &str) -> String {
    let mut parameters: Vec<&str> = query.trim_start_matches('?').split('&').collect();
    parameters.retain(|parameter| !parameter.is_empty() && !parameter.starts_with("ui_locales="));
    let language = format!("ui_locales={tag}");
    parameters.push(&language);
    format!("?{}", parameters.join("&"))
}

/// Escapes text for HTML, in elements and quoted attributes.
fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
