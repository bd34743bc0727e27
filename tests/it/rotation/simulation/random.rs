//! Reproducible random choices: the same seed yields the same simulation.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub struct Random(u64);

impl Random {
    /// Creates a generator. Different seeds yield independent choices.
    pub fn new(seed: u64) -> Self {
        // SplitMix64 advances by addition: without the multiplication, near seeds could yield shifted copies of one sequence. Any odd
        // factor with scattered bits works.
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number at least 0 and below 1, of the 53 bits that an `f64` can hold.
    fn unit(&mut self) -> f64 {
        let bits = self.next() >> (64 - 53);
        bits as f64 / (1_u64 << 53) as f64
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number of at least `from`, which must not be 0, and below `to`. Each order of magnitude is equally likely.
    pub fn log_uniform(&mut self, from: u64, to: u64) -> u64 {
        let ratio = to as f64 / from as f64;
        (from as f64 * ratio.powf(self.unit())) as u64
    }

    /// Whether something that happens once in `mean` milliseconds on average happens within `elapsed` milliseconds.
    pub fn happens(&mut self, elapsed: u64, mean: u64) -> bool {
        // the time to the next event of a Poisson process is distributed exponentially
        let does_not_happen = (-(elapsed as f64) / mean as f64).exp();
        self.chance(1.0 - does_not_happen)
    }
}
