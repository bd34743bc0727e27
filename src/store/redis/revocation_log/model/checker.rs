//! A small explicit-state model checker. It visits every reachable state of a model, or walks at random through a larger model.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Debug,
    hash::{DefaultHasher, Hash, Hasher},
};

/// A system whose states are to be checked.
pub(super) trait Model {
    type State: Clone + Hash;
    type Action: Copy + Debug;

    /// The state from which all others are reached.
    fn initial(&self) -> Self::State;
    /// Collects the actions that are possible in a state.
    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    /// Carries out an action.
    fn step(&self, state: &mut Self::State, action: Self::Action);
    /// Whether the state satisfies the invariants.
    fn holds(&self, state: &Self::State) -> bool;
}

/// The result of a check.
pub(super) struct Report<A> {
    /// The number of visited states: different ones in a search, all steps in random walks.
    pub(super) states: usize,
    /// The actions that lead to a violation of an invariant, if there is one; with breadth-first search, as few as possible.
    pub(super) violation: Option<Vec<A>>,
    /// Whether every reachable state was visited.
    pub(super) complete: bool,
}

/// Visits states breadth first, until one violates an invariant or `limit` states have been visited.
pub(super) fn search<M: Model>(model: &M, limit: usize) -> Report<M::Action> {
    let initial = model.initial();
    if !model.holds(&initial) {
        return Report { states: 1, violation: Some(Vec::new()), complete: false };
    }
    // By the fingerprint of each visited state: its predecessor's fingerprint and the action between them; none for the initial state.
    let mut parents: HashMap<u64, Option<(u64, M::Action)>> = HashMap::from([(fingerprint(&initial), None)]);
    let mut queue = VecDeque::from([initial]);
    let mut actions = Vec::new();
    while let Some(state) = queue.pop_front() {
        let parent = fingerprint(&state);
        actions.clear();
        model.actions(&state, &mut actions);
        for &action in &actions {
            let mut next = state.clone();
            model.step(&mut next, action);
            let child = fingerprint(&next);
            if parents.contains_key(&child) {
                continue;
            }
            parents.insert(child, Some((parent, action)));
            if !model.holds(&next) {
                return Report { states: parents.len(), violation: Some(path(&parents, child)), complete: false };
            }
            if parents.len() >= limit {
                return Report { states: parents.len(), violation: None, complete: false };
            }
            queue.push_back(next);
        }
    }
    Report { states: parents.len(), violation: None, complete: true }
}

/// Walks at random from the initial state, `walks` times and at most `steps` steps each. The same seed gives the same walks.
pub(super) fn walk<M: Model>(model: &M, seed: u64, walks: usize, steps: usize) -> Report<M::Action> {
    let mut random = SplitMix64(seed);
    let mut states = 0;
    let mut actions = Vec::new();
    let mut taken = Vec::new();
    for _ in 0..walks {
        let mut state = model.initial();
        taken.clear();
        if !model.holds(&state) {
            return Report { states, violation: Some(taken), complete: false };
        }
        for _ in 0..steps {
            actions.clear();
            model.actions(&state, &mut actions);
            let Some(&action) = random.pick(&actions) else { break };
            model.step(&mut state, action);
            taken.push(action);
            states += 1;
            if !model.holds(&state) {
                return Report { states, violation: Some(taken), complete: false };
            }
        }
    }
    Report { states, violation: None, complete: false }
}

/// A hash that stands for a state. States with the same hash count as one, which is improbable with 64 bits.
fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// The actions that lead from the initial state to the state with this fingerprint.
fn path<A: Copy>(parents: &HashMap<u64, Option<(u64, A)>>, mut child: u64) -> Vec<A> {
    let mut actions = Vec::new();
    while let Some(Some((parent, action))) = parents.get(&child) {
        actions.push(*action);
        child = *parent;
    }
    actions.reverse();
    actions
}

/// The random number generator SplitMix64 (Steele, Lea and Flood, 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Picks an item at random; none from an empty slice.
    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        let count = u64::try_from(items.len()).ok()?;
        let index = usize::try_from(self.next() % count).ok()?;
        items.get(index)
    }
}

#[test]
fn violation_in_the_initial_state_is_found() {
    struct NeverHolds;
    impl Model for NeverHolds {
        type State = u8;
        type Action = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn actions(&self, _: &u8, _: &mut Vec<u8>) {}

        fn step(&self, _: &mut u8, _: u8) {}

        fn holds(&self, _: &u8) -> bool {
            false
        }
    }
    let (limit, seed, walks, steps) = (10, 1, 1, 1);
    assert_eq!(search(&NeverHolds, limit).violation, Some(Vec::new()));
    assert_eq!(walk(&NeverHolds, seed, walks, steps).violation, Some(Vec::new()));
}
