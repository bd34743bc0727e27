//! The tarball of a release, and `latchkey healthcheck`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::binary::{Service, command};

/// Packs the binary of this build as a release does, and unpacks the tarball. Returns the unpacked folder.
fn pack_and_unpack(into: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("sh")
        .args(["packaging/dist.sh", "tarball", env!("CARGO_BIN_EXE_latchkey")])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sums = fs::read_to_string(root.join("target/dist/SHA256SUMS")).unwrap();
    // each line has a digest and the name of a file
    let name = sums.split_whitespace().find_map(|word| word.strip_suffix(".tar.gz")).unwrap();
    let unpack = Command::new("tar")
        .arg("--extract")
        .arg("--file")
        .arg(root.join(format!("target/dist/{name}.tar.gz")))
        .current_dir(into)
        .status()
        .unwrap();
    assert!(unpack.success());
    into.join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn unpacked_tarball_starts_and_signs_in() {
    let folder = tempfile::tempdir().unwrap();
    let release = pack_and_unpack(folder.path());
    for file in ["latchkey.toml", "latchkey.service", "LICENSE", "man/latchkey.1", "completions/latchkey.bash"] {
        assert!(release.join(file).is_file(), "{file} is missing");
    }
    let libraries = fs::read_to_string(release.join("licenses/LIBRARIES.txt")).unwrap();
    // one of the libraries, which stands for all
    assert!(libraries.contains("fred v10"), "{libraries}");
    assert!(fs::read_dir(release.join("licenses")).unwrap().count() > 100, "the texts of the licences are included");

    let mut serve = Command::new(release.join("latchkey"));
    serve.args(["serve", "--config"]).arg(release.join("latchkey.toml")).current_dir(folder.path());
    serve.env("LATCHKEY_LISTEN", "127.0.0.1:0").env("LATCHKEY_METRICS_LISTEN", "off");
    // cheap hashes, so that the test is fast
    serve.env("LATCHKEY_PASSWORD_MEMORY_KIB", "64").env("LATCHKEY_PASSWORD_ITERATIONS", "1");
    let service = Service::spawn(serve).unwrap_or_else(|log| panic!("{log}"));
    service.client.register("ada").await;
    let tokens = service.client.login("ada").await;
    service.client.refresh(&tokens.refresh).await.expect(200);
    let (code, _log) = service.end(Signal::TERM);
    assert_eq!(code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_succeeds_while_the_node_runs_and_fails_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let address = service.client.base.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let check = |arguments: &[&str]| {
        let output = command(folder.path(), arguments).env("LATCHKEY_LISTEN", &address).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(&["healthcheck"]), (Some(0), String::new()));
    service.wait_for_log("\"message\":\"ready\"").await;
    assert_eq!(check(&["healthcheck", "--ready"]), (Some(0), String::new()));
    let (node_code, _log) = service.end(Signal::TERM);
    assert_eq!(node_code, Some(0));
    let (code, errors) = check(&["healthcheck"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains(&format!("no answer from http://{address}/livez")), "{errors}");
}
