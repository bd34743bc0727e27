//! Replays the fuzz corpora (`fuzz/corpus`) against the properties of the fuzz targets.

#[path = "../../fuzz/properties/mod.rs"]
mod properties;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

/// The minimum number of files in a corpus: an empty corpus would satisfy every property.
const MIN_FILES: usize = 5;

#[test]
fn corpora_satisfy_fuzz_properties() {
    for (name, property) in properties::ALL {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // caught, so that the failure names the file
            let outcome = catch_unwind(AssertUnwindSafe(|| property(&bytes)));
            assert!(outcome.is_ok(), "{} violates {name}", path.display());
            count += 1;
        }
        assert!(count >= MIN_FILES, "{} has only {count} files", folder.display());
    }
}
