//! `clients/js` and `examples/express`.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{app::App, blocks, copy, project, service::Latchkey};
use crate::openapi_external::{succeed, tool};

/// The packages that are pinned in tests/tools.
fn packages() -> PathBuf {
    tool("node").parent().and_then(Path::parent).unwrap().join("node/node_modules")
}

/// A copy of the client, where Node finds what it needs.
fn client() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["package.json", "tsconfig.json", "src", "tests", "types"] {
        copy(&project("clients/js").join(part), &folder.path().join(part));
    }
    symlink(packages(), folder.path().join("node_modules")).unwrap();
    folder
}

/// A folder for an app, in which the client is installed as from its folder.
fn app_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let modules = folder.path().join("node_modules");
    fs::create_dir(&modules).unwrap();
    for package in ["express", "fastify", "jose"] {
        symlink(packages().join(package), modules.join(package)).unwrap();
    }
    for part in ["package.json", "src"] {
        copy(&project("clients/js").join(part), &modules.join("latchkey-verify").join(part));
    }
    folder
}

fn suite(client: &TempDir, name: &str) -> Command {
    let mut tests: Vec<_> =
        fs::read_dir(client.path().join("tests").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    tests.sort();
    let mut command = Command::new(tool("node"));
    command.args(["--test", "--test-reporter=spec"]).args(tests);
    command
}

#[test]
fn its_own_tests_pass() {
    let client = client();
    succeed(&mut suite(&client, "unit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_the_real_service() {
    let (latchkey, client) = (Latchkey::start(), client());
    succeed(suite(&client, "service").envs(latchkey.for_suites()));
}

#[test]
fn its_types_hold_and_are_the_committed_ones() {
    let client = client();
    let types = client.path().join("types");
    fs::remove_dir_all(&types).unwrap();
    succeed(Command::new(tool("tsc")).arg("-p").arg(client.path()));
    let read = |folder: &Path| {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let text = |path: PathBuf| (path.file_name().unwrap().to_owned(), fs::read_to_string(path).unwrap());
        files.into_iter().map(text).collect::<Vec<_>>()
    };
    let committed = read(&project("clients/js/types"));
    assert!(read(&types) == committed, "run `npm run types` in clients/js");
}

/// A program in TypeScript that uses the types as its users would.
#[test]
fn its_types_are_of_use() {
    let folder = app_folder();
    copy(&project("clients/js/types"), &folder.path().join("node_modules/latchkey-verify/types"));
    symlink(packages().join("@types"), folder.path().join("node_modules/@types")).unwrap();
    let program = r#"
import Fastify from "fastify";
import { claimsOf, createVerifier, expressMiddleware, fastifyHook, fastifyPlugin, InvalidToken, type Claims } from "latchkey-verify";
const verifier = createVerifier({ issuer: "http://a.example", audience: "a", clientId: "b", clientSecret: "c", feedLost: "refuse" });
const claims: Claims = await verifier.verify("token");
const subject: string = claims.sub, session: string | undefined = claims.sid;
const app = Fastify();
await app.register(fastifyPlugin(verifier));
app.get("/", { onRequest: fastifyHook(verifier, { allowClients: true }) }, async (request) => claimsOf(request).sub);
export { subject, session, InvalidToken, expressMiddleware };
// @ts-expect-error the policy is one of two
createVerifier({ issuer: "http://a.example", audience: "a", clientId: "b", clientSecret: "c", feedLost: "ignore" });
"#;
    fs::write(folder.path().join("program.mts"), program).unwrap();
    let options = ["--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"];
    succeed(Command::new(tool("tsc")).args(options).arg(folder.path().join("program.mts")));
}

/// As `npm install ./clients/js` does, with what it depends on from a folder too.
#[test]
fn it_installs_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    copy(&project("clients/js"), &source);
    let app = folder.path().join("app");
    fs::create_dir(&app).unwrap();
    let manifest = serde_json::json!({
        "private": true,
        "dependencies": { "latchkey-verify": format!("file:{}", source.display()), "jose": format!("file:{}", packages().join("jose").display()) },
    });
    fs::write(app.join("package.json"), manifest.to_string()).unwrap();
    let mut npm = Command::new(tool("npm"));
    npm.args(["install", "--offline", "--install-links", "--no-audit", "--no-fund", "--loglevel=error", "--cache"]);
    npm.arg(folder.path().join("cache")).arg("--prefix").arg(&app);
    let bin = tool("node").parent().unwrap().to_owned();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())));
    succeed(npm.env("PATH", path.unwrap()));
    let installed = app.join("node_modules/latchkey-verify");
    assert!(installed.join("types/index.d.ts").is_file() && !installed.join("tests").exists());
    let program = app.join("program.mjs");
    fs::write(&program, r#"import * as all from "latchkey-verify"; console.log(Object.keys(all).join(" "));"#).unwrap();
    let output = succeed(Command::new(tool("node")).arg(&program));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim(),
        "InvalidToken LatchkeyError Unavailable Verifier claimsOf createVerifier expressMiddleware fastifyHook fastifyPlugin",
    );
}

async fn serve(latchkey: &Latchkey, program: &Path) -> App {
    let node = tool("node");
    App::start(latchkey, |_| [&node, program].map(|word| word.display().to_string()).into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_refuses_at_the_next_request() {
    let (latchkey, folder) = (Latchkey::start(), app_folder());
    let program = folder.path().join("app.js");
    copy(&project("examples/express/app.js"), &program);
    copy(&project("examples/express/package.json"), &folder.path().join("package.json"));
    serve(&latchkey, &program).await.check(&latchkey).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_code_runs() {
    let (latchkey, folder) = (Latchkey::start(), app_folder());
    let programs = blocks("clients/js/README.md", "js");
    let [express, fastify, alone] = &programs[..] else { panic!("there are three programs") };
    let written = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    for (name, text) in [("express.mjs", express), ("fastify.mjs", fastify)] {
        serve(&latchkey, &written(name, text)).await.check(&latchkey).await;
    }

    let account = latchkey.client().account("ada").await.text_of("id");
    let tokens = latchkey.client().login("ada").await;
    let alone = written("alone.mjs", alone);
    let run = |token: &str| {
        let output = succeed(Command::new(tool("node")).envs(latchkey.for_apps()).arg(&alone).arg(token));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&tokens.access), format!("welcome {account}\n"));
    latchkey.client().logout(&tokens.refresh).await.expect(204);
    assert_eq!(run(&tokens.access), "refused: it was revoked\n");
}
