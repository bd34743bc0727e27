//! The rotation rule (I2) as a pure function of the session, the request and the time.
//!
//! `rotate.lua` makes the same decisions (`store::rotation_rule` compares them). docs/rotation.md explains the rule.

/// The settings of the rule. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `session.grace`: the time for which a superseded token is answered with the current one.
    pub grace: u64,
    /// `session.retry_window`: the time, counted from the issue of the current token, for which tokens that were within grace at the
    /// issue are answered with it.
    pub retry_window: u64,
    /// `session.counted_repeats_limit`: the number of consecutive generations with a counted repeat that ends the session.
    pub counted_repeats_limit: u32,
}

/// The default settings.
pub const DEFAULTS: Settings = Settings { grace: 10_000, retry_window: 86_400_000, counted_repeats_limit: 4 };

/// Stands for a network and a user agent: requests with the same tag are assumed to come from one client.
pub type Tag = u64;

/// The decision about a presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The token was current: the session advances by one generation.
    Rotated,
    /// The token was superseded: its holder receives the current one. The repeat is counted if its network or user agent differs from that of
    /// the last rotation.
    Repeated {
        /// Whether the repeat is counted on the session and written to the audit log.
        counted: bool,
    },
    /// The token must not be repeated: the session is revoked.
    Reused,
    /// Too many consecutive generations have a counted repeat: the session has two holders and is revoked.
    SecondHolder,
}

/// The part of a session that the rule reads and writes.
#[derive(Clone, Debug)]
pub struct Session {
    /// The generation of the current token.
    pub generation: u32,
    /// The time at which the current token was issued.
    issued: u64,
    /// The tag of the sign-in or rotation that issued the current token.
    tag: Tag,
    /// Bit `n` is set if a counted repeat presented a token older than the `n`-th generation before the current one.
    counted_bits: u8,
    /// The superseded generations that were within grace when the current token was issued, newest first, each with the time at which it was
    /// superseded.
    recent: Vec<(u32, u64)>,
}

impl Session {
    /// A session whose first token, of this generation, is issued now.
    pub fn begin(generation: u32, tag: Tag, now: u64) -> Self {
        // The generation before, if any, counts as superseded now.
        let predecessor = generation.checked_sub(1).map(|before| (before, now));
        Self { generation, issued: now, tag, counted_bits: 0, recent: predecessor.into_iter().collect() }
    }

    /// Decides about the token of this generation. The caller drops a session that is revoked.
    pub fn present(&mut self, generation: u32, tag: Tag, now: u64, settings: &Settings) -> Decision {
        // A token can be ahead of the session if Redis has lost rotations.
        if generation >= self.generation {
            self.rotate(generation, tag, now, settings);
            return Decision::Rotated;
        }
        let superseded_at = self.recent.iter().find(|(recent, _)| *recent == generation).map(|(_, at)| *at);
        let allowed = superseded_at.is_some_and(|at| {
            let in_grace = now.saturating_sub(at) < settings.grace;
            let in_retry_window = settings.retry_window > 0 && now.saturating_sub(self.issued) <= settings.retry_window;
            in_grace || in_retry_window
        });
        if !allowed {
            return Decision::Reused;
        }
        if tag == self.tag {
            return Decision::Repeated { counted: false };
        }
        // The holder lacked every generation after the presented one, so their bits are set. The session ends only if the bit of the
        // presented generation is set too, by an earlier repeat. A generation eight or more behind has no bit: one repeat suffices.
        let lacked = self.generation - generation;
        self.counted_bits |= low_bits(lacked);
        let limit_bits = low_bits(settings.counted_repeats_limit.max(lacked + 1));
        if self.counted_bits & limit_bits == limit_bits {
            Decision::SecondHolder
        } else {
            Decision::Repeated { counted: true }
        }
    }

    /// Makes the token after `presented` the current one. `presented` is the current generation or a later one.
    fn rotate(&mut self, presented: u32, tag: Tag, now: u64, settings: &Settings) {
        let advanced = presented + 1 - self.generation;
        self.recent.retain(|(_, at)| now.saturating_sub(*at) < settings.grace);
        for generation in self.generation..=presented {
            self.recent.insert(0, (generation, now));
        }
        self.counted_bits = self.counted_bits.checked_shl(advanced).unwrap_or(0);
        self.generation = presented + 1;
        self.issued = now;
        self.tag = tag;
    }
}

/// The lowest `count` bits of a byte.
fn low_bits(count: u32) -> u8 {
    u8::try_from((1_u32 << count.min(8)) - 1).unwrap_or(u8::MAX)
}
