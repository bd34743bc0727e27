//! Mutation tests of the linearizability checker: it must report nodes whose Lua scripts were altered on the way to Redis.

use std::{path::Path, time::Duration};

use latchkey::store::redis::record::lua_constants;

use super::{history, nodes::ProcessCluster};

/// The fast path that precedes a script, if it has one, and the script with its library.
fn script(name: &str) -> (String, String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/lua");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let fast = if name == "rotate.lua" { read("rotate_fast.lua") + "\n" } else { String::new() };
    (fast, format!("{}\n{}", read("lib.lua"), read(name)))
}

/// A mutation of a script: `to` replaces `from`, which occurs once in the script and its library.
struct Mutation {
    /// The effect of the mutation.
    what: &'static str,
    /// The file of the script.
    script: &'static str,
    from: &'static str,
    to: &'static str,
    /// A part of the violation that the checker reports. `no order`: no order of the calls explains their answers.
    found: &'static str,
}

const MUTATIONS: [Mutation; 7] = [
    Mutation {
        what: "superseded tokens never expire",
        script: "rotate.lua",
        from: "if is_repeat(session, presented, now, grace, retry_window) then",
        to: "if true then",
        found: "no order",
    },
    Mutation {
        what: "no superseded token may be repeated",
        script: "rotate.lua",
        from: "if is_repeat(session, presented, now, grace, retry_window) then",
        to: "if false then",
        found: "no order",
    },
    Mutation {
        what: "repeats from another network are not counted",
        script: "rotate.lua",
        // keeps the marks of the last counted repeat only
        from: "bit.bor(shifted(counted, session.generation - counted_at), low_bits(lacked))",
        to: "low_bits(lacked)",
        found: "no order",
    },
    Mutation {
        what: "reuse does not end the session",
        script: "rotate.lua",
        from: "remove_sessions(key, { id })",
        to: "",
        found: "no order",
    },
    // For 25 ms after a refresh, the script reads the record from before it, as if both refreshes had read before either wrote.
    // The presentation is the script's argument: from byte 33 on, it has the presented generation and the time of the request.
    Mutation {
        what: "reading and writing are separate steps",
        script: "rotate.lua",
        from: "local session = read_record(found[1])",
        to: "local before = redis.call('HMGET', key .. ':before', id, id .. 't')
             local _, now_is = struct.unpack('>I4I6', presentation, 33)
             if before[1] and now_is - tonumber(before[2]) < 25 then found[1] = before[1] end
             redis.call('HSET', key .. ':before', id, found[1], id .. 't', now_is)
             local session = read_record(found[1])",
        found: "second successor",
    },
    Mutation {
        what: "some rotations are answered but not written",
        script: "rotate.lua",
        from: "redis.call('HSET', key, id, record)",
        to: "if session.generation % 3 ~= 0 then redis.call('HSET', key, id, record) end",
        // a token whose rotation was lost is rotated again, to a successor with another expiry
        found: "second successor",
    },
    Mutation {
        what: "a sign-out is acknowledged but has no effect",
        script: "revoke.lua",
        from: "remove_sessions(key, { id })",
        // `== 1`, because Lua takes 0 for true
        to: "(redis.call('HEXISTS', key, id) == 1)",
        found: "no order",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn checker_finds_each_altered_script() {
    let cluster = ProcessCluster::start(2).await;
    let with_faults = false;
    for (number, Mutation { what, script: name, from, to, found }) in MUTATIONS.into_iter().enumerate() {
        let constants = lua_constants();
        let (fast_path, script) = script(name);
        assert_eq!(script.matches(from).count(), 1, "occurrences in {name} of: {from}");
        let load = |text: &str| cluster.server.lock().unwrap().command(&["SCRIPT", "LOAD", text]);
        let original_sha1 = load(&format!("{constants}{fast_path}{script}"));
        // Without the fast path, so that the mutation applies to every refresh. The fast path declares `answers`, which rotate.lua reads.
        let mutated_sha1 = load(&format!("{constants}local answers = {{}}\n{}", script.replace(from, to)));
        for node in &cluster.nodes {
            node.proxy.swap_script(Some((original_sha1.clone(), mutated_sha1.clone())));
        }
        // Only some rounds meet the mutated behaviour, so there are up to eight. The number of a round is also its seed.
        let mut round = 0;
        loop {
            let name_prefix = format!("mutation{number}round{round}user");
            let (_, verdict) = history(&cluster, &name_prefix, round, Duration::from_secs(4), with_faults).await;
            println!("{what}: {} violations of {} sessions", verdict.violations.len(), verdict.sessions);
            if verdict.violations.iter().any(|violation| violation.contains(found)) {
                break;
            }
            round += 1;
            assert!(round < 8, "{what}: not reported, only {:?}", verdict.violations);
        }
    }
}
