//! Certificates of a test authority, made with `openssl`.

use std::{path::Path, process::Command};

/// Creates `ca.pem`, `server.pem` and `server.key` for 127.0.0.1.
pub fn create(folder: &Path) {
    openssl(folder, &format!("req -x509 {KEY} -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca"));
    issue(folder, "server", "test-server");
}

/// Creates `NAME.pem` and `NAME.key`, signed by the authority of [`create`].
pub fn issue(folder: &Path, name: &str, common_name: &str) {
    openssl(folder, &format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={common_name}"));
    std::fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions";
    openssl(folder, &format!("x509 -req -in {name}.csr {sign} -out {name}.pem"));
}

/// A new key without a password.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn openssl(folder: &Path, words: &str) {
    let made = Command::new("openssl").args(words.split(' ')).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{made:?}");
}
