//! The tests, files and settings that the documents name exist, and no row of their tables is repeated.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 2] = ["docs/asvs.md", "docs/threat-model.md"];

/// Folders of the paths that a document may name.
const FOLDERS: [&str; 8] = ["src/", "tests/", "docs/", "migrations/", "openapi/", "examples/", "clients/", ".ci/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code spans of a text: the parts between backticks on one line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn is_words(text: &str, between: &str, fewest: usize) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split(between).count() >= fewest && text.split(between).all(word)
}

/// Whether there is a test of this name, as `cargo test` prints it, in `tests/it` or beside the source.
fn is_test(name: &str) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let parents = [Some(module), module.strip_suffix("::tests")];
    let folders = parents.into_iter().flatten().map(|module| module.replace("::", "/"));
    let mut files = folders
        .flat_map(|at| ["tests/it", "src"].map(|folder| [format!("{folder}/{at}.rs"), format!("{folder}/{at}/mod.rs")]))
        .flatten();
    files.any(|file| {
        let text = fs::read_to_string(root().join(file)).unwrap_or_default();
        let Some((before, _)) = text.split_once(&format!("fn {test}(")) else { return false };
        let above = before.rsplit_once('\n').map_or("", |(above, _)| above);
        // the attributes and comments above it
        let mut above = above.lines().rev().map(str::trim).take_while(|line| line.starts_with(['#', '/']));
        above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn every_named_test_exists() {
    for document in DOCUMENTS {
        let text = read(document);
        let names: Vec<&str> = code(&text).filter(|text| is_words(text, "::", 2)).collect();
        assert!(names.len() > 10, "{document} names tests");
        let missing: Vec<_> = names.into_iter().filter(|name| !is_test(name)).collect();
        assert!(missing.is_empty(), "{document} names tests that don't exist: {missing:#?}");
    }
    assert!(!is_test("docs::no_such_test") && !is_test("no_such_module::every_named_test_exists"));
}

#[test]
fn every_named_path_exists() {
    for document in DOCUMENTS {
        let text = read(document);
        let named = code(&text).filter(|text| FOLDERS.iter().any(|folder| text.starts_with(folder)));
        let mut missing: Vec<&str> = named.filter(|path| !root().join(path).exists()).collect();
        let beside = root().join(document);
        let beside = beside.parent().unwrap_or(Path::new("."));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            if link.starts_with("https://") {
                continue;
            }
            let target = if file.is_empty() { root().join(document) } else { beside.join(file) };
            let there = fs::read_to_string(target).is_ok_and(|text| place.is_empty() || has_heading(&text, place));
            if !there {
                missing.push(link);
            }
        }
        assert!(missing.is_empty(), "{document} names paths that don't exist: {missing:#?}");
    }
}

/// Whether a heading has this anchor, as GitHub makes them.
fn has_heading(text: &str, anchor: &str) -> bool {
    let anchor_of = |title: &str| -> String {
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line.trim_start_matches('#')) == anchor)
}

#[test]
fn every_named_setting_exists() {
    let manual = read("src/config/defaults.toml");
    let sections: HashSet<&str> = manual.lines().filter_map(|line| line.strip_prefix('[')?.strip_suffix(']')).collect();
    for document in DOCUMENTS {
        let text = read(document);
        let of_a_section = |key: &&str| key.split_once('.').is_some_and(|(section, _)| sections.contains(section));
        let named = code(&text).filter(|text| is_words(text, ".", 2)).filter(of_a_section);
        let variable = |key: &str| format!("# LATCHKEY_{}\n", key.replace('.', "_").to_uppercase());
        let missing: Vec<_> = named.filter(|key| !manual.contains(&variable(key))).collect();
        assert!(missing.is_empty(), "{document} names settings that don't exist: {missing:#?}");
    }
}

#[test]
fn no_table_row_is_repeated() {
    for document in DOCUMENTS {
        let text = read(document);
        let first = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        let rows = first.filter(|cell| cell.starts_with(['V', 'T']) && cell.bytes().any(|b| b.is_ascii_digit()));
        let mut seen = HashSet::new();
        let twice: Vec<_> = rows.filter(|row| !seen.insert(row.to_owned())).collect();
        assert!(seen.len() > 10, "{document} has rows");
        assert!(twice.is_empty(), "{document} repeats the rows {twice:?}");
    }
}

/// The sums at the top of the document equal the numbers of rows.
#[test]
fn rows_are_counted() {
    let text = read("docs/asvs.md");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = text.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    for status in ["met", "partly", "operator's", "not met", "does not apply"] {
        let sum = lines.iter().find(|cells| cells[1] == status).unwrap_or_else(|| panic!("no sum of {status}"));
        let rows = lines.iter().filter(|cells| cells[1].starts_with('V') && cells[4] == status).count();
        assert_eq!(sum[2], rows.to_string(), "{status}");
    }
}
