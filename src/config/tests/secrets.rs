//! The secret, its previous values, and the data directory in which a generated secret is stored.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn secret_with_too_little_entropy_causes_a_warning() {
    let folder = Folder::new();
    let warnings = |secret: &str| folder.load(&[("LATCHKEY_SECRET", secret)]).unwrap().warnings;
    assert!(warnings(SECRET).is_empty());
    // long enough, but one character repeated
    let [warning] = &warnings(&"a".repeat(32))[..] else { panic!("there is not exactly one warning") };
    assert!(warning.starts_with("the secret cannot have 128 bits of entropy"), "{warning}");
}

#[test]
fn secret_file_has_current_and_previous_secrets_and_excludes_secret() {
    let folder = Folder::new();
    // the first line is the current secret, the second a previous one
    folder.write("secrets", &format!("{SECRET}\n{}\n", "2".repeat(32)));
    let previous_in_variable = "1".repeat(32);
    let variables = [("LATCHKEY_SECRET_FILE", "secrets"), ("LATCHKEY_SECRET_PREVIOUS", previous_in_variable.as_str())];
    let config = folder.load(&variables).unwrap();
    assert_eq!(config.secrets.current.expose(), SECRET);
    let previous: Vec<_> = config.secrets.previous.iter().map(|secret| secret.expose().to_owned()).collect();
    // the secret of the variable precedes the secret of the file
    assert_eq!(previous, [previous_in_variable, "2".repeat(32)]);

    let error = folder.load(&[("LATCHKEY_SECRET_FILE", "secrets"), ("LATCHKEY_SECRET", SECRET)]).unwrap_err();
    assert_eq!(
        error.problems[0].to_string(),
        "secret (LATCHKEY_SECRET): must not be set together with secret_file, which is \"secrets\" (LATCHKEY_SECRET_FILE)"
    );
}

#[test]
fn missing_secret_file_is_a_problem() {
    let folder = Folder::new();
    let error = folder.load(&[("LATCHKEY_SECRET_FILE", "missing")]).unwrap_err();
    assert_eq!(
        error.problems[0].to_string(),
        format!(
            "secret_file (LATCHKEY_SECRET_FILE): {}/missing can't be read: No such file or directory (os error 2)",
            folder.path().display()
        )
    );
}

#[test]
fn generated_secret_is_stable_and_private() {
    let folder = Folder::new();
    let first = folder.load(&[]).unwrap().secrets.current;
    assert_eq!(folder.load(&[]).unwrap().secrets.current, first);
    let data_dir = folder.path().join("latchkey-data");
    let secret_file = data_dir.join("secret");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir), 0o700);
    assert_eq!(mode(&secret_file), 0o600);

    // readable by other users
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        folder.load(&[]).unwrap_err().problems[0].to_string(),
        format!(
            "secret (default): none is configured, and others have access to {0}; run `chmod 600 {0}`",
            secret_file.display()
        )
    );
}

#[test]
fn data_dir_that_cannot_be_created_is_a_problem() {
    let folder = Folder::new();
    // a file with the name of the directory
    folder.write("latchkey-data", "");
    assert_eq!(
        folder.load(&[]).unwrap_err().problems[0].to_string(),
        format!(
            "data_dir (default): {}/latchkey-data can't be created: File exists (os error 17)",
            folder.path().display()
        )
    );
}
