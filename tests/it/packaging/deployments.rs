//! The container and Kubernetes files: a node accepts their configuration, and kustomize renders valid objects.

use std::{fs, path::PathBuf, process::Command};

use reqwest::Method;

use crate::{
    binary::{Service, run},
    harness::guard,
    openapi_external::{succeed, tool},
};

const INSTALL_KUBECTL: &str = "this test needs kubectl: `apt-get install kubernetes-client` (Debian), `dnf install kubernetes-client` \
                       (Fedora), `apk add kubectl` (Alpine), `brew install kubernetes-cli` (macOS); or run `make test`, which \
                       installs it";

fn packaging() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn read(file: &str) -> String {
    fs::read_to_string(packaging().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Runs `latchkey config check` with no other environment variables than these. Returns its exit code and its messages.
fn check_config(arguments: &[&str], variables: &[(String, String)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command.args(["config", "check"]).args(arguments).current_dir(folder.path());
    command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Parses Latchkey's variables in a text into names and values. Their lines have the form `NAME<separator>value`.
fn parse_variables(text: &str, separator: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("LATCHKEY_"));
    let pairs = lines.filter_map(|line| line.split_once(separator));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().trim_matches('"').to_owned())).collect()
}

#[test]
fn kubernetes_configuration_is_accepted_beside_service_link_variables() {
    let file = packaging().join("kubernetes/latchkey.toml");
    let mut variables = parse_variables(&read("kubernetes/secret.env.example"), "=");
    assert_eq!(variables.len(), 3, "the secret and the URLs of Redis and PostgreSQL: {variables:?}");
    assert_eq!(variables[0], ("LATCHKEY_SECRET".to_owned(), String::new()), "the example leaves the secret empty");
    variables[0].1 = "a secret that was filled in, of at least 32 bytes".to_owned();
    // Kubernetes sets these variables for the services `latchkey` and `latchkey-redis` of the namespace if service links are enabled.
    for (name, value) in [
        ("LATCHKEY_SERVICE_HOST", "10.96.0.11"),
        ("LATCHKEY_SERVICE_PORT", "80"),
        ("LATCHKEY_SERVICE_PORT_HTTP", "80"),
        ("LATCHKEY_SERVICE_PORT_METRICS", "9464"),
        ("LATCHKEY_PORT", "tcp://10.96.0.11:80"),
        ("LATCHKEY_PORT_80_TCP", "tcp://10.96.0.11:80"),
        ("LATCHKEY_PORT_9464_TCP_ADDR", "10.96.0.11"),
        ("LATCHKEY_REDIS_PORT", "tcp://10.96.0.12:6379"),
        ("LATCHKEY_REDIS_PORT_6379_TCP_PROTO", "tcp"),
    ] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    let (code, messages) = check_config(&["--config", file.to_str().unwrap()], &variables);
    assert_eq!(code, Some(0), "{messages}");
    // not even a warning about an unknown variable
    assert_eq!(messages, "");
}

#[test]
fn kubernetes_manifests_name_the_ports_of_the_configuration() {
    let deployment = read("kubernetes/deployment.yaml");
    let configuration = read("kubernetes/latchkey.toml");
    for (name, port) in [("http", 8080), ("metrics", 9464)] {
        assert!(deployment.contains(&format!("- name: {name}\n              containerPort: {port}")), "{name}");
        assert!(configuration.contains(&format!("\"0.0.0.0:{port}\"")), "{name}");
        assert!(read("kubernetes/service.yaml").contains(&format!("targetPort: {name}")), "{name}");
    }
    assert!(read("kubernetes/servicemonitor.yaml").contains("port: metrics"));
    let kustomization = read("kubernetes/kustomization.yaml");
    for file in fs::read_dir(packaging().join("kubernetes")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        // the kustomization lists the copy of an example, without `.example`
        let is_listed = kustomization.contains(name.trim_end_matches(".example"));
        assert!(is_listed || name == "kustomization.yaml" || name.starts_with('.'), "{name}");
    }
}

/// Follows docs/installation.md, with the values of `secret.env.example`.
#[test]
fn kubernetes_folder_renders_to_objects_that_match_the_schemas() {
    let kubectl = guard::find_programs(&["kubectl"], []).expect(INSTALL_KUBECTL).join("kubectl");
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(packaging().join("kubernetes")).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::copy(packaging().join("kubernetes/secret.env.example"), folder.path().join("secret.env")).unwrap();
    let output = succeed(Command::new(kubectl).arg("kustomize").arg(folder.path()));
    let rendered = String::from_utf8(output.stdout).unwrap();
    let file = folder.path().join("rendered.yaml");
    fs::write(&file, &rendered).unwrap();

    // the versions that docs/installation.md names
    for version in ["1.31.0", "1.34.0", "1.37.0"] {
        let mut validate = Command::new(tool("kubernetes-validate"));
        validate.args(["--strict", "--kubernetes-version", version]).arg(&file);
        let output = String::from_utf8(succeed(&mut validate).stdout).unwrap();
        // An object without a schema causes a warning only, so each must be reported: "… passed for resource KIND/NAME …".
        let valid = output.lines().filter_map(|line| line.split_once(" passed for resource ")?.1.split(' ').next());
        let (mut kinds, names): (Vec<_>, Vec<_>) = valid.map(|object| object.split_once('/').unwrap()).unzip();
        kinds.sort_unstable();
        let expected = [
            "configmap",
            "deployment",
            "horizontalpodautoscaler",
            "namespace",
            "networkpolicy",
            "poddisruptionbudget",
            "secret",
            "service",
            "serviceaccount",
        ];
        assert_eq!(kinds, expected, "{version}: {output}");
        assert_eq!(rendered.matches("\nkind: ").count(), expected.len(), "{rendered}");
        // kustomize generates the names of the configuration and of the secrets. Each name occurs in its object and in the deployment.
        let generated: Vec<_> = names.into_iter().filter(|name| name.starts_with("latchkey-")).collect();
        assert_eq!(generated.len(), 2, "{output}");
        for name in generated {
            assert_eq!(rendered.matches(&format!(" name: {name}\n")).count(), 2, "{name} in {rendered}");
        }
    }
}

#[test]
fn compose_environment_is_accepted() {
    let compose = read("container/compose.yaml");
    let mut variables = parse_variables(&compose, ": ");
    assert!(variables.len() > 5, "most variables were not found: {variables:?}");
    // Compose would insert the required variables, and the default of `${NAME:-default}`.
    for (_, value) in &mut variables {
        *value = value.replace("${POSTGRES_PASSWORD:?}", "password");
        if let Some(rest) = value.strip_prefix("${") {
            let (_, default) = rest.trim_end_matches('}').split_once(":-").unwrap();
            *value = default.to_owned();
        }
    }
    let image = read("container/Containerfile");
    // `ENV` is one instruction with several lines
    let environment = image.replace("ENV ", "").replace(" \\\n", "\n");
    variables.extend(parse_variables(&environment, "="));
    let (code, messages) = check_config(&[], &variables);
    assert_eq!(code, Some(0), "{messages}");
}

#[test]
fn caddyfile_of_compose_is_valid() {
    let home = tempfile::tempdir().unwrap();
    let mut validate = Command::new(tool("caddy"));
    validate.args(["validate", "--adapter", "caddyfile", "--config"]).arg(packaging().join("container/Caddyfile"));
    // Caddy writes its files below HOME, unless the variables of XDG name other folders
    succeed(validate.env("HOME", home.path()).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_file_of_compose_creates_the_admin_and_the_client() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path());
    let secrets = folder.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    for name in ["admin-password", "api-secret"] {
        fs::write(secrets.join(name), format!("{name} 4M0yGpZ9b1Hn7Q2wKxV5tRc8\n")).unwrap();
    }
    // in the container, the secrets are in /run/secrets
    let setup = read("container/setup.toml").replace("/run/secrets", secrets.to_str().unwrap());
    fs::write(folder.path().join("setup.toml"), setup).unwrap();
    // the output of the first and of the second run
    for expected in ["Applied.", "Nothing to change."] {
        let output = run(folder.path(), &["apply", "setup.toml"]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected), "{output:?}");
    }
    let password = "admin-password 4M0yGpZ9b1Hn7Q2wKxV5tRc8";
    let tokens = service.client.login_with("admin@example.com", password).await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["roles"][0], "admin", "{me}");
    let secret = "api-secret 4M0yGpZ9b1Hn7Q2wKxV5tRc8";
    let form = [("grant_type", "client_credentials")];
    let request = service.client.request(Method::POST, "/oauth2/token").form(&form).basic_auth("api", Some(secret));
    let issued = service.client.send(request).await.expect(200).json();
    assert_eq!(issued["scope"], "read", "{issued}");
}
