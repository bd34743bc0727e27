//! Parses the feed's times: RFC 3339 in UTC.

const FORM: &[u8; 19] = b"0000-00-00T00:00:00";

/// Milliseconds since the Unix epoch of a time such as `2026-11-23T04:08:30.325Z`, rounded down. `None` for invalid times and
/// times with an offset.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if whole.len() != FORM.len() || whole.bytes().zip(FORM).any(|(is, &form)| form != b'0' && is != form) {
        return None;
    }
    let (year, month, day) = (number(whole, 0, 4)?, number(whole, 5, 2)?, number(whole, 8, 2)?);
    let (hour, minute, second) = (number(whole, 11, 2)?, number(whole, 14, 2)?, number(whole, 17, 2)?);
    // 60: a leap second
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && !fraction.is_empty();
    let millis = if digits { number(&format!("{fraction:0<3}"), 0, 3)? } else { return None };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1000 + millis)
}

/// Parses digits.
fn number(text: &str, from: usize, digits: usize) -> Option<i64> {
    let digits = text.as_bytes().get(from..from + digits)?;
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years start in March here, so that a leap day is the last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month < 3 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let day_of_year = (153 * since_march + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use latchkey::domain::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parse_accepts_utc_times_only() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-11-23T04:08:30.325Z"), Some(1_795_406_910_325));
        assert_eq!(parse("2026-11-23T04:08:30.3Z"), Some(1_795_406_910_300));
        assert_eq!(parse("2026-11-23T04:08:30.325999Z"), Some(1_795_406_910_325));
        for wrong in [
            "",
            "Z",
            "2026-11-23T04:08:30",
            "2026-11-23T04:08:30+01:00",
            "2026-11-23 04:08:30Z",
            "2026-13-23T04:08:30Z",
            "2026-11-23T24:08:30Z",
            "2026-11-23T04:08:30.Z",
            "2026-11-23T04:08:30.3xZ",
            "2026-11-23T04:08:3éZ",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn parse_inverts_the_service_format(millis in -62_135_596_800_000_i64..253_402_300_799_999) {
            prop_assert_eq!(parse(&Timestamp::from_millis(millis).to_string()), Some(millis));
        }

        #[test]
        fn parse_never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
