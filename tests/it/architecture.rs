//! The imports between the modules of `src` point one way, as `docs/architecture.md` states.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The layers, outermost first. A module may import modules of later layers only. The modules of the last layer may also import
/// each other.
const LAYERS: [&[&str]; 9] = [
    &["main"],
    &["cli"],
    &["server"],
    &["http"],
    &["service"],
    &["state"],
    &["store", "fetch", "mail", "pages", "password"],
    &["crypto"],
    &["config", "metrics", "logging", "telemetry", "runtime"],
];

/// The module below all layers: every module may import it, and it imports none.
const INNERMOST: &str = "domain";

/// The index of a module's layer: the higher, the further inwards.
fn layer(module: &str) -> usize {
    if module == INNERMOST {
        return LAYERS.len();
    }
    LAYERS.iter().position(|modules| modules.contains(&module)).unwrap_or_else(|| panic!("{module} has no layer"))
}

/// Adds the source files in a folder and its subfolders to `found`.
fn collect_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A line without its comment. A comment begins the line or follows a space. Other slashes belong to a string, such as a URL.
fn without_comment(line: &str) -> &str {
    let is_comment = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    let comment = line.match_indices("//").find(|(at, _)| is_comment(*at));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// The modules that a source file imports from its own crate: `crate::a::…`, and the names directly inside `crate::{…}`.
fn imports(source: &str) -> Vec<String> {
    let mut code = String::new();
    for line in source.lines() {
        code.push_str(without_comment(line));
        code.push('\n');
    }
    let first_name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (start, prefix) in code.match_indices("crate::") {
        let rest = &code[start + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_name(rest));
            continue;
        };
        // A name directly inside the group is at depth 1, and follows the brace or a comma.
        let mut depth = 1;
        let mut expects_name = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                c if depth == 1 && expects_name && (c.is_alphanumeric() || c == '_') => {
                    found.push(first_name(&group[at..]));
                    expects_name = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn imports_finds_every_module_of_a_group() {
    let source = "use crate::{\n    config::{self, Config},\n    domain::clock, // crate::http\n    state::AppState,\n};\nfn f() { crate::http::f() }";
    assert_eq!(imports(source), ["config", "domain", "state", "http"]);
}

#[test]
fn imports_ignores_comments_and_finds_a_module_after_a_url() {
    let source = "// crate::http\nfn f() {\n    /// crate::cli\n    g(\"https://a.example\", crate::config::h()); // crate::server\n}";
    assert_eq!(imports(source), ["config"]);
}

#[test]
fn imports_between_layers_point_inwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_sources(&src, &mut files);
    let mut outward_imports = BTreeMap::<String, Vec<String>>::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let file_or_folder = path.iter().next().unwrap().to_str().unwrap();
        let module = file_or_folder.trim_end_matches(".rs");
        // `lib.rs` declares the modules of all layers
        if module == "lib" {
            continue;
        }
        let own_layer = layer(module);
        let is_in_last_layer = own_layer == LAYERS.len() - 1;
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let imported_layer = layer(&import);
            let points_inwards = imported_layer > own_layer;
            let is_within_last_layer = is_in_last_layer && imported_layer == own_layer;
            if import != module && !points_inwards && !is_within_last_layer {
                outward_imports.entry(path.display().to_string()).or_default().push(import);
            }
        }
    }
    assert!(outward_imports.is_empty(), "imports that point outwards: {outward_imports:#?}");
}
