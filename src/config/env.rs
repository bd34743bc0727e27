//! Values from the environment and from flags.

use std::ffi::OsString;

use super::{
    error::{Origin, Problem},
    raw::{Settings, Value},
    schema::{self, KEYS, PREFIX},
};

/// Names the configuration file; the one variable that isn't a key.
pub(super) const CONFIG_FILE: &str = "LATCHKEY_CONFIG";

impl Settings {
    /// Overrules the keys whose variables are set.
    pub(super) fn read_environment(&mut self, variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX) && *name != CONFIG_FILE) else {
                continue;
            };
            match (KEYS.iter().find(|key| key.variable == name), value.to_str()) {
                (Some(key), Some(value)) => self.set(key, Value::text(value), Origin::Variable(name.into())),
                (Some(_), None) => problems.push(Problem::new(name, "must be UTF-8")),
                (None, value) if is_from_kubernetes(name, value.unwrap_or_default()) => {}
                (None, _) => problems.push(Problem::new(name, schema::unknown_variable(name))),
            }
        }
    }

    /// Overrules the keys that `--set key=value` names.
    pub(super) fn read_flags(&mut self, flags: &[String], problems: &mut Vec<Problem>) {
        for flag in flags {
            match flag.split_once('=') {
                None => problems.push(Problem::new("--set", "must be followed by key=value")),
                Some((name, value)) => match schema::find(name.trim()) {
                    Some(key) => self.set(key, Value::text(value), Origin::Flag("--set".into())),
                    None => problems.push(Problem {
                        origin: Some(Origin::Flag("--set".into())),
                        ..Problem::new(name.trim(), schema::unknown_key(name.trim()))
                    }),
                },
            }
        }
    }
}

/// Whether Kubernetes made this variable, as it does in every pod for a service that is called "latchkey".
fn is_from_kubernetes(name: &str, value: &str) -> bool {
    let Some(name) = name.strip_prefix(PREFIX) else { return false };
    let is_address = value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
    match name.strip_prefix("PORT") {
        Some("") => is_address,
        Some(rest) => rest.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())),
        None => name == "SERVICE_HOST" || name == "SERVICE_PORT" || name.starts_with("SERVICE_PORT_"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Vec<String> {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut problems = Vec::new();
        Settings::defaults().read_environment(&variables, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_variables_are_named() {
        assert_eq!(
            environment(&[("LATCHKEY_SESION_GRACE", "1s"), ("PATH", "/bin"), ("LATCHKEY_SECRETS", "hunter2")]),
            [
                "LATCHKEY_SESION_GRACE: no such variable; did you mean LATCHKEY_SESSION_GRACE?",
                "LATCHKEY_SECRETS: no such variable; did you mean LATCHKEY_SECRET?",
            ]
        );
    }

    #[test]
    fn values_must_be_text() {
        let mut problems = Vec::new();
        let variables = [("LATCHKEY_SECRET".into(), OsString::from_vec(vec![0xff; 32]))];
        Settings::defaults().read_environment(&variables, &mut problems);
        assert_eq!(problems[0].to_string(), "LATCHKEY_SECRET: must be UTF-8");
    }

    #[test]
    fn what_kubernetes_sets_is_left_alone() {
        let injected = [
            ("LATCHKEY_SERVICE_HOST", "10.0.0.11"),
            ("LATCHKEY_SERVICE_PORT", "8080"),
            ("LATCHKEY_SERVICE_PORT_HTTP", "8080"),
            ("LATCHKEY_PORT", "tcp://10.0.0.11:8080"),
            ("LATCHKEY_PORT_8080_TCP", "tcp://10.0.0.11:8080"),
            ("LATCHKEY_PORT_8080_TCP_PROTO", "tcp"),
            ("LATCHKEY_PORT_8080_TCP_PORT", "8080"),
            ("LATCHKEY_PORT_8080_TCP_ADDR", "10.0.0.11"),
        ];
        assert_eq!(environment(&injected), [""; 0]);
        assert_eq!(environment(&[("LATCHKEY_PORT", "9000")]).len(), 1);
    }

    #[test]
    fn flags_are_keys_and_values() {
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
