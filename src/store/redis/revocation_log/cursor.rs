//! State machine of one bucket (a group of accounts, whose revocations are one stream): the position up to which they have been applied,
//! and whether a session that was read from Redis may be cached.
//!
//! The functions in this file do no I/O. `session_cache.rs` keeps a cursor beside the cached sessions of each bucket. The model in `model/`
//! checks its transitions.

use super::event_entry::Position;

/// The position up to which the revocations of a bucket have been applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Cursor {
    /// The last entry that has been applied with all before it; none until the first synchronization.
    position: Option<Position>,
    /// The number of events that may have ended a session. Only equality matters ([`Cursor::may_insert`]).
    version: u64,
}

/// The outcome of applying an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The entry is new, and the cursor has advanced to it.
    New,
    /// The entry had been applied before.
    Duplicate,
    /// Entries before this one are missing, or the cursor has no position yet. This one has taken effect, but the position stays.
    Gap,
}

impl Cursor {
    pub(super) fn position(self) -> Option<Position> {
        self.position
    }

    /// The version to pass to [`Cursor::may_insert`], taken before the session is read from Redis.
    pub(super) fn version(self) -> u64 {
        self.version
    }

    /// Whether a session that was read from Redis after `version` was taken may be cached: no session of the bucket has ended since.
    pub(super) fn may_insert(self, version: u64) -> bool {
        self.version == version
    }

    /// Increments the version: a session of this bucket has ended, or may have ended.
    pub(super) fn invalidate(&mut self) {
        self.version += 1;
    }

    /// Applies an entry whose predecessor is `previous`; `None` if the caller knows that nothing is missing before it. Unless the entry
    /// is a duplicate, the caller must remove the sessions that it ends.
    pub(super) fn apply(&mut self, entry: Position, previous: Option<Position>) -> Applied {
        if self.position.is_some_and(|position| entry <= position) {
            return Applied::Duplicate;
        }
        self.version += 1;
        let is_next = previous.is_none_or(|previous| Some(previous) == self.position);
        if self.position.is_none() || !is_next {
            return Applied::Gap;
        }
        self.position = Some(entry);
        Applied::New
    }

    /// Moves the cursor to `redis_position`, the first time or if Redis no longer has entries that were applied: it lost them, or they
    /// expired. Returns true in the second case. The cursor was at `before` when `redis_position` was read.
    pub(super) fn reconcile(&mut self, before: Option<Position>, redis_position: Position) -> bool {
        match before {
            // the first synchronization
            None => {
                self.position = Some(redis_position);
                false
            }
            Some(before) if redis_position < before => {
                // If the position has moved since, Redis has the entry that moved it.
                if self.position == Some(before) {
                    self.position = Some(redis_position);
                }
                true
            }
            Some(_) => false,
        }
    }

    /// Whether entries up to `redis_position` have not been applied yet.
    pub(super) fn is_behind(self, redis_position: Position) -> bool {
        self.position.is_none_or(|position| position < redis_position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Position {
        Position { millis, number: 0 }
    }

    #[test]
    fn entry_in_sequence_advances_the_cursor_and_a_repeated_entry_changes_nothing() {
        let mut cursor = Cursor::default();
        cursor.reconcile(None, at(1));
        let before_entry = cursor.version();
        assert_eq!(cursor.apply(at(2), Some(at(1))), Applied::New);
        assert!(!cursor.may_insert(before_entry));
        let before_repeat = cursor.version();
        assert_eq!(cursor.apply(at(2), Some(at(1))), Applied::Duplicate);
        assert!(cursor.may_insert(before_repeat));
        assert_eq!(cursor.apply(at(5), None), Applied::New, "the caller knows that nothing is missing");
        assert_eq!(cursor.position(), Some(at(5)));
    }

    #[test]
    fn entry_after_a_gap_takes_effect_and_the_position_stays() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.apply(at(1), Some(Position::default())), Applied::Gap, "not synchronized yet");
        cursor.reconcile(None, at(1));
        let version = cursor.version();
        assert_eq!(cursor.apply(at(3), Some(at(2))), Applied::Gap);
        assert!(!cursor.may_insert(version));
        assert_eq!(cursor.position(), Some(at(1)));
        assert!(cursor.is_behind(at(3)));
        assert!(!cursor.is_behind(at(1)));
    }

    #[test]
    fn reconcile_detects_lost_entries_and_keeps_a_position_that_moved_since() {
        let mut cursor = Cursor::default();
        cursor.reconcile(None, at(5));
        assert!(!cursor.reconcile(Some(at(5)), at(5)), "no entries are lost");
        assert!(cursor.reconcile(Some(at(5)), at(3)), "the entries after 3 are lost");
        assert_eq!(cursor.position(), Some(at(3)));
        // The position was 3 when Redis was read, and moves before the cursor is reconciled.
        cursor.apply(at(6), None);
        assert!(cursor.reconcile(Some(at(3)), at(2)));
        assert_eq!(cursor.position(), Some(at(6)), "applied after Redis was read");
    }
}
