//! The contract's invariants, one file each, on real Redis.

mod i1_one_successor;
