//! `clients/python` and `examples/fastapi`.

use std::{collections::HashSet, fs, path::Path, process::Command};

use super::{app::App, blocks, copy, project, service::Latchkey};
use crate::openapi_external::{succeed, tool};

/// Python with the client where it lies.
fn python() -> Command {
    let mut command = Command::new(tool("python"));
    command.env("PYTHONPATH", project("clients/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn pytest(folder: &str) -> Command {
    let mut command = python();
    command.args(["-m", "pytest", "-q", "--color=no", "-c"]).arg(project("clients/python/pyproject.toml"));
    command.arg(project("clients/python/tests").join(folder));
    command
}

#[test]
fn its_own_tests_pass() {
    succeed(&mut pytest("unit"));
}

#[test]
fn its_types_hold() {
    let mut command = python();
    command.args(["-m", "mypy", "--cache-dir=mypy", "--config-file"]).arg(project("clients/python/pyproject.toml"));
    command.args(["clients/python/src", "clients/python/tests", "examples/fastapi/app.py"].map(project));
    succeed(&mut command);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_the_real_service() {
    let latchkey = Latchkey::start();
    succeed(pytest("service").envs(latchkey.for_suites()));
}

/// As `pip install ./clients/python` does, but for what it depends on, which is there.
#[test]
fn it_installs_from_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    // built in a copy: the folder stays as it is
    let source = folder.path().join("source");
    copy(&project("clients/python"), &source);
    let target = folder.path().join("target");
    let mut pip = Command::new(tool("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-index"]);
    succeed(pip.args(["--no-deps", "--no-build-isolation", "--target"]).arg(&target).arg(&source));
    assert!(target.join("latchkey/py.typed").is_file());
    let program = "import latchkey, latchkey.fastapi; print(latchkey.__file__)";
    let output = succeed(Command::new(tool("python")).env("PYTHONPATH", &target).args(["-c", program]));
    assert!(Path::new(String::from_utf8(output.stdout).unwrap().trim()).starts_with(&target));
}

async fn serve(latchkey: &Latchkey, folder: &Path, workers: u8) -> App {
    let (python, path) = (tool("python"), project("clients/python/src"));
    App::start(latchkey, |port| {
        let python = python.display();
        format!(
            "env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={} {python} -m uvicorn app:app --app-dir {} --port {port} --workers {workers}",
            path.display(),
            folder.display(),
        )
        .split(' ')
        .map(str::to_owned)
        .collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_refuses_at_the_next_request_on_every_worker() {
    let latchkey = Latchkey::start();
    let app = serve(&latchkey, &project("examples/fastapi"), 2).await;
    let workers: HashSet<_> = app.check(&latchkey).await.iter().map(|answer| answer["worker"].to_string()).collect();
    assert!((1..=2).contains(&workers.len()), "{workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_code_runs() {
    let latchkey = Latchkey::start();
    let [app, alone] = &blocks("clients/python/README.md", "python")[..] else { panic!("there are two programs") };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.py"), app).unwrap();
    serve(&latchkey, folder.path(), 1).await.check(&latchkey).await;

    let account = latchkey.client().account("ada").await.text_of("id");
    let tokens = latchkey.client().login("ada").await;
    let run = |token: &str| {
        let output = succeed(python().envs(latchkey.for_apps()).args(["-c", alone, token]));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&tokens.access), format!("welcome {account}\n"));
    latchkey.client().logout(&tokens.refresh).await.expect(204);
    assert_eq!(run(&tokens.access), "refused: it was revoked\n");
}
