//! The JavaScript verifier package (`clients/js`) and the Express example (`examples/express`): their tests, types and printed commands.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{
    app::App,
    checkout::Checkout,
    copy,
    npm_registry::{NpmRegistry, node_modules},
    project, run_until_signed_out,
    service::ServiceProcess,
};
use crate::{
    docs::code_blocks,
    openapi_external::{succeed, tool},
};

/// A copy of the client with its dependencies, and of the fixtures that its tests read.
struct ClientCopy {
    /// Deleted when dropped.
    _root: TempDir,
    /// The folder `clients/js` of the root.
    folder: PathBuf,
}

impl ClientCopy {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("clients/js");
        for part in ["package.json", "tsconfig.json", "src", "tests", "types"] {
            copy(&project("clients/js").join(part), &folder.join(part));
        }
        for fixture in ["tests/fixtures/verifier_cases.json", "tests/fixtures/verifier_session_cases.json"] {
            copy(&project(fixture), &root.path().join(fixture));
        }
        symlink(node_modules(), folder.join("node_modules")).unwrap();
        Self { _root: root, folder }
    }

    /// The command that runs the tests in `tests/NAME`.
    fn suite(&self, name: &str) -> Command {
        let tests = fs::read_dir(self.folder.join("tests").join(name)).unwrap();
        let mut tests: Vec<_> = tests.map(|entry| entry.unwrap().path()).collect();
        tests.sort();
        let mut command = Command::new(tool("node"));
        command.args(["--test", "--test-reporter=spec"]).args(tests);
        command
    }
}

