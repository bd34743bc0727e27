//! The documentation site.

use std::{fs, path::Path, process::Command};

#[test]
fn site_has_every_document_and_the_api_reference_with_working_links() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // Fails if a document is missing in the table of contents, or a link leads to a file that does not exist.
    let output = Command::new("python3")
        .arg(root.join("packaging/site/site.py"))
        .arg("stage")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = folder.path().join("source");
    for chapter in fs::read_to_string(source.join("SUMMARY.md")).unwrap().split("](").skip(1) {
        let path = chapter.split(')').next().unwrap();
        assert!(source.join(path).is_file(), "{path} is in the table of contents and not on the site");
    }
    let reference = fs::read_to_string(source.join("docs/api.md")).unwrap();
    let document: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("openapi/openapi.json")).unwrap()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(
            reference.lines().any(|line| line.starts_with("### ") && line.ends_with(&format!(" {path}"))),
            "{path}"
        );
    }
}
