//! Checks a session's history for linearizability: searches for an order of the calls, each executed at one moment between
//! its request and its answer, in which the model allows every answer (Wing and Gong, 1993; memoized as by Lowe, 2017).

use std::collections::HashMap;

use super::model::{Answer, Interval, Op, Rules, State, Times};

/// Returns a violation in the history of one session, if there is one.
pub fn violation(ops: &[Op], rules: &Rules) -> Option<String> {
    second_successor(ops).or_else(|| {
        let mut ops = ops.to_vec();
        ops.sort_by_key(|op| op.span);
        let mut search = Search {
            ops: &ops,
            times: Times::of(&ops, rules),
            rules,
            tried: HashMap::new(),
            furthest: (0, State::Before),
        };
        let mut done = vec![false; ops.len()];
        (!search.find_order(&mut done, State::Before)).then(|| search.explain())
    })
}

/// Finds two different tokens of one generation.
fn second_successor(ops: &[Op]) -> Option<String> {
    let mut tokens = HashMap::new();
    ops.iter().find_map(|op| {
        let Answer::Token(generation, token) = op.answer else { return None };
        let first = *tokens.entry(generation).or_insert(token);
        (first != token)
            .then(|| format!("two tokens of generation {generation}: a second successor\n{}", format_ops(ops)))
    })
}

/// A depth-first search for an order of the calls that explains all answers.
struct Search<'a> {
    /// The calls, ordered by the time of the request.
    ops: &'a [Op],
    times: Times,
    rules: &'a Rules,
    /// Memoized failures, keyed by the set of explained answers and the session's state. Each value is a set of unanswered
    /// calls that were executed; a search with a superset of them fails too.
    tried: HashMap<(Vec<u64>, State), Vec<Vec<u64>>>,
    /// The largest number of answers explained so far, and the session's state after them.
    furthest: (usize, State),
}

impl Search<'_> {
    fn is_answered(&self, op: usize) -> bool {
        self.ops[op].answer != Answer::Unknown
    }

    /// Whether the calls that are not `done` can be executed from this state in an order that explains their answers.
    fn find_order(&mut self, done: &mut [bool], state: State) -> bool {
        let explained = (0..done.len()).filter(|&i| done[i] && self.is_answered(i)).count();
        if explained >= self.furthest.0 {
            self.furthest = (explained, state);
        }
        // The call with the earliest open answer was executed before its answer. So a call that was requested after this answer is not the
        // next to be executed.
        let open: Vec<usize> = (0..done.len()).filter(|&i| !done[i]).collect();
        let answers = open.iter().filter(|&&i| self.is_answered(i)).map(|&i| self.ops[i].span.latest);
        let Some(earliest_answer) = answers.min() else { return true };
        if self.already_tried(done, state) {
            return false;
        }
        let mut candidates: Vec<usize> =
            open.into_iter().take_while(|&i| self.ops[i].span.earliest <= earliest_answer).collect();
        // tries calls in the order of their answers, and unanswered calls last
        candidates.sort_by_key(|&i| (!self.is_answered(i), self.ops[i].span.latest));
        for i in candidates {
            let states: Vec<State> = state.after(&self.ops[i], earliest_answer, &self.times, self.rules).collect();
            for next in states {
                // An unanswered call without an effect explains nothing.
                if !self.is_answered(i) && next == state {
                    continue;
                }
                done[i] = true;
                if self.find_order(done, next) {
                    return true;
                }
                done[i] = false;
            }
        }
        false
    }

    /// Whether this search, or one with fewer executed unanswered calls, has failed before. Otherwise stores this search.
    fn already_tried(&mut self, done: &[bool], state: State) -> bool {
        // The done calls that have an answer, or have none, as a set of bits.
        let done_calls = |have_answer: bool| -> Vec<u64> {
            let bit = |i: usize| u64::from(done[i] && self.is_answered(i) == have_answer) << (i % 64);
            (0..done.len()).step_by(64).map(|from| (from..done.len().min(from + 64)).map(bit).sum()).collect()
        };
        let (answered, unanswered) = (done_calls(true), done_calls(false));
        let tried = self.tried.entry((answered, state)).or_default();
        let is_subset = |other: &Vec<u64>| other.iter().zip(&unanswered).all(|(other, this)| other & !this == 0);
        let found = tried.iter().any(is_subset);
        if !found {
            tried.push(unanswered);
        }
        found
    }

    fn explain(&self) -> String {
        let (explained, state) = &self.furthest;
        format!("no order explains more than {explained} answers; the state was {state:?}\n{}", format_ops(self.ops))
    }
}

fn format_ops(ops: &[Op]) -> String {
    ops.iter().fold(String::new(), |text, op| {
        let Op { call, answer, network, span: Interval { earliest, latest } } = op;
        text + &format!("  {earliest:>10} … {latest:>10} µs  {call:?} from network {network} → {answer:?}\n")
    })
}
