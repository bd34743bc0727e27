//! The unmodified SDKs of the Model Context Protocol (MCP) from npm and PyPI, with an MCP server that trusts Latchkey: discovery by
//! protected resource metadata (RFC 9728), the resource parameter (RFC 8707), and a client that nobody registered. The user goes through
//! the real pages.

use std::{fs, path::Path, process::Stdio};

use latchkey::{
    domain::{client::SpaceSeparated, clock::Clock},
    service::clients::NewClient,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    harness::{
        client::{Answer, PASSWORD},
        document_server::DocumentServer,
        guard,
        test_cluster::{Node, TestCluster},
    },
    interop,
    pages::visitor::{Visitor, actions},
};

/// A running program of tests/interop. Killed when dropped.
struct Program {
    name: &'static str,
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(name: &'static str, settings: &Value) -> Self {
        let folder = interop::folder();
        // mcp_server.mjs imports the package latchkey-verify from the folder in which it runs.
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/js");
        let to = folder.path().join("latchkey-verify");
        fs::create_dir_all(to.join("src")).unwrap();
        fs::copy(from.join("package.json"), to.join("package.json")).unwrap();
        for file in fs::read_dir(from.join("src")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join("src").join(file.file_name())).unwrap();
        }
        let mut command = Command::from(interop::command(&folder, name, settings));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { name, _child: child, input, output, _folder: folder }
    }

    /// Reads the next line, which begins with `word`. Returns the rest of the line.
    async fn read(&mut self, word: &str) -> String {
        let line = self.output.next_line().await.unwrap().unwrap_or_else(|| panic!("{} ended", self.name));
        let rest = line.strip_prefix(word).unwrap_or_else(|| panic!("{}: {line}", self.name));
        rest.trim_start().to_owned()
    }

    async fn write(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }
}

/// Signs the user in and allows the app on the pages. Returns the URL to which the browser returns.
async fn sign_in_and_consent(node: &Node, url: &str, app_name: &str) -> String {
    let issuer = &node.state.config.issuer;
    let target = |answer: &Answer| answer.header("location").replace(issuer.as_str(), "");
    let form_action = |page: &Answer, prefix: &str| {
        actions(page).into_iter().find(|action| action.starts_with(prefix)).unwrap_or_else(|| panic!("{page:?}"))
    };
    let mut visitor = Visitor::new(node);
    let to_sign_in = visitor.open(url.strip_prefix(issuer.as_str()).unwrap()).await.expect(303);
    let page = visitor.open(&target(&to_sign_in)).await.expect(200);
    assert!(page.text.contains(app_name), "{}", page.text);
    let fields = [("identifier", "ada"), ("password", PASSWORD)];
    // each submitted form leads back to `/oauth2/authorize`, which decides on the next step
    let signed_in = visitor.submit(&form_action(&page, "/account/sign-in"), &fields).await.expect(303);
    let to_consent = visitor.open(&target(&signed_in)).await.expect(303);
    let page = visitor.open(&target(&to_consent)).await.expect(200);
    assert!(page.text.contains("does not know this app") && page.text.contains("mcp:tools"), "{}", page.text);
    let allowed = visitor.submit(&form_action(&page, "/account/consent"), &[("decision", "allow")]).await.expect(303);
    let to_app = visitor.open(&target(&allowed)).await.expect(303);
    to_app.header("location").to_owned()
}

/// The way in which the app gets its `client_id`.
enum ClientIdSource {
    /// The `client_id` is the URL of a metadata document that the app publishes.
    Document,
    /// The app registers itself, with this `token_endpoint_auth_method`.
    Registration(&'static str),
}

/// Signs in with a client program of an SDK, which then calls the MCP server with its first token and with a refreshed one. The pages
/// show `app_name`.
async fn assert_client_signs_in(program: &'static str, app_name: &str, source: ClientIdSource) {
    let mut cluster = TestCluster::new();
    // the SDKs compare times in tokens with the system clock
    cluster.clock = Clock::System;
    let documents = DocumentServer::start().await;
    let resource = format!("http://127.0.0.1:{}/mcp", guard::free_port());
    let settings = &mut cluster.config.dynamic_clients;
    settings.scopes = SpaceSeparated::parse(["openid", "offline_access", "mcp:tools"]).unwrap();
    settings.resources = SpaceSeparated::parse([&resource]).unwrap();
    documents.allow(settings);
    settings.registration = true;
    let node = cluster.node_at_issuer().await;
    let account = node.register("ada").await.text_of("id");
    let new_service =
        NewClient { name: "mcp-server".to_owned(), audiences: vec![resource.clone()], ..NewClient::default() };
    let service = cluster.service_client_with(new_service).await;
    let mut server = Program::start(
        "mcp_server.mjs",
        &json!({
            "issuer": cluster.config.issuer,
            "resource": resource,
            "scopes": ["mcp:tools"],
            "client_id": service.id,
            "client_secret": service.secret,
        }),
    );
    server.read("ready").await;
    // Nothing listens there. The test plays the browser, and hands the callback URL to the program.
    let redirect_uri = "http://127.0.0.1:4711/callback";
    let (document, auth_method) = match source {
        ClientIdSource::Document => (Some(documents.app("/client.json", &[("client_name", json!(app_name))])), "none"),
        ClientIdSource::Registration(method) => (None, method),
    };
    let mut client = Program::start(
        program,
        &json!({
            "issuer": cluster.config.issuer,
            "server": resource,
            "redirect_uri": redirect_uri,
            "client_metadata_url": document,
            "auth_method": auth_method,
        }),
    );
    let url = client.read("open").await;
    let callback_url = sign_in_and_consent(&node, &url, app_name).await;
    assert!(callback_url.starts_with(redirect_uri), "{callback_url}");
    client.write(&callback_url).await;
    let done: Value = serde_json::from_str(&client.read("done").await).unwrap();
    let client_id = done["client_id"].as_str().unwrap();
    match document {
        Some(url) => assert_eq!(client_id, url),
        None => assert!(client_id.starts_with("lk_dc_"), "{client_id}"),
    }
    let expected = json!({ "sub": account, "client_id": client_id });
    assert_eq!(done["first"], expected, "with the first token");
    assert_eq!(done["second"], expected, "with the refreshed token");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_sdk_signs_in_by_its_metadata_document() {
    assert_client_signs_in("mcp_client.mjs", "MCP SDK of npm", ClientIdSource::Document).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_sdk_signs_in_after_it_has_registered_itself() {
    assert_client_signs_in("mcp_client.mjs", "MCP SDK of npm", ClientIdSource::Registration("none")).await;
    assert_client_signs_in("mcp_client.mjs", "MCP SDK of npm", ClientIdSource::Registration("client_secret_basic"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pypi_sdk_signs_in_by_its_metadata_document() {
    assert_client_signs_in("mcp_client.py", "MCP SDK of PyPI", ClientIdSource::Document).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pypi_sdk_signs_in_after_it_has_registered_itself() {
    assert_client_signs_in("mcp_client.py", "MCP SDK of PyPI", ClientIdSource::Registration("none")).await;
    assert_client_signs_in("mcp_client.py", "MCP SDK of PyPI", ClientIdSource::Registration("client_secret_post"))
        .await;
}
