//! The API document: the committed copy is what is served, programs of others find nothing wrong with it, and the page
//! that shows it needs nothing from elsewhere.

use std::{fs, path::Path};

use base64::prelude::*;

use crate::{
    harness::test_cluster::TestCluster,
    openapi_external::{dump_dom, run_schemathesis, screenshot},
};

fn committed() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/openapi.json");
    fs::read_to_string(path).expect("openapi/openapi.json is missing: run `make openapi`")
}

#[tokio::test]
async fn openapi_is_the_committed_one() {
    let document = latchkey::http::document();
    assert!(document.json == committed(), "openapi/openapi.json is out of date: run `make openapi`");
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let json = node.get("/openapi.json", "").await.expect(200);
    assert_eq!(json.header("content-type"), "application/json");
    assert!(json.text == document.json, "/openapi.json isn't the document");
    let yaml = node.get("/openapi.yaml", "").await.expect(200);
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert_eq!(serde_yaml::from_str::<serde_json::Value>(&yaml.text).unwrap(), json.json());
}

#[test]
fn every_operation_is_described() {
    let document: serde_json::Value = serde_json::from_str(&committed()).unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for field in ["summary", "description", "operationId"] {
                let text = operation[field].as_str();
                assert!(text.is_some_and(|text| !text.is_empty()), "{method} {path} has no {field}");
            }
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} {status}");
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
        }
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            let described = property["description"].is_string() || property["$ref"].is_string();
            assert!(described || property["allOf"].is_array(), "{name}.{field} has no description");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_the_service_true_to_its_document() {
    let mut cluster = TestCluster::new();
    // with a clock that goes, as schemathesis's own does
    cluster.clock = latchkey::domain::clock::Clock::System;
    let node = cluster.node().await;
    node.account("ada").await;
    let token = node.login("ada").await.access;
    let client = cluster.service_client("schemathesis").await;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", client.id, client.secret));
    let base = node.base.clone();
    let run = move || run_schemathesis(&base, &format!("{base}/openapi.json"), &token, &basic);
    tokio::task::spawn_blocking(run).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn docs_show_every_operation_without_internet() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let html = node.get("/docs", "").await.expect(200);
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    for tag in ["<script", "<link", "<img", "<iframe"] {
        for (at, _) in html.text.match_indices(tag) {
            let element = html.text[at..].split('>').next().unwrap();
            assert!(!element.contains("src=\"http") && !element.contains("href=\"http"), "{element}");
            assert!(!element.contains("\"//"), "{element}");
        }
    }
    assert!(!html.text.contains("@import") && !html.text.contains("url(http"), "a style sheet from elsewhere");
    let url = format!("{}/docs", node.base);
    // for people who want to see it too
    let png = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs.png");
    let look = move || (dump_dom(&url), screenshot(&url, &png)).0;
    let dom = tokio::task::spawn_blocking(look).await.unwrap();
    let document: serde_json::Value = serde_json::from_str(&committed()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(dom.contains(&format!("data-path=\"{path}\"")), "{path} isn't shown");
    }
}
