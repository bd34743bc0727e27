//! Tests of the warnings about insecure settings.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn warnings(flags: &[&str]) -> Vec<String> {
    load_flags(flags).unwrap().warnings
}

#[test]
fn public_issuer_without_https_causes_a_warning() {
    assert_eq!(
        warnings(&["issuer=http://id.example.com"]),
        [
            "issuer is http://id.example.com: without https, passwords and tokens cross the network in clear text, and browsers refuse the cookie"
        ]
    );
    assert!(warnings(&["listen=0.0.0.0:80", "issuer=https://id.example.com"]).is_empty());
    // an error and no warning: the default issuer is the address at which the node listens, and no client can reach 0.0.0.0
    let refused = load_flags(&["listen=0.0.0.0:80"]).unwrap_err().to_string();
    assert!(refused.contains("issuer") && refused.contains("must be set to the public URL"), "{refused}");
}

#[test]
fn remote_stores_without_tls_cause_warnings_without_their_passwords() {
    let found = warnings(&["redis.url=redis://:hunter2@r", "database.url=postgres://bob:hunter2@h/d"]);
    let [redis, sql] = &found[..] else { panic!("{found:?}") };
    assert!(redis.contains("rediss://"), "{redis}");
    assert!(sql.contains("sslmode=verify-full"), "{sql}");
    assert!(found.iter().all(|text| !text.contains("hunter2")), "{found:?}");
}

#[test]
fn weak_values_cause_warnings() {
    // 2 iterations are the default
    assert_eq!(
        warnings(&["password.memory_kib=1024"]),
        [
            "password.memory_kib = 1024 with password.iterations = 2 is weaker than OWASP recommends: 19456 with 2, or 47104 with 1"
        ]
    );
    // an interval of 10 s is the default
    assert_eq!(
        warnings(&["keys.publish_before=0s"]),
        [
            "keys.publish_before (0s) is shorter than keys.refresh_interval (10s): other nodes may not have loaded a new key when it signs"
        ]
    );
}

#[test]
fn files_that_others_can_access_cause_warnings() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let set_mode = |name: &str, mode| {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    // the group can read it
    set_mode("secret", 0o640);
    fs::create_dir(folder.path().join("latchkey-data")).unwrap();
    // all users can list it
    set_mode("latchkey-data", 0o755);
    let here = folder.path().display();
    assert_eq!(
        folder.load(&[("LATCHKEY_SECRET_FILE", "secret")]).unwrap().warnings,
        [
            format!("others have access to {here}/latchkey-data; run `chmod 700 {here}/latchkey-data`"),
            format!("others have access to the secret: run `chmod 600 {here}/secret`"),
        ]
    );
}
