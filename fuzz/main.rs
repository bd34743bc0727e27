//! Runs the property that `FUZZ_TARGET` names on libFuzzer's inputs.
#![no_main]

mod properties;

use std::sync::LazyLock;

static PROPERTY: LazyLock<properties::Property> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET must be set");
    for (candidate, property) in properties::ALL {
        if candidate == name {
            return property;
        }
    }
    panic!("FUZZ_TARGET must be one of {:?}", properties::ALL.map(|(name, _)| name))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| PROPERTY(bytes));
