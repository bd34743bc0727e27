//! Simulates honest holders and thieves of refresh tokens under several rotation rules. Seeded, without a server.

pub mod honest;
pub mod policies;
mod random;
pub mod rule;
pub mod thief;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The distribution of the owner's refreshes until a thief is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The median, or none if half of the thieves are not detected.
    pub median: Option<u32>,
    /// The 99.9th percentile, or none if more than one in a thousand is not detected.
    pub percentile_99_9: Option<u32>,
    /// The number of thieves that are not detected within [`Detection::MOST`] refreshes.
    pub never: u64,
}

impl Detection {
    /// The number of the owner's refreshes after which a thief counts as undetected.
    pub const MOST: u32 = 100;

    /// Simulates this number of thefts.
    pub fn of(thief: thief::Thief, owner: thief::Owner, policy: policies::Policy, thefts: u64, seed: u64) -> Self {
        let detected = |theft| thief.detected_after(owner, policy, Self::MOST, seed.wrapping_add(theft));
        let mut refreshes: Vec<u32> = (0..thefts).map(|theft| detected(theft).unwrap_or(u32::MAX)).collect();
        refreshes.sort_unstable();
        let at = |thousandths: usize| refreshes.get(refreshes.len() * thousandths / 1000).copied();
        let found = |refreshes: Option<u32>| refreshes.filter(|refreshes| *refreshes < u32::MAX);
        Self {
            median: found(at(500)),
            percentile_99_9: found(at(999)),
            never: refreshes.iter().filter(|refreshes| **refreshes == u32::MAX).count() as u64,
        }
    }
}
