//! The configured colours in the stylesheet.

use crate::config::{Colour, PagesSettings};

const WHITE: Colour = Colour { red: 255, green: 255, blue: 255 };
const INK: Colour = Colour { red: 16, green: 18, blue: 22 };

/// The stylesheet with the configured colours, which replace the default ones.
pub(super) fn with_colours(style: &str, settings: &PagesSettings) -> String {
    let mut text = style.to_owned();
    if let Some(accent) = settings.accent {
        text += &rule(accent);
    }
    if let Some(accent) = settings.accent_dark {
        text += &format!("@media (prefers-color-scheme:dark){{{}}}\n", rule(accent));
    }
    text
}

/// The accent and the text on it: white or dark, whichever has more contrast.
fn rule(accent: Colour) -> String {
    let on = if WHITE.contrast(accent) >= INK.contrast(accent) { WHITE } else { INK };
    format!(":root{{--accent:{accent};--on-accent:{on}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_on_the_accent_is_the_more_readable_one() {
        let colour = |text: &str| Colour::parse(text).unwrap();
        assert_eq!(rule(colour("#003366")), ":root{--accent:#003366;--on-accent:#ffffff}\n");
        assert_eq!(rule(colour("#8ab4ff")), ":root{--accent:#8ab4ff;--on-accent:#101216}\n");
    }
}
