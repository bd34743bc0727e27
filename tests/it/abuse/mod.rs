//! Rate limiting, brute-force protection and account enumeration.

mod brute_force;
mod enumeration;
mod limits;
mod scripts;
mod throttle_buckets;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::harness::{client::Client, test_cluster::TestCluster};

/// A cluster whose nodes trust the header `X-Forwarded-For` of the test, which connects from a loopback address.
fn cluster() -> TestCluster {
    let mut cluster = TestCluster::new();
    cluster.config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    cluster
}

/// A request to log in from the address `ip`.
fn login(client: &Client, ip: &str, identifier: &str, password: &str) -> RequestBuilder {
    let body = json!({ "identifier": identifier, "password": password });
    client.request(Method::POST, "/v1/login").header("x-forwarded-for", ip).json(&body)
}
