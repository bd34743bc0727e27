//! Groups of problem codes that several operations have in common. The OpenAPI document lists the codes of each operation.

use super::Code;

/// The errors of an operation whose caller is signed in.
pub const SIGNED_IN: &[Code] = &[Code::AuthenticationRequired, Code::InvalidToken, Code::ClaimsChanged];

/// The errors of an operation whose caller must have authenticated recently.
pub const RECENT: &[Code] =
    &[Code::AuthenticationRequired, Code::InvalidToken, Code::ClaimsChanged, Code::InsufficientUserAuthentication];

/// The errors of an operation for admins, who must have authenticated recently, and for service clients with a scope.
pub const PRIVILEGED: &[Code] = &[
    Code::AuthenticationRequired,
    Code::InvalidToken,
    Code::ClaimsChanged,
    Code::InsufficientUserAuthentication,
    Code::InvalidClient,
    Code::Forbidden,
];

/// The errors of an operation with a JSON body.
pub const JSON_BODY: &[Code] = &[Code::MalformedRequest, Code::UnsupportedMediaType, Code::InvalidFields];

/// The errors of an operation whose response may set the refresh cookie.
pub const COOKIE: &[Code] = &[Code::CrossSiteRequest, Code::CookieCrossSite];

/// The number of codes in all groups together. It is the length of the array that [`join`] returns.
pub const fn count(groups: &[&[Code]]) -> usize {
    // `while` loops, here and below: a `const` function cannot use iterators
    let mut count = 0;
    let mut group = 0;
    while group < groups.len() {
        count += groups[group].len();
        group += 1;
    }
    count
}

/// The codes of all groups in the order of [`Code`]. If two groups have the same code, the program does not compile.
pub const fn join<const N: usize>(groups: &[&[Code]]) -> [Code; N] {
    // An insertion sort: a `const` function cannot call `sort`. The first `filled` codes of `joined` are sorted.
    let placeholder = Code::InternalError;
    let mut joined = [placeholder; N];
    let mut filled = 0;
    let mut group = 0;
    while group < groups.len() {
        let mut index = 0;
        while index < groups[group].len() {
            let code = groups[group][index];
            let mut position = filled;
            while position > 0 && joined[position - 1] as usize >= code as usize {
                assert!(joined[position - 1] as usize != code as usize, "a code is listed twice");
                joined[position] = joined[position - 1];
                position -= 1;
            }
            joined[position] = code;
            filled += 1;
            index += 1;
        }
        group += 1;
    }
    joined
}

/// Joins groups of this module and other arrays of codes to the codes of an operation.
macro_rules! codes {
    ($($group:expr),+ $(,)?) => {{
        const GROUPS: &[&[$crate::http::problem::Code]] = &[$(&$group),+];
        const CODES: [$crate::http::problem::Code; $crate::http::problem::groups::count(GROUPS)] =
            $crate::http::problem::groups::join(GROUPS);
        &CODES
    }};
}

pub(in crate::http) use codes;

#[cfg(test)]
mod tests {
    use super::{COOKIE, Code, JSON_BODY, SIGNED_IN};

    #[test]
    fn joined_groups_have_each_code_once_in_the_order_of_codes() {
        const OWN: [Code; 2] = [Code::TooManyRequests, Code::InvalidCode];
        let codes: &[Code] = codes![JSON_BODY, OWN, SIGNED_IN, COOKIE];
        assert_eq!(codes.len(), JSON_BODY.len() + OWN.len() + SIGNED_IN.len() + COOKIE.len());
        assert!(codes.is_sorted_by_key(|code| *code as usize), "{codes:?}");
        assert!(JSON_BODY.iter().chain(&OWN).chain(SIGNED_IN).chain(COOKIE).all(|code| codes.contains(code)));
    }
}
