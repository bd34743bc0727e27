//! Property test: the scripts agree with a small model in random sequences of operations.

use std::{collections::HashMap, time::Duration};

use latchkey::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        additional_claims::AdditionalClaims,
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{AcceptedTransport, Generation, RepeatRule, Rotation},
    },
    store::redis::{AccountSessions, RedisStores, ReplaceOutcome, Replacement},
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::server::{NOW, Redis, Rotate, account, create, new_session, session};

const IDLE: Duration = Duration::from_secs(3600);
const ABSOLUTE: Duration = Duration::from_secs(4 * 3600);
/// Session caps: a small one, at which the script always reads all records, and a larger one, at which it counts first.
const SESSION_CAPS: [usize; 2] = [3, 10];

/// An operation. Its session is a number, counted from the newest session (0) and taken modulo the number of sessions.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create,
    /// The session, and the number of generations before its current one.
    Rotate(usize, u32),
    /// The session, the number of rotations, and the thousandths of the grace window between them. Each presents the current generation.
    Burst(usize, usize, u32),
    /// Advances the clock by thousandths of the grace window.
    Advance(u32),
    /// Advances the clock by minutes.
    Sleep(u64),
    Revoke(usize),
    RevokeAllBut(usize),
    RevokeAll,
    Replace(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Create),
        20 => (0..4_usize, prop_oneof![6 => Just(0), 3 => 1..4_u32, 3 => 4..20_u32]).prop_map(|(which, back)| Step::Rotate(which, back)),
        3 => (0..2_usize, 2..20_usize, 0..200_u32).prop_map(|(which, count, gap)| Step::Burst(which, count, gap)),
        10 => prop_oneof![6 => 0..100_u32, 3 => 100..1000_u32, 1 => 1000..3000_u32].prop_map(Step::Advance),
        1 => (1..61_u64).prop_map(Step::Sleep),
        1 => (0..4_usize).prop_map(Step::Revoke),
        1 => (0..4_usize).prop_map(Step::RevokeAllBut),
        1 => Just(Step::RevokeAll),
        1 => (0..4_usize).prop_map(Step::Replace),
    ]
}

/// The expected state of a session.
#[derive(Clone, Debug)]
struct Model {
    created: Timestamp,
    idle_ends: Timestamp,
    /// The time at which each generation so far was superseded.
    superseded: Vec<Timestamp>,
    /// Whether no operation has ended the session. It may have expired.
    unrevoked: bool,
    /// Whether the record may have been removed: the creation of a session removes some of the expired ones.
    perhaps_swept: bool,
}

/// The expected result of a rotation.
#[derive(Debug, PartialEq)]
enum Expected {
    Rotated,
    Repeated,
    Reused,
    /// The grace window ended less than a sixth of its length ago. After many rotations, the session may still accept the token.
    RepeatedOrReused,
    Expired,
    Gone,
}

impl Model {
    /// A session that begins now.
    fn new(now: Timestamp) -> Self {
        Self { created: now, idle_ends: now + IDLE, superseded: Vec::new(), unrevoked: true, perhaps_swept: false }
    }

    fn ends(&self) -> Timestamp {
        self.idle_ends.min(self.created + ABSOLUTE)
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.unrevoked && now < self.ends()
    }

    /// The result of presenting the token of the generation that lies `back` before the current one.
    fn expected(&self, back: u32, grace: Duration, now: Timestamp) -> Expected {
        if !self.unrevoked {
            return Expected::Gone;
        }
        if now >= self.ends() {
            return Expected::Expired;
        }
        let current = self.superseded.len();
        let presented = current.saturating_sub(back as usize);
        let Some(&superseded_at) = self.superseded.get(presented) else { return Expected::Rotated };
        let age = now.saturating_since(superseded_at);
        let sixth = Duration::from_millis(u64::try_from(grace.as_millis()).unwrap().div_ceil(6));
        let is_near = |other: &&Timestamp| {
            // one of the two differences is zero
            let distance = superseded_at.saturating_since(**other).max(other.saturating_since(superseded_at));
            distance < grace + sixth
        };
        // A record has room for seven times. If it needs more, the script merges two close ones into the later one.
        let may_be_merged = self.superseded.iter().filter(is_near).count() > 7;
        if age < grace {
            Expected::Repeated
        } else if may_be_merged && age < grace + sixth {
            Expected::RepeatedOrReused
        } else {
            Expected::Reused
        }
    }
}

