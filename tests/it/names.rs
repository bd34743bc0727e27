//! Registration refuses deceptive names and passwords that follow a common pattern.

use serde_json::json;

use crate::harness::{client::PASSWORD, test_cluster::TestCluster};

#[tokio::test]
async fn registration_with_deceptive_name_is_refused_with_its_reason() {
    let mut cluster = TestCluster::new();
    cluster.config.registration.reserved_usernames = vec!["root".to_owned()];
    let node = cluster.node().await;
    // U+202E reverses the direction of the text, U+200B is an invisible space, and U+0430 is a Cyrillic letter that looks like "a".
    // in each registration, only the expected field is at fault
    for (email, username, field, code) in [
        ("a\u{202e}moc.live@example.com", "ada", "email", "hidden_characters"),
        ("\u{200b}ada@example.com", "ada", "email", "hidden_characters"),
        ("ada@example", "ada", "email", "invalid_email"),
        ("ada@example.com", "\u{430}dmin", "username", "mixed_scripts"),
        ("ada@example.com", "8281cec35b4846eba41d72c15ec3f9e2", "username", "username_is_uuid"),
        ("ada@example.com", "ada@home", "username", "invalid_username"),
        ("ada@example.com", "ROOT", "username", "username_reserved"),
    ] {
        let body = json!({ "email": email, "username": username, "password": PASSWORD });
        let problem = node.post("/v1/users", body).await.expect(422).json();
        assert_eq!(problem["code"], "invalid_fields", "{username}");
        assert_eq!(problem["errors"][0]["field"], field, "{email} {username}");
        assert_eq!(problem["errors"][0]["code"], code, "{email} {username}");
    }
}

#[tokio::test]
async fn registration_with_taken_address_in_another_unicode_form_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // an "é" as one character, as "e" with a combining accent, and in upper case
    for (email, status) in
        [("jos\u{e9}@example.com", 201), ("jose\u{301}@example.com", 409), ("JOS\u{c9}@example.com", 409)]
    {
        node.post("/v1/users", json!({ "email": email, "password": PASSWORD })).await.expect(status);
    }
    node.try_login("jose\u{301}@example.com", PASSWORD).await.expect(200);
}

/// Mailbox names legitimately mix scripts, and an address belongs to the person who receives its mail: docs/threat-model.md, T32.
#[tokio::test]
async fn address_that_mixes_scripts_is_accepted() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    // U+0430 is a Cyrillic letter that looks like "a", so the two addresses differ.
    for email in ["\u{430}dmin@example.com", "admin@example.com"] {
        node.post("/v1/users", json!({ "email": email, "password": PASSWORD })).await.expect(201);
    }
}

#[tokio::test]
async fn registration_with_pattern_password_is_refused() {
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    for password in
        ["Summer2024!", "Winter2026!", "Company2025!", "Latchkey1!", "Letmein123!", "Monday123!", "Michael1990!"]
    {
        let body = json!({ "email": "ada@example.com", "password": password });
        let problem = node.post("/v1/users", body).await.expect(422).json();
        assert_eq!(problem["code"], "weak_password", "{password}");
    }
    // only the password was at fault
    let body = json!({ "email": "ada@example.com", "password": "velvet anchor tulip sundial" });
    node.post("/v1/users", body).await.expect(201);
}
