//! Passkey responses that are forged, replayed, damaged, or meant for something else. Each is refused and starts no session.

use serde_json::{Value, json};

use super::{
    Authenticator, add_passkey, audit_entries,
    authenticator::{BACKED_UP, BACKUP_ELIGIBLE, USER_PRESENT, USER_VERIFIED, base64url, from_base64url},
    list_passkeys, login_options, register_passkey, registration_options, send_login, signed_in, try_sign_in,
    with_passkey,
};
use crate::{
    accounts::{email, problem, verify_address},
    harness::test_cluster::Node,
};

/// The number of refused passkey responses that the audit log records with this reason.
async fn recorded_refusals(node: &Node, reason: &str) -> usize {
    let expected = ("passkey_refused".to_owned(), "refused".to_owned(), Some(reason.to_owned()));
    audit_entries(node).await.iter().filter(|event| **event == expected).count()
}

#[tokio::test]
async fn response_of_another_origin_relying_party_or_frame_is_refused() {
    type Change = fn(&mut Authenticator);
    let changes: [(&str, Change); 6] = [
        ("wrong_origin", |phone| phone.origin = "https://evil.example".into()),
        ("wrong_origin", |phone| phone.origin = "https://auth.example.com.evil.example".into()),
        ("wrong_origin", |phone| phone.origin = "http://auth.example.com".into()),
        ("wrong_origin", |phone| phone.origin = "https://auth.example.com:8443".into()),
        ("wrong_origin", |phone| phone.cross_origin = true),
        ("wrong_relying_party", |phone| phone.rp_id = Some("example.com".into())),
    ];
    for (reason, change) in changes {
        let (_cluster, node, tokens, mut phone) = with_passkey().await;
        change(&mut phone);
        assert_eq!(try_sign_in(&node, &mut phone).await.problem(), problem(401, "invalid_passkey"), "{reason}");
        assert_eq!(recorded_refusals(&node, reason).await, 1);
        // a registration with the same fault
        let mut other_phone = Authenticator::new();
        change(&mut other_phone);
        let options = registration_options(&node, &tokens).await;
        let answer = add_passkey(&node, &tokens, other_phone.create(&options)).await;
        assert_eq!(answer.problem(), problem(422, "passkey_rejected"), "{reason}");
        assert_eq!(recorded_refusals(&node, reason).await, 2);
        assert_eq!(list_passkeys(&node, &tokens).await.len(), 1);
    }
    // The configuration of the tests allows this origin of an app.
    let (_cluster, node, _tokens, mut phone) = with_passkey().await;
    phone.origin = "https://app.example.com".into();
    try_sign_in(&node, &mut phone).await.expect(200);
}

#[tokio::test]
async fn replayed_response_is_refused() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    let options = login_options(&node).await;
    let response = phone.get(&options);
    send_login(&node, response.clone()).await.expect(200);
    assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "no_such_challenge").await, 1);
    // A refused response also consumes the challenge: the owner's response to the same options is refused.
    let options = login_options(&node).await;
    let mut stranger = Authenticator::new();
    stranger.user_handle.clone_from(&phone.user_handle);
    send_login(&node, stranger.get(&options)).await.expect(401);
    send_login(&node, phone.get(&options)).await.expect(401);
    assert_eq!(recorded_refusals(&node, "no_such_challenge").await, 2);
    // a challenge that the service did not issue
    let invented = json!({ "challenge": base64url([3; 32]), "rpId": "auth.example.com" });
    send_login(&node, phone.get(&invented)).await.expect(401);
    assert_eq!(recorded_refusals(&node, "no_such_challenge").await, 3);
    try_sign_in(&node, &mut phone).await.expect(200);
    let options = registration_options(&node, &tokens).await;
    let response = Authenticator::new().create(&options);
    let added = add_passkey(&node, &tokens, response.clone()).await.expect(201);
    let tokens = super::tokens_in_json(&added.json()["tokens"]);
    assert_eq!(add_passkey(&node, &tokens, response).await.problem(), problem(422, "passkey_rejected"));
}

