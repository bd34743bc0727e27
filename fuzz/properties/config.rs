//! The configuration file.

use std::{fs, path::PathBuf};

use latchkey::config::{Sources, inspect, to_toml};

/// A file that is deleted when the value is dropped.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A file is accepted, or refused with an error text. If an accepted file has no secrets, its effective values stay the same
/// when they are written to a file and loaded from it.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = format!("latchkey-fuzz-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let file = TempFile(std::env::temp_dir().join(name));
    let sources =
        Sources { working_dir: std::env::temp_dir(), config_file: Some(file.0.clone()), ..Sources::default() };
    fs::write(&file.0, text).expect("written");
    match inspect(&sources) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((shown, _)) => {
            let written = to_toml(&shown);
            // secrets are written as this mask, which can't be loaded as a secret
            if written.contains("[secret]") {
                return;
            }
            fs::write(&file.0, &written).expect("written");
            let (reloaded, _) = inspect(&sources).expect("effective values load");
            let values = |shown: &[latchkey::config::EffectiveSetting]| -> Vec<(String, String)> {
                shown.iter().map(|shown| (shown.key.clone(), shown.value.clone())).collect()
            };
            assert_eq!(values(&reloaded), values(&shown));
        }
    }
}
