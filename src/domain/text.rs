//! Text that people read and compare: Unicode normalization, characters that deceive, safe printing.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

/// The form in which two names are compared: lower case, in Unicode Normalization Form C.
///
/// `José` written with one code point for `é` and with two gives the same key.
pub fn comparison_key(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let composed: String = text.nfc().collect();
    // Some letters have a composed form only in lower case, such as `ǰ`.
    composed.to_lowercase().nfc().collect()
}

/// The ranges (first, last) of code points that render as nothing, reorder the text around them or have no agreed meaning:
/// Unicode's format characters (Cf), `Default_Ignorable_Code_Point`, blank fillers, private use, and noncharacters of the first three planes.
/// In ascending order.
const DECEPTIVE: [(u32, u32); 34] = [
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xE000, 0xF8FF),
    (0xFDD0, 0xFDEF),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xFFFE, 0xFFFF),
    (0x0001_10BD, 0x0001_10BD),
    (0x0001_10CD, 0x0001_10CD),
    (0x0001_3430, 0x0001_343F),
    (0x0001_BCA0, 0x0001_BCA3),
    (0x0001_D159, 0x0001_D159),
    (0x0001_D173, 0x0001_D17A),
    (0x0001_FFFE, 0x0001_FFFF),
    (0x0002_FFFE, 0x0002_FFFF),
    (0x000E_0000, 0x000E_0FFF),
    (0x000F_0000, 0x000F_FFFF),
    (0x0010_0000, 0x0010_FFFF),
];

/// Whether a character is invisible, changes the direction of text, has no agreed meaning, or is a control character.
pub fn is_deceptive(c: char) -> bool {
    let code = u32::from(c);
    // Most text is below the first range, so the ranges are not searched for it.
    c.is_control() || (code >= DECEPTIVE[0].0 && DECEPTIVE.iter().any(|(first, last)| (*first..=*last).contains(&code)))
}

/// Whether a text has letters of more than one of the Latin, Greek and Cyrillic scripts, in which many letters look the same:
/// `аdmin` begins with the Cyrillic `а`.
pub fn mixes_lookalike_scripts(text: &str) -> bool {
    let latin = |c: char| c.is_ascii_alphabetic() || matches!(u32::from(c), 0xC0..=0x024F | 0x1E00..=0x1EFF);
    let greek = |c: char| matches!(u32::from(c), 0x0370..=0x03FF | 0x1F00..=0x1FFF);
    let cyrillic =
        |c: char| matches!(u32::from(c), 0x0400..=0x052F | 0x1C80..=0x1C8F | 0x2DE0..=0x2DFF | 0xA640..=0xA69F);
    let scripts = [text.chars().any(latin), text.chars().any(greek), text.chars().any(cyrillic)];
    scripts.into_iter().filter(|used| *used).count() > 1
}

/// Displays untrusted text, such as an account's name, on a terminal.
///
/// Control characters and the other [deceptive](is_deceptive) ones are escaped (`\u{202e}`), so that no name moves the
/// cursor, colours the screen or reverses the rest of the line. The formatter's width and alignment apply.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.contains(is_deceptive) {
            return f.pad(self.0);
        }
        // with room for one escaped character
        let mut escaped = String::with_capacity(self.0.len() + 8);
        for c in self.0.chars() {
            if is_deceptive(c) {
                escaped.extend(c.escape_unicode());
            } else {
                escaped.push(c);
            }
        }
        f.pad(&escaped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_key_of_composed_and_decomposed_text_is_the_same() {
        assert_eq!(comparison_key("Jos\u{e9}@Example.com"), "jos\u{e9}@example.com");
        assert_eq!(comparison_key("JOSE\u{301}@example.com"), "jos\u{e9}@example.com");
        assert_eq!(comparison_key("Ann.B@Example.COM"), "ann.b@example.com");
        assert_eq!(comparison_key("\u{212B}"), "\u{e5}", "the Angstrom sign is an a with a ring");
    }

    #[test]
    fn deceptive_characters_are_recognized() {
        // control characters, and format characters
        for c in ['\0', '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}'] {
            assert!(is_deceptive(c), "{c:?}");
        }
        // blank fillers, a variation selector, private use, a tag character, a noncharacter, the line separator
        for c in ['\u{115f}', '\u{3164}', '\u{fe0f}', '\u{e000}', '\u{e0041}', '\u{10ffff}', '\u{2028}'] {
            assert!(is_deceptive(c), "{c:?}");
        }
        for c in ['a', '.', ' ', 'é', 'ß', 'я', '日', '\u{301}', '🦀'] {
            assert!(!is_deceptive(c), "{c:?}");
        }
    }

    #[test]
    fn mixed_latin_greek_and_cyrillic_letters_are_recognized() {
        // Cyrillic а and Latin letters, Greek ο and Latin letters, Greek α and Cyrillic а
        for mixed in ["\u{430}dmin", "r\u{3bf}ot", "\u{3b1}\u{430}"] {
            assert!(mixes_lookalike_scripts(mixed), "{mixed}");
        }
        for pure in ["admin", "Zoë_Q", "мария-77", "Σωκράτης", "田中.taro", "user_1"] {
            assert!(!mixes_lookalike_scripts(pure), "{pure}");
        }
    }

    #[test]
    fn printable_escapes_control_and_format_characters_and_pads() {
        assert_eq!(Printable("a\u{202e}moc.live@x").to_string(), "a\\u{202e}moc.live@x");
        assert_eq!(Printable("a\u{1b}[31mb\n").to_string(), "a\\u{1b}[31mb\\u{a}");
        assert_eq!(format!("{:<6}|", Printable("josé")), "josé  |");
    }
}
