//! Settings of the sign-in and account pages: whether they are served, their product name, logo, colours, links and templates.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use url::Url;

use super::read::Reader;
use crate::domain::text::is_deceptive;

/// The minimum contrast between an accent and the card behind it (WCAG 2.2, success criterion 1.4.3).
const MIN_CONTRAST: f64 = 4.5;

/// The background of cards in the light theme of the stylesheet.
const LIGHT_CARD: Colour = Colour { red: 255, green: 255, blue: 255 };
/// The background of cards in the dark theme of the stylesheet.
const DARK_CARD: Colour = Colour { red: 27, green: 29, blue: 33 };

/// Settings of the sign-in and account pages.
#[derive(Clone, Debug)]
pub struct PagesSettings {
    /// Whether the pages are served.
    pub enabled: bool,
    /// The name of the product, as the pages show it.
    pub product_name: String,
    /// The image file of the logo, which replaces the product's name.
    pub logo: Option<PathBuf>,
    /// The colour of buttons and links in the light theme. `None` for that of the stylesheet.
    pub accent: Option<Colour>,
    /// The colour of buttons and links in the dark theme. `None` for that of the stylesheet.
    pub accent_dark: Option<Colour>,
    /// The link to the terms of service.
    pub terms_url: Option<String>,
    /// The link to the privacy policy.
    pub privacy_url: Option<String>,
    /// The link to help.
    pub support_url: Option<String>,
    /// A folder with templates, texts and styles that replace the built-in ones.
    pub templates: Option<PathBuf>,
}

/// An opaque sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    /// 0 to 255.
    pub red: u8,
    /// 0 to 255.
    pub green: u8,
    /// 0 to 255.
    pub blue: u8,
}

impl Colour {
    /// Parses `#rrggbb`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        // `from_str_radix` would also accept a sign
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let channel = |start: usize| u8::from_str_radix(&digits[start..start + 2], 16).ok();
        Some(Self { red: channel(0)?, green: channel(2)?, blue: channel(4)? })
    }

    /// The contrast ratio with another colour, 1 to 21 (WCAG 2.2, "contrast ratio").
    pub fn contrast(self, other: Self) -> f64 {
        let lighter = self.luminance().max(other.luminance());
        let darker = self.luminance().min(other.luminance());
        (lighter + 0.05) / (darker + 0.05)
    }

    /// The relative luminance, 0 to 1 (WCAG 2.2, "relative luminance", which defines the constants).
    fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let encoded = f64::from(channel) / 255.0;
            if encoded <= 0.04045 { encoded / 12.92 } else { ((encoded + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.red) + 0.7152 * linear(self.green) + 0.0722 * linear(self.blue)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.red, self.green, self.blue)
    }
}

/// Reads the settings of the pages. Paths of files are relative to `working_dir`. If `pages.product_name` is empty, the pages show
/// `mail_product_name`.
pub(super) fn pages(read: &mut Reader<'_>, working_dir: &Path, mail_product_name: &str) -> PagesSettings {
    let product_name = read.one("pages.product_name", |text| {
        let is_invalid = text.contains(is_deceptive) || text.chars().count() > 64 || text.trim() != text;
        if is_invalid {
            let rule =
                "must be at most 64 characters, without control or invisible characters and without spaces at the ends";
            Err(rule.into())
        } else {
            Ok(text.to_owned())
        }
    });
    // Any text may be a path. `expose`: the reader returns every optional value as a secret.
    let mut file = |key: &'static str| read.optional(key, |_| Ok(())).map(|path| working_dir.join(path.expose()));
    let logo = file("pages.logo");
    let templates = file("pages.templates");
    let mut link = |key: &'static str| {
        read.one(key, |text| match text {
            "" => Ok(None),
            text if Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "mailto")) => {
                Ok(Some(text.to_owned()))
            }
            _ => Err("must be an http, https or mailto URL".into()),
        })
    };
    let terms_url = link("pages.terms_url");
    let privacy_url = link("pages.privacy_url");
    let support_url = link("pages.support_url");
    PagesSettings {
        enabled: read.boolean("pages.enabled"),
        product_name: if product_name.is_empty() { mail_product_name.to_owned() } else { product_name },
        logo,
        accent: read.one("pages.accent", |text| parse_accent(text, LIGHT_CARD, "white")),
        accent_dark: read.one("pages.accent_dark", |text| parse_accent(text, DARK_CARD, "dark")),
        terms_url,
        privacy_url,
        support_url,
        templates,
    }
}

/// Parses an accent, and refuses a colour that is hard to read as text on a card. Returns `None` for an empty text. `card_name` names
/// the card's colour in the error.
fn parse_accent(text: &str, card: Colour, card_name: &str) -> Result<Option<Colour>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let colour = Colour::parse(text).ok_or("must be a colour in the form #rrggbb, such as #2b57c7")?;
    let contrast = colour.contrast(card);
    if contrast < MIN_CONTRAST {
        return Err(format!(
            "has a contrast of {contrast:.1} with the {card_name} background; links need at least {MIN_CONTRAST}"
        ));
    }
    Ok(Some(colour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accent_that_is_hard_to_read_is_refused() {
        assert_eq!(parse_accent("", LIGHT_CARD, "white"), Ok(None));
        let blue = Colour { red: 0x2b, green: 0x57, blue: 0xc7 };
        assert_eq!(parse_accent("#2b57c7", LIGHT_CARD, "white"), Ok(Some(blue)));
        assert_eq!(blue.to_string(), "#2b57c7");
        // a light blue: the luminance is 0.445, so the contrast with white is 1.05 / 0.495
        assert!(parse_accent("#8fb1ff", LIGHT_CARD, "white").unwrap_err().contains("has a contrast of 2.1"));
        assert!(parse_accent("#8fb1ff", DARK_CARD, "dark").is_ok());
        for bad in ["blue", "#12345", "#1234567", "#12345g", "2b57c7", "#+1+2+3", "#ääü"] {
            assert!(parse_accent(bad, LIGHT_CARD, "white").is_err(), "{bad}");
        }
    }

    #[test]
    fn contrast_matches_the_guidelines() {
        let black = Colour::parse("#000000").unwrap();
        assert!((LIGHT_CARD.contrast(black) - 21.0).abs() < 1e-9);
        // the darkest grey that is too light for text on white
        let grey = Colour::parse("#777777").unwrap();
        assert!((LIGHT_CARD.contrast(grey) - 4.48).abs() < 0.005);
    }
}
