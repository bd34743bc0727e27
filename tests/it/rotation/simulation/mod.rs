//! Simulates honest holders and thieves of refresh tokens under several rotation rules, without a server. The same seed gives the same
//! results. Times are in milliseconds.

pub mod honest;
pub mod policies;
mod random;
pub mod rule;
pub mod thief;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// How soon a rotation rule detects a kind of thief, over many simulated thefts: the number of the owner's refreshes until the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The median, or none if at least half of the thieves are not detected.
    pub median: Option<u32>,
    /// The 99.9th percentile, or none if at least one in a thousand is not detected.
    pub percentile_99_9: Option<u32>,
    /// The number of thieves that are not detected within [`Detection::MAX_REFRESHES`].
    pub never: u64,
}

impl Detection {
    /// The number of the owner's refreshes after which a simulation ends, and a thief counts as undetected.
    pub const MAX_REFRESHES: u32 = 100;

    /// Stands for an undetected thief. Sorts behind all numbers of refreshes.
    const UNDETECTED: u32 = u32::MAX;

    /// Simulates `thefts` thefts, each with a seed derived from `seed`.
    pub fn of(thief: thief::Thief, owner: thief::Owner, policy: policies::Policy, thefts: u64, seed: u64) -> Self {
        let simulate = |theft| {
            let detected = thief.detected_after(owner, policy, Self::MAX_REFRESHES, seed.wrapping_add(theft));
            detected.unwrap_or(Self::UNDETECTED)
        };
        let mut refreshes: Vec<u32> = (0..thefts).map(simulate).collect();
        refreshes.sort_unstable();
        let quantile = |thousandths: usize| {
            let value = refreshes.get(refreshes.len() * thousandths / 1000).copied();
            value.filter(|value| *value != Self::UNDETECTED)
        };
        Self {
            median: quantile(500),
            percentile_99_9: quantile(999),
            never: refreshes.iter().filter(|value| **value == Self::UNDETECTED).count() as u64,
        }
    }
}