/// Runs the steps on the account and on the model, and compares the results and the live sessions after each step.
async fn run_history(store: &RedisStores, account: AccountId, max_sessions: usize, grace: Duration, steps: &[Step]) {
    let mut now = NOW;
    let mut models: HashMap<SessionId, Model> = HashMap::new();
    let mut ids: Vec<SessionId> = Vec::new();
    // a burst is a sequence of rotations
    let single_steps = steps.iter().flat_map(|step| match *step {
        Step::Burst(which, count, gap) => [Step::Rotate(which, 0), Step::Advance(gap)].repeat(count),
        _ => vec![*step],
    });
    for step in single_steps {
        // none if there is no session
        let pick = |which: usize| ids.iter().rev().cycle().nth(which).copied();
        let next_id = session(1 + ids.len() as u64);
        match step {
            Step::Burst(..) => unreachable!("bursts are expanded above"),
            Step::Create => {
                let mut live: Vec<_> = models.iter_mut().filter(|(_, model)| model.is_live(now)).collect();
                live.sort_by_key(|(id, model)| (model.created, **id));
                let too_many = (live.len() + 1).saturating_sub(max_sessions);
                // the oldest sessions make room
                for (_, model) in live.into_iter().take(too_many) {
                    model.unrevoked = false;
                }
                for model in models.values_mut().filter(|model| now >= model.ends()) {
                    model.perhaps_swept = true;
                }
                let mut new = new_session(account, next_id);
                // a user agent adds a field to the record
                new.origin.user_agent = Some("curl/8.5.0".to_owned());
                new.idle_timeout = IDLE;
                new.absolute_timeout = ABSOLUTE;
                new.max_per_account = u32::try_from(max_sessions).unwrap();
                store.sessions.create(new, now).await.unwrap();
                models.insert(next_id, Model::new(now));
                ids.push(next_id);
            }
            Step::Rotate(which, back) => {
                let Some(id) = pick(which) else { continue };
                let model = models.get_mut(&id).unwrap();
                let expected = model.expected(back, grace, now);
                let current = u32::try_from(model.superseded.len()).unwrap();
                let presented = Generation(current.saturating_sub(back));
                let ends = model.ends();
                // the rule of `Rotate::rotate`
                let rule = RepeatRule { grace, retry_window: Duration::ZERO, counted_repeats_limit: 8 };
                let status = store.sessions.refresh_status(account, id, presented, &rule, now).await.unwrap();
                let got = store.sessions.rotate(account, id, presented, grace, IDLE, now).await.unwrap();
                // `refresh_status` must predict the result of the rotation
                let accepted = matches!(got, Rotation::Rotated(_) | Rotation::Repeated(_));
                assert_eq!(status.map(|status| status.expires_at), accepted.then_some(ends), "{id}: {got:?}");
                match (&expected, &got) {
                    (Expected::Rotated, Rotation::Rotated(grant)) => {
                        assert_eq!(grant.generation, Generation(current + 1));
                        assert_eq!(grant.idle_ends_at, now + IDLE);
                        model.superseded.push(now);
                        model.idle_ends = now + IDLE;
                    }
                    (Expected::Repeated | Expected::RepeatedOrReused, Rotation::Repeated(grant)) => {
                        assert_eq!(grant.generation, Generation(current));
                        assert_eq!(grant.idle_ends_at, model.idle_ends);
                    }
                    (Expected::Reused | Expected::RepeatedOrReused, Rotation::Reused) => model.unrevoked = false,
                    (Expected::Expired, Rotation::Expired) | (Expected::Gone, Rotation::Gone) => {}
                    (Expected::Expired, Rotation::Gone) if model.perhaps_swept => model.unrevoked = false,
                    _ => panic!(
                        "{id}: {presented:?} of {current}: expected {expected:?}, got {got:?}; {model:?} at {now}"
                    ),
                }
            }
            Step::Advance(thousandths) => {
                // Odd numbers add a millisecond, which moves the clock even if the grace window is zero.
                now = now + grace * thousandths / 1000 + Duration::from_millis(u64::from(thousandths % 2))
            }
            Step::Sleep(minutes) => now = now + Duration::from_mins(minutes),
            Step::Revoke(which) => {
                let Some(id) = pick(which) else { continue };
                let model = models.get_mut(&id).unwrap();
                let ended = store.sessions.revoke(account, id, EndReason::Logout, now).await.unwrap();
                // the revocation also ends an expired session, if its record is still there
                assert!(ended == model.unrevoked || model.perhaps_swept, "{id}: {ended}, {model:?}");
                model.unrevoked = false;
            }
            Step::RevokeAllBut(_) | Step::RevokeAll => {
                let except = if let Step::RevokeAllBut(which) = step { pick(which) } else { None };
                let mut ended = 0;
                for (_, model) in models.iter_mut().filter(|(id, _)| Some(**id) != except) {
                    ended += u64::from(model.is_live(now));
                    model.unrevoked = false;
                }
                let targets = AccountSessions { except, ..AccountSessions::all(account) };
                let got = store.sessions.revoke_all(targets, EndReason::Revoked, now).await.unwrap();
                assert_eq!(got, ended);
            }
            Step::Replace(which) => {
                let Some(replaces) = pick(which) else { continue };
                let replacement = Replacement {
                    id: next_id,
                    account,
                    replaces,
                    accepted: AcceptedTransport::Any,
                    roles: Roles::default(),
                    additional_claims: AdditionalClaims::default(),
                    epoch: Epoch(0),
                    claims_version: ClaimsVersion(0),
                    authentication: None,
                    idle_timeout: IDLE,
                    absolute_timeout: ABSOLUTE,
                };
                let got = store.sessions.replace_all(replacement, EndReason::PasswordChanged, now).await.unwrap();
                if !models[&replaces].is_live(now) {
                    assert_eq!(got, ReplaceOutcome::Gone);
                    continue;
                }
                let count = models.values().filter(|model| model.is_live(now)).count() as u64;
                let ReplaceOutcome::Replaced { grant, ended } = got else { panic!("{replaces}: {got:?}") };
                assert_eq!(grant.session, next_id);
                assert_eq!(grant.generation, Generation(0));
                assert_eq!(ended, count - 1, "all live sessions but the replaced one");
                models.values_mut().for_each(|model| model.unrevoked = false);
                models.insert(next_id, Model::new(now));
                ids.push(next_id);
            }
        }
        let live = models.iter().filter(|(_, model)| model.is_live(now));
        let mut expected: Vec<_> = live.map(|(id, model)| (model.created, *id)).collect();
        expected.sort();
        let sessions = store.sessions.list(account, now).await.unwrap();
        let listed: Vec<_> = sessions.iter().map(|session| (session.created_at, session.id)).collect();
        assert_eq!(listed, expected, "after {step:?}");
    }
}

