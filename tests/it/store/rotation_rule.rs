//! Differential test of the rotation rule (I2: reuse ends the session): in random histories, the scripts and the rule of the simulator
//! make the same decisions.

use std::{collections::BTreeMap, time::Duration};

use latchkey::{
    domain::session::{AcceptedTransport, Generation, OriginTag, RepeatRule, Rotation},
    store::redis::{LastUseOrigin, Presentation},
};

use super::{
    rotate_paths::Choices,
    server::{IDLE, NOW, Redis, account, create, session},
};
use crate::rotation::simulation::rule::{Decision, Session, Settings};

const HISTORIES: u64 = 160;
/// The number of presented tokens in a history.
const STEPS: usize = 80;
/// An hour in milliseconds.
const HOUR: u64 = 3_600_000;
/// The time in milliseconds after which a history continues with a new session: less than the idle timeout.
const MAX_AGE: u64 = 6 * 24 * HOUR;
/// The number of rotations within the grace window whose times a record keeps exactly. It merges the times of more rotations.
const EXACT_ROTATIONS: usize = 6;

/// A holder of a session's token: one of two tabs, or a thief.
#[derive(Clone, Copy)]
struct Holder {
    /// The generation of the token.
    token: u32,
    network: u8,
}

/// The holder of the token of a new session.
const NEW_HOLDER: Holder = Holder { token: 0, network: 0 };

#[tokio::test(flavor = "multi_thread")]
async fn scripts_decide_as_the_reference_rule_in_random_histories() {
    let server = Redis::redis_7_0();
    let store = server.store();
    let ada = account();
    let mut created_sessions = 0;
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for seed in 0..HISTORIES {
        let mut choices = Choices(seed);
        let grace = choices.one_of(&[0, 1000, 10_000, 60_000]); // in milliseconds
        let settings = Settings {
            grace,
            retry_window: choices.one_of(&[0, 2 * grace, 8 * HOUR]),
            counted_repeats_limit: choices.one_of(&[2, 3, 4, 4, 8]),
        };
        let rule = RepeatRule {
            grace: Duration::from_millis(settings.grace),
            retry_window: Duration::from_millis(settings.retry_window),
            counted_repeats_limit: u8::try_from(settings.counted_repeats_limit).unwrap(),
        };
        // times are milliseconds since `NOW`
        let mut now = 0;
        // the session in the simulator; `None` before the first and after a session has ended
        let mut current = None::<Session>;
        let mut id = session(0);
        let mut began = 0;
        let mut holders = [NEW_HOLDER; 3];
        // the times of the rotations within the grace window
        let mut recent_rotations = Vec::new();
        let mut last_rotation_at = 0;
        let mut last_rotation_origin = LastUseOrigin::default();
        for step in 0..STEPS {
            let jumps = [0, 0, 1, grace / 8, grace / 3, grace, grace + 1, HOUR, settings.retry_window, 8 * HOUR + 1];
            now += choices.one_of(&jumps);
            let holder_index = usize::try_from(choices.below(3)).unwrap();
            let generations_back = choices.one_of(&[0, 0, 0, 0, 0, 0, 1, 2, 5]);
            if now - began > MAX_AGE {
                current = None;
            }
            if current.is_none() {
                created_sessions += 1;
                id = session(created_sessions);
                began = now;
                holders = [NEW_HOLDER; 3];
                recent_rotations = Vec::new();
                last_rotation_at = now;
                last_rotation_origin = LastUseOrigin::default();
                create(&store, ada, id, NOW + Duration::from_millis(now)).await;
            }
            let reference =
                current.get_or_insert_with(|| Session::begin(NEW_HOLDER.token, NEW_HOLDER.network.into(), now));
            let holder = &mut holders[holder_index];
            let changes_network = choices.below(6) == 0;
            if changes_network {
                holder.network = u8::try_from(choices.below(3)).unwrap();
            }
            // a token that is newer than the record, as after a loss of writes in Redis
            let is_ahead = choices.below(30) == 0;
            let presented =
                if is_ahead { reference.generation + 2 } else { holder.token.saturating_sub(generations_back) };
            // waits instead of rotating more often than a record keeps exactly
            recent_rotations.retain(|at| now - at < grace);
            if presented >= reference.generation && recent_rotations.len() >= EXACT_ROTATIONS {
                now += grace;
            }

            let expected = reference.present(presented, holder.network.into(), now, &settings);
            // addresses differ within a network
            let ip = Some([192, 0, holder.network, choices.one_of(&[1, 1, 1, 2])].into());
            let presentation = Presentation {
                account: ada,
                session: id,
                generation: Generation(presented),
                accepted: AcceptedTransport::Any,
                origin: LastUseOrigin { tag: OriginTag([holder.network; 8]), ip },
            };
            let at = NOW + Duration::from_millis(now);
            let first_party = None;
            let rotation = store.sessions.present_for(&presentation, first_party, &rule, IDLE, at).await.unwrap();
            let (outcome, decision) = match &rotation {
                Rotation::Rotated(_) => {
                    // the fast path: the last rotation is longer ago than grace, and had the same origin
                    let same_origin = last_rotation_origin == presentation.origin;
                    let is_fast = now - last_rotation_at >= grace && same_origin && !is_ahead;
                    recent_rotations.push(now);
                    last_rotation_at = now;
                    last_rotation_origin = presentation.origin;
                    (if is_fast { "fast rotation" } else { "other rotation" }, Decision::Rotated)
                }
                Rotation::Repeated(_) => ("free repeat", Decision::Repeated { counted: false }),
                Rotation::Counted(_) => ("counted repeat", Decision::Repeated { counted: true }),
                Rotation::Reused => ("reuse", Decision::Reused),
                Rotation::SecondHolder => ("second holder", Decision::SecondHolder),
                Rotation::Expired | Rotation::Gone => panic!("{rotation:?}"),
            };
            *outcomes.entry(outcome).or_default() += 1;
            assert_eq!(
                decision, expected,
                "seed {seed}, step {step}: {presented} at {now}, {settings:?}, {reference:?}"
            );
            match rotation {
                Rotation::Rotated(grant) | Rotation::Repeated(grant) | Rotation::Counted(grant) => {
                    assert_eq!(grant.generation.0, reference.generation, "seed {seed}, step {step}");
                    // a fifth of the responses is lost
                    let is_received = choices.below(5) > 0;
                    if is_received {
                        holder.token = grant.generation.0;
                    }
                }
                _ => {}
            }
            if matches!(decision, Decision::Reused | Decision::SecondHolder) {
                current = None;
            }
        }
    }
    let has_all_six = outcomes.len() == 6 && outcomes.values().all(|count| *count > 20);
    assert!(has_all_six, "the histories have every outcome: {outcomes:?}");
    store.close().await;
}
