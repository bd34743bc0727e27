//! Records the commands that a Redis receives (`MONITOR`).

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use super::redis::Redis;

/// The text that [`Monitor`] sends with `ECHO` to find the end of the commands that Redis has received so far.
const END_MARK: &str = "so far";

/// A running `redis-cli MONITOR`. Killed when dropped.
pub struct Monitor {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Monitor {
    pub fn start(redis: &Redis) -> Self {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(redis.socket()).arg("MONITOR").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Redis reports all commands that arrive after this answer.
        let answer = lines.next().unwrap().unwrap();
        assert_eq!(answer, "OK");
        Self { child, lines }
    }

    /// Returns the commands that Redis has received since the last call, split into words. Leaves out commands that scripts call, that
    /// check rate limits, and that the nodes' background tasks send.
    pub fn commands(&mut self, redis: &Redis) -> Vec<Vec<String>> {
        let mut commands = self.commands_with_rate_limits(redis);
        // the keys of rate limits (`lk:l`) and of the login throttle (`lk:g`)
        let is_limit = |key: &str| key.starts_with("lk:l") || key.starts_with("lk:g");
        commands.retain(|words| {
            let is_script = words[0].eq_ignore_ascii_case("EVALSHA");
            // EVALSHA, the script's hash, the number of keys, the first key
            let checks_limit = is_script && is_limit(&words[3]);
            !checks_limit
        });
        commands
    }

    /// Like [`Monitor::commands`], including the commands of rate limits.
    pub fn commands_with_rate_limits(&mut self, redis: &Redis) -> Vec<Vec<String>> {
        redis.command(&["ECHO", END_MARK]);
        let mut commands = Vec::new();
        loop {
            // such as `1796000000.123456 [0 unix:/tmp/redis.sock] "GET" "key"`
            let line = self.lines.next().unwrap().unwrap();
            let (head, quoted_words) = line.split_once("] ").unwrap();
            let called_by_script = head.ends_with(" lua");
            if called_by_script {
                continue;
            }
            let words: Vec<String> = quoted_words.trim_matches('"').split("\" \"").map(str::to_owned).collect();
            match words[0].to_ascii_uppercase().as_str() {
                "ECHO" if words[1] == END_MARK => return commands,
                "PING" => {}
                // commands of the revocation log
                "TIME" | "MGET" | "SUBSCRIBE" | "PUBSUB" | "PUBLISH" => {}
                // commands that open a connection
                "CLIENT" | "INFO" => {}
                // commands that redis-cli sends first
                "COMMAND" | "HELLO" => {}
                _ => commands.push(words),
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
