//! `latchkey audit` at the command line.

use serde_json::Value;

use crate::binary::run;

/// The entries that `latchkey audit --json` prints with these arguments.
fn entries(folder: &std::path::Path, arguments: &[&str]) -> Vec<Value> {
    let command = [&["audit", "--json"], arguments].concat();
    let output = run(folder, &command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn audit_command_lists_and_filters_changes_and_names_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(run(folder, &["migrate"]).status.success());
    for name in ["billing", "mailer"] {
        assert!(run(folder, &["client", "add", name]).status.success());
    }
    assert!(run(folder, &["client", "disable", "billing"]).status.success());
    // Oldest first.
    let rows = entries(folder, &[]);
    let events: Vec<_> = rows.iter().map(|row| (row["event"].as_str().unwrap(), row["client_id"].as_str())).collect();
    let expected =
        [("client_added", Some("billing")), ("client_added", Some("mailer")), ("client_disabled", Some("billing"))];
    assert_eq!(events, expected);
    assert!(rows.iter().all(|row| row["actor"].as_str().unwrap().starts_with("operator:")), "{rows:?}");

    assert_eq!(entries(folder, &["--event", "client_disabled"]).len(), 1);
    assert_eq!(entries(folder, &["--limit", "1"])[0]["event"], "client_disabled", "a limit keeps the newest entry");
    assert!(entries(folder, &["--until", "1h"]).is_empty(), "no entry is older than an hour");
    assert_eq!(entries(folder, &["--since", "1h"]).len(), 3, "all entries are of the last hour");
    let of_unknown_account = run(folder, &["audit", "--account", "nobody"]);
    assert_eq!(of_unknown_account.status.code(), Some(1));

    let table = String::from_utf8(run(folder, &["audit"]).stdout).unwrap();
    assert!(table.starts_with("TIME "), "{table}");
    assert_eq!(table.lines().count(), 1 + 3, "a heading and the entries: {table}");
}
