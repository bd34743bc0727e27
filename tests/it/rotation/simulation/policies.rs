//! The rotation rules that the simulator compares, behind one interface.

use super::rule::{DEFAULTS, Decision, Session, Settings, Tag};

/// A refresh token: a number that the rule assigned.
pub type Token = u32;

/// The token of the sign-in.
pub const FIRST: Token = 0;

/// The answer to a presented token: the token to use next, or none when the session has ended.
pub type Answer = Option<Token>;

/// A rotation rule.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// The rule of Latchkey 0.1: answers repeats within the grace window only.
    GraceOnly,
    /// A token works once: no repeat is answered.
    Strict,
    /// Answers repeats within 10 s of a token's first use, and of the active token's parent at any time:
    /// <https://supabase.com/docs/guides/auth/sessions#what-is-refresh-token-reuse-detection-and-what-does-it-protect-from>.
    Supabase,
    /// Each use of a token returns a new one. The used token works until such a new token, or its access token, is used:
    /// <https://github.com/supertokens/supertokens-core/issues/532>.
    SuperTokens,
    /// Latchkey's rule.
    Latchkey(Settings),
}

impl Policy {
    /// The rules of the table in docs/rotation.md, with their names.
    pub const ALL: [(&str, Self); 5] = [
        ("grace only (0.1)", Self::GraceOnly),
        ("strict", Self::Strict),
        ("Supabase Auth", Self::Supabase),
        ("SuperTokens", Self::SuperTokens),
        ("Latchkey", Self::Latchkey(DEFAULTS)),
    ];

    /// A session that begins with [`FIRST`] in a network, at a time in milliseconds.
    pub fn sign_in(self, from: Tag, now: u64) -> Box<dyn Rotation> {
        // Only Latchkey's present rule distinguishes networks. The struct `Latchkey` also simulates `GraceOnly` and `Strict`.
        let distinguishes_networks = matches!(self, Self::Latchkey(_));
        let latchkey = |settings| {
            let session = Session::begin(FIRST, from, now);
            Box::new(Latchkey { session, settings, distinguishes_networks, ended: false })
        };
        // A window of 0 answers no repeat.
        match self {
            Self::GraceOnly => latchkey(Settings { retry_window: 0, ..DEFAULTS }),
            Self::Strict => latchkey(Settings { grace: 0, retry_window: 0, ..DEFAULTS }),
            Self::Supabase => Box::new(Supabase::default()),
            Self::SuperTokens => Box::new(SuperTokens { parents: vec![FIRST], current: FIRST, ended: false }),
            Self::Latchkey(settings) => latchkey(settings),
        }
    }
}

/// A session under a rotation rule.
pub trait Rotation {
    /// Presents a token from a network at a time in milliseconds.
    fn present(&mut self, token: Token, from: Tag, now: u64) -> Answer;

    /// A client uses the access token that it received together with this refresh token.
    fn use_access_token(&mut self, _token: Token) {}
}

struct Latchkey {
    session: Session,
    settings: Settings,
    /// If false, all networks have one tag, so that no repeat is counted.
    distinguishes_networks: bool,
    ended: bool,
}

impl Rotation for Latchkey {
    fn present(&mut self, token: Token, from: Tag, now: u64) -> Answer {
        let tag = if self.distinguishes_networks { from } else { 0 };
        if !self.ended {
            let decision = self.session.present(token, tag, now, &self.settings);
            self.ended = matches!(decision, Decision::Reused | Decision::SecondHolder);
        }
        (!self.ended).then_some(self.session.generation)
    }
}

/// The time in milliseconds for which Supabase Auth answers repeats of any token.
const SUPABASE_REUSE_INTERVAL: u64 = 10_000;

#[derive(Default)]
struct Supabase {
    active: Token,
    /// The time of the first use of each token.
    first_used: Vec<u64>,
    ended: bool,
}

impl Rotation for Supabase {
    fn present(&mut self, token: Token, _from: Tag, now: u64) -> Answer {
        let is_parent_of_active = token + 1 == self.active;
        if token == self.active {
            self.first_used.push(now);
            self.active += 1;
        } else if !is_parent_of_active && now - self.first_used[token as usize] >= SUPABASE_REUSE_INTERVAL {
            self.ended = true;
        }
        (!self.ended).then_some(self.active)
    }
}

struct SuperTokens {
    /// The token that each token replaces. The first token counts as its own parent.
    parents: Vec<Token>,
    /// The newest token that is known to have reached a client.
    current: Token,
    ended: bool,
}

impl Rotation for SuperTokens {
    fn present(&mut self, token: Token, _from: Tag, _now: u64) -> Answer {
        // A presented token has reached a client, like one whose access token is used.
        self.use_access_token(token);
        self.ended = self.ended || token != self.current;
        if self.ended {
            return None;
        }
        self.parents.push(token);
        Some(Token::try_from(self.parents.len() - 1).expect("fewer than four billion tokens"))
    }

    fn use_access_token(&mut self, token: Token) {
        if self.parents[token as usize] == self.current {
            self.current = token;
        }
    }
}
