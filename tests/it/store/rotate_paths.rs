//! Differential test: in random histories, `rotate.lua` gives the same answers, records and events with and without its fast path
//! (`rotate_fast.lua`).

use std::time::Duration;

use fred::{clients::Client, types::Value};
use latchkey::{
    domain::{
        clock::Timestamp,
        session::{Generation, OriginTag, RepeatRule, Transport},
    },
    store::redis::{
        LastUseOrigin,
        record::{Record, lua_constants},
    },
};

use super::server::{NOW, Redis, account, raw_command, session};

const FAST: &str = include_str!("../../../src/store/redis/lua/rotate_fast.lua");
const LIB: &str = include_str!("../../../src/store/redis/lua/lib.lua");
const ROTATE: &str = include_str!("../../../src/store/redis/lua/rotate.lua");

/// The number of random histories, each of one session.
const HISTORIES: u64 = 100;
/// The number of tokens that a history presents.
const STEPS: usize = 30;

/// A reproducible source of choices (splitmix64).
pub(super) struct Choices(pub(super) u64);

impl Choices {
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % count
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// The script with or without the fast path, and the keys that only this variant uses.
struct Variant {
    script: String,
    /// The account's session hash, and the stream and the position of its bucket.
    keys: [&'static str; 3],
}

impl Variant {
    async fn rotate(&self, client: &Client, presentation: &[u8]) -> Value {
        let number_of_keys = 3.into();
        let mut words: Vec<Value> = vec![self.script.as_str().into(), number_of_keys];
        words.extend(self.keys.iter().map(|key| Value::from(*key)));
        // retention in milliseconds, how streams are trimmed, and the channel of the events
        words.push("3600000 MAXLEN channel".into());
        words.push(Value::Bytes(presentation.to_vec().into()));
        raw_command(client, "EVAL", words).await
    }

