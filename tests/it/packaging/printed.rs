//! `latchkey` accepts and uses the configurations, the apply file and the templates that the documents print.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    binary::{Service, run},
    docs::code_blocks,
};

/// The TOML blocks of a document, each with the number of its first line.
fn toml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // the block that the current line is in
    let mut open = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim(), &mut open) {
            // The block's first line follows the fence, and lines are counted from 1.
            ("```toml", _) => open = Some((index + 2, String::new())),
            ("```", Some(_)) => found.extend(open.take()),
            (_, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            _ => {}
        }
    }
    found
}

#[test]
fn printed_configurations_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    fs::write(folder.path().join("logo.svg"), "<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
    let mut checked = BTreeSet::new();
    let mut refused = Vec::new();
    for file in fs::read_dir(docs).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        for (number, block) in toml_blocks(&fs::read_to_string(&path).unwrap()) {
            // Some blocks are no configuration: texts of mails and pages, an apply file, the configuration of another program.
            let starts_of_others = ["subject = ", "title = ", "[[user]]", "[[client]]", "provider = "];
            if block.lines().any(|line| starts_of_others.iter().any(|start| line.starts_with(start))) {
                continue;
            }
            // The check reads the logo, which is in this test's folder.
            let block = block.replace("/etc/latchkey/logo.svg", "logo.svg");
            fs::write(folder.path().join("printed.toml"), &block).unwrap();
            let output = run(folder.path(), &["config", "check", "--config", "printed.toml"]);
            if !output.status.success() {
                refused.push(format!("{name}, line {number}: {}", String::from_utf8_lossy(&output.stderr)));
            }
            checked.insert(name.clone());
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    // the documents that are known to have configurations
    for name in ["production.md", "mail.md", "redis.md", "pages.md"] {
        assert!(checked.contains(name), "no configuration in {name}: {checked:?}");
    }
}

/// Finds, in a document, the code block with this first line.
fn code_block(document: &str, language: &str, first_line: &str) -> String {
    let mut blocks = code_blocks(document, language).into_iter();
    let found = blocks.find(|block| block.lines().next() == Some(first_line));
    found.unwrap_or_else(|| panic!("no {first_line} in {document}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_templates_of_mails_and_pages_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let mails = folder.path().join("mails");
    let pages = folder.path().join("pages");
    fs::create_dir(&mails).unwrap();
    fs::create_dir(&pages).unwrap();
    fs::write(mails.join("de.toml"), code_block("docs/mail.md", "toml", "# de.toml")).unwrap();
    fs::write(mails.join("new_device.html"), code_block("docs/mail.md", "html", "<!-- new_device.html -->")).unwrap();
    fs::write(pages.join("en.toml"), code_block("docs/pages.md", "toml", "[sign_in]")).unwrap();
    let settings = "mail.templates = \"mails\"\npages.templates = \"pages\"\n";
    fs::write(folder.path().join("latchkey.toml"), settings).unwrap();
    let preview = |arguments: &[&str]| {
        let output = run(folder.path(), &[&["mail", "preview"][..], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // The following texts are those of the printed templates.
    let reset = preview(&["password_reset", "--locale", "de", "--text"]);
    assert!(reset.starts_with("Subject: Neues Passwort für "), "{reset}");
    assert!(reset.contains("\nEin zweiter Absatz.\n"), "{reset}");
    assert!(preview(&["new_device"]).contains("Example Ltd., 1 Example Street"));
    let service = Service::start(folder.path());
    let request = service.client.request(reqwest::Method::GET, "/account/sign-in");
    let page = service.client.send(request).await.expect(200).text;
    assert!(page.contains("Welcome back"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_file_of_the_operations_guide_is_applied_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let blocks = toml_blocks(&guide);
    let (_line, printed) = blocks.iter().find(|(_, block)| block.starts_with("[[user]]")).unwrap();
    let secrets = folder.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    // the file of the user's password
    fs::write(secrets.join("admin"), "tidal engine verse marmalade\n").unwrap();
    fs::write(folder.path().join("setup.toml"), printed.replace("/run/secrets", secrets.to_str().unwrap())).unwrap();
    for (arguments, expected) in [
        (&["apply", "setup.toml", "--dry-run"][..], "Nothing was changed"),
        (&["apply", "setup.toml"][..], "Applied."),
        (&["apply", "setup.toml"][..], "Nothing to change."),
    ] {
        let output = run(folder.path(), arguments);
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{arguments:?}: {output:?}");
    }
    let tokens = service.client.login_with("admin@example.com", "tidal engine verse marmalade").await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["username"], "admin", "{me}");
    assert_eq!(me["roles"][0], "admin", "{me}");
    // `apply` has created the client `billing`, and has written its secret to this file
    let secret = fs::read_to_string(secrets.join("billing")).unwrap();
    let request = service.client.request(reqwest::Method::POST, "/oauth2/introspect");
    let request = request.basic_auth("billing", Some(secret.trim())).form(&[("token", &tokens.access)]);
    let answer = service.client.send(request).await.expect(200).json();
    assert_eq!(answer["active"], false, "`billing` may introspect, but the token is for another audience: {answer}");
}
