//! The container and Kubernetes files: a node accepts their configuration.

use std::{fs, path::PathBuf, process::Command};

use crate::binary::{Service, run};

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

/// The variables in a text, as names and values. Their lines have the form `NAME<separator>value`.
fn variables(text: &str, separator: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("LATCHKEY_"));
    let pairs = lines.filter_map(|line| line.split_once(separator));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().trim_matches('"').to_owned())).collect()
}

#[test]
fn kubernetes_configuration_is_accepted_beside_service_link_variables() {
    let file = packaging().join("kubernetes/latchkey.toml");
    let mut variables = variables(&read("kubernetes/secret.env.example"), "=");
    assert_eq!(variables.len(), 3, "{variables:?}");
    variables[0].1 = "a secret that was filled in, of 32 bytes".to_owned();
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
    let (code, text) = check_config(&["--config", file.to_str().unwrap()], &variables);
    assert_eq!((code, text.as_str()), (Some(0), ""));
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
        let is_listed = kustomization.contains(name.trim_end_matches(".example"));
        assert!(is_listed || name == "kustomization.yaml" || name.starts_with('.'), "{name}");
    }
}

#[test]
fn compose_environment_is_accepted() {
    let compose = read("container/compose.yaml");
    let mut variables = variables(&compose, ": ");
    assert!(variables.len() > 5, "{variables:?}");
    // Compose would insert the required variables and the defaults.
    for (_, value) in &mut variables {
        *value = value.replace("${POSTGRES_PASSWORD:?}", "password");
        if let Some(rest) = value.strip_prefix("${") {
            *value = rest.trim_end_matches('}').split_once(":-").unwrap().1.to_owned();
        }
    }
    let image = read("container/Containerfile");
    let environment = image.lines().map(|line| line.trim_start().trim_start_matches("ENV ").trim_end_matches(" \\"));
    variables.extend(self::variables(&environment.collect::<Vec<_>>().join("\n"), "="));
    let (code, text) = check_config(&[], &variables);
    assert_eq!(code, Some(0), "{text}");
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
    let setup = read("container/setup.toml").replace("/run/secrets", secrets.to_str().unwrap());
    fs::write(folder.path().join("setup.toml"), setup).unwrap();
    for printed in ["Applied.", "Nothing to change."] {
        let output = run(folder.path(), &["apply", "setup.toml"]);
        assert!(String::from_utf8_lossy(&output.stdout).contains(printed), "{output:?}");
    }
    let password = "admin-password 4M0yGpZ9b1Hn7Q2wKxV5tRc8";
    let tokens = service.client.login_with("admin@example.com", password).await;
    let me = service.client.get("/v1/me", &tokens.access).await.expect(200).json();
    assert_eq!(me["roles"][0], "admin", "{me}");
}