    /// The fields and values of the account's session hash, sorted, and the number of events.
    async fn state(&self, client: &Client) -> (Value, i64) {
        let mut fields = raw_command(client, "HGETALL", vec![self.keys[0].into()]).await.into_array();
        fields.sort_by_key(|value| value.as_bytes().map(<[u8]>::to_vec));
        let events = raw_command(client, "XLEN", vec![self.keys[1].into()]).await.as_i64().unwrap();
        (Value::Array(fields), events)
    }
}

#[tokio::test]
async fn rotate_fast_path_matches_full_script() {
    let server = Redis::redis_7_0();
    let client = server.raw().await;
    let (ada, id) = (account(), session(1));
    let constants = lua_constants();
    let fast = Variant { script: format!("{constants}{FAST}\n{LIB}\n{ROTATE}"), keys: ["s{1}", "e{1}", "n{1}"] };
    // the full script reads the answers of the fast path from `answers`: there are none
    let full =
        Variant { script: format!("{constants}local answers = {{}}\n{LIB}\n{ROTATE}"), keys: ["s{2}", "e{2}", "n{2}"] };
    // show that the histories have both kinds of answers
    let (mut rotations, mut counted_repeats) = (0, 0);
    for seed in 0..HISTORIES {
        let mut choices = Choices(seed);
        let mut now = NOW;
        let grace = Duration::from_millis(choices.below(20_000));
        let idle = Duration::from_millis(1 + choices.below(1_000_000));
        let idle_ends_at = now + idle;
        let rule = RepeatRule {
            grace,
            retry_window: choices.one_of(&[Duration::ZERO, grace * 2, Duration::from_hours(24)]),
            counted_repeats_limit: choices.one_of(&[2, 3, 4]),
        };
        let record = Record {
            has_grant: false,
            // A session of release 0.1 has no last use: the first rotation adds it.
            has_last_use: choices.below(2) == 0,
            has_step_up: choices.below(4) == 0,
            // from the last of these, two rotations lead to the largest generation
            generation: Generation(choices.one_of(&[0, 3, u32::MAX - 2])),
            transport: choices.one_of(&[Transport::Cookie, Transport::Bearer]),
            created_at: now,
            last_used_at: now,
            idle_ends_at,
            ends_at: now + Duration::from_millis(1 + choices.below(5_000_000)),
            kept_until: idle_ends_at + idle / 16,
        };
        let has_authentication = choices.below(3) == 0;
        let has_roles = choices.below(2) == 0;
        let mut generation = record.generation.0;
        raw_command(&client, "FLUSHALL", vec![]).await;
        for variant in [&fast, &full] {
            let mut words: Vec<Value> = vec![variant.keys[0].into(), Value::Bytes(id.as_bytes().to_vec().into())];
            words.push(Value::Bytes(record.encode().into()));
            if has_roles {
                // the field of the account's roles
                words.extend(["r".into(), "admin".into()]);
            }
            if record.has_last_use {
                // generation 0 without counted repeats; methods 3, level 2 and a time (src/store/redis/last_use.rs)
                let authentication = [&[0; 5][..], &[0, 3, 2, 1, 2, 3, 4, 5, 6]].concat();
                let last_use =
                    [encoded(&origin(0)), if has_authentication { authentication } else { Vec::new() }].concat();
                // the field of the last use is part 4 of the session
                words.extend([[&id.as_bytes()[..], &[4]].concat(), last_use].map(|part| Value::Bytes(part.into())));
            }
            raw_command(&client, "HSET", words).await;
            // the key does not expire during the test
            raw_command(&client, "PEXPIRE", vec![variant.keys[0].into(), 100_000_000.into()]).await;
        }
        for _ in 0..STEPS {
            let millisecond = Duration::from_millis(1);
            now = now + choices.one_of(&[Duration::ZERO, millisecond, grace, grace + millisecond, idle / 3, idle]);
            // some nodes have a clock that is slow
            let clock = if choices.below(8) == 0 { now - Duration::from_millis(500) } else { now };
            // the current generation, or one that is up to three earlier or one later
            let presented = if choices.below(2) == 0 {
                generation.saturating_sub(choices.one_of(&[0, 1, 2, 3])).saturating_add(choices.one_of(&[0, 1]))
            } else {
                generation
            };
            // most often from the first origin or from the other network
            let origin = origin(choices.one_of(&[0, 0, 0, 1, 2, 2, 2]));
            let presentation =
                Presentation { presented, now: clock, rule, idle, bearer_only: choices.below(2) == 0, origin };
            let presentation = presentation.encode(ada.as_bytes(), id.as_bytes());
            let answers = [fast.rotate(&client, &presentation).await, full.rotate(&client, &presentation).await];
            let [fast_answer, full_answer] = answers.each_ref().map(without_event_id);
            assert_eq!(fast_answer, full_answer, "seed {seed}");
            assert_eq!(fast.state(&client).await, full.state(&client).await, "seed {seed}");
            let answer = outcome(&answers[0]);
            match answer[0].as_str().as_deref() {
                Some("rotated") => {
                    generation = Record::decode(answer[1].as_bytes().unwrap()).unwrap().generation.0;
                    rotations += 1;
                }
                Some("counted") => counted_repeats += 1,
                _ => {}
            }
        }
    }
    assert!(rotations > 100, "the histories have rotations: {rotations}");
    assert!(counted_repeats > 3, "the histories have counted repeats: {counted_repeats}");
}

/// The origin with this number: 0 and 1 are in one network, 2 is in another.
fn origin(number: u8) -> LastUseOrigin {
    let ip = [[192, 0, 2, 1], [192, 0, 2, 2], [198, 51, 100, 1]][usize::from(number)];
    let network = number / 2;
    LastUseOrigin { tag: OriginTag([network; 8]), ip: Some(ip.into()) }
}

fn encoded(origin: &LastUseOrigin) -> Vec<u8> {
    let mut bytes = Vec::new();
    origin.encode(&mut bytes);
    bytes
}

/// The answer to the script's only operation: the name of the outcome, and what belongs to it. The script may answer a rotation with the record
/// alone, without a name.
fn outcome(answer: &Value) -> Vec<Value> {
    let operation = answer.clone().into_array().remove(0);
    if operation.is_array() { operation.into_array() } else { vec!["rotated".into(), operation] }
}

/// An answer without the id of the event that a reuse appends: each variant has its own stream.
fn without_event_id(answer: &Value) -> Value {
    let mut operation = outcome(answer);
    if matches!(operation[0].as_str().as_deref(), Some("reused" | "second_holder")) {
        operation.truncate(1);
    }
    Value::Array(operation)
}

/// The argument of one operation, as `SessionStore::present` writes it.
struct Presentation {
    presented: u32,
    now: Timestamp,
    rule: RepeatRule,
    idle: Duration,
    bearer_only: bool,
    origin: LastUseOrigin,
}

impl Presentation {
    fn encode(&self, account: &[u8; 16], session: &[u8; 16]) -> Vec<u8> {
        let mut bytes = [&account[..], &session[..], &self.presented.to_be_bytes()].concat();
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        // times in milliseconds have 6 bytes
        for time in [self.now.as_millis().unsigned_abs(), millis(self.rule.grace), millis(self.idle)] {
            bytes.extend(&time.to_be_bytes()[2..]);
        }
        bytes.push(self.bearer_only.into());
        bytes.extend(&millis(self.rule.retry_window).to_be_bytes()[2..]);
        bytes.push(self.rule.counted_repeats_limit);
        bytes.extend(encoded(&self.origin));
        bytes
    }
}
