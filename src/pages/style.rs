//! The configured colours in the stylesheet.

use crate::config::Colour;

/// The light colour of text on the accent.
const WHITE: Colour = Colour { red: 255, green: 255, blue: 255 };
/// The dark colour of text on the accent: `#101216`.
const INK: Colour = Colour { red: 16, green: 18, blue: 22 };

/// The stylesheet with the configured colours, each of which replaces the default one of its theme.
pub(super) fn with_colours(style: &str, accent: Option<Colour>, accent_dark: Option<Colour>) -> String {
    let mut stylesheet = style.to_owned();
    for (theme, accent) in [
        // The light theme. Without a condition, its accent would also replace the default accent of the dark theme.
        ("not all and (prefers-color-scheme:dark)", accent),
        ("(prefers-color-scheme:dark)", accent_dark),
    ] {
        if let Some(accent) = accent {
            stylesheet += &format!("@media {theme}{{{}}}\n", accent_rule(accent));
        }
    }
    stylesheet
}

/// The accent and the text on it: white or dark, whichever has more contrast.
fn accent_rule(accent: Colour) -> String {
    let on_accent = if WHITE.contrast(accent) >= INK.contrast(accent) { WHITE } else { INK };
    format!(":root{{--accent:{accent};--on-accent:{on_accent}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accent_of_one_theme_leaves_the_other_theme_unchanged() {
        let colour = Colour::parse("#003366");
        let light = ":root{--accent:#003366;--on-accent:#ffffff}";
        assert_eq!(
            with_colours("", colour, None),
            format!("@media not all and (prefers-color-scheme:dark){{{light}}}\n")
        );
        assert_eq!(with_colours("", None, colour), format!("@media (prefers-color-scheme:dark){{{light}}}\n"));
    }

    #[test]
    fn text_on_the_accent_is_the_more_readable_one() {
        let colour = |text: &str| Colour::parse(text).unwrap();
        assert_eq!(accent_rule(colour("#003366")), ":root{--accent:#003366;--on-accent:#ffffff}");
        assert_eq!(accent_rule(colour("#8ab4ff")), ":root{--accent:#8ab4ff;--on-accent:#101216}");
    }
}
