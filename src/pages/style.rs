//! The configured colours in the stylesheet.

use crate::config::Colour;

/// The light and the dark colour of text on the accent.
const WHITE: Colour = Colour { red: 255, green: 255, blue: 255 };
const INK: Colour = Colour { red: 16, green: 18, blue: 22 };

/// The stylesheet with the configured colours, each of which replaces the default one of its theme.
pub(super) fn with_colours(style: &str, accent: Option<Colour>, accent_dark: Option<Colour>) -> String {
    let mut text = style.to_owned();
    for (theme, accent) in [
        // Without this condition, the colour of the light theme would replace the default one of the dark theme, too.
        ("not all and (prefers-color-scheme:dark)", accent),
        ("(prefers-color-scheme:dark)", accent_dark),
    ] {
        if let Some(accent) = accent {
            text += &format!("@media {theme}{{{}}}\n", rule(accent));
        }
    }
    text
}

/// The accent and the text on it: white or dark, whichever has more contrast.
fn rule(accent: Colour) -> String {
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
        assert_eq!(rule(colour("#003366")), ":root{--accent:#003366;--on-accent:#ffffff}");
        assert_eq!(rule(colour("#8ab4ff")), ":root{--accent:#8ab4ff;--on-accent:#101216}");
    }
}
