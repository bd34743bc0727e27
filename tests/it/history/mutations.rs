//! Mutation tests of the checker: it finds violations when scripts are altered on their way to Redis.

use std::{path::Path, time::Duration};

use super::{history, nodes::Bench};

/// Returns the prefix that nodes send before a script, and the script with its library.
fn script(name: &str) -> (String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/lua");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let before = if name == "rotate.lua" { read("rotate_fast.lua") + "\n" } else { String::new() };
    (before, format!("{}\n{}", read("lib.lua"), read(name)))
}

/// An alteration of a script.
struct Alteration {
    what: &'static str,
    script: &'static str,
    from: &'static str,
    to: &'static str,
    /// Part of the expected violation.
    found: &'static str,
}

const ALTERATIONS: [Alteration; 6] = [
    Alteration {
        what: "superseded tokens work for ever",
        script: "rotate.lua",
        from: "if now - (session.used - run.age) < grace then",
        to: "if true then",
        found: "no order",
    },
    Alteration {
        what: "there is no grace",
        script: "rotate.lua",
        from: "if now - (session.used - run.age) < grace then",
        to: "if false then",
        found: "no order",
    },
    Alteration {
        what: "reuse doesn't end the session",
        script: "rotate.lua",
        from: "remove_sessions(key, { id })",
        to: "",
        found: "no order",
    },
    // reads the record from before the latest write if that is recent, as if reading and writing were two steps with
    // another call's write between them
    Alteration {
        what: "reading and writing are two steps",
        script: "rotate.lua",
        from: "local session = read_record(found[1])",
        to: "local before = redis.call('HMGET', key .. ':before', id, id .. 't')
             local _, now_is = struct.unpack('>I4I6', presentation, 33)
             if before[1] and now_is - tonumber(before[2]) < 25 then found[1] = before[1] end
             redis.call('HSET', key .. ':before', id, found[1], id .. 't', now_is)
             local session = read_record(found[1])",
        found: "second successor",
    },
    Alteration {
        what: "some rotations are answered and not written",
        script: "rotate.lua",
        from: "redis.call('HSET', key, id, record)",
        to: "if session.generation % 3 ~= 0 then redis.call('HSET', key, id, record) end",
        found: "generation",
    },
    Alteration {
        what: "a sign-out is acknowledged and doesn't happen",
        script: "revoke.lua",
        from: "remove_sessions(key, { id })",
        // 0 is true to Lua
        to: "(redis.call('HEXISTS', key, id) == 1)",
        found: "no order",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn checker_finds_each_altered_script() {
    let bench = Bench::start(2).await;
    for (number, Alteration { what, script: name, from, to, found }) in ALTERATIONS.into_iter().enumerate() {
        // the fast path is left out, so that the altered script handles every refresh
        let (before, whole) = script(name);
        assert_eq!(whole.matches(from).count(), 1, "{name} reads otherwise: {from}");
        let load = |text: &str| bench.server.lock().unwrap().command(&["SCRIPT", "LOAD", text]);
        let swap = (load(&(before + &whole)), load(&format!("local answers = {{}}\n{}", whole.replace(from, to))));
        for node in &bench.nodes {
            node.proxy.swap(Some(swap.clone()));
        }
        let mut rounds = 0;
        loop {
            let names = format!("of{number}x{rounds}x");
            let (_, verdict) = history(&bench, &names, rounds, Duration::from_secs(4), false).await;
            println!("{what}: {} violations of {} sessions", verdict.violations.len(), verdict.sessions);
            if verdict.violations.iter().any(|violation| violation.contains(found)) {
                break;
            }
            rounds += 1;
            assert!(rounds < 8, "{what}: never found, but {:?}", verdict.violations);
        }
    }
}
