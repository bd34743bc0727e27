//! Tests how `site.py` builds the documentation site, and checks a built site.

use std::{fs, path::Path, process::Command};

#[test]
fn site_has_every_document_and_the_api_reference_with_working_links() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // `site.py` fails if SUMMARY.md does not list a document, or if a link names a file that does not exist.
    let output = Command::new("python3")
        .arg(root.join("packaging/site/site.py"))
        .arg("stage")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = folder.path().join("source");
    let summary = fs::read_to_string(source.join("SUMMARY.md")).unwrap();
    // A chapter is a link: [title](path).
    for chapter in summary.split("](").skip(1) {
        let (path, _) = chapter.split_once(')').unwrap();
        assert!(source.join(path).is_file(), "{path} is in the table of contents and not on the site");
    }
    let reference = fs::read_to_string(source.join("docs/api.md")).unwrap();
    let openapi = fs::read_to_string(root.join("openapi/openapi.json")).unwrap();
    let openapi: serde_json::Value = serde_json::from_str(&openapi).unwrap();
    for path in openapi["paths"].as_object().unwrap().keys() {
        // A heading has the method and the path of an operation.
        let end = format!(" {path}");
        let has_heading = reference.lines().any(|line| line.starts_with("### ") && line.ends_with(&end));
        assert!(has_heading, "{path}");
    }
}

#[test]
fn check_of_the_site_refuses_broken_links_and_resources_of_other_hosts() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // returns the messages of `site.py`, as an error if it refuses the site
    let check = |page: &str| {
        fs::write(folder.path().join("index.html"), page).unwrap();
        let mut command = Command::new("python3");
        command.arg(root.join("packaging/site/site.py")).arg("check").arg(folder.path());
        let output = command.output().unwrap();
        let messages = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(messages) } else { Err(messages) }
    };
    fs::write(folder.path().join("site.js"), "").unwrap();
    let valid =
        "<h1 id='start'></h1><script src='site.js'></script><a href='#start'></a><a href='https://example.com'></a>";
    assert_eq!(check(valid), Ok(String::new()));
    for (page, problem) in [
        ("<script src='https://cdn.example.com/a.js'></script>", "index.html loads https://cdn.example.com/a.js"),
        ("<link rel='stylesheet' href='//fonts.example.com/a.css'>", "index.html loads //fonts.example.com/a.css"),
        // the script of mdBook sends such code to the playground
        ("<pre class='playground'></pre>", "index.html loads https://play.rust-lang.org"),
        ("<a href='none.html'></a>", "index.html: none.html does not exist"),
        ("<a href='#none'></a>", "index.html: #none has no such anchor"),
    ] {
        assert_eq!(check(page), Err(problem.to_owned()));
    }
    fs::write(folder.path().join("site.css"), "@font-face { src: url('https://fonts.example.com/a.woff2') }").unwrap();
    assert_eq!(check(valid), Err("site.css loads https://fonts.example.com/a.woff2".to_owned()));
}
