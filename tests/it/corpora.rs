//! What fuzzing has found worth keeping (`fuzz/corpus`), tried again.

#[path = "../../fuzz/properties/mod.rs"]
mod properties;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

#[test]
fn nothing_breaks_what_must_hold() {
    for (name, property) in properties::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut tried = 0;
        for file in files {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let tried_it = catch_unwind(AssertUnwindSafe(|| property(&bytes)));
            assert!(tried_it.is_ok(), "{} breaks {name}", path.display());
            tried += 1;
        }
        assert!(tried > 4, "{} has only {tried} files", folder.display());
    }
}
