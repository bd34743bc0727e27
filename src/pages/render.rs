//! Renders pages. Each language has a minijinja environment of its own, so that templates need not pass the language. The
//! environments share the compiled templates.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use minijinja::{
    Environment, Error, Value, context,
    value::{Serde, merge_maps},
};
use url::Url;

use super::{
    assets::{Asset, Assets},
    catalog::{self, Catalog},
    environment::{compile_templates, localize},
    folder::{load_logo, read_folder},
    style,
    views::{self, View},
};
use crate::{config::Config, domain::locale::Locale};

/// The built-in templates.
const TEMPLATES: &[(&str, &str)] = &[
    ("layout.html", include_str!("templates/layout.html")),
    ("account.html", include_str!("templates/account.html")),
    ("parts.html", include_str!("templates/parts.html")),
    ("sign_in.html", include_str!("templates/sign_in.html")),
    ("sign_in_code.html", include_str!("templates/sign_in_code.html")),
    ("second_factor.html", include_str!("templates/second_factor.html")),
    ("enrol.html", include_str!("templates/enrol.html")),
    ("register.html", include_str!("templates/register.html")),
    ("verify_address.html", include_str!("templates/verify_address.html")),
    ("forgot_password.html", include_str!("templates/forgot_password.html")),
    ("reset_password.html", include_str!("templates/reset_password.html")),
    ("link.html", include_str!("templates/link.html")),
    ("message.html", include_str!("templates/message.html")),
    ("profile.html", include_str!("templates/profile.html")),
    ("address.html", include_str!("templates/address.html")),
    ("password.html", include_str!("templates/password.html")),
    ("security.html", include_str!("templates/security.html")),
    ("totp.html", include_str!("templates/totp.html")),
    ("recovery_codes.html", include_str!("templates/recovery_codes.html")),
    ("devices.html", include_str!("templates/devices.html")),
    ("data.html", include_str!("templates/data.html")),
    ("reauthenticate.html", include_str!("templates/reauthenticate.html")),
    ("consent.html", include_str!("templates/consent.html")),
    ("select_account.html", include_str!("templates/select_account.html")),
    ("form_post.html", include_str!("templates/form_post.html")),
    ("sign_out.html", include_str!("templates/sign_out.html")),
];

const STYLE: &str = include_str!("templates/style.css");
const SCRIPT: &str = include_str!("templates/script.js");

/// The path that all pages begin with, below the path of the issuer.
const PREFIX: &str = "/account";

/// Pages can't be served as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {text}")]
pub struct PagesError {
    /// The file or template.
    name: String,
    /// The reason.
    text: String,
}

impl PagesError {
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// An error of minijinja in the template `name`, or in the one that the error names. Without values of the context.
    pub(super) fn from_minijinja(name: &str, error: &Error) -> Self {
        let line = error.line().map_or_else(String::new, |line| format!("line {line}: "));
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        Self::new(format!("pages.templates: {}", error.name().unwrap_or(name)), format!("{line}{error}{cause}"))
    }
}

/// The errors of a form, by the stable codes that the API has for them.
#[derive(Clone, Debug, Default)]
pub struct FormErrors {
    /// The error of the whole form.
    pub general: Option<String>,
    /// The name and the code of each wrong field. The page shows the error beside the field.
    pub fields: Vec<(String, String)>,
    /// How long to wait before the next try.
    pub retry_after: Option<Duration>,
}

impl FormErrors {
    /// An error of the whole form.
    pub fn general(code: &str) -> Self {
        Self { general: Some(code.to_owned()), ..Self::default() }
    }

    /// An error of one field.
    pub fn field(field: &str, code: &str) -> Self {
        Self { fields: vec![(field.to_owned(), code.to_owned())], ..Self::default() }
    }

    /// Whether there are no errors.
    pub fn is_empty(&self) -> bool {
        self.general.is_none() && self.fields.is_empty()
    }
}

/// The values that every page has besides its own content.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The language of the page.
    pub locale: Locale,
    /// The time zone in which times are shown; UTC if none.
    pub time_zone: Option<String>,
    /// The token that the forms of the page carry.
    pub csrf: String,
    /// The query that links and forms keep: the authorization request and the language; empty or starts with `?`.
    pub query: String,
    /// The path of the page, for links to itself in other languages.
    pub path: String,
    /// Errors of the submitted form.
    pub errors: FormErrors,
    /// The key of a text that reports success: `notice.saved`.
    pub notice: Option<&'static str>,
    /// The name of the signed-in account.
    pub account: Option<String>,
}

