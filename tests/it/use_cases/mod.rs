//! Use cases that no endpoint offers yet, or that several callers share.

mod accounts;
mod clients;
mod logout;
