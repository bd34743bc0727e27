//! Certificates of a test authority, made with `openssl`.

use std::{fs, path::Path, process::Command};

/// Creates the authority `ca.pem`, and its certificate `server.pem` for 127.0.0.1 with the key `server.key`.
pub fn create(folder: &Path) {
    create_for(folder, "IP:127.0.0.1");
}

/// Like [`create`], for these names of the server, in openssl's form: `DNS:localhost,IP:127.0.0.1`.
pub fn create_for(folder: &Path, alternative_names: &str) {
    openssl(folder, &format!("req -x509 {KEY} -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca"));
    issue_for(folder, "server", "test-server", alternative_names);
}

/// Creates `NAME.pem` and `NAME.key` for 127.0.0.1, signed by the authority of [`create`].
pub fn issue(folder: &Path, name: &str, common_name: &str) {
    issue_for(folder, name, common_name, "IP:127.0.0.1");
}

/// Like [`issue`], for these names, in the form of [`create_for`].
pub fn issue_for(folder: &Path, name: &str, common_name: &str, alternative_names: &str) {
    openssl(folder, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={common_name}"));
    fs::write(folder.join("extensions"), format!("subjectAltName={alternative_names}\n")).unwrap();
    let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
    openssl(folder, &format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
}

/// The options of `openssl req` for a new key without a password.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// Runs `openssl` in `folder` with these arguments, which contain no spaces.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
