//! Histories: many users sign in, refresh, look, sign out and revoke on several nodes while faults strike at random, and
//! everything they were answered is checked against a small model of a session.

mod check;
mod judged;
mod model;
