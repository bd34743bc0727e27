//! An npm registry with the packages of tests/tools, so that the `npm install` commands of the documents need no network.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use poem::{EndpointExt, Response, handler, http::Uri, listener::TcpAcceptor, web::Data};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::openapi_external::{succeed, tool};

/// A running registry. Stops when dropped.
pub(super) struct NpmRegistry {
    address: SocketAddr,
    server_task: JoinHandle<()>,
}

/// Package folders by name, then by version.
type Packages = BTreeMap<String, BTreeMap<String, PathBuf>>;

impl NpmRegistry {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut packages = Packages::new();
        collect_packages(&node_modules(), &mut packages);
        let endpoint = serve.data(Arc::new(packages)).data(address);
        let server = poem::Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).unwrap());
        let server_task = tokio::spawn(async move { server.run(endpoint).await.unwrap() });
        Self { address, server_task }
    }

    /// The variables that make npm use this registry, with its cache in `cache`, and send no other requests.
    pub(super) fn environment(&self, cache: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("npm_config_registry", format!("http://{}/", self.address)),
            ("npm_config_cache", cache.display().to_string()),
            ("npm_config_audit", "false".to_owned()),
            ("npm_config_fund", "false".to_owned()),
            ("npm_config_update_notifier", "false".to_owned()),
        ]
    }
}

impl Drop for NpmRegistry {
    fn drop(&mut self) {
        self.server_task.abort();
    }
}

/// The folder in which `.ci/install.sh` installs the packages of tests/tools.
pub(super) fn node_modules() -> PathBuf {
    let node = tool("node");
    // the folder with `bin/node` and `node/node_modules`
    let tools = node.parent().and_then(Path::parent).unwrap();
    tools.join("node/node_modules")
}

/// Adds the packages in the `node_modules` folder `modules` and in the `node_modules` folders of these packages. Ignores a missing folder.
fn collect_packages(modules: &Path, packages: &mut Packages) {
    let Ok(entries) = fs::read_dir(modules) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        // the folder of a scope has the packages `@SCOPE/NAME`
        let is_scope = path.file_name().unwrap().to_string_lossy().starts_with('@');
        if is_scope {
            collect_packages(&path, packages);
        } else if let Some(manifest) = manifest(&path) {
            let name = manifest["name"].as_str().unwrap().to_owned();
            let version = manifest["version"].as_str().unwrap().to_owned();
            packages.entry(name).or_default().insert(version, path.clone());
            collect_packages(&path.join("node_modules"), packages);
        }
    }
}

/// The `package.json` of a folder, if it is a package.
fn manifest(package: &Path) -> Option<Value> {
    let json = fs::read(package.join("package.json")).ok()?;
    serde_json::from_slice(&json).ok()
}

/// Serves the versions of a package at `/NAME`, and the archive of a version at `/NAME/-/VERSION.tgz`.
#[handler]
async fn serve(uri: &Uri, packages: Data<&Arc<Packages>>, address: Data<&SocketAddr>) -> Response {
    // npm encodes the slash in the name of a scoped package
    let path = uri.path().trim_start_matches('/').replace("%2f", "/").replace("%2F", "/");
    let response = match path.split_once("/-/") {
        Some((name, file)) => {
            let version = file.trim_end_matches(".tgz");
            packages.get(name).and_then(|versions| versions.get(version)).map(|folder| pack(folder))
        }
        None => packages.get(&path).map(|versions| versions_of(&path, versions, **address)),
    };
    response.map_or_else(|| poem::http::StatusCode::NOT_FOUND.into(), Response::from)
}

/// The registry's document about a package: its versions with their manifests.
fn versions_of(name: &str, versions: &BTreeMap<String, PathBuf>, address: SocketAddr) -> Vec<u8> {
    let documents = versions.iter().map(|(version, folder)| {
        let mut document = manifest(folder).unwrap();
        document["dist"] = json!({ "tarball": format!("http://{address}/{name}/-/{version}.tgz") });
        (version.clone(), document)
    });
    // npm needs the tag `latest`. Alphabetical order puts 9 after 10, which rarely matters: few packages have several versions.
    let latest = versions.keys().next_back();
    let document = json!({
        "name": name,
        "dist-tags": { "latest": latest },
        "versions": documents.collect::<serde_json::Map<_, _>>(),
    });
    document.to_string().into_bytes()
}

/// The archive of a package: a compressed tar file in which the folder is named `package`.
fn pack(folder: &Path) -> Vec<u8> {
    let mut tar = Command::new("tar");
    // `--transform` replaces the dot at the beginning of each path by `package`
    tar.args(["-czf", "-", "--exclude=./node_modules", "--transform=s,^\\.,package,", "-C"]).arg(folder).arg(".");
    tokio::task::block_in_place(|| succeed(&mut tar)).stdout
}
