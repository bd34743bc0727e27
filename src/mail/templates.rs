//! Templates: two layouts, and the texts of each mail in each language, rendered by minijinja.
//!
//! A mail is rendered from a layout (`layout.txt`, `layout.html`) and its texts (`en.toml`, …): subject, title, intro, action
//! and outro. A folder (`mail.templates`) can replace layouts, single texts, and the whole text or HTML part of a mail
//! (`password_reset.html`). All templates are rendered with [sample data](super::sample) at start-up, so that an error in one
//! of them is reported then, and not when a user waits for the mail.

mod catalog;
mod facts;
mod text;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, escape_formatter};

use self::{
    catalog::Catalog,
    text::{collapse_blank_lines, escape_html, remove_blank_lines, wrap},
};
use super::{message::Rendered, sample::samples};
use crate::{
    config::MailSettings,
    domain::{
        locale::Locale,
        mail::{Mail, MailData, Template},
    },
};

/// The built-in layouts.
const LAYOUTS: [(&str, &str); 2] =
    [("layout.txt", include_str!("templates/layout.txt")), ("layout.html", include_str!("templates/layout.html"))];

/// The maximum size of a file in `mail.templates`, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// A template can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mail.templates: {name}: {text}")]
pub struct TemplateError {
    /// The file or template.
    name: String,
    /// The reason.
    text: String,
}

impl TemplateError {
    fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Wraps an error of minijinja. The text contains no values of the mail.
    fn from_minijinja(name: &str, error: &minijinja::Error) -> Self {
        let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
        Self::new(error.name().unwrap_or(name), format!("{line}{error}"))
    }
}

/// A part of a mail: text or HTML (RFC 2046, section 5.1.4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Html,
}

impl Part {
    const fn extension(self) -> &'static str {
        match self {
            Self::Text => "txt",
            Self::Html => "html",
        }
    }

    /// The value of a text that was rendered for this part. Layouts must not escape its HTML again.
    fn value_of(self, rendered: String) -> Value {
        match self {
            Self::Text => Value::from(rendered),
            Self::Html => Value::from_safe_string(rendered),
        }
    }
}

/// All templates, checked.
pub struct Templates {
    environment: Environment<'static>,
    /// The texts of all mails, by language.
    catalogs: Vec<(Locale, Catalog)>,
    product: String,
    issuer: String,
}

impl Templates {
    /// Loads the built-in templates and those of `mail.templates`, and renders each once.
    ///
    /// # Errors
    /// [`TemplateError`] for the first template that can't be used.
    pub fn load(settings: &MailSettings, issuer: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        // A template can test whether a fact exists, but printing a missing fact is an error.
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(
            |name| {
                if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
            },
        );
        // The formatter of minijinja also escapes slashes, which makes links unreadable: see `escape_html`.
        environment.set_formatter(|out, state, value| {
            if *state.auto_escape() != AutoEscape::Html || value.is_safe() {
                return escape_formatter(out, state, value);
            }
            Ok(out.write_str(&escape_html(&value.to_string()))?)
        });
        environment.add_filter("wrap", |text: String| wrap(&text));
        for (name, source) in LAYOUTS {
            add_template(&mut environment, name, source)?;
        }
        let mut catalogs = Vec::new();
        for locale in Locale::ALL {
            let built_in = Catalog::parse(catalog::built_in(locale))
                .map_err(|text| TemplateError::new(format!("{locale}.toml"), text))?;
            catalogs.push((locale, built_in));
        }
        if let Some(folder) = &settings.templates {
            read_folder(folder, &mut environment, &mut catalogs)?;
        }
        let templates =
            Self { environment, catalogs, product: settings.product_name.clone(), issuer: issuer.to_owned() };
        templates.check_syntax()?;
        templates.render_samples()?;
        Ok(templates)
    }

    /// Compiles every text, also those that no mail with sample data needs.
    fn check_syntax(&self) -> Result<(), TemplateError> {
        for (locale, catalog) in &self.catalogs {
            for (key, source) in catalog.messages() {
                // the syntax is the same for both parts
                self.compile_message(&message_name(*locale, key, Part::Text), source)?;
            }
        }
        Ok(())
    }

