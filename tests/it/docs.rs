//! Checks the documents: the tests, files, links and settings that they name exist, the numbers in the ASVS summary are right, and the
//! commands of the first steps run as printed.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use reqwest::Method;
use serde_json::json;

use crate::{
    accounts::document::DocumentShell,
    harness::{client::PASSWORD, test_cluster::TestCluster},
};

/// The documents with tables of requirements and threats, whose rows name tests.
const SECURITY_DOCUMENTS: [&str; 2] = ["docs/asvs.md", "docs/threat-model.md"];

/// The folders with documents. The repository's root also has some.
const DOCUMENT_FOLDERS: [&str; 4] = ["docs", "clients", "examples", "monitoring"];

/// Folders of dependencies and build results, which hold documents of others.
const FOREIGN_FOLDERS: [&str; 5] = ["node_modules", "target", "dist", "venv", "__pycache__"];

/// A code span that starts with one of these is a path.
const PREFIXES: [&str; 8] = ["src/", "tests/", "docs/", "migrations/", "openapi/", "examples/", "clients/", ".ci/"];

/// The first segments of Rust paths that are log targets, not tests: `latchkey::request`.
const LOG_TARGETS: [&str; 2] = ["latchkey", "fred"];

/// The client secret that docs/protect-an-api.md prints.
const PRINTED_SECRET: &str = "lk_cs_03a7Lzz6…";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all Markdown documents, relative to the root.
fn documents() -> Vec<String> {
    #[derive(Clone, Copy, PartialEq)]
    enum Subfolders {
        Visit,
        Skip,
    }
    fn visit(folder: &Path, subfolders: Subfolders, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let is_foreign = name.starts_with('.') || FOREIGN_FOLDERS.contains(&name.as_str());
            if path.is_dir() && subfolders == Subfolders::Visit && !is_foreign {
                visit(&path, subfolders, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit(&root(), Subfolders::Skip, &mut found);
    for folder in DOCUMENT_FOLDERS {
        visit(&root().join(folder), Subfolders::Visit, &mut found);
    }
    let relative = |path: PathBuf| path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    found.into_iter().map(relative).collect()
}

/// The code blocks of a language in a Markdown file, whose path is relative to the repository or absolute. Each block ends with a line
/// break.
pub fn code_blocks(path: impl AsRef<Path>, language: &str) -> Vec<String> {
    let path = root().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let opening = format!("```{language}\n");
    let after_openings = text.split(&opening).skip(1);
    after_openings.map(|rest| rest.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// The lines of a document outside of code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            lines.push(line);
        }
    }
    lines
}

/// The code spans (between backticks) of a document.
fn code_spans(text: &str) -> Vec<&str> {
    prose(text).into_iter().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// The targets of a document's links.
fn links(text: &str) -> Vec<&str> {
    prose(text)
        .into_iter()
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| rest.split(')').next())
        .collect()
}

/// Whether `text` consists of at least two lower-case words with `separator` in between.
fn is_path_of_words(text: &str, separator: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split(separator).count() >= 2 && text.split(separator).all(is_word)
}

/// Whether a test of this name, as `cargo test` prints it, exists in `tests/it` or in the source.
fn is_test(name: &str) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let mut files = Vec::new();
    // Unit tests may be in a module `tests` in the file of its parent.
    for module in [Some(module), module.strip_suffix("::tests")].into_iter().flatten() {
        let path = module.replace("::", "/");
        for folder in ["tests/it", "src"] {
            files.extend([format!("{folder}/{path}.rs"), format!("{folder}/{path}/mod.rs")]);
        }
    }
    files.into_iter().any(|file| {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let Some((before, _)) = text.split_once(&format!("fn {test}(")) else { return false };
        let above = before.rsplit_once('\n').map_or("", |(above, _)| above);
        // the attributes and comments of the function
        let mut above = above.lines().rev().map(str::trim).take_while(|line| line.starts_with(['#', '/']));
        above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

/// Whether a module of this name exists in `tests/it` or in the source.
fn is_module(name: &str) -> bool {
    let module = name.replace("::", "/");
    ["tests/it", "src"].iter().any(|folder| {
        let path = root().join(folder).join(&module);
        path.is_dir() || path.with_extension("rs").is_file()
    })
}

/// Whether a document has a heading with this anchor, as GitHub derives anchors.
fn has_heading(text: &str, anchor: &str) -> bool {
    let anchor_of = |title: &str| -> String {
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    prose(text)
        .iter()
        .filter(|line| line.starts_with('#'))
        .any(|line| anchor_of(line.trim_start_matches('#')) == anchor)
}

/// Asserts that `check`, a function of a document's path and text, finds nothing. Panics with `problem` and the findings of all documents.
fn assert_no_findings(paths: &[String], problem: &str, check: impl Fn(&str, &str) -> Vec<String>) {
    let findings: Vec<String> = paths
        .iter()
        .flat_map(|path| check(path, &read(path)).into_iter().map(move |finding| format!("{path}: {finding}")))
        .collect();
    assert!(findings.is_empty(), "{problem}: {findings:#?}");
}

#[test]
fn documents_name_existing_tests_and_modules_only() {
    let named = |text: &str| -> Vec<String> {
        let spans = code_spans(text).into_iter().filter(|span| is_path_of_words(span, "::"));
        let tests = spans.filter(|span| !LOG_TARGETS.contains(&span.split("::").next().unwrap_or_default()));
        tests.map(str::to_owned).collect()
    };
    // If `named` found nothing, the assertion below would pass.
    for document in SECURITY_DOCUMENTS {
        assert!(named(&read(document)).len() > 10, "{document} names more tests");
    }
    assert_no_findings(&documents(), "these names do not exist", |path, text| {
        let may_name_modules = !SECURITY_DOCUMENTS.contains(&path);
        let exists = |name: &str| is_test(name) || (may_name_modules && is_module(name));
        named(text).into_iter().filter(|name| !exists(name)).collect()
    });
    assert!(!is_test("docs::no_such_test") && !is_test("no_such_module::rows_are_unique"));
    assert!(!is_module("docs::no_such_module"));
}

#[test]
fn makefile_names_existing_tests_only() {
    let makefile = read("Makefile");
    let named: Vec<&str> = makefile.split_whitespace().filter(|word| is_path_of_words(word, "::")).collect();
    assert!(!named.is_empty(), "the Makefile names tests");
    let missing: Vec<&str> = named.into_iter().filter(|name| !is_test(name)).collect();
    assert!(missing.is_empty(), "these tests do not exist: {missing:?}");
}

#[test]
fn documents_name_existing_paths_only() {
    assert_no_findings(&documents(), "these paths do not exist", |document, text| {
        let folder = root().join(document).parent().map(Path::to_path_buf).unwrap_or_default();
        let named = code_spans(text).into_iter().filter(|span| PREFIXES.iter().any(|prefix| span.starts_with(prefix)));
        let missing = named.filter(|path| !root().join(path).exists() && !folder.join(path).exists());
        missing.map(str::to_owned).collect()
    });
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    assert_no_findings(&documents(), "these links are broken", |document, text| {
        let path = root().join(document);
        let folder = path.parent().unwrap_or(Path::new("."));
        let is_broken = |link: &&str| {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            if anchor.is_empty() {
                !target.exists()
            } else {
                !fs::read_to_string(target).is_ok_and(|text| has_heading(&text, anchor))
            }
        };
        let local =
            links(text).into_iter().filter(|link| !link.starts_with("https://") && !link.starts_with("http://"));
        local.filter(is_broken).map(str::to_owned).collect()
    });
}

#[test]
fn documents_name_existing_settings_only() {
    let defaults = read("src/config/defaults.toml");
    let sections: HashSet<&str> =
        defaults.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')).collect();
    // The comment of each setting ends with the name of its environment variable.
    let is_setting = |key: &str| defaults.contains(&format!("# LATCHKEY_{}\n", key.replace('.', "_").to_uppercase()));
    assert_no_findings(&documents(), "these settings do not exist", |_, text| {
        // `session.grace`, also with a value: `session.grace = "0s"`
        let keys = code_spans(text).into_iter().map(|span| span.split(" = ").next().unwrap_or(span));
        // `account.html` is a template
        let keys = keys.filter(|key| is_path_of_words(key, ".") && !key.ends_with(".html"));
        let keys = keys.filter(|key| key.split_once('.').is_some_and(|(section, _)| sections.contains(section)));
        keys.filter(|key| !is_setting(key)).map(str::to_owned).collect()
    });
    assert!(is_setting("session.grace") && !is_setting("session.no_such_setting"));
}

#[test]
fn readme_links_every_document_and_has_at_most_150_lines() {
    let readme = read("README.md");
    let linked: HashSet<&str> = links(&readme).into_iter().collect();
    let unlinked: Vec<String> =
        documents().into_iter().filter(|path| path.starts_with("docs/") && !linked.contains(path.as_str())).collect();
    assert!(unlinked.is_empty(), "README.md does not link {unlinked:?}");
    assert!(readme.lines().count() <= 150, "README.md is an overview: move details to a document");
}

/// Someone who tries several examples on one service can create the clients of all of them.
#[test]
fn documents_add_no_two_clients_of_the_same_name() {
    let mut documents_of = HashMap::<String, Vec<String>>::new();
    for document in documents() {
        for rest in read(&document).split("client add ").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || matches!(c, '-' | '_')).collect();
            // not an option or a placeholder
            if name.starts_with(|c: char| c.is_ascii_lowercase()) {
                documents_of.entry(name).or_default().push(document.clone());
            }
        }
    }
    assert!(documents_of.contains_key("express-app"), "the search finds no names: {documents_of:?}");
    documents_of.retain(|_, documents| documents.len() > 1);
    assert!(documents_of.is_empty(), "a second `client add` with these names fails: {documents_of:?}");
}

/// The names of all JSON fields in a text, in their order.
fn field_names(json: &str) -> Vec<&str> {
    // every second part is a quoted string; a colon follows those that are names
    let parts: Vec<&str> = json.split('"').collect();
    parts.windows(2).skip(1).step_by(2).filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0]).collect()
}

/// README.md prints answers of a real node. The service may return more fields than README.md prints.
#[tokio::test]
async fn readme_answers_have_fields_in_the_order_of_the_service() {
    assert_eq!(field_names(r#"{"a":"x","b":[{"c":1}],"d":["e"]}"#), ["a", "b", "c", "d"]);
    let printed = code_blocks("README.md", "json").remove(0);
    let cluster = TestCluster::new();
    let node = cluster.node().await;
    let account = node.post("/v1/users", json!({ "email": "ada@example.com", "password": PASSWORD })).await.expect(201);
    // The list of sessions has the field `user_agent` only if the client sent one.
    let request = node.request(Method::POST, "/v1/login").header("user-agent", "curl/7.88.1");
    let request = request.json(&json!({ "identifier": "ada@example.com", "password": PASSWORD }));
    let login = node.send(request).await.expect(200);
    let sessions = node.get("/v1/sessions", &login.text_of("access_token")).await.expect(200);
    for (line, answer) in printed.lines().zip([account, sessions, login]) {
        // `any` continues after the field that it found last, so this also checks the order.
        let mut served = field_names(&answer.text).into_iter();
        let all_found = field_names(line).iter().all(|name| served.any(|other| other == *name));
        assert!(all_found, "README.md prints {line}, the service answers {}", answer.text);
    }
    assert_eq!(printed.lines().count(), 3);
}

/// The test changes only the API's address in the commands.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_readme_sign_in_refresh_and_sign_out_as_printed() {
    let mut shell = DocumentShell::new();
    shell.serve("latchkey serve");
    let [sign_in, sign_out] = &code_blocks("README.md", "sh")[..] else { panic!("README.md must have two blocks") };
    let base = shell.client().base.clone();
    let run = |commands: &str| shell.run(&commands.replace("http://localhost:8080", &base));
    let output = run(sign_in);
    for expected in ["\"email\":\"ada@example.com\"", "{\"sessions\":[{", "\"access_token\":\""] {
        assert!(output.contains(expected), "no {expected} in {output}");
    }
    assert_eq!(run(sign_out), "200\n204\n401\n401\n", "the statuses in the comments of the block");
    shell.end();
}

/// The test changes only the API's address and the client secret in the commands.
#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_guide_to_protect_an_api_run_as_printed() {
    let mut shell = DocumentShell::new();
    shell.serve("latchkey serve");
    let guide = read("docs/protect-an-api.md");
    let add = guide.lines().find(|line| line.starts_with("$ latchkey client add ")).unwrap();
    let printed = shell.run(add.trim_start_matches("$ "));
    let secret = printed.lines().find_map(|line| line.strip_prefix("client_secret: ")).unwrap();
    shell.client().register("ada").await;
    let access = shell.client().login("ada").await.access;
    // the variables that the guide's commands use
    shell.run(&format!("api={} access={access}\n", shell.client().base));
    let [introspect, token] = &code_blocks("docs/protect-an-api.md", "sh")[..] else {
        panic!("the guide must have two blocks")
    };
    assert!(introspect.contains(PRINTED_SECRET), "{introspect}");
    let introspected = shell.run(&introspect.replace(PRINTED_SECRET, secret));
    assert!(introspected.starts_with("{\"active\":true,\"scope\":\"account\""), "{introspected}");
    let obtained = shell.run(token);
    assert!(obtained.contains("\"access_token\":"), "{obtained}");
    assert!(obtained.contains("\"scope\":\"invoices:read\""), "{obtained}");
    shell.end();
}

#[test]
fn rows_of_requirements_and_threats_are_unique() {
    for document in SECURITY_DOCUMENTS {
        let text = read(document);
        let first_cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        // the numbers of requirements (V1.2.3) and of threats (T4)
        let rows = first_cells.filter(|cell| cell.starts_with(['V', 'T']) && cell.bytes().any(|b| b.is_ascii_digit()));
        let mut seen = HashSet::new();
        let repeated: Vec<_> = rows.filter(|row| !seen.insert(*row)).collect();
        assert!(seen.len() > 10, "{document} has rows");
        assert!(repeated.is_empty(), "{document} has several rows of {repeated:?}");
    }
}

#[test]
fn asvs_summary_equals_the_number_of_rows_by_status() {
    let text = read("docs/asvs.md");
    // The text before the first bar, cells[0], is empty. A requirement has its number in cells[1] and its status in cells[4].
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    for status in ["met", "partly", "operator's", "not met", "does not apply"] {
        let summary = lines
            .iter()
            .find(|cells| cells[1] == status)
            .unwrap_or_else(|| panic!("the summary has no row for {status}"));
        let rows = lines.iter().filter(|cells| cells[1].starts_with('V') && cells[4] == status).count();
        assert_eq!(summary[2], rows.to_string(), "{status}");
    }
}
