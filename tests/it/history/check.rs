//! Is there an order in which a session's calls can have been carried out, one at a time, each between its asking and its
//! answer, so that the model allows every answer? (Wing and Gong, 1993, with Lowe's memory of what was tried, 2017.)

use std::collections::{HashMap, HashSet};

use super::model::{Answer, Op, Rules, State};

/// Finds what is wrong with the history of one session; none if nothing is.
pub fn violation(ops: &[Op], rules: &Rules) -> Option<String> {
    two_successors(ops).or_else(|| {
        let mut ops = ops.to_vec();
        ops.sort_by_key(|op| op.span);
        let mut search = Search { ops: &ops, rules, tried: HashSet::new(), furthest: (0, State::Before) };
        let mut done = vec![false; ops.len()];
        (!search.finds_an_order(&mut done, &State::Before)).then(|| search.explain())
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
    rules: &'a Rules,
    tried: HashSet<(Vec<u64>, State)>,
    /// Of how many answers an explanation was found, at best, and what the session was then.
    furthest: (usize, State),
}

impl Search<'_> {
    fn finds_an_order(&mut self, done: &mut [bool], state: &State) -> bool {
        let known = |op: &Op| op.answer != Answer::Unknown;
        let explained = (0..done.len()).filter(|&i| done[i] && known(&self.ops[i])).count();
        if explained >= self.furthest.0 {
            self.furthest = (explained, state.clone());
        }
        // nothing that was asked after this answer can have been done before what it answers
        let open = || (0..done.len()).filter(|&i| !done[i]);
        let Some(answered) = open().filter(|&i| known(&self.ops[i])).map(|i| self.ops[i].span.1).min() else {
            return true;
        };
        if !self.tried.insert((packed(done), state.clone())) {
            return false;
        }
        let mut candidates: Vec<usize> = open().take_while(|&i| self.ops[i].span.0 <= answered).collect();
        // what was answered first was most likely done first; what was never answered, only if nothing else helps
        candidates.sort_by_key(|&i| (!known(&self.ops[i]), self.ops[i].span.1));
        for i in candidates {
            let Some(next) = state.after(&self.ops[i], answered, self.rules) else { continue };
            if !known(&self.ops[i]) && next == *state {
                continue;
            }
            done[i] = true;
            if self.finds_an_order(done, &next) {
                return true;
            }
            done[i] = false;
        }
        false
    }

    fn explain(&self) -> String {
        let (explained, state) = &self.furthest;
        format!("no order explains more than {explained} answers; then it was {state:?}\n{}", show(self.ops))
    }
}

fn packed(done: &[bool]) -> Vec<u64> {
    done.chunks(64).map(|bits| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit))).collect()
}

fn show(ops: &[Op]) -> String {
    ops.iter().fold(String::new(), |text, op| {
        let Op { call, answer, span: (from, to) } = op;
        text + &format!("  {from:>10} … {to:>10} µs  {call:?} → {answer:?}\n")
    })
}
