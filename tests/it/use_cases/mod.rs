//! Use cases that no endpoint offers, or that several endpoints and commands share.

mod accounts;
mod clients;
mod logout;