    /// Checks that every template renders in every language, with all facts and with the required ones only.
    fn render_samples(&self) -> Result<(), TemplateError> {
        for template in Template::ALL {
            for data in samples(*template) {
                for locale in Locale::ALL {
                    let rendered = self.render_data(locale, &TimeZone::UTC, "ann@example.com", &data)?;
                    if rendered.subject.trim().is_empty() || rendered.subject.contains(['\r', '\n']) {
                        let name = format!("{locale}.toml");
                        return Err(TemplateError::new(name, format!("the subject of {template} must be one line")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Renders a mail.
    ///
    /// # Errors
    /// [`TemplateError`], which the check at start-up makes unlikely.
    pub fn render(&self, mail: &Mail) -> Result<Rendered, TemplateError> {
        let zone = mail.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        self.render_data(mail.locale, &zone, mail.to.as_str(), &mail.data)
    }

    fn render_data(
        &self,
        locale: Locale,
        zone: &TimeZone,
        recipient: &str,
        data: &MailData,
    ) -> Result<Rendered, TemplateError> {
        let mut facts = facts::collect(data, &self.catalog(locale).time_format(), zone);
        for (name, value) in [("product", self.product.as_str()), ("issuer", &self.issuer), ("recipient", recipient)] {
            facts.insert(name.to_owned(), Value::from(value));
        }
        let template = data.template();
        let subject = self.render_message(locale, &format!("{template}.subject"), Part::Text, &facts)?;
        let text = self.render_part(locale, template, Part::Text, &facts)?;
        let html = self.render_part(locale, template, Part::Html, &facts)?;
        Ok(Rendered {
            subject: subject.trim().to_owned(),
            text: format!("{}\n", collapse_blank_lines(&text)),
            html: remove_blank_lines(&html),
        })
    }

    fn catalog(&self, locale: Locale) -> &Catalog {
        let found = self.catalogs.iter().find(|(known, _)| *known == locale);
        found.map_or_else(|| unreachable!("every language has a catalog"), |(_, catalog)| catalog)
    }

    /// Renders one part of a mail with the template's own file in `mail.templates`, or with the layout if there is none.
    fn render_part(
        &self,
        locale: Locale,
        template: Template,
        part: Part,
        facts: &BTreeMap<String, Value>,
    ) -> Result<String, TemplateError> {
        let values = self.layout_values(locale, template, part, facts)?;
        let extension = part.extension();
        let own_file = format!("{template}.{extension}");
        let layout = format!("layout.{extension}");
        let found = self.environment.get_template(&own_file).or_else(|_| self.environment.get_template(&layout));
        let found = found.map_err(|error| TemplateError::from_minijinja(&layout, &error))?;
        render_template(&found, &values)
    }

    /// The values for a layout: the facts, and the rendered texts. A text about a fact that the mail lacks is left out.
    fn layout_values(
        &self,
        locale: Locale,
        template: Template,
        part: Part,
        facts: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Value>, TemplateError> {
        let mut values = facts.clone();
        values.insert("locale".to_owned(), Value::from(locale.as_str()));
        let mut put_text = |name: &str, key: &str| -> Result<(), TemplateError> {
            let text = self.render_message(locale, key, part, facts)?;
            values.insert(name.to_owned(), part.value_of(text));
            Ok(())
        };
        let has = |fact: &str| facts.contains_key(fact);
        put_text("subject", &format!("{template}.subject"))?;
        put_text("title", &format!("{template}.title"))?;
        for (name, is_needed) in [("action", has("link")), ("outro", true)] {
            let key = format!("{template}.{name}");
            if is_needed && self.catalog(locale).has(&key) {
                put_text(name, &key)?;
            }
        }
        if has("code") {
            put_text("code_label", if has("link") { "common.code_label" } else { "common.only_code_label" })?;
        }
        for (key, is_needed) in [
            ("link_hint", has("link")),
            ("expires_line", has("expires")),
            ("when", has("at")),
            ("from_address", has("address")),
            ("on_device", has("device")),
            ("not_me_text", has("not_me")),
            ("not_me_action", has("not_me")),
            ("footer", true),
        ] {
            if is_needed {
                put_text(key, &format!("common.{key}"))?;
            }
        }
        let intro = self.render_message(locale, &format!("{template}.intro"), part, facts)?;
        let paragraphs = intro.split("\n\n").map(|paragraph| part.value_of(paragraph.trim().replace('\n', " ")));
        values.insert("intro".to_owned(), Value::from(paragraphs.collect::<Vec<_>>()));
        Ok(values)
    }

    fn render_message(
        &self,
        locale: Locale,
        key: &str,
        part: Part,
        facts: &BTreeMap<String, Value>,
    ) -> Result<String, TemplateError> {
        let name = message_name(locale, key, part);
        let source =
            self.catalog(locale).message(key).ok_or_else(|| TemplateError::new(&name, "there is no such text"))?;
        render_template(&self.compile_message(&name, source)?, facts)
    }

    /// Compiles a text. The compiled text is not kept: the 840 texts would take 8 KiB each, and a mail needs few.
    fn compile_message<'a>(
        &'a self,
        name: &'a str,
        source: &'a str,
    ) -> Result<minijinja::Template<'a, 'a>, TemplateError> {
        let compiled = self.environment.template_from_named_str(name, source);
        compiled.map_err(|error| TemplateError::from_minijinja(name, &error))
    }
}

fn render_template(
    template: &minijinja::Template<'_, '_>,
    values: &BTreeMap<String, Value>,
) -> Result<String, TemplateError> {
    let rendered = template.render(Value::from(values.clone()));
    rendered.map_err(|error| TemplateError::from_minijinja(template.name(), &error))
}

impl std::fmt::Debug for Templates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Templates")
    }
}

/// The name by which errors show a text of a catalog. It ends with the part's extension, which decides whether HTML is escaped.
fn message_name(locale: Locale, key: &str, part: Part) -> String {
    format!("{locale}.toml: {key}.{}", part.extension())
}

fn add_template(environment: &mut Environment<'static>, name: &str, source: &str) -> Result<(), TemplateError> {
    let added = environment.add_template_owned(name.to_owned(), source.to_owned());
    added.map_err(|error| TemplateError::from_minijinja(name, &error))
}

/// Reads the files of `mail.templates`, in the order of their names. Each must have the name of a layout, of a language's texts, or
/// of a kind of mail, so that a misspelt name is noticed.
fn read_folder(
    folder: &Path,
    environment: &mut Environment<'static>,
    catalogs: &mut [(Locale, Catalog)],
) -> Result<(), TemplateError> {
    let folder_error =
        |error: std::io::Error| TemplateError::new(folder.display().to_string(), format!("can't be read: {error}"));
    let entries = fs::read_dir(folder).map_err(folder_error)?;
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(folder_error)?.path());
    }
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_hidden_or_backup = name.starts_with('.') || name.ends_with('~');
        if is_hidden_or_backup {
            continue;
        }
        let file_error = |text: String| TemplateError::new(path.display().to_string(), text);
        let size = fs::metadata(&path).map_err(|error| file_error(error.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(file_error(format!("is larger than {MAX_FILE_BYTES} bytes")));
        }
        let source = fs::read_to_string(&path).map_err(|error| file_error(error.to_string()))?;
        let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, ""));
        let is_layout_or_mail = stem == "layout" || stem.parse::<Template>().is_ok();
        match (extension, stem.parse::<Locale>()) {
            ("toml", Ok(locale)) => {
                let catalog = catalogs.iter_mut().find(|(known, _)| *known == locale);
                let (_, catalog) = catalog.unwrap_or_else(|| unreachable!("every language has a catalog"));
                catalog.merge(&source).map_err(file_error)?;
            }
            ("txt" | "html", _) if is_layout_or_mail => add_template(environment, &name, &source)?,
            _ => {
                return Err(file_error(
                    "is neither layout.txt, layout.html, a template such as password_reset.html, nor texts such as en.toml"
                        .to_owned(),
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