#[test]
fn unit_tests_pass() {
    succeed(&mut ClientCopy::new().suite("unit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn service_tests_pass() {
    let service = ServiceProcess::start();
    let client = ClientCopy::new();
    succeed(client.suite("service").envs(service.suite_environment()));
}

#[test]
fn types_check_and_committed_declarations_are_current() {
    let client = ClientCopy::new();
    let types = client.folder.join("types");
    fs::remove_dir_all(&types).unwrap();
    succeed(Command::new(tool("tsc")).arg("-p").arg(&client.folder));
    let texts_in = |folder: &Path| {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let name_and_text = |path: PathBuf| (path.file_name().unwrap().to_owned(), fs::read_to_string(path).unwrap());
        paths.map(name_and_text).collect::<BTreeMap<_, _>>()
    };
    let committed = texts_in(&project("clients/js/types"));
    assert!(texts_in(&types) == committed, "run `npm run types` in clients/js");
}

#[test]
fn typescript_program_compiles_against_the_declarations() {
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("node_modules");
    fs::create_dir(&modules).unwrap();
    for package in ["express", "fastify", "@fastify", "fastify-plugin", "jose", "ws", "@types"] {
        symlink(node_modules().join(package), modules.join(package)).unwrap();
    }
    for part in ["package.json", "src", "types"] {
        copy(&project("clients/js").join(part), &modules.join("latchkey-verify").join(part));
    }
    let program = r#"
import { createServer } from "node:http";
import websocket from "@fastify/websocket";
import Fastify from "fastify";
import {
  claimsOf, closeOnEnd, createVerifier, expressMiddleware, fastifyHook, fastifyPlugin, InvalidToken, registrationOf, requireAcr,
  requireAuthentication, requireMaxAge, requireRole, requireScope, webSocketUpgrade,
  type Claims, type EndCause, type Reason, type Registration,
} from "latchkey-verify";
import { WebSocketServer } from "ws";
const verifier = createVerifier({ issuer: "http://a.example", audience: "a", clientId: "b", clientSecret: "c", feedLost: "refuse" });
const claims: Claims = await verifier.verify("token");
const subject: string = claims.sub, session: string | undefined = claims.sid;
const reason: Reason = new InvalidToken("expired").reason;
const app = Fastify();
await app.register(fastifyPlugin(verifier));
app.get("/", { onRequest: fastifyHook(verifier, { allowClients: true }) }, async (request) => claimsOf(request).sub);
app.get("/admin", { onRequest: [requireRole("admin"), requireScope("orders:write")] }, async () => "");
app.get("/pay", { onRequest: requireAuthentication({ acr: ["aal2"], maxAge: 300 }) }, async () => "");
await app.register(websocket);
app.get("/chat", { websocket: true }, (socket, request) => {
  registrationOf(request).renew("token").then((renewed: Claims) => renewed.sub);
  socket.send("hello");
});
const registration: Registration = verifier.onEnd(claims, (cause: EndCause) => console.log(cause));
const signal: AbortSignal = registration.signal;
registration.close();
const sockets = new WebSocketServer({ noServer: true });
createServer().on("upgrade", webSocketUpgrade(verifier, sockets, { guards: [requireAcr("aal2"), requireMaxAge(60)] }));
sockets.on("connection", (socket, request) => closeOnEnd(verifier, claimsOf(request), socket).signal.reason);
export { signal };
export { subject, session, reason, expressMiddleware };
// @ts-expect-error neither "refuse" nor "introspect"
createVerifier({ issuer: "http://a.example", audience: "a", clientId: "b", clientSecret: "c", feedLost: "ignore" });
"#;
    fs::write(folder.path().join("program.mts"), program).unwrap();
    let options = ["--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];
    succeed(Command::new(tool("tsc")).args(options).arg(folder.path().join("program.mts")));
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_commands_install_and_programs_run_as_printed() {
    let service = ServiceProcess::start();
    let registry = NpmRegistry::start().await;
    let cache = tempfile::tempdir().unwrap();
    let checkout = Checkout::new(&["clients/js"], &service, &registry.environment(cache.path()));
    let folder = checkout.app_folder();
    for commands in code_blocks("clients/js/README.md", "sh") {
        // The registry, a task of this runtime, must answer meanwhile.
        tokio::task::block_in_place(|| checkout.run(&folder, &commands));
    }
    let installed = folder.join("node_modules/latchkey-verify");
    assert!(installed.join("types/index.d.ts").is_file());
    assert!(!installed.join("tests").exists());

    let programs = code_blocks("clients/js/README.md", "js");
    // two apps, a job that stops when its user signs out, a script that checks one token
    let [express, fastify, job, script] = &programs[..] else { panic!("the README must have four programs") };
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    for (name, text) in [("express.mjs", express), ("fastify.mjs", fastify)] {
        let command = [tool("node"), write(name, text)].map(|word| word.display().to_string());
        // The program reads the port from its environment.
        let app = App::start(&service.app_environment(), |_port| command.to_vec()).await;
        app.check(&service).await;
        app.check_chat(&service).await;
    }

    let account = service.client().register("ada").await.text_of("id");
    let tokens = service.client().login("ada").await;
    let job = write("job.mjs", job);
    let mut command = Command::new(tool("node"));
    command.envs(service.app_environment()).arg(&job).arg(&tokens.access);
    let client = service.client();
    let refresh = tokens.refresh.clone();
    let output = run_until_signed_out(command, async || client.logout(&refresh).await.expect(204)).await;
    assert_eq!(output, ["working", "stopped: session_revoked"]);

    let tokens = service.client().login("ada").await;
    let script = write("script.mjs", script);
    // Returns `[stdout, stderr]`.
    let run = |environment: Vec<(String, String)>, token: &str| {
        let output = succeed(Command::new(tool("node")).envs(environment).arg(&script).arg(token));
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    assert_eq!(run(service.app_environment(), &tokens.access)[0], format!("welcome {account}\n"));
    service.client().logout(&tokens.refresh).await.expect(204);
    assert_eq!(run(service.app_environment(), &tokens.access)[0], "refused: the token was revoked\n");
    // Port 9 is closed. The later of two values counts.
    let unreachable = [service.app_environment(), vec![("AUTH_ISSUER".to_owned(), "http://127.0.0.1:9".to_owned())]];
    let [stdout, stderr] = run(unreachable.concat(), &tokens.access);
    assert!(stdout.starts_with("unavailable: the issuer's keys cannot be fetched: "), "{stdout}");
    assert!(stderr.lines().all(|line| line.starts_with("latchkey: ")), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn express_example_runs_as_printed() {
    let service = ServiceProcess::start();
    let registry = NpmRegistry::start().await;
    let cache = tempfile::tempdir().unwrap();
    let environment = registry.environment(cache.path());
    let checkout = Checkout::new(&["clients/js", "examples/express"], &service, &environment);
    checkout.run_example("examples/express", &service).await;
}
