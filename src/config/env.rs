//! Settings from environment variables and flags.

use std::ffi::OsString;

use super::{
    error::{Problem, SettingOrigin},
    raw::{Settings, Value},
    schema::{self, KEYS, PREFIX},
};

/// The variable with the path of the configuration file. All other variables with [`PREFIX`] set keys.
pub(super) const CONFIG_FILE: &str = "LATCHKEY_CONFIG";

impl Settings {
    /// Overrides the keys whose variables are set.
    pub(super) fn read_environment(&mut self, variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            if !name.starts_with(PREFIX) || name == CONFIG_FILE {
                continue;
            }
            let key = KEYS.iter().find(|key| key.variable == name);
            match (key, value.to_str()) {
                (Some(key), Some(value)) => self.set(key, Value::text(value), SettingOrigin::Variable(name.into())),
                (Some(_), None) => problems.push(Problem::new(name, "must be UTF-8")),
                (None, value) if is_from_kubernetes(name, value.unwrap_or_default()) => {}
                (None, _) => problems.push(Problem::new(name, schema::unknown_variable(name))),
            }
        }
    }

    /// Overrides the keys named by `--set key=value`.
    pub(super) fn read_flags(&mut self, flags: &[String], problems: &mut Vec<Problem>) {
        for flag in flags {
            let Some((name, value)) = flag.split_once('=') else {
                problems.push(Problem::new("--set", "must be followed by key=value"));
                continue;
            };
            let name = name.trim();
            let origin = SettingOrigin::Flag("--set".into());
            match schema::find(name) {
                Some(key) => self.set(key, Value::text(value), origin),
                None => {
                    problems.push(Problem { origin: Some(origin), ..Problem::new(name, schema::unknown_key(name)) })
                }
            }
        }
    }
}

/// Returns whether Kubernetes may have set this variable. Every pod gets such variables for each service of its namespace, and the
/// variables of a service called `latchkey` or `latchkey-…` begin with [`PREFIX`]: `…_SERVICE_HOST`,
/// `…_SERVICE_PORT[_NAME]`, `…_PORT` and `…_PORT_<number>_<protocol>[_ADDR|_PORT|_PROTO]`.
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    // with the `_` that ends PREFIX: `LATCHKEY_PORT` becomes `_PORT`
    let name = format!("_{rest}");
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    if name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return true;
    }
    if name.ends_with("_PORT") && is_address {
        return true;
    }
    name.match_indices("_PORT_").any(|(start, found)| is_service_port(&name[start + found.len()..]))
}

/// Parses `<number>_<protocol>[_ADDR|_PORT|_PROTO]`.
fn is_service_port(text: &str) -> bool {
    let Some((number, rest)) = text.split_once('_') else { return false };
    let (protocol, part) = rest.split_once('_').map_or((rest, None), |(protocol, part)| (protocol, Some(part)));
    number.parse::<u16>().is_ok()
        && matches!(protocol, "TCP" | "UDP" | "SCTP")
        && matches!(part, None | Some("ADDR" | "PORT" | "PROTO"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    /// The problems that an environment with these variables has.
    fn environment_problems(variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut problems = Vec::new();
        Settings::defaults().read_environment(&variables, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_variable_is_reported_with_a_suggestion() {
        assert_eq!(
            environment_problems(&[("LATCHKEY_SESION_GRACE", "1s"), ("PATH", "/bin"), ("LATCHKEY_SECRETS", "hunter2")]),
            [
                "LATCHKEY_SESION_GRACE: no such variable; did you mean LATCHKEY_SESSION_GRACE?",
                "LATCHKEY_SECRETS: no such variable; did you mean LATCHKEY_SECRET?",
            ]
        );
    }

    #[test]
    fn non_utf8_value_is_refused() {
        let mut problems = Vec::new();
        let variables = [("LATCHKEY_SECRET".into(), OsString::from_vec(vec![0xff]))];
        Settings::defaults().read_environment(&variables, &mut problems);
        assert_eq!(problems[0].to_string(), "LATCHKEY_SECRET: must be UTF-8");
    }

    #[test]
    fn kubernetes_service_variables_are_ignored() {
        let injected = [
            ("LATCHKEY_SERVICE_HOST", "10.0.0.11"),
            ("LATCHKEY_SERVICE_PORT", "8080"),
            ("LATCHKEY_SERVICE_PORT_HTTP", "8080"),
            ("LATCHKEY_PORT", "tcp://10.0.0.11:8080"),
            ("LATCHKEY_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("LATCHKEY_PORT_8080_TCP_PROTO", "tcp"),
            ("LATCHKEY_PORT_8080_TCP_PORT", "8080"),
            ("LATCHKEY_PORT_8080_TCP_ADDR", "10.0.0.11"),
            ("LATCHKEY_POSTGRESQL_SERVICE_HOST", "10.0.0.2"),
            ("LATCHKEY_POSTGRESQL_SERVICE_PORT_TCP_POSTGRESQL", "5432"),
            ("LATCHKEY_POSTGRESQL_PORT", "tcp://10.0.0.2:5432"),
            ("LATCHKEY_POSTGRESQL_PORT_5432_TCP", "tcp://10.0.0.2:5432"),
            ("LATCHKEY_REDIS_MASTER_PORT_6379_TCP_ADDR", "10.0.0.3"),
            ("LATCHKEY_METRICS_PORT_9464_UDP_PROTO", "udp"),
        ];
        let problems = environment_problems(&injected);
        assert!(problems.is_empty(), "{problems:?}");
        // similar to variables of Kubernetes, but with another value or name
        for name in ["LATCHKEY_PORT", "LATCHKEY_POSTGRESQL_PORT", "LATCHKEY_HTTP_PORT_HTTP", "LATCHKEY_X_PORT_80_TCP_X"]
        {
            assert_eq!(environment_problems(&[(name, "9000")]).len(), 1, "{name}");
        }
    }

    #[test]
    fn invalid_set_flag_is_reported() {
        let mut problems = Vec::new();
        let flags = ["listen", "session.grase=1s"].map(String::from);
        Settings::defaults().read_flags(&flags, &mut problems);
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            ["--set: must be followed by key=value", "session.grase (--set): no such key; did you mean session.grace?",]
        );
    }
}
