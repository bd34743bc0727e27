//! Tests the pages: texts in every language, rendered samples of every page, overrides, and hostile values.

use std::path::Path;

use super::{views::*, *};
use crate::{
    config::{Config, Sources, load},
    domain::{entropy::Entropy, locale::Locale},
};

/// A configuration with the built-in templates. Its data directory no longer exists: the pages do not use it.
fn config() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let mut config = load(&Sources::in_dir(folder.path()), &Entropy::system()).unwrap();
    config.issuer = "https://auth.example.com/id".to_owned();
    config
}

/// A configuration whose `pages.templates` is this folder of overrides.
fn config_with_folder(folder: &Path) -> Config {
    let mut config = config();
    config.pages.templates = Some(folder.to_owned());
    config
}

#[test]
fn every_language_has_every_text_with_the_same_placeholders() {
    let placeholders = |text: &str| {
        let mut names: Vec<_> =
            text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().trim().to_owned()).collect();
        names.sort();
        names
    };
    let texts = |locale| -> toml::Table { catalog::built_in(locale).parse().unwrap() };
    let english = texts(Locale::En);
    for locale in Locale::ALL {
        let all = texts(locale);
        for (section, keys) in &english {
            let keys = keys.as_table().unwrap();
            let own = all.get(section).and_then(toml::Value::as_table).unwrap_or_else(|| panic!("{locale}: {section}"));
            assert_eq!(own.keys().collect::<Vec<_>>(), keys.keys().collect::<Vec<_>>(), "{locale}: {section}");
            for (key, text) in keys {
                let (Some(text), Some(own)) = (text.as_str(), own[key].as_str()) else { continue };
                assert_eq!(placeholders(own), placeholders(text), "{locale}: {section}.{key}");
                // Short words, the format of times and `{{ count }} minutes` may be the same in two languages.
                let may_be_equal = text.len() < 12 || key == "date" || key == "minutes";
                assert!(locale == Locale::En || own != text || may_be_equal, "{locale}: {section}.{key} is English");
            }
        }
        assert_eq!(all.len(), english.len(), "{locale}");
    }
}

#[test]
fn every_text_of_the_built_in_languages_is_used() {
    let templates: String = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/pages/templates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "html"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let pages = Pages::load(&config()).unwrap();
    // Templates or code build these keys from parts, so that no template contains them.
    let is_built_from_parts = |key: &str| {
        let (section, name) = key.split_once('.').unwrap();
        section == "errors"
            || section == "notice"
            || Message::KINDS.contains(&section)
            || ["undo_address", "not_me"].contains(&section)
            || name == "nav"
            || (section == "second_factor" && (name.starts_with("use_") || name.ends_with("_lead")))
            || (section == "consent" && name.starts_with("scope_"))
    };
    let mut unused = pages.keys(Locale::En);
    unused.retain(|key| !is_built_from_parts(key) && !templates.contains(key.as_str()));
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn values_are_escaped() {
    let pages = Pages::load(&config()).unwrap();
    let hostile = "\"><script>alert(1)</script>'{{ csrf }}";
    let view = SignIn { identifier: hostile.to_owned(), can_register: true, ..SignIn::default() };
    let frame = Frame { csrf: hostile.to_owned(), query: format!("?request={hostile}"), ..Frame::default() };
    let html = pages.render(&frame, &view).unwrap();
    assert!(!html.contains("<script>alert"), "{html}");
    // `{{ csrf }}` stays as it is: a value is not evaluated as a template
    assert!(html.contains("value=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;{{ csrf }}\""), "{html}");
}

#[test]
fn paths_start_with_the_path_of_the_issuer() {
    let pages = Pages::load(&config()).unwrap();
    let html = pages.render(&Frame::default(), &SignIn::default()).unwrap();
    assert!(html.contains("action=\"/id/account/sign-in\""), "{html}");
    assert!(html.contains("href=\"/id/account/assets/style-"), "{html}");
}

#[test]
fn page_has_no_inline_script_or_style() {
    let pages = Pages::load(&config()).unwrap();
    let with_errors = true;
    for (name, html) in render_samples(&pages, &Frame::default(), with_errors).unwrap() {
        for inline in ["style=\"", "<style", "javascript:", " onclick", " onload", " onsubmit"] {
            assert!(!html.contains(inline), "{inline}: {name}: {html}");
        }
        assert_eq!(html.matches("<script").count(), 1, "only the script file of all pages: {name}: {html}");
        assert!(!html.contains("{{") && !html.contains("undefined"), "{name}: {html}");
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\""), "{name}: {html}");
    }
}

