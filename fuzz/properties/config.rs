//! The configuration file.

use std::{fs, path::PathBuf};

use latchkey::config::{Sources, inspect, to_toml};

/// A file that is gone when it was tried.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Any file is understood or refused with what is wrong; one that is understood means the same when what it means is
/// written down and read again; and no secret is written down.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = format!("latchkey-fuzz-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    let file = File(std::env::temp_dir().join(name));
    let sources =
        Sources { working_dir: std::env::temp_dir(), config_file: Some(file.0.clone()), ..Sources::default() };
    fs::write(&file.0, text).expect("written");
    match inspect(&sources) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((shown, _)) => {
            let written = to_toml(&shown);
            // a mask stands for a secret, and isn't one
            if written.contains("[secret]") {
                return;
            }
            fs::write(&file.0, &written).expect("written");
            let (again, _) = inspect(&sources).expect("what is in effect can be");
            let values = |shown: &[latchkey::config::Shown]| -> Vec<(String, String)> {
                shown.iter().map(|shown| (shown.key.clone(), shown.value.clone())).collect()
            };
            assert_eq!(values(&again), values(&shown));
        }
    }
}
