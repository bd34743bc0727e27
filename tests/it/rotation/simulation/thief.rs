//! Thieves that have a copy of the owner's refresh token, and use it from another network.

use super::{
    HOUR, MINUTE, SECOND,
    policies::{FIRST, Policy, Rotation, Token},
    random::Random,
    rule::Tag,
};

/// The time between two refreshes of the owner.
const INTERVAL: u64 = 5 * MINUTE;

/// The probability that the owner does not receive a response.
const LOSS: f64 = 0.01;

/// The kinds of thieves of which [`Thief::Mixes`] chooses one for each refresh.
const MIXED: [Thief; 5] = [Thief::Shadows, Thief::Alternates, Thief::First, Thief::FirstTwice, Thief::Overtakes];

/// The thief's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thief {
    /// Presents each token within the grace window, seconds after the owner presented it.
    Shadows,
    /// Refreshes halfway between two refreshes of the owner.
    Alternates,
    /// Refreshes seconds before the owner.
    First,
    /// Refreshes twice in succession, seconds before the owner.
    FirstTwice,
    /// Receives the current token after a refresh of the owner, and rotates it up to five times in succession.
    Overtakes,
    /// One of the five above, chosen for each refresh.
    Mixes,
    /// Copies the token when the owner goes offline, and refreshes every 5 minutes until the owner returns.
    Offline,
    /// Copies the token when the owner goes offline, and uses it once.
    Once,
    /// Like [`Thief::Shadows`], from the owner's network with the owner's user agent.
    SameNetwork,
}

/// The owner's behaviour: refreshes every 5 minutes and loses one response in a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// In one network.
    Desk,
    /// In another network at each refresh.
    Moving,
    /// In one network, with three tabs that refresh one after the other within seconds.
    Tabs,
}

impl Thief {
    /// The thieves that strict rotation detects and that are in another network or have another user agent, each with a description.
    pub const DETECTABLE: [(&str, Self); 7] = [
        ("shadows the owner within the grace window", Self::Shadows),
        ("alternates with the owner", Self::Alternates),
        ("refreshes first", Self::First),
        ("refreshes first, twice in succession", Self::FirstTwice),
        ("overtakes: rotates up to five times at once", Self::Overtakes),
        ("mixes these", Self::Mixes),
        ("waits until the owner is offline", Self::Offline),
    ];

    /// The thieves that no rule with a grace window and a retry window can detect.
    pub const UNDETECTABLE: [(&str, Self); 2] = [
        ("uses the token once while the owner is offline", Self::Once),
        ("shadows from the owner's network", Self::SameNetwork),
    ];

    /// The number of the owner's refreshes until the session ends, or none if it has not ended after `max_refreshes`.
    pub fn detected_after(self, owner: Owner, policy: Policy, max_refreshes: u32, seed: u64) -> Option<u32> {
        let network = 0;
        let now = 0;
        let mut theft = Theft {
            session: policy.sign_in(network, now),
            owner_token: FIRST,
            thief_token: FIRST,
            network,
            now,
            random: Random::new(seed),
        };
        (1..=max_refreshes).find(|refresh| theft.round(self, owner, *refresh).is_none())
    }
}

/// A session with two holders.
struct Theft {
    session: Box<dyn Rotation>,
    /// The token that the owner holds.
    owner_token: Token,
    /// The token that the thief holds.
    thief_token: Token,
    /// The owner's network.
    network: Tag,
    /// The time in milliseconds.
    now: u64,
    random: Random,
}

impl Theft {
    /// Simulates the time from one refresh of the owner to the next. `refresh` is the number of the owner's refresh, from 1. Returns
    /// none when the session has ended.
    fn round(&mut self, thief: Thief, owner: Owner, refresh: u32) -> Option<()> {
        let thief = if thief == Thief::Mixes { MIXED[self.random.below(MIXED.len() as u64) as usize] } else { thief };
        let began = self.now;
        match thief {
            Thief::First | Thief::FirstTwice => {
                // 1 to 9 s before the owner, whose repeat is then within the grace window (10 s)
                self.now += INTERVAL - SECOND - self.random.below(8 * SECOND);
                self.present_as_thief(thief)?;
                if thief == Thief::FirstTwice {
                    self.present_as_thief(thief)?;
                }
            }
            Thief::Offline if refresh == 1 => {
                // the owner is offline for 100 minutes
                for _ in 0..20 {
                    self.now += 5 * MINUTE;
                    self.present_as_thief(thief)?;
                }
            }
            Thief::Once if refresh == 1 => {
                // the owner is offline for an hour
                self.now += HOUR;
                self.present_as_thief(thief)?;
            }
            _ => {}
        }
        // After an absence longer than the interval, the owner refreshes at once.
        self.now = self.now.max(began + INTERVAL);
        let tabs = if owner == Owner::Tabs { 3 } else { 1 };
        for _ in 0..tabs {
            self.refresh_as_owner(owner)?;
            self.now += SECOND;
        }
        match thief {
            Thief::Shadows | Thief::SameNetwork => {
                // less than 10 s after the owner's first tab, so within the grace window
                self.now += self.random.below(7 * SECOND);
                self.present_as_thief(thief)?;
            }
            Thief::Alternates => {
                self.now += INTERVAL / 2;
                self.present_as_thief(thief)?;
            }
            Thief::Overtakes => {
                self.now += self.random.below(7 * SECOND);
                // The first request receives the current token, unless the thief holds it already. The others rotate it.
                let requests = 2 + self.random.below(5);
                for _ in 0..requests {
                    self.present_as_thief(thief)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn present_as_thief(&mut self, thief: Thief) -> Option<()> {
        // The owner's networks are numbered from 0. The thief has three others.
        let from = if thief == Thief::SameNetwork { self.network } else { 1_000_000 + self.random.below(3) };
        self.thief_token = self.session.present(self.thief_token, from, self.now)?;
        self.session.use_access_token(self.thief_token);
        Some(())
    }

    fn refresh_as_owner(&mut self, owner: Owner) -> Option<()> {
        if owner == Owner::Moving {
            self.network += 1;
        }
        let mut received = self.session.present(self.owner_token, self.network, self.now)?;
        // the response is lost, and the owner repeats the request
        while self.random.chance(LOSS) {
            self.now += SECOND;
            received = self.session.present(self.owner_token, self.network, self.now)?;
        }
        self.owner_token = received;
        self.session.use_access_token(received);
        Some(())
    }
}