/// All pages in all languages. [`Pages::load`] has checked that they can be rendered.
pub struct Pages {
    environments: Vec<(Locale, Environment<'static>, Arc<Catalog>)>,
    assets: Assets,
    /// The values that are the same on all pages.
    globals: Value,
    /// Values of placeholders in texts, unless a template passes others.
    defaults: BTreeMap<&'static str, String>,
    default_locale: Locale,
}

impl Pages {
    /// Loads the built-in pages and the files of `pages.templates`, and renders all pages with sample data.
    ///
    /// # Errors
    /// [`PagesError`] for the first file that can't be used.
    pub fn load(config: &Config) -> Result<Self, PagesError> {
        let (settings, password) = (&config.pages, &config.password);
        let issuer_path =
            Url::parse(&config.issuer).map(|url| url.path().trim_end_matches('/').to_owned()).unwrap_or_default();
        let pages_path = format!("{issuer_path}{PREFIX}");
        let mut sources: BTreeMap<String, String> =
            TEMPLATES.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        let mut catalogs = Vec::new();
        for locale in Locale::ALL {
            let catalog = Catalog::parse(catalog::built_in(locale));
            catalogs.push((locale, catalog.map_err(|text| PagesError::new(format!("{locale}.toml"), text))?));
        }
        let mut stylesheet = STYLE.to_owned();
        if let Some(folder) = &settings.templates {
            read_folder(folder, &mut sources, &mut catalogs, &mut stylesheet)?;
        }
        let assets = Assets {
            style: Asset::new(
                "style",
                "css",
                "text/css; charset=utf-8",
                style::with_colours(&stylesheet, settings.accent, settings.accent_dark).into(),
            ),
            script: Asset::new("script", "js", "text/javascript; charset=utf-8", SCRIPT.into()),
            logo: settings.logo.as_deref().map(load_logo).transpose()?,
        };
        let product = settings.product_name.clone();
        let defaults: BTreeMap<&'static str, String> = [
            ("product", product.clone()),
            ("min_length", password.min_length.to_string()),
            ("max_length", password.max_length.to_string()),
        ]
        .into();
        let shared = compile_templates(&sources)?;
        let mut environments = Vec::new();
        for (locale, catalog) in catalogs {
            let catalog = Arc::new(catalog);
            environments.push((locale, localize(&shared, locale, &catalog, &defaults), catalog));
        }
        let asset_path = |asset: &Asset| format!("{pages_path}/assets/{}", asset.name);
        // shown if there is no logo: the first letter in upper case, which may have two characters (`SS` for `ß`)
        let monogram: String = product.chars().next().into_iter().flat_map(char::to_uppercase).collect();
        let globals = context! {
            product => product, monogram => monogram, path => &pages_path, api => &issuer_path,
            style => asset_path(&assets.style), script => asset_path(&assets.script),
            logo => assets.logo.as_ref().map(asset_path),
            terms_url => settings.terms_url.clone(), privacy_url => settings.privacy_url.clone(), support_url => settings.support_url.clone(),
            languages => Locale::ALL.map(|locale| context! { tag => locale.as_str(), name => name_of(locale) }),
        };
        let pages = Self { environments, assets, globals, defaults, default_locale: config.mail.default_locale };
        pages.check()?;
        Ok(pages)
    }

    /// Renders every state of every page in every language.
    fn check(&self) -> Result<(), PagesError> {
        for locale in Locale::ALL {
            let path = format!("{PREFIX}/sign-in");
            let frame = Frame { locale, path, account: Some("ann@example.com".to_owned()), ..Frame::default() };
            for with_errors in [false, true] {
                views::render_samples(self, &frame, with_errors)?;
            }
        }
        Ok(())
    }

    /// The files that pages load.
    pub const fn assets(&self) -> &Assets {
        &self.assets
    }

    /// The language of a visitor: the first supported one of `ui_locales` (OpenID Connect Core, section 3.1.2.1), the account's, the
    /// best of `Accept-Language`, or the default.
    pub fn locale(&self, ui_locales: Option<&str>, account: Option<&str>, accept_language: Option<&str>) -> Locale {
        // only the first 16 tags are read, to bound the work
        let requested = ui_locales.and_then(|tags| tags.split(' ').take(16).find_map(Locale::from_tag));
        requested.unwrap_or_else(|| Locale::choose(account, accept_language, self.default_locale))
    }

