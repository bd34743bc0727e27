//! The client packages as they are published: each is packed, and installed or unpacked from the artefact in a clean folder.

use std::{fs, path::Path, process::Command};

use super::{copy, npm_registry::NpmRegistry, project, python::pip_environment};
use crate::openapi_external::{succeed, tool};

/// Copies the files and folders `parts` of a client package to the folder `to`.
fn copy_package(name: &str, parts: &[&str], to: &Path) {
    for part in parts {
        copy(&project("clients").join(name).join(part), &to.join(part));
    }
}

/// A command that runs `program` in `folder`. It uses a shell for this, because [`succeed`] sets the working directory.
fn program_in(folder: &Path, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"cd "$0" && exec "$@""#]).args([folder, program]).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Creates the folder of an app that installs a package. Its `package.json` keeps npm from looking for one in the folders above.
fn create_npm_app(folder: &Path) {
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("package.json"), "{}").unwrap();
}

/// Asserts that `folder` contains the files `names`.
fn assert_files(folder: &Path, names: &[&str]) {
    for name in names {
        assert!(folder.join(name).is_file(), "{name} is not in {}", folder.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_package_installs_from_its_artefact_with_types() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), NpmRegistry::start().await);
    let (source, app) = (folder.path().join("source"), folder.path().join("app"));
    copy_package("js", &["CHANGELOG.md", "LICENSE", "README.md", "package.json", "src", "tests", "types"], &source);
    create_npm_app(&app);
    // In a blocking section, because the registry answers on the same runtime.
    let npm = |words: &[&str]| {
        let mut command = program_in(&app, &tool("npm"));
        command.args(words).envs(registry.environment(&folder.path().join("cache")));
        String::from_utf8(tokio::task::block_in_place(|| succeed(&mut command)).stdout).unwrap()
    };
    let packed = npm(&["pack", "--silent", "../source"]);
    npm(&["install", "--silent", packed.trim(), "@types/node@22.20.5"]);
    let installed = app.join("node_modules/latchkey-verify");
    assert_files(&installed, &["CHANGELOG.md", "LICENSE", "README.md", "src/index.js", "types/index.d.ts"]);
    assert!(!installed.join("tests").exists());

    // Nothing listens at port 9, but the verifier needs no request to refuse the malformed token `x`.
    let program = r#"
import { createVerifier, type EndCause } from "latchkey-verify";
const verifier = createVerifier({ issuer: "http://127.0.0.1:9", audience: "a", clientId: "b", clientSecret: "c", log: () => {} });
const reason: unknown = await verifier.verify("x").catch((error) => error.reason);
const causes: EndCause[] = [];
console.log(reason, causes.length, verifier.registrations);
await verifier.close();
"#;
    fs::write(app.join("program.mts"), program).unwrap();
    let options = ["--strict", "--module", "nodenext", "--target", "es2022", "--types", "node", "program.mts"];
    succeed(program_in(&app, &tool("tsc")).args(options));
    let output = succeed(program_in(&app, &tool("node")).arg("program.mjs"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "malformed 0 0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_package_installs_from_its_artefact_with_types() {
    let (folder, registry) = (tempfile::tempdir().unwrap(), NpmRegistry::start().await);
    let (source, app) = (folder.path().join("source"), folder.path().join("app"));
    let parts = ["CHANGELOG.md", "LICENSE", "README.md", "package.json", "tsconfig.json", "src", "scripts", "tests"];
    copy_package("browser", &parts, &source);
    create_npm_app(&app);
    // `npm pack` builds the package with the compiler on the PATH
    let tsc = tool("tsc");
    let path = format!("{}:{}", tsc.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let npm = |words: &[&str]| {
        let mut command = program_in(&app, &tool("npm"));
        command.args(words).envs(registry.environment(&folder.path().join("cache"))).env("PATH", &path);
        String::from_utf8(tokio::task::block_in_place(|| succeed(&mut command)).stdout).unwrap()
    };
    let packed = npm(&["pack", "--silent", "../source"]);
    // The name of the artefact is the last line, after the output of the build.
    npm(&["install", "--silent", packed.trim().lines().last().unwrap()]);
    let installed = app.join("node_modules/latchkey-browser");
    assert_files(&installed, &["CHANGELOG.md", "LICENSE", "README.md", "dist/index.js", "dist/index.d.ts"]);
    assert!(!installed.join("src").exists() && !installed.join("tests").exists());

    // Nothing listens at port 9, so the sign-in fails, and `resume` finds no session.
    let program = r#"
import { LatchkeyClient, LatchkeyUnreachable } from "latchkey-browser";
const auth = new LatchkeyClient({ baseUrl: "http://127.0.0.1:9", transport: "bearer" });
const problem: unknown = await auth.signIn({ identifier: "a", password: "b" }).catch((error: unknown) => error);
console.log(problem instanceof LatchkeyUnreachable, await auth.resume());
auth.close();
"#;
    fs::write(app.join("program.mts"), program).unwrap();
    let options = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2022,dom", "program.mts"];
    succeed(program_in(&app, &tool("tsc")).args(options));
    let output = succeed(program_in(&app, &tool("node")).arg("program.mjs"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "true null\n");
}

#[test]
fn package_documents_link_nothing_outside_of_the_package() {
    for package in ["browser", "js", "python", "rust"] {
        for document in ["README.md", "CHANGELOG.md"] {
            let path = project("clients").join(package).join(document);
            let text = fs::read_to_string(&path).unwrap();
            // In Markdown, the target of a link follows `](`.
            let outside: Vec<_> = text.split("](").skip(1).filter(|rest| rest.starts_with("..")).collect();
            assert!(outside.is_empty(), "{}: {outside:?}", path.display());
        }
    }
}

#[test]
fn python_package_installs_from_its_artefact_with_types() {
    let (folder, wheels) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [source, dist, app] = ["source", "dist", "app"].map(|name| folder.path().join(name));
    copy_package("python", &["CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "src", "tests"], &source);
    fs::create_dir(&app).unwrap();
    // `python -m build` calls the same hooks: it builds a source distribution, and from its contents the wheel
    let build = |folder: &Path, hook: &str| {
        let call = format!("import sys; from flit_core import buildapi; print(buildapi.{hook}(sys.argv[1]))");
        let output = succeed(program_in(folder, &tool("python")).args(["-c", &call]).arg(&dist));
        dist.join(String::from_utf8(output.stdout).unwrap().trim())
    };
    fs::create_dir(&dist).unwrap();
    let archive = build(&source, "build_sdist");
    succeed(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()));
    let unpacked = folder.path().join(archive.file_name().unwrap().to_str().unwrap().trim_end_matches(".tar.gz"));
    assert_files(&unpacked, &["CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "src/latchkey/py.typed"]);
    let wheel = build(&unpacked, "build_wheel");

    let environment = pip_environment(wheels.path());
    succeed(Command::new(tool("python")).args(["-m", "venv"]).arg(app.join("venv")));
    let venv = app.join("venv/bin/python");
    let wheel_with_extra = format!("{}[fastapi]", wheel.display());
    succeed(Command::new(&venv).args(["-m", "pip", "install", "--quiet", &wheel_with_extra]).envs(environment));
    let program = "import latchkey, latchkey.asgi, latchkey.fastapi, importlib.metadata as metadata\n\
        files = {file.name for file in metadata.files('latchkey-verify') or ()}\n\
        print(latchkey.__path__[0], *sorted({'LICENSE', 'py.typed', 'METADATA'} & files))\n";
    fs::write(app.join("program.py"), program).unwrap();
    let output = succeed(program_in(&app, &venv).arg("program.py"));
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut words = printed.split_whitespace();
    let module_folder = Path::new(words.next().unwrap());
    assert!(module_folder.starts_with(app.join("venv")), "{printed}");
    assert_eq!(words.collect::<Vec<_>>(), ["LICENSE", "METADATA", "py.typed"]);
    let mut mypy = program_in(&app, &tool("python"));
    mypy.args(["-m", "mypy", "--strict", "--cache-dir=mypy", "--python-executable"]).arg(&venv);
    succeed(mypy.arg("program.py"));
}

#[test]
fn crate_package_contains_licence_readme_and_changelog() {
    let target = tempfile::tempdir().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--package", "latchkey-verify", "--no-verify", "--allow-dirty", "--offline", "--quiet"]);
    cargo.arg("--manifest-path").arg(project("Cargo.toml")).arg("--target-dir").arg(target.path());
    succeed(&mut cargo);
    let mut files = fs::read_dir(target.path().join("package")).unwrap().map(|entry| entry.unwrap().path());
    let archive = files.find(|path| path.extension().is_some_and(|extension| extension == "crate")).unwrap();
    succeed(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(target.path()));
    let unpacked = target.path().join(archive.file_stem().unwrap());
    assert_files(&unpacked, &["CHANGELOG.md", "Cargo.toml", "LICENSE", "README.md", "src/lib.rs"]);
}
