//! Registration and sign-in with the software authenticator of the crate `webauthn-authenticator-rs`.

use serde_json::json;
use url::Url;
use webauthn_authenticator_rs::{
    prelude::{CreationChallengeResponse, RequestChallengeResponse, WebauthnAuthenticator},
    softpasskey::SoftPasskey,
};

use super::{
    add_passkey, authenticator::base64url, claims, login_options, registration_options, send_login, tokens_in_json,
};
use crate::harness::client::Tokens;

#[tokio::test]
async fn soft_passkey_registers_with_self_attestation_and_signs_in() {
    let (_cluster, node, tokens) = super::signed_in().await;
    let origin = Url::parse("https://auth.example.com").unwrap();
    // it has no user whom it could verify
    let falsifies_user_verification = true;
    let mut authenticator = SoftPasskey::new(falsifies_user_verification);
    let mut options = registration_options(&node, &tokens).await;
    // This authenticator claims to have verified its user only if the options require that.
    options["authenticatorSelection"]["userVerification"] = json!("required");
    let user_handle = options["user"]["id"].clone();
    let challenge: CreationChallengeResponse = serde_json::from_value(json!({ "publicKey": options })).unwrap();
    let created = authenticator.do_registration(origin.clone(), challenge).unwrap();
    let credential = serde_json::to_value(&created).unwrap();
    let added = add_passkey(&node, &tokens, credential).await.expect(201).json();
    let credential_id = base64url(created.raw_id);
    // A passkey signs in more than once.
    for _ in 0..2 {
        let mut options = login_options(&node).await;
        // This authenticator stores no credentials: the options must list them, and its response has no user handle.
        options["allowCredentials"] = json!([{ "type": "public-key", "id": credential_id }]);
        let challenge: RequestChallengeResponse = serde_json::from_value(json!({ "publicKey": options })).unwrap();
        let assertion = authenticator.do_authentication(origin.clone(), challenge).unwrap();
        let mut response = serde_json::to_value(&assertion).unwrap();
        response["response"]["userHandle"] = user_handle.clone();
        let signed_in = Tokens::of(&send_login(&node, response).await.expect(200));
        assert_eq!(claims(&signed_in)["amr"], json!(["hwk", "user", "mfa"]));
    }
    // The session that replaced the caller's at the registration is still live.
    node.get("/v1/me", &tokens_in_json(&added["tokens"]).access).await.expect(200);
}
