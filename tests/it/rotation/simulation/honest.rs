//! Simulates honest holders, whose tokens no thief has. If the rule ends their session, that is a false sign-out.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    HOUR, MINUTE, SECOND,
    policies::{Answer, FIRST, Policy, Rotation, Token},
    random::Random,
    rule::Tag,
};

/// How a holder moves between networks.
#[derive(Clone, Copy, Debug)]
pub enum Moves {
    /// Always in the same network.
    Never,
    /// To another of four networks, once an hour on average.
    Hourly,
    /// To a network that was never used before, after each lost response.
    AfterEachLoss,
}

/// An honest holder.
#[derive(Clone, Copy, Debug)]
pub enum Honest {
    /// A phone that loses this share of all responses. It refreshes every 5 minutes, or, one time in ten, after 5 minutes to 12 h.
    /// After a loss it presents the same token again 1 s to 8 h later, often from another network.
    Phone(f64, Moves),
    /// This number of tabs, which share a token without a lock. All refresh within 2 s, every 5 minutes. One in a hundred of their requests
    /// and responses takes 1 to 8 s, and one in a hundred responses is lost. The tabs keep the token that arrives last.
    Tabs(u64, Moves),
    /// A script that runs every hour, loses one response in twenty and retries three times.
    Script,
}

impl Honest {
    /// The holders of the table in `docs/rotation.md`, with their names.
    pub const ALL: [(&str, Self); 9] = [
        ("phone, 1 % lost", Self::Phone(0.01, Moves::Hourly)),
        ("phone, 5 % lost", Self::Phone(0.05, Moves::Hourly)),
        ("phone, 20 % lost", Self::Phone(0.20, Moves::Hourly)),
        ("phone, 5 % lost, each retry from a new network", Self::Phone(0.05, Moves::AfterEachLoss)),
        ("1 tab", Self::Tabs(1, Moves::Never)),
        ("2 tabs", Self::Tabs(2, Moves::Never)),
        ("5 tabs", Self::Tabs(5, Moves::Never)),
        ("5 tabs of a laptop on the move", Self::Tabs(5, Moves::Hourly)),
        ("script, three retries", Self::Script),
    ];

    /// The number of false sign-outs in `refreshes` refreshes.
    pub fn false_sign_outs(self, policy: Policy, refreshes: u64, seed: u64) -> u64 {
        let mut holder = Holder::sign_in(policy, seed);
        while holder.refreshes < refreshes {
            match self {
                Self::Phone(loss, moves) => holder.refresh_phone(loss, moves),
                Self::Tabs(tabs, moves) => holder.refresh_tabs(tabs, moves),
                Self::Script => holder.run_script(),
            }
        }
        holder.sign_outs
    }
}

struct Holder {
    policy: Policy,
    session: Box<dyn Rotation>,
    /// The token that the holder presents next.
    token: Token,
    network: Tag,
    /// Milliseconds since the first sign-in.
    now: u64,
    random: Random,
    refreshes: u64,
    sign_outs: u64,
}

impl Holder {
    fn sign_in(policy: Policy, seed: u64) -> Self {
        let (network, now) = (0, 0);
        let session = policy.sign_in(network, now);
        Self { policy, session, token: FIRST, network, now, random: Random::new(seed), refreshes: 0, sign_outs: 0 }
    }

    /// Lets `elapsed` milliseconds pass. The holder may move meanwhile.
    fn wait(&mut self, elapsed: u64, moves: Moves) {
        self.now += elapsed;
        if matches!(moves, Moves::Hourly) && self.random.happens(elapsed, HOUR) {
            // one of the three other networks
            self.network = (self.network + 1 + self.random.below(3)) % 4;
        }
    }

    /// Lets `elapsed` milliseconds pass after a lost response.
    fn wait_after_loss(&mut self, elapsed: u64, moves: Moves) {
        self.wait(elapsed, moves);
        if matches!(moves, Moves::AfterEachLoss) {
            self.network += 1;
        }
    }

    fn present(&mut self) -> Answer {
        self.session.present(self.token, self.network, self.now)
    }

    /// Receives an answer: the holder uses the new access token at once, or signs in again if its session has ended.
    fn receive(&mut self, answer: Answer) {
        if let Some(token) = answer {
            self.token = token;
            self.session.use_access_token(token);
            self.refreshes += 1;
        } else {
            self.sign_outs += 1;
            self.session = self.policy.sign_in(self.network, self.now);
            self.token = FIRST;
        }
    }

    /// One refresh of a phone, with its retries.
    fn refresh_phone(&mut self, loss: f64, moves: Moves) {
        let pause = if self.random.chance(0.1) { self.random.log_uniform(5 * MINUTE, 12 * HOUR) } else { 5 * MINUTE };
        self.wait(pause, moves);
        let mut answer = self.present();
        // As long as the response is lost, the phone retries.
        while self.random.chance(loss) {
            let pause = self.random.log_uniform(SECOND, 8 * HOUR);
            self.wait_after_loss(pause, moves);
            answer = self.present();
        }
        self.receive(answer);
    }

    /// One run of the script. If all its attempts fail, the next run presents the same token.
    fn run_script(&mut self) {
        self.now += HOUR;
        // one attempt and three retries, after 1, 2 and 4 s
        for attempt in 0..4 {
            let answer = self.present();
            if !self.random.chance(0.05) {
                return self.receive(answer);
            }
            self.now += SECOND << attempt;
        }
    }

    /// One refresh of each tab.
    fn refresh_tabs(&mut self, tabs: u64, moves: Moves) {
        self.wait(5 * MINUTE, moves);
        // the next event first: `Reverse` orders the heap by ascending time
        let mut events = BinaryHeap::new();
        for _ in 0..tabs {
            events.push(Reverse((self.now + self.random.below(2 * SECOND), Event::Send)));
        }
        while let Some(Reverse((at, event))) = events.pop() {
            self.wait(at - self.now, moves);
            match event {
                Event::Send => {
                    let arrives = at + self.latency();
                    events.push(Reverse((arrives, Event::Arrive { token: self.token, from: self.network })));
                }
                Event::Arrive { token, from } => {
                    let answer = self.session.present(token, from, at);
                    // A tab whose response is lost sends the shared token of that later time.
                    let next = if self.random.chance(0.01) {
                        (at + SECOND + self.random.below(5 * SECOND), Event::Send)
                    } else {
                        (at + self.latency(), Event::Receive(answer))
                    };
                    events.push(Reverse(next));
                }
                Event::Receive(answer) => {
                    self.receive(answer);
                    if answer.is_none() {
                        // The holder has signed in again, so the requests of the other tabs no longer matter.
                        return;
                    }
                }
            }
        }
    }

    /// The duration of a request or a response, in milliseconds.
    fn latency(&mut self) -> u64 {
        if self.random.chance(0.01) { SECOND + self.random.below(7 * SECOND) } else { self.random.log_uniform(5, 300) }
    }
}

/// A step of a tab's refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The tab reads the shared token and sends it.
    Send,
    /// The request reaches the service.
    Arrive { token: Token, from: Tag },
    /// The response reaches the tab, which replaces the shared token.
    Receive(Answer),
}
