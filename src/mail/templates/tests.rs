//! Tests of every template in every language, of overrides, and of hostile values.

use std::path::Path;

use super::*;
use crate::{
    config::{Sources, load},
    domain::{
        account::Email,
        clock::Timestamp,
        entropy::Entropy,
        mail::{ActionOrigin, LinkAndCode, Recipient},
    },
    mail::sample::sample,
};

fn settings(templates: Option<&Path>) -> MailSettings {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = load(&Sources::in_dir(folder.path()), &Entropy::system()).unwrap().mail;
    settings.templates = templates.map(Path::to_owned);
    settings
}

fn built_in() -> Templates {
    Templates::load(&settings(None), "https://auth.example.com").unwrap()
}

/// A mail to `ann@example.com`.
fn mail(locale: Locale, data: MailData) -> Mail {
    let to = Recipient::new(&Email::parse("ann@example.com").unwrap()).unwrap();
    Mail { to, locale, time_zone: None, account: None, data }
}

#[test]
fn every_template_has_subject_text_and_html_in_every_language() {
    let templates = built_in();
    for locale in Locale::ALL {
        for template in Template::ALL {
            let data = sample(*template);
            let rendered = templates.render(&mail(locale, data.clone())).unwrap();
            let name = format!("{locale} {template}");
            let subject = &rendered.subject;
            assert!(subject.contains("Latchkey"), "{name}: {subject}");
            assert!(subject.len() < 100, "{name}: {subject}");
            assert!(rendered.html.contains(&format!("<html lang=\"{locale}\"")), "{name}");
            for part in [&rendered.text, &rendered.html] {
                // A missing value would be rendered as "undefined" or "none". The comma excludes "none;" of CSS.
                for mistake in ["{{", "undefined", "none,"] {
                    assert!(!part.contains(mistake), "{name}: {part}");
                }
                assert!(part.contains("ann@example.com"), "{name}: {part}");
            }
            if let Some(LinkAndCode { link, code, .. }) = data.challenge() {
                assert!(rendered.text.contains(link.expose()), "{name}: {}", rendered.text);
                assert!(code.as_ref().is_none_or(|code| rendered.text.contains(code.expose())), "{name}");
            }
            // Mail programs must not break lines without links. `wrap` counts characters, of which some take two bytes.
            for line in rendered.text.lines().filter(|line| !line.contains("://")) {
                assert!(line.len() <= 90, "{name}: {line}");
            }
        }
    }
}

#[test]
fn notice_states_when_where_and_what_to_do() {
    let rendered = built_in().render(&mail(Locale::En, sample(Template::NewDevice))).unwrap();
    for part in [&rendered.text, &rendered.html] {
        for fact in ["29 November 2026, 09:30 UTC", "192.0.2.17", "Firefox, Linux", "account/not-me#token="] {
            assert!(part.contains(fact), "{fact}: {part}");
        }
    }
}

#[test]
fn times_are_shown_in_the_time_zone_of_the_recipient() {
    let mail = Mail { time_zone: Some("Europe/Berlin".to_owned()), ..mail(Locale::De, sample(Template::NewDevice)) };
    let text = built_in().render(&mail).unwrap().text;
    // The sample data have 09:30 UTC.
    assert!(text.contains("29. November 2026, 10:30 CET"), "{text}");
}

#[test]
fn values_are_escaped_in_html_and_not_in_text() {
    let hostile = MailData::AddressChanged {
        new_address: "<b onclick=x>&\"@example.com".to_owned(),
        undo: LinkAndCode {
            link: "https://a.example/?a=1&b=\"><script>".into(),
            code: None,
            expires_at: Timestamp::from_millis(0),
        },
        origin: ActionOrigin { at: Timestamp::from_millis(0), address: None, device: None },
    };
    let rendered = built_in().render(&mail(Locale::En, hostile)).unwrap();
    assert!(!rendered.html.contains("<script>"), "{}", rendered.html);
    assert!(!rendered.html.contains("<b onclick"), "{}", rendered.html);
    assert!(rendered.text.contains("<b onclick=x>&\"@example.com"), "{}", rendered.text);
}

#[test]
fn folder_overrides_layouts_parts_and_single_texts() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("de.toml", "[password_reset]\nsubject = \"Neues Passwort: {{ product }}\"\n");
    write("password_reset.txt", "{{ title }} | {{ link }}");
    write("new_device.html", "{% extends 'layout.html' %}{% block footer %}Acme GmbH{% endblock %}");
    let templates = Templates::load(&settings(Some(folder.path())), "https://auth.example.com").unwrap();
    let reset = templates.render(&mail(Locale::De, sample(Template::PasswordReset))).unwrap();
    assert_eq!(reset.subject, "Neues Passwort: Latchkey");
    assert!(
        reset.text.ends_with("| https://auth.example.com/account/reset-password#token=lk_ot_EXAMPLE\n"),
        "{}",
        reset.text
    );
    let notice = templates.render(&mail(Locale::De, sample(Template::NewDevice))).unwrap();
    assert!(notice.html.contains("Acme GmbH"), "{}", notice.html);
}

#[test]
fn folder_with_a_mistake_is_refused() {
    for (name, text, problem) in [
        ("pasword_reset.txt", "x", "is neither layout.txt"),
        ("password_reset.txt", "{{ lnik }}", "undefined"),
        ("password_reset.html", "{% if %}", "line 1"),
        // Only some mails have the number of remaining codes, and all mails use the layout.
        ("layout.html", "{{ remaining }}", "undefined"),
        ("en.toml", "[password_reset]\nsubjekt = 'x'", "password_reset.subjekt: there is no such text"),
        ("en.toml", "[reset]\nsubject = 'x'", "there is no such mail"),
        ("en.toml", "[test]\nsubject = \"a\\nb\"", "must be one line"),
        ("en.toml", "[test]\nsubject = 1", "must be a string"),
        ("en.toml", "[common]\nmonths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]", "twelve strings for months"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let error =
            Templates::load(&settings(Some(folder.path())), "https://auth.example.com").unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let error = Templates::load(&settings(Some(Path::new("/nonexistent"))), "https://auth.example.com").unwrap_err();
    assert!(error.to_string().contains("/nonexistent: can't be read"), "{error}");
}
