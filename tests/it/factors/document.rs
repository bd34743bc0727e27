//! The commands of docs/factors.md and docs/step-up.md, run as printed against started nodes. Only the port and the time
//! differ: where the document waits for the app's next code, the `oathtool` of this test shows that code at once.

use crate::{accounts::document::DocumentShell, docs::code_blocks};

/// A replacement of `oathtool`. Codes change every 30 seconds, and a node accepts the previous, the current and the next code of an
/// app. The first call for a secret shows the previous code, the second call the current code, and the third call the next code. A
/// file named after the secret, the last argument, counts the calls. The script waits for the end of a step that ends within two
/// seconds, so that the step does not change before the node has received the code.
const OATHTOOL: &str = r#"
# leaves the last argument in `secret`
for secret; do :; done
counter="${0%/*}/$secret"
count=$(cat "$counter" 2>/dev/null || echo 0)
echo $((count + 1)) > "$counter"
while [ $(($(date +%s) % 30)) -ge 28 ]; do :; done
# the installed oathtool, with a time of the previous, the current or the next step
exec oathtool --now "@$(($(date +%s) + 30 * (count - 1)))" "$@"
"#;

/// Runs all blocks of a document. For a block that ends with `latchkey serve`, starts a node. Returns the outputs of the other blocks.
fn run_document(document: &str) -> Vec<String> {
    let mut shell = DocumentShell::new();
    shell.add_program("oathtool", OATHTOOL);
    let mut outputs = Vec::new();
    for block in code_blocks(document, "sh") {
        if block.trim_end().ends_with("latchkey serve") {
            shell.serve(&block);
        } else {
            outputs.push(shell.run(&block));
        }
    }
    shell.end();
    outputs
}

/// The output of the only block that prints this text.
#[track_caller]
fn output_with<'a>(outputs: &'a [String], text: &str) -> &'a str {
    let found: Vec<_> = outputs.iter().filter(|output| output.contains(text)).collect();
    let [output] = found[..] else { panic!("{} blocks print {text}: {outputs:#?}", found.len()) };
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_document_about_factors_succeeds_as_printed() {
    let outputs = run_document("docs/factors.md");
    assert!(outputs.iter().all(|output| !output.contains("urn:latchkey:problem:")), "a call was refused: {outputs:#?}");
    let enrolled = output_with(&outputs, "\"kind\":\"totp\"");
    assert!(enrolled.contains("\"recovery_codes\":["), "{enrolled}");
    assert!(enrolled.contains("\"label\":\"Phone\""), "{enrolled}");
    assert!(enrolled.contains("\"recovery_codes_left\":10"), "{enrolled}");
    // The block prints the status of the step-up, and then new recovery codes.
    let stepped_up = output_with(&outputs, "200\n");
    assert!(stepped_up.contains("\"recovery_codes\":["), "{stepped_up}");
    let listed = output_with(&outputs, "recovery codes left: ");
    assert!(listed.contains("totp"), "{listed}");
    // The last sign-in enrols the required factor first.
    let last = outputs.last().unwrap();
    assert!(last.contains("access_token") && last.contains("\"recovery_codes\":["), "{last}");
    let sessions = outputs.iter().filter(|output| output.contains("\"refresh_token\":")).count();
    assert_eq!(sessions, 4, "by enrolment, recovery code, new codes and required factor: {outputs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn step_up_of_the_document_succeeds_as_printed() {
    let outputs = run_document("docs/step-up.md");
    let last = outputs.last().unwrap();
    assert!(last.starts_with("200\n"), "{outputs:#?}");
    let challenge = "error=\"insufficient_user_authentication\", acr_values=\"aal2\", max_age=\"300\"";
    assert!(last.contains(challenge), "{outputs:#?}");
}
