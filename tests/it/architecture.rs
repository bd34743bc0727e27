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

fn layer(module: &str) -> usize {
    if module == INNERMOST {
        return LAYERS.len();
    }
    LAYERS.iter().position(|modules| modules.contains(&module)).unwrap_or_else(|| panic!("{module} has no layer"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source file imports from its own crate: `crate::a::…`, and the names directly inside `crate::{…}`.
fn imports(source: &str) -> Vec<String> {
    let code: String =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(name(rest));
            continue;
        };
        let (mut depth, mut expects_name) = (1, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => expects_name = true,
                c if depth == 1 && expects_name && (c.is_alphanumeric() || c == '_') => {
                    found.push(name(&group[at..]));
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
fn imports_between_layers_point_inwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = BTreeMap::new();
    for file in files {
        let path = file.strip_prefix(&src).unwrap();
        let first = path.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        if module == "lib" {
            continue;
        }
        let own_layer = layer(module);
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let allowed = import == module
                || layer(&import) > own_layer
                || own_layer == LAYERS.len() - 1 && layer(&import) == own_layer;
            if !allowed {
                wrong.insert(path.display().to_string(), import);
            }
        }
    }
    assert!(wrong.is_empty(), "imports that point outwards: {wrong:#?}");
}
