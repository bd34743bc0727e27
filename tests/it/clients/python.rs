//! The tests of `clients/python`, the commands and programs of its README, and `examples/fastapi`.

use std::{collections::HashSet, fs, path::Path, process::Command};

use super::{app::App, checkout::Checkout, project, run_until_signed_out, service::ServiceProcess};
use crate::{
    docs::code_blocks,
    openapi_external::{succeed, tool},
};

/// A Python that imports the client from its sources.
fn python() -> Command {
    let mut command = Command::new(tool("python"));
    command.env("PYTHONPATH", project("clients/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The command that runs the tests in a folder of `clients/python/tests`.
fn pytest(folder: &str) -> Command {
    let mut command = python();
    command.args(["-m", "pytest", "-q", "--color=no", "-c"]).arg(project("clients/python/pyproject.toml"));
    command.arg(project("clients/python/tests").join(folder));
    command
}

/// Packs the packages of tests/tools as wheels in `folder`. Returns variables that make pip install these, without a network.
pub(super) fn pip_environment(folder: &Path) -> Vec<(&'static str, String)> {
    succeed(Command::new(tool("python")).arg(project("tests/tools/wheelhouse.py")).arg(folder));
    vec![
        ("PIP_NO_INDEX", "1".to_owned()),
        ("PIP_FIND_LINKS", folder.display().to_string()),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1".to_owned()),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
}

#[test]
fn unit_tests_pass() {
    succeed(&mut pytest("unit"));
}

#[test]
fn types_check() {
    let mut command = python();
    command.args(["-m", "mypy", "--cache-dir=mypy", "--config-file"]).arg(project("clients/python/pyproject.toml"));
    let apps = ["examples/fastapi/app.py", "examples/fastapi/chat.py"];
    command.args(["clients/python/src", "clients/python/tests"].into_iter().chain(apps).map(project));
    succeed(&mut command);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_tests_pass() {
    let service = ServiceProcess::start();
    succeed(pytest("service").envs(service.suite_environment()));
}

/// Serves the `app.py` of a folder with uvicorn. `python` is the command that runs Python.
async fn serve(service: &ServiceProcess, python: &str, folder: &Path, worker_count: u8) -> App {
    App::start(&service.app_environment(), |port| {
        let folder = folder.display();
        let command = format!("env PYTHONDONTWRITEBYTECODE=1 {python} -m uvicorn app:app --app-dir {folder}");
        format!("{command} --port {port} --workers {worker_count}").split(' ').map(str::to_owned).collect()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn fastapi_example_refuses_revoked_tokens_on_every_worker() {
    let service = ServiceProcess::start();
    let worker_count = 2;
    // the client from its sources
    let python = format!("env PYTHONPATH={} {}", project("clients/python/src").display(), tool("python").display());
    let app = serve(&service, &python, &project("examples/fastapi"), worker_count).await;
    let workers: HashSet<_> = app.check(&service).await.iter().map(|answer| answer["worker"].to_string()).collect();
    // The kernel distributes the connections, so one worker may have answered all requests.
    assert!((1..=usize::from(worker_count)).contains(&workers.len()), "{workers:?}");
    app.check_step_up(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fastapi_example_runs_as_printed() {
    let service = ServiceProcess::start();
    let wheels = tempfile::tempdir().unwrap();
    let environment = tokio::task::block_in_place(|| pip_environment(wheels.path()));
    let checkout = Checkout::new(&["clients/python", "examples/fastapi"], &service, &environment);
    checkout.run_example("examples/fastapi", &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_commands_install_and_programs_run_as_printed() {
    let service = ServiceProcess::start();
    let wheels = tempfile::tempdir().unwrap();
    let environment = tokio::task::block_in_place(|| pip_environment(wheels.path()));
    let checkout = Checkout::new(&["clients/python"], &service, &environment);
    let folder = checkout.app_folder();
    for commands in code_blocks("clients/python/README.md", "sh") {
        tokio::task::block_in_place(|| checkout.run(&folder, &commands));
    }
    let python = folder.join("venv/bin/python");
    let output = succeed(Command::new(&python).args(["-c", "import latchkey.fastapi; print(latchkey.__path__[0])"]));
    let printed = String::from_utf8(output.stdout).unwrap();
    let installed = Path::new(printed.trim());
    assert!(installed.starts_with(&folder), "{printed}");
    assert!(installed.join("py.typed").is_file(), "{printed}");

    let programs = code_blocks("clients/python/README.md", "python");
    // a FastAPI app, a job that works until its user signs out, a script that checks one token
    let [app, job, script] = &programs[..] else { panic!("the README must have three programs") };
    fs::write(folder.join("app.py"), app).unwrap();
    // without PYTHONPATH, so that the app imports the installed package
    let app = serve(&service, &python.display().to_string(), &folder, 1).await;
    app.check(&service).await;
    app.check_chat(&service).await;
    drop(app);

    let account = service.client().register("ada").await.text_of("id");
    let tokens = service.client().login("ada").await;
    let mut command = Command::new(&python);
    command.envs(service.app_environment()).args(["-u", "-c", job, &tokens.access]);
    let (client, refresh) = (service.client(), tokens.refresh.clone());
    let output = run_until_signed_out(command, async || client.logout(&refresh).await.expect(204)).await;
    assert_eq!(output, ["working", "stopped: session_revoked"]);

    let tokens = service.client().login("ada").await;
    let run_script = |environment: Vec<(String, String)>, token: &str| {
        let output = succeed(Command::new(&python).envs(environment).args(["-c", script, token]));
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let [stdout, _] = run_script(service.app_environment(), &tokens.access);
    assert_eq!(stdout, format!("welcome {account}\n"));
    service.client().logout(&tokens.refresh).await.expect(204);
    let [stdout, _] = run_script(service.app_environment(), &tokens.access);
    assert_eq!(stdout, "refused: the token was revoked\n");
    // Nothing listens on port 9. Of two values of a variable, the later one counts.
    let mut unreachable = service.app_environment();
    unreachable.push(("AUTH_ISSUER".to_owned(), "http://127.0.0.1:9".to_owned()));
    let [stdout, stderr] = run_script(unreachable, &tokens.access);
    assert!(stdout.starts_with("unavailable: the issuer's keys cannot be fetched: "), "{stdout}");
    assert!(!stderr.contains("Traceback"), "{stderr}");
}
