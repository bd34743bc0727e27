//! Durations and sizes in human-readable form: "10s", "7d", "64KiB".

use std::time::Duration;

/// Units of time with their milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size with their bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Parses a duration: a whole number with a unit. Only zero needs no unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let millis = if text == "0" { Some(0) } else { parse_with_unit(text, &TIME_UNITS) };
    millis.map(Duration::from_millis).ok_or_else(|| "must be a duration such as 500ms, 10s, 5m, 12h or 7d".into())
}

/// Formats a duration for [`parse`], in the largest unit without a fraction.
pub(super) fn show(duration: Duration) -> String {
    // The longest duration that can be configured is ten years, far below 2^64 milliseconds.
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    show_with_unit(millis, &TIME_UNITS).unwrap_or_else(|| "0s".into())
}

/// Parses a size: a whole number of bytes, or of a unit that follows it.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let bytes = if is_number { text.parse().ok() } else { parse_with_unit(text, &SIZE_UNITS) };
    bytes.ok_or_else(|| "must be a size such as 65536, 64KiB or 1MiB".into())
}

/// Formats a size for [`parse_size`], in the largest unit without a fraction.
pub(super) fn show_size(bytes: u64) -> String {
    show_with_unit(bytes, &SIZE_UNITS).unwrap_or_else(|| "0".into())
}

/// Parses digits followed by the name of one of `units`, and multiplies. `None` for any other text and on overflow.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let unit_start = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit_name) = text.split_at(unit_start);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit_name)?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

/// Formats a number in the first of `units` that it is a multiple of. `None` for zero.
fn show_with_unit(number: u64, units: &[(&str, u64)]) -> Option<String> {
    let (name, unit) = units.iter().find(|(_, unit)| number >= *unit && number.is_multiple_of(*unit))?;
    Some(format!("{}{name}", number / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_number_and_unit() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        // the number or its milliseconds exceed a u64
        let too_long = ["99999999999999999999d", "300000000000d"];
        for text in ["", "5", "s", "-1s", "+1s", "1.5h", "5 m", "5M", "1w"].into_iter().chain(too_long) {
            assert_eq!(parse(text), Err("must be a duration such as 500ms, 10s, 5m, 12h or 7d".into()), "{text}");
        }
    }

    #[test]
    fn sizes_are_parsed_as_bytes_or_binary_units() {
        for (text, bytes) in [("65536", 65_536), ("0", 0), ("12B", 12), ("64KiB", 65_536), ("1MiB", 1 << 20)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let larger_than_u64 = "99999999999GiB";
        for text in ["", "64KB", "64k", "-1", "+1", "1.5MiB", "KiB", larger_than_u64] {
            assert_eq!(parse_size(text), Err("must be a size such as 65536, 64KiB or 1MiB".into()), "{text}");
        }
    }

    #[test]
    fn formatted_values_are_parsed_to_the_same_value() {
        for text in ["500ms", "1500ms", "10s", "90s", "5m", "25h", "7d", "0s"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        for text in ["0", "100B", "1KiB", "1500B", "64KiB", "1MiB", "3GiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
    }
}
