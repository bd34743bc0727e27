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

/// The number of codes in all groups together.
pub const fn count(groups: &[&[Code]]) -> usize {
    let (mut count, mut group) = (0, 0);
    while group < groups.len() {
        count += groups[group].len();
        group += 1;
    }
    count
}

/// The codes of all groups in the order of [`Code`]. If two groups have the same code, the program does not compile.
pub const fn join<const N: usize>(groups: &[&[Code]]) -> [Code; N] {
    // An insertion sort: a `const` function cannot call `sort`.
    let mut joined = [Code::InternalError; N];
    let (mut filled, mut group) = (0, 0);
    while group < groups.len() {
        let mut next = 0;
        while next < groups[group].len() {
            let code = groups[group][next];
            let mut at = filled;
            while at > 0 && joined[at - 1] as usize >= code as usize {
                assert!(joined[at - 1] as usize != code as usize, "a code is listed twice");
                joined[at] = joined[at - 1];
                at -= 1;
            }
            joined[at] = code;
            filled += 1;
            next += 1;
        }
        group += 1;
    }
    joined
}

/// The codes of an operation: groups of this module, and arrays of codes.
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
        let codes: &[Code] = codes![JSON_BODY, [Code::TooManyRequests, Code::InvalidCode], SIGNED_IN, COOKIE];
        assert_eq!(codes.len(), JSON_BODY.len() + 2 + SIGNED_IN.len() + COOKIE.len());
        assert!(codes.is_sorted_by_key(|code| *code as usize), "{codes:?}");
        assert!(JSON_BODY.iter().chain(SIGNED_IN).chain(COOKIE).all(|code| codes.contains(code)));
    }
}
