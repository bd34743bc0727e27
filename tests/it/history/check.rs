//! Checks a session's history for linearizability: searches for an order of the calls, each executed at one moment between
//! its request and its answer, in which the model allows every answer (Wing and Gong, 1993; memoized as by Lowe, 2017).

use std::collections::HashMap;

use super::model::{Answer, Interval, Op, Rules, State, Times};

/// Returns a violation in the history of one session, if there is one.
pub fn violation(ops: &[Op], rules: &Rules) -> Option<String> {
    if let Some(violation) = second_successor(ops) {
        return Some(violation);
    }
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.span);
    let mut search =
        Search { ops: &ops, times: Times::of(&ops, rules), rules, tried: HashMap::new(), furthest: (0, State::Before) };
    let mut done = vec![false; ops.len()];
    if search.find_order(&mut done, State::Before) { None } else { Some(search.explain()) }
}

/// Finds two different tokens of one generation.
fn second_successor(ops: &[Op]) -> Option<String> {
    let mut first_tokens = HashMap::new();
    for op in ops {
        let Answer::Token(generation, token) = op.answer else { continue };
        let first = *first_tokens.entry(generation).or_insert(token);
        if first != token {
            return Some(format!("two tokens of generation {generation}: a second successor\n{}", format_ops(ops)));
        }
    }
    None
}

/// A depth-first search for an order of the calls that explains all answers.
struct Search<'a> {
    /// The calls, ordered by the time of the request.
    ops: &'a [Op],
    times: Times,
    rules: &'a Rules,
    /// Memoized failures, keyed by the set of explained answers and the session's state. Each value lists sets of
    /// executed unanswered calls: a search with a superset of a listed set fails too.
    tried: HashMap<(Vec<u64>, State), Vec<Vec<u64>>>,
    /// The largest number of answers explained so far, and the session's state after them.
    furthest: (usize, State),
}

impl Search<'_> {
    /// Whether the call with this index got an answer. An unanswered call may have been executed late, or never.
    fn is_answered(&self, op: usize) -> bool {
        self.ops[op].answer != Answer::Unknown
    }

    /// Whether the calls that are not `done` can be executed from this state in an order that explains their answers.
    fn find_order(&mut self, done: &mut [bool], state: State) -> bool {
        let explained = (0..done.len()).filter(|&i| done[i] && self.is_answered(i)).count();
        if explained >= self.furthest.0 {
            self.furthest = (explained, state);
        }
        // The call with the earliest answer of the open calls was executed before that answer. So no call that was requested after that
        // answer is the next to be executed.
        let open: Vec<usize> = (0..done.len()).filter(|&i| !done[i]).collect();
        let answer_times = open.iter().filter(|&&i| self.is_answered(i)).map(|&i| self.ops[i].span.latest);
        let Some(earliest_answer) = answer_times.min() else { return true };
        if self.already_tried(done, state) {
            return false;
        }
        let mut candidates: Vec<usize> =
            open.into_iter().take_while(|&i| self.ops[i].span.earliest <= earliest_answer).collect();
        // in the order of the answers; unanswered calls come last, since `false` sorts before `true`
        candidates.sort_by_key(|&i| (!self.is_answered(i), self.ops[i].span.latest));
        for i in candidates {
            let states: Vec<State> = state.after(&self.ops[i], earliest_answer, &self.times, self.rules).collect();
            for next_state in states {
                // An unanswered call without an effect explains nothing.
                if !self.is_answered(i) && next_state == state {
                    continue;
                }
                done[i] = true;
                if self.find_order(done, next_state) {
                    return true;
                }
                done[i] = false;
            }
        }
        false
    }

    /// Whether this search, or one with fewer executed unanswered calls, has failed before. Otherwise stores this one: a success ends all.
    fn already_tried(&mut self, done: &[bool], state: State) -> bool {
        // The done calls as sets of bits, 64 in each number.
        let mut answered = vec![0_u64; done.len().div_ceil(64)];
        let mut unanswered = answered.clone();
        for i in (0..done.len()).filter(|&i| done[i]) {
            let set = if self.is_answered(i) { &mut answered } else { &mut unanswered };
            set[i / 64] |= 1_u64 << (i % 64);
        }
        let failed_sets = self.tried.entry((answered, state)).or_default();
        let is_subset =
            |failed: &Vec<u64>| failed.iter().zip(&unanswered).all(|(bits, superset)| bits & !superset == 0);
        let already_failed = failed_sets.iter().any(is_subset);
        if !already_failed {
            failed_sets.push(unanswered);
        }
        already_failed
    }

    fn explain(&self) -> String {
        let (explained, state) = &self.furthest;
        format!("no order explains more than {explained} answers; the state was {state:?}\n{}", format_ops(self.ops))
    }
}

fn format_ops(ops: &[Op]) -> String {
    let mut text = String::new();
    for Op { call, answer, network, span: Interval { earliest, latest } } in ops {
        text += &format!("  {earliest:>10} … {latest:>10} µs  {call:?} from network {network} → {answer:?}\n");
    }
    text
}
