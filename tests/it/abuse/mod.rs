//! Those who ask too often, guess passwords, or want to know who has an account.

mod brute_force;
mod enumeration;
mod lanes;
mod limits;
mod scripts;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::harness::{bed::Bed, client::Client};

/// A bed whose nodes believe the test about where its requests come from.
fn bed() -> Bed {
    let mut bed = Bed::new();
    bed.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    bed
}

/// A sign-in from this address.
fn login(client: &Client, from: &str, identifier: &str, password: &str) -> RequestBuilder {
    let body = json!({ "identifier": identifier, "password": password });
    client.request(Method::POST, "/v1/login").header("x-forwarded-for", from).json(&body)
}