#[test]
fn every_form_posts_with_a_token() {
    let pages = Pages::load(&config()).unwrap();
    let frame = Frame { csrf: "TOKEN".to_owned(), ..Frame::default() };
    let with_errors = false;
    for (name, html) in render_samples(&pages, &frame, with_errors).unwrap() {
        // The page `form_post` submits an authorization response to an app, which must not get the anti-forgery token.
        let posts_to_latchkey = !name.starts_with("form_post");
        assert!(posts_to_latchkey || !html.contains("TOKEN"), "{name}: {html}");
        for form in html.split("<form").skip(1).filter(|_| posts_to_latchkey) {
            let form = form.split("</form>").next().unwrap();
            assert!(form.starts_with(" method=\"post\""), "{name}: {form}");
            assert!(form.contains("<input type=\"hidden\" name=\"csrf\" value=\"TOKEN\">"), "{name}: {form}");
        }
    }
}

/// An e-mail address has at most 254 bytes ([`crate::domain::account::Email::parse`]), and a username fewer.
#[test]
fn every_field_for_an_address_has_the_limit_of_an_address() {
    let pages = Pages::load(&config()).unwrap();
    let with_errors = false;
    let mut found = 0;
    for (name, html) in render_samples(&pages, &Frame::default(), with_errors).unwrap() {
        for field in ["email", "secondary", "identifier"] {
            for input in html.split(&format!("<input id=\"{field}\"")).skip(1) {
                let input = input.split('>').next().unwrap();
                assert!(input.contains(" maxlength=\"254\""), "{name}: {input}");
                found += 1;
            }
        }
    }
    assert!(found > 0, "no page has a field for an address");
}

#[test]
fn folder_overrides_templates_texts_and_styles() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("de.toml", "[sign_in]\ntitle = \"Hallo bei {{ product }}\"\n");
    write(
        "sign_in.html",
        "{% extends 'layout.html' %}{% block content %}<h1>{{ t('sign_in.title') }}</h1>{% endblock %}",
    );
    write("style.css", ":root { --radius: 0 }");
    let mut config = config_with_folder(folder.path());
    config.pages.product_name = "Acme".to_owned();
    let pages = Pages::load(&config).unwrap();
    let html = pages.render(&Frame { locale: Locale::De, ..Frame::default() }, &SignIn::default()).unwrap();
    assert!(html.contains("<h1>Hallo bei Acme</h1>"), "{html}");
    assert!(pages.assets().style.plain.ends_with(b":root { --radius: 0 }"));
}

#[test]
fn folder_with_a_mistake_is_refused() {
    for (name, text, problem) in [
        ("sign-in.html", "x", "nor the name of a built-in template"),
        ("sign_in.html", "{{ identifer }}", "undefined"),
        ("sign_in.html", "{% if %}", "line 1"),
        ("sign_in.html", "{{ t('sign_in.titel') }}", "sign_in.titel: there is no such text"),
        // Only some pages have an identifier, and all pages use the layout.
        ("layout.html", "{{ identifier }}", "undefined"),
        ("en.toml", "[sign_in]\ntitel = 'x'", "sign_in.titel: there is no such text"),
        ("en.toml", "[sign_in]\ntitle = 1", "must be a string"),
        ("en.toml", "[sign_in]\ntitle = '{{ name }}'", "{{ name }} has no value here"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let error = Pages::load(&config_with_folder(folder.path())).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let error = Pages::load(&config_with_folder(Path::new("/nonexistent"))).unwrap_err();
    assert!(error.to_string().contains("/nonexistent: can't be read"), "{error}");
    let mut config = config();
    config.pages.logo = Some("/nonexistent/logo.svg".into());
    assert!(Pages::load(&config).unwrap_err().to_string().starts_with("pages.logo: /nonexistent/logo.svg"));
}

#[test]
fn qr_code_is_an_svg_of_the_codes_size_without_styles_and_refuses_text_that_is_too_long() {
    let svg = qr_code("otpauth://totp/a?secret=b").unwrap();
    // The 25 bytes need version 2, which has 25 modules a side (ISO/IEC 18004); the quiet zone has 4 modules on each side.
    assert!(svg.starts_with("<svg class=\"qr\" viewBox=\"0 0 33 33\" ") && !svg.contains("style"), "{svg}");
    // The first row has the upper edges of the finder patterns in its corners: 7 dark modules each.
    assert!(svg.contains(" d=\"M4 4h7v1h-7z") && svg.contains("M22 4h7v1h-7z"), "{svg}");
    // No dark module is in the quiet zone. The first `d` draws the white background, and the second the dark modules.
    let path = svg.split(" d=\"").nth(2).and_then(|rest| rest.split('"').next()).unwrap();
    for run in path.split('M').skip(1) {
        let (start, rest) = run.split_once('h').unwrap();
        let (x, y) = start.split_once(' ').unwrap();
        let [x, y] = [x, y].map(|number| number.parse::<usize>().unwrap());
        let length: usize = rest.split_once('v').unwrap().0.parse().unwrap();
        assert!((4..29).contains(&y) && x >= 4 && x + length <= 29, "{run}");
    }
    let too_long = "x".repeat(5000); // a QR code holds at most 2,953 bytes
    assert!(qr_code(&too_long).is_none());
}
