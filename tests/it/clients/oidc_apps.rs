//! `examples/oidc-express` and `examples/oidc-spa`, started with the commands of their READMEs, and used in Chromium through the pages
//! of Latchkey.

use super::{
    app::{App, RUN_GROUP},
    browser::drive_at,
    checkout::{Checkout, replace},
    npm_registry::NpmRegistry,
    service::ServiceProcess,
};
use crate::{
    docs::code_blocks,
    harness::guard::{self, Guard, Spec},
};

/// The journey of docs/openid-connect.md: register, verify the address, add a passkey, sign in to the app, and end the app's session on
/// the account page.
#[tokio::test(flavor = "multi_thread")]
async fn express_example_signs_in_with_a_passkey_and_is_signed_out_from_the_account_page() {
    let no_settings = "";
    let service = ServiceProcess::start_as_make_run(no_settings);
    let registry = NpmRegistry::start().await;
    let cache = tempfile::tempdir().unwrap();
    let environment = registry.environment(cache.path());
    let checkout = Checkout::new(&["clients/js", "examples/oidc-express"], &service, &environment);
    let [start_commands] = &code_blocks("examples/oidc-express/README.md", "sh")[..] else {
        panic!("the README must have one block of commands")
    };
    let folder = checkout.path("examples/oidc-express");
    let mut environment = checkout.environment().to_vec();
    environment.push(("AUTH_ISSUER".to_owned(), service.issuer()));
    let app = App::start(&environment, |port| {
        let commands = format!("cd '{}'\n{}", folder.display(), replace(start_commands, "8000", &port.to_string()));
        ["sh", "-e", "-c", &commands].map(str::to_owned).into()
    })
    .await;
    let mail_folder = service.folder().join("latchkey-data/mail").display().to_string();
    // the README's commands register redirect URIs at `localhost`
    let app_origin = format!("http://{}", app.address().replace("127.0.0.1", "localhost"));
    let mut arguments = vec![service.issuer(), app_origin, mail_folder];
    // optional: a folder for screenshots of every step
    arguments.extend(std::env::var("JOURNEY_SCREENSHOTS"));
    let parts = ["registered", "verified", "passkey", "signed in", "opened", "ended", "signed out"];
    drive_at(arguments, "oidc_app_journey.mjs", &parts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oidc_client_ts_example_signs_in_renews_and_signs_out_in_chromium() {
    let port = guard::free_port();
    // oidc-client-ts renews a minute before the token expires: here after 3 s
    let settings = format!("http.allowed_origins = [\"http://localhost:{port}\"]\ntoken.access_ttl = \"63s\"\n");
    let service = ServiceProcess::start_as_make_run(&settings);
    service.client().register("ada").await;
    let registry = NpmRegistry::start().await;
    let cache = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(&["examples/oidc-spa"], &service, &registry.environment(cache.path()));
    let [commands] = &code_blocks("examples/oidc-spa/README.md", "sh")[..] else {
        panic!("the README must have one block of commands")
    };
    let commands = replace(commands, "localhost:3000", &format!("localhost:{port}"));
    let (install_commands, serve_command) = commands.trim_end().rsplit_once('\n').unwrap();
    let folder = checkout.path("examples/oidc-spa");
    let settings_js = folder.join("src/settings.js");
    let text = std::fs::read_to_string(&settings_js).unwrap();
    std::fs::write(&settings_js, replace(&text, "http://localhost:8080", &service.issuer())).unwrap();
    tokio::task::block_in_place(|| checkout.run(&folder, install_commands));
    let serve_script = format!("cd '{}'\n{serve_command}", folder.display());
    let variables: Vec<String> = checkout.environment().iter().map(|(name, value)| format!("{name}={value}")).collect();
    // RUN_GROUP also ends the processes that npm starts. The first `sh` after RUN_GROUP is its `$0`.
    let mut command = vec!["env"];
    command.extend(variables.iter().map(String::as_str));
    command.extend(["sh", "-c", RUN_GROUP, "sh", "sh", "-e", "-c", &serve_script]);
    let spec = Spec { command: &command, stop: "TERM", folder: None, ready: "http://", unprivileged: false };
    let _page_server = tokio::task::block_in_place(|| Guard::start(&spec)).unwrap_or_else(|error| panic!("{error}"));
    let parts = [
        "sign-in",
        "userinfo",
        "renewal",
        "renewal after an outage",
        "single sign-on",
        "opened from the account page",
        "sign-out",
    ];
    drive_at(vec![service.issuer(), format!("http://localhost:{port}")], "oidc_spa.mjs", &parts).await;
}