#[tokio::test]
async fn response_for_another_purpose_is_refused() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    // a sign-in with the challenge of a registration
    let registration = registration_options(&node, &tokens).await;
    let mixed = json!({ "challenge": registration["challenge"], "rpId": "auth.example.com" });
    assert_eq!(send_login(&node, phone.get(&mixed)).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "no_such_challenge").await, 1);
    // a registration with the challenge of a sign-in
    let options = login_options(&node).await;
    let mut mixed = registration.clone();
    mixed["challenge"] = options["challenge"].clone();
    let answer = add_passkey(&node, &tokens, Authenticator::new().create(&mixed)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
    assert_eq!(recorded_refusals(&node, "no_such_challenge").await, 2);
    // a registration's response at a sign-in, and a sign-in's response at a registration
    let options = login_options(&node).await;
    let mut created = Authenticator::new().create(&registration);
    // the members that only a sign-in's response has, as zeros: a digest, the flags and the counter; and a signature
    created["response"]["authenticatorData"] = json!(base64url([0; 32 + 1 + 4]));
    created["response"]["signature"] = json!(base64url([0; 70]));
    send_login(&node, created).await.expect(401);
    let assertion = phone.get(&options);
    assert_eq!(add_passkey(&node, &tokens, assertion).await.problem(), problem(422, "passkey_rejected"));
}

#[tokio::test]
async fn response_of_another_account_is_refused() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    node.register("eve").await;
    let eve = node.login("eve").await;
    // The challenge of a registration is bound to its account.
    let options = registration_options(&node, &tokens).await;
    let answer = add_passkey(&node, &eve, Authenticator::new().create(&options)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
    assert!(list_passkeys(&node, &eve).await.is_empty());
    let mut eves_key = Authenticator::new();
    register_passkey(&node, &eve, &mut eves_key).await;
    // the user handle of another account, no handle, and an empty one
    for (earlier_refusals, handle) in [eves_key.user_handle.clone(), None, Some(vec![])].into_iter().enumerate() {
        let mut response = phone.get(&login_options(&node).await);
        response["response"]["userHandle"] = json!(handle.map(base64url));
        assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
        assert_eq!(recorded_refusals(&node, "wrong_user_handle").await, earlier_refusals + 1);
    }
    // the id of another account's passkey, with a signature of Eve's own passkey
    let mut response = eves_key.get(&login_options(&node).await);
    response["rawId"] = json!(base64url(&phone.credential_id));
    response["id"] = response["rawId"].clone();
    response["response"]["userHandle"] = json!(phone.user_handle.as_ref().map(base64url));
    assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "wrong_signature").await, 1);
    try_sign_in(&node, &mut phone).await.expect(200);
    try_sign_in(&node, &mut eves_key).await.expect(200);
}

#[tokio::test]
async fn truncated_and_damaged_responses_are_refused() {
    let (_cluster, node, tokens, mut phone) = with_passkey().await;
    // functions of the length, because signatures differ in length
    let shorter_lengths: [fn(usize) -> usize; 4] = [|_| 0, |_| 1, |length| length / 2, |length| length - 1];
    for field in ["clientDataJSON", "authenticatorData", "signature"] {
        for shorter in shorter_lengths {
            let mut response = phone.get(&login_options(&node).await);
            let whole = from_base64url(&response["response"][field]);
            let length = shorter(whole.len());
            response["response"][field] = json!(base64url(&whole[..length]));
            let answer = send_login(&node, response).await;
            assert_eq!(answer.problem(), problem(401, "invalid_passkey"), "{field} cut to {length} bytes");
        }
    }
    // The attestation objects of all these authenticators have the same length.
    let options = registration_options(&node, &tokens).await;
    let whole_length = from_base64url(&Authenticator::new().create(&options)["response"]["attestationObject"]).len();
    for length in [0, 1, 40, whole_length / 2, whole_length - 1] {
        let options = registration_options(&node, &tokens).await;
        let mut response = Authenticator::new().create(&options);
        let whole = from_base64url(&response["response"]["attestationObject"]);
        response["response"]["attestationObject"] = json!(base64url(&whole[..length]));
        let answer = add_passkey(&node, &tokens, response).await;
        assert_eq!(answer.problem(), problem(422, "passkey_rejected"), "attestationObject cut to {length} bytes");
    }
    let malformed: [Value; 4] = [json!({}), json!({ "id": 7 }), json!({ "response": [] }), json!({ "rawId": "%%%" })];
    for credential in malformed {
        assert_eq!(send_login(&node, credential.clone()).await.problem(), problem(401, "invalid_passkey"));
        assert_eq!(add_passkey(&node, &tokens, credential).await.problem(), problem(422, "passkey_rejected"));
    }
    let answer = send_login(&node, json!("not an object")).await;
    assert_eq!(answer.problem(), problem(422, "invalid_fields"));
    try_sign_in(&node, &mut phone).await.expect(200);
}