#[test]
fn scripts_match_the_model_in_random_histories() {
    // proptest runs synchronous code
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = Redis::start_with(&[]); // without persistence
    let store = runtime.block_on(async { server.store() });
    let graces_millis = prop::sample::select(vec![0, 1, 7, 1000, 10_000, 60_000_u64]);
    let histories = (prop::sample::select(&SESSION_CAPS), graces_millis, prop::collection::vec(step(), 1..120));
    let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
    runner
        .run(&histories, |(max_sessions, grace_millis, mut steps)| {
            // the other operations need a session
            steps.insert(0, Step::Create);
            let grace = Duration::from_millis(grace_millis);
            runtime.block_on(run_history(&store, account(), max_sessions, grace, &steps));
            Ok(())
        })
        .unwrap();
    runtime.block_on(store.close());
}

/// A Redis that lost writes has an earlier generation than the client: the session continues from the presented token.
#[tokio::test(flavor = "multi_thread")]
async fn rotate_later_generation_than_stored_continues_session() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    let (ada, id) = (account(), session(1));
    create(&store, ada, id, NOW).await;
    let grace = Duration::from_secs(10);
    let rotation = store.sessions.rotate(ada, id, Generation(3), grace, IDLE, NOW).await.unwrap();
    let Rotation::Rotated(grant) = rotation else { panic!("{rotation:?}") };
    assert_eq!(grant.generation, Generation(4));
    let again = store.sessions.rotate(ada, id, Generation(3), grace, IDLE, NOW).await.unwrap();
    assert_eq!(again, Rotation::Repeated(grant));
    store.close().await;
}

/// More rotations in a burst than a record has room for: each token keeps its own grace window, exceeded by at most a sixth.
#[tokio::test(flavor = "multi_thread")]
async fn rotate_burst_keeps_grace_of_earlier_generations() {
    let server = Redis::start_with(&[]);
    let store = server.store();
    let (early, burst) = (NOW + Duration::from_secs(1), NOW + Duration::from_secs(6));
    let grace = Duration::from_secs(10);
    // Generation 0 is superseded at `early`, and the others 5 s later, at `burst`. `after` is in milliseconds since `early`. The grace window
    // of a generation ends 10,000 to 11,667 ms after the generation was superseded.
    for (presented, after, repeated) in [
        (0, 9_999, true),
        (0, 11_700, false),
        (1, 11_700, true),
        (1, 14_999, true),
        (20, 14_999, true),
        (1, 16_700, false),
    ] {
        let (ada, id) = (account(), session(1));
        // overwrites the session of the case before
        create(&store, ada, id, NOW).await;
        for generation in 0..21 {
            let at = if generation == 0 { early } else { burst };
            store.sessions.rotate(ada, id, Generation(generation), grace, IDLE, at).await.unwrap();
        }
        let now = early + Duration::from_millis(after);
        let got = store.sessions.rotate(ada, id, Generation(presented), grace, IDLE, now).await.unwrap();
        assert_eq!(matches!(got, Rotation::Repeated(_)), repeated, "{presented} after {after} ms: {got:?}");
    }
    store.close().await;
}
