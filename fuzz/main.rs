//! Runs the property that `FUZZ_TARGET` names on libFuzzer's inputs.
#![no_main]

mod properties;

use std::sync::LazyLock;

static TARGET: LazyLock<properties::Property> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET must be set");
    let found = properties::ALL.iter().find(|(candidate, _)| *candidate == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET must be one of {:?}", properties::ALL.map(|(name, _)| name))).1
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET(bytes));
