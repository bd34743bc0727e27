//! The configuration file.

use std::{fs, path::PathBuf, sync::LazyLock};

use latchkey::config::{Sources, inspect, to_toml};

/// Where files are written; one for each process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("latchkey-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    folder
});

/// Any file is understood or refused with what is wrong; one that is understood means the same when what it means is
/// written down and read again; and no secret is written down.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = FOLDER.join(format!("{:?}.toml", std::thread::current().id()));
    let sources = Sources { working_dir: FOLDER.clone(), config_file: Some(file.clone()), ..Sources::default() };
    fs::write(&file, text).expect("written");
    match inspect(&sources) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok((shown, _)) => {
            let written = to_toml(&shown);
            // a mask stands for a secret, and isn't one
            if written.contains("[secret]") {
                return;
            }
            fs::write(&file, &written).expect("written");
            let (again, _) = inspect(&sources).expect("what is in effect can be");
            let values = |shown: &[latchkey::config::Shown]| -> Vec<(String, String)> {
                shown.iter().map(|shown| (shown.key.clone(), shown.value.clone())).collect()
            };
            assert_eq!(values(&again), values(&shown));
        }
    }
}
