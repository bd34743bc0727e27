//! Tests of the warnings about insecure settings.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn insecure_settings_cause_warnings() {
    let warnings = |flags: &[&str]| load_flags(flags).unwrap().warnings;
    let clear_text = |issuer: &str| {
        format!(
            "issuer is {issuer}: without https, passwords and tokens cross the network in clear text, and browsers refuse the cookie"
        )
    };
    assert_eq!(warnings(&["issuer=http://id.example.com"]), [clear_text("http://id.example.com")]);
    assert!(warnings(&["listen=0.0.0.0:80", "issuer=https://id.example.com"]).is_empty());
    // an error and no warning: without an issuer, a public node cannot start
    let refused = load_flags(&["listen=0.0.0.0:80"]).unwrap_err().to_string();
    assert!(refused.contains("issuer") && refused.contains("must be set to the public URL"), "{refused}");
    let remote_stores = warnings(&["redis.url=redis://:hunter2@r", "database.url=postgres://bob:hunter2@h/d"]);
    assert!(
        matches!(&remote_stores[..], [redis, sql] if redis.contains("rediss://") && sql.contains("sslmode=verify-full")),
        "{remote_stores:?}"
    );
    assert!(remote_stores.iter().all(|text| !text.contains("hunter2")), "{remote_stores:?}");
    assert_eq!(
        warnings(&["password.memory_kib=1024"]),
        [
            "password.memory_kib = 1024 with password.iterations = 2 is weaker than OWASP recommends: 19456 with 2, or 47104 with 1"
        ]
    );
    assert_eq!(
        warnings(&["keys.publish_before=0s"]),
        [
            "keys.publish_before (0s) is shorter than keys.refresh_interval (10s): other nodes may not have loaded a new key when it signs"
        ]
    );

    // a secret that the group can read, in a working directory whose data directory all users can read
    let folder = Folder::new();
    folder.write("secret", SECRET);
    fs::set_permissions(folder.path().join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(folder.path().join("latchkey-data")).unwrap();
    fs::set_permissions(folder.path().join("latchkey-data"), fs::Permissions::from_mode(0o755)).unwrap();
    let here = folder.path().display();
    assert_eq!(
        folder.load(&[("LATCHKEY_SECRET_FILE", "secret")]).unwrap().warnings,
        [
            format!("others have access to {here}/latchkey-data; run `chmod 700 {here}/latchkey-data`"),
            format!("others have access to the secret: run `chmod 600 {here}/secret`"),
        ]
    );
}