    /// Renders a page.
    ///
    /// # Errors
    /// [`PagesError`], which the check at start-up makes unlikely.
    pub fn render<V: View>(&self, frame: &Frame, view: &V) -> Result<String, PagesError> {
        let (environment, catalog) = self.language(frame.locale);
        let text = |code: &str| self.error_text(catalog, code, frame.errors.retry_after);
        let fields: BTreeMap<&str, String> =
            frame.errors.fields.iter().map(|(field, code)| (field.as_str(), text(code))).collect();
        let general_code = match &frame.errors.general {
            Some(code) => Some(code.as_str()),
            None if frame.errors.fields.is_empty() => None,
            None => Some("check_fields"),
        };
        let zone = frame.time_zone.as_deref().unwrap_or("UTC");
        let values = merge_maps([
            self.globals.clone(),
            Value::from(Serde(view)),
            context! {
                csrf => &frame.csrf, query => &frame.query, here => &frame.path, account => &frame.account,
                errors => fields, error => general_code.map(text),
                notice => frame.notice, time_zone => zone, page => V::TEMPLATE.trim_end_matches(".html"),
            },
        ]);
        let template =
            environment.get_template(V::TEMPLATE).map_err(|error| PagesError::from_minijinja(V::TEMPLATE, &error))?;
        let rendered = template.render(values).map_err(|error| PagesError::from_minijinja(V::TEMPLATE, &error))?;
        Ok(remove_empty_lines(&rendered))
    }

    /// The environment and the texts of a language.
    fn language(&self, locale: Locale) -> (&Environment<'static>, &Catalog) {
        let found = self.environments.iter().find(|(known, ..)| *known == locale);
        let Some((_, environment, catalog)) = found else { unreachable!("every language has an environment") };
        (environment, catalog)
    }

    /// The text of an error; a general text if the error has no text of its own.
    fn error_text(&self, catalog: &Catalog, code: &str, retry_after: Option<Duration>) -> String {
        // the text `errors.KEY`, with `value` for the placeholder `name` and the defaults for the others
        let filled = |key: &str, name: &str, value: &str| {
            let value_of = |placeholder: &str| {
                if placeholder == name { Some(value.to_owned()) } else { self.defaults.get(placeholder).cloned() }
            };
            catalog.get(&format!("errors.{key}")).and_then(|text| text.fill(value_of).ok())
        };
        let (unit, count) = unit_and_count(retry_after.unwrap_or_default());
        // such as "5 minutes"; only texts of errors with `retry_after` show it
        let wait = filled(unit, "count", &count.to_string()).unwrap_or_default();
        filled(code, "wait", &wait).or_else(|| filled("other", "wait", &wait)).unwrap_or_default()
    }

    /// Whether the language has a text for the error with this code.
    pub fn has_error_text(&self, locale: Locale, code: &str) -> bool {
        self.has_text(locale, &format!("errors.{code}"))
    }

    /// Whether the language has a text with this key.
    pub fn has_text(&self, locale: Locale, key: &str) -> bool {
        self.language(locale).1.get(key).is_some()
    }

    /// The keys of the texts of a language.
    pub fn keys(&self, locale: Locale) -> BTreeSet<String> {
        self.language(locale).1.keys().map(str::to_owned).collect()
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

/// The unit of a time to wait, and the number of these units, rounded up. The number is at least two, so texts need no singular.
fn unit_and_count(time: Duration) -> (&'static str, u64) {
    match time.as_secs() + u64::from(time.subsec_nanos() > 0) {
        seconds @ 0..120 => ("seconds", seconds.max(2)),
        seconds @ 120..7200 => ("minutes", seconds.div_ceil(60)),
        seconds => ("hours", seconds.div_ceil(3600)),
    }
}

/// The name of a language in itself.
const fn name_of(locale: Locale) -> &'static str {
    match locale {
        Locale::En => "English",
        Locale::De => "Deutsch",
        Locale::Fr => "Français",
        Locale::Es => "Español",
        Locale::Pt => "Português",
    }
}

/// The text without the empty lines that the tags of templates leave.
fn remove_empty_lines(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Renders the samples of one page, and adds the name and the HTML of each to `rendered`. With `with_errors`, the page shows a
/// notice, an error of the form and an error of each field.
pub(super) fn render_view<V: View>(
    pages: &Pages,
    frame: &Frame,
    with_errors: bool,
    rendered: &mut Vec<(String, String)>,
) -> Result<(), PagesError> {
    let mut frame = frame.clone();
    if with_errors {
        let fields = V::FIELDS.iter().map(|field| ((*field).to_owned(), "required".to_owned())).collect();
        frame.errors = FormErrors { fields, ..FormErrors::general("other") };
        frame.notice = Some("notice.saved");
    }
    for (number, view) in V::samples().iter().enumerate() {
        let name = format!("{}-{}", V::TEMPLATE.trim_end_matches(".html"), number + 1);
        rendered.push((name, pages.render(&frame, view)?));
    }
    Ok(())
}
