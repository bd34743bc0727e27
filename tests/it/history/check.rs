//! Is there an order in which a session's calls can have been carried out, one at a time, each between its asking and its
//! answer, so that the model allows every answer? (Wing and Gong, 1993, with Lowe's memory of what was tried, 2017.)

use std::collections::HashMap;

use super::model::{Answer, Op, Rules, State, Times};

/// Finds what is wrong with the history of one session; none if nothing is.
pub fn violation(ops: &[Op], rules: &Rules) -> Option<String> {
    two_successors(ops).or_else(|| {
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
        (!search.finds_an_order(&mut done, State::Before)).then(|| search.explain())
    })
}

/// One generation has one token, whoever is given it.
fn two_successors(ops: &[Op]) -> Option<String> {
    let mut tokens = HashMap::new();
    ops.iter().find_map(|op| {
        let Answer::Token(generation, token) = op.answer else { return None };
        let first = *tokens.entry(generation).or_insert(token);
        (first != token).then(|| format!("two tokens of generation {generation}: a second successor\n{}", show(ops)))
    })
}

struct Search<'a> {
    /// In the order in which they were asked.
    ops: &'a [Op],
    times: Times,
    rules: &'a Rules,
    /// What was tried in vain: the answers explained and the session as of then; and which calls that were never answered
    /// had been used up for it, of which to have more left is no worse.
    tried: HashMap<(Vec<u64>, State), Vec<Vec<u64>>>,
    /// Of how many answers an explanation was found, at best, and what the session was then.
    furthest: (usize, State),
}

impl Search<'_> {
    fn is_known(&self, op: usize) -> bool {
        self.ops[op].answer != Answer::Unknown
    }

    fn finds_an_order(&mut self, done: &mut [bool], state: State) -> bool {
        let explained = (0..done.len()).filter(|&i| done[i] && self.is_known(i)).count();
        if explained >= self.furthest.0 {
            self.furthest = (explained, state);
        }
        // nothing that was asked after this answer can have been done before what it answers
        let open: Vec<usize> = (0..done.len()).filter(|&i| !done[i]).collect();
        let answers = open.iter().filter(|&&i| self.is_known(i)).map(|&i| self.ops[i].span.1);
        let Some(answered) = answers.min() else { return true };
        if self.was_tried(done, state) {
            return false;
        }
        let mut candidates: Vec<usize> = open.into_iter().take_while(|&i| self.ops[i].span.0 <= answered).collect();
        // what was answered first was most likely done first; what was never answered, only if nothing else helps
        candidates.sort_by_key(|&i| (!self.is_known(i), self.ops[i].span.1));
        for i in candidates {
            let Some(next) = state.after(&self.ops[i], answered, &self.times, self.rules) else { continue };
            if !self.is_known(i) && next == state {
                continue;
            }
            done[i] = true;
            if self.finds_an_order(done, next) {
                return true;
            }
            done[i] = false;
        }
        false
    }

    /// Whether this, or something no worse, was tried before. Notes it otherwise.
    fn was_tried(&mut self, done: &[bool], state: State) -> bool {
        let packed = |known: bool| -> Vec<u64> {
            let bit = |i: usize| u64::from(done[i] && self.is_known(i) == known) << (i % 64);
            (0..done.len()).step_by(64).map(|from| (from..done.len().min(from + 64)).map(bit).sum()).collect()
        };
        let (known, used_up) = (packed(true), packed(false));
        let tried = self.tried.entry((known, state)).or_default();
        let no_worse = |other: &Vec<u64>| other.iter().zip(&used_up).all(|(other, this)| other & !this == 0);
        let before = tried.iter().any(no_worse);
        if !before {
            tried.push(used_up);
        }
        before
    }

    fn explain(&self) -> String {
        let (explained, state) = &self.furthest;
        format!("no order explains more than {explained} answers; then it was {state:?}\n{}", show(self.ops))
    }
}

fn show(ops: &[Op]) -> String {
    ops.iter().fold(String::new(), |text, op| {
        let Op { call, answer, span: (from, to) } = op;
        text + &format!("  {from:>10} … {to:>10} µs  {call:?} → {answer:?}\n")
    })
}