/// A program between the authenticator and the service changes data after it was signed.
#[tokio::test]
async fn flags_counter_and_client_data_changed_after_signing_are_refused() {
    let (_cluster, node, _tokens, mut phone) = with_passkey().await;
    // user verification that was not signed: byte 32 has the flags
    phone.flags = USER_PRESENT;
    let mut response = phone.get(&login_options(&node).await);
    let mut data = from_base64url(&response["response"]["authenticatorData"]);
    data[32] |= USER_VERIFIED;
    response["response"]["authenticatorData"] = json!(base64url(data));
    assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "wrong_signature").await, 1);
    // a counter that was not signed: bytes 33 to 36, in big-endian order, so it becomes large
    phone.flags |= USER_VERIFIED;
    let mut response = phone.get(&login_options(&node).await);
    let mut data = from_base64url(&response["response"]["authenticatorData"]);
    data[33] = 1;
    response["response"]["authenticatorData"] = json!(base64url(data));
    assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "wrong_signature").await, 2);
    // an origin that was not signed: the allowed one replaces the page's
    phone.origin = "https://evil.example".into();
    let mut response = phone.get(&login_options(&node).await);
    let signed = String::from_utf8(from_base64url(&response["response"]["clientDataJSON"])).unwrap();
    let changed = signed.replace("https://evil.example", "https://auth.example.com");
    response["response"]["clientDataJSON"] = json!(base64url(changed));
    assert_eq!(send_login(&node, response).await.problem(), problem(401, "invalid_passkey"));
    assert_eq!(recorded_refusals(&node, "wrong_signature").await, 3);
}

#[tokio::test]
async fn backup_flags_that_contradict_the_registration_are_refused() {
    // The passkey was registered without backup flags.
    let (_cluster, node, _tokens, mut phone) = with_passkey().await;
    let false_flags = [BACKUP_ELIGIBLE, BACKED_UP, BACKUP_ELIGIBLE | BACKED_UP];
    for (earlier_refusals, false_flags) in false_flags.into_iter().enumerate() {
        phone.flags = USER_PRESENT | USER_VERIFIED | false_flags;
        assert_eq!(try_sign_in(&node, &mut phone).await.problem(), problem(401, "invalid_passkey"));
        assert_eq!(recorded_refusals(&node, "backup_flags_changed").await, earlier_refusals + 1);
    }
    // A passkey that can't be backed up can't have been backed up.
    let (_cluster, node, tokens) = signed_in().await;
    let mut impossible = Authenticator::new();
    impossible.flags |= BACKED_UP;
    let options = registration_options(&node, &tokens).await;
    let answer = add_passkey(&node, &tokens, impossible.create(&options)).await;
    assert_eq!(answer.problem(), problem(422, "passkey_rejected"));
}

#[tokio::test]
async fn counter_that_does_not_increase_is_refused_recorded_and_reported() {
    let (cluster, node, tokens, mut phone) = with_passkey().await;
    // The notice goes to verified addresses only.
    verify_address(&cluster, &node, "ada", &tokens).await;
    phone.counter = 100;
    try_sign_in(&node, &mut phone).await.expect(200);
    for (earlier_refusals, counter) in [100, 99, 0].into_iter().enumerate() {
        phone.counter = counter;
        assert_eq!(try_sign_in(&node, &mut phone).await.problem(), problem(401, "invalid_passkey"), "{counter}");
        assert_eq!(recorded_refusals(&node, "counter_went_backwards").await, earlier_refusals + 1);
    }
    let mail = cluster.mail_to(&email("ada"), "passkey_copied").await;
    assert!(mail.text.contains("may have been copied"), "{}", mail.text);
    phone.counter = 101;
    try_sign_in(&node, &mut phone).await.expect(200);
}
