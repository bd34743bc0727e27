//! A Redis Cluster of three masters and three replicas: a master is killed, and slots move while their sessions are in use.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use latchkey::{domain::ids::AccountId, store::redis::key::Keys};

use super::{expect_status_or_503, refresh_with_retries, retry_until, wait_until_replicated};
use crate::{
    degradation::{cluster_at, wait_until_ready},
    harness::{
        client::{PASSWORD, Tokens},
        guard,
        test_cluster::{Node, TestCluster},
        wait,
    },
    store::server::Redis,
};

/// A Redis Cluster of three masters with a replica each.
struct RedisCluster {
    servers: Vec<Redis>,
}

impl RedisCluster {
    async fn start() -> Self {
        let server = |_| {
            // A server's cluster bus listens on the server's port plus 10,000, which must be a valid port.
            let port = std::iter::repeat_with(guard::free_port).find(|port| *port < 55_000).unwrap();
            let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--appendonly", "yes"];
            Redis::launch("redis-server", port, &settings)
        };
        let cluster = Self { servers: (0..6).map(server).collect() };
        let addresses: Vec<String> =
            cluster.servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        let create = ["--cluster", "create", "--cluster-replicas", "1", "--cluster-yes"];
        let output = Command::new("redis-cli").args(create).args(&addresses).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        wait::until("the cluster is complete", || async { cluster.servers.iter().all(sees_complete_cluster) }).await;
        cluster
    }

    /// A Latchkey cluster that uses this Redis Cluster.
    fn test_cluster(&self) -> TestCluster {
        cluster_at(&format!("redis-cluster://127.0.0.1:{}", self.servers[0].port()))
    }

    /// The master that holds a key.
    fn master_of(&self, key: &str) -> &Redis {
        let slot = self.servers[0].command(&["CLUSTER", "KEYSLOT", key]).parse::<u16>().unwrap();
        let holds_slot = |server: &&Redis| {
            let nodes = server.command(&["CLUSTER", "NODES"]);
            let own_line = nodes.lines().find(|line| line.contains("myself,master"));
            own_line.is_some_and(|line| {
                // Eight fields precede the server's slots, each a single slot or a range `FROM-TO`.
                line.split(' ').skip(8).any(|range| {
                    let (from, to) = range.split_once('-').unwrap_or((range, range));
                    from.parse::<u16>().is_ok_and(|from| from <= slot) && to.parse::<u16>().is_ok_and(|to| slot <= to)
                })
            })
        };
        self.servers.iter().find(holds_slot).expect("a master holds the slot")
    }

    fn masters(&self) -> Vec<&Redis> {
        self.servers.iter().filter(|server| server.command(&["ROLE"]).starts_with("master")).collect()
    }
}

/// Whether a server sees all six servers, three of them as replicas. A replica must also be linked to its master.
fn sees_complete_cluster(server: &Redis) -> bool {
    let nodes = server.command(&["CLUSTER", "NODES"]);
    let is_replica = nodes.lines().any(|line| line.contains("myself,slave"));
    server.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        && nodes.matches(" connected").count() == 6
        && nodes.matches("slave").count() == 3
        && (!is_replica || server.command(&["INFO", "replication"]).contains("master_link_status:up"))
}

/// A user: the Redis key of the account's sessions, and the tokens of one of them.
struct User {
    key: String,
    tokens: Tokens,
}

/// Registers accounts, and signs in to each.
async fn sign_in_users(node: &Node, count: usize) -> Vec<User> {
    let mut users = Vec::new();
    for number in 0..count {
        let name = format!("user{number}");
        let id = node.register(&name).await.text_of("id");
        let account = AccountId(id.parse().unwrap());
        let login = retry_until("a sign-in works", 200, || node.try_login(&name, PASSWORD)).await;
        let tokens = Tokens::of(&login);
        let default_prefix = "lk:";
        users.push(User { key: Keys::new(default_prefix).sessions(account), tokens });
    }
    users
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_a_killed_master_whose_replica_takes_over() {
    let redis = RedisCluster::start().await;
    let cluster = redis.test_cluster();
    let node = cluster.node().await;
    wait_until_ready(&node).await;
    // The killed master has the sessions of some of the 12 accounts, not of all.
    let users = sign_in_users(&node, 12).await;
    for master in redis.masters() {
        wait_until_replicated(master, 1).await;
    }
    let victim = redis.master_of(&users[0].key);
    let (affected, others): (Vec<_>, Vec<_>) =
        users.iter().partition(|user| redis.master_of(&user.key).port() == victim.port());
    assert!(!affected.is_empty() && !others.is_empty());

    victim.kill();
    // Every answer is a success or a 503, and every session survives. The second refresh checks that the token of the first is usable.
    let refreshes = affected.iter().chain(&others).map(|user| async {
        let tokens = refresh_with_retries(&node, &user.tokens).await;
        refresh_with_retries(&node, &tokens).await
    });
    for tokens in futures_util::future::join_all(refreshes).await {
        retry_until("the session is live", 200, || node.get("/v1/me", &tokens.access)).await;
    }
    wait_until_ready(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_the_migration_of_their_slots() {
    let redis = Arc::new(RedisCluster::start().await);
    let cluster = redis.test_cluster();
    let node = cluster.node().await;
    wait_until_ready(&node).await;
    let users = sign_in_users(&node, 4).await;
    let moved = AtomicBool::new(false);
    let use_session = |user: &User| {
        let (node, moved, mut tokens) = (&node, &moved, user.tokens.clone());
        async move {
            let mut refreshes = 0;
            // at least 20 refreshes, and until all slots have moved
            while refreshes < 20 || !moved.load(Ordering::Relaxed) {
                tokens = refresh_with_retries(node, &tokens).await;
                expect_status_or_503(&node.get("/v1/me", &tokens.access).await, 200);
                refreshes += 1;
            }
            (tokens, refreshes)
        }
    };
    let moving = async {
        // Each slot moves twice, so that it also leaves a master that has imported it.
        for user in users.iter().chain(&users) {
            let (redis, key) = (Arc::clone(&redis), user.key.clone());
            tokio::task::spawn_blocking(move || move_slot(&redis, &key)).await.unwrap();
        }
        moved.store(true, Ordering::Relaxed);
    };
    let using = futures_util::future::join_all(users.iter().map(use_session));
    let ((), used) = tokio::join!(moving, using);
    for (tokens, refreshes) in used {
        let claims = node.state.refresh_tokens.decode(&tokens.refresh).unwrap();
        assert!(claims.generation.0 >= refreshes, "each refresh rotated the session");
        refresh_with_retries(&node, &tokens).await;
    }
}

/// Moves a key's slot to another master, key by key, as the manual of `CLUSTER SETSLOT` describes.
fn move_slot(cluster: &RedisCluster, key: &str) {
    let from = cluster.master_of(key);
    let to = cluster.masters().into_iter().find(|master| master.port() != from.port()).unwrap();
    let slot = from.command(&["CLUSTER", "KEYSLOT", key]);
    let [from_id, to_id] = [from, to].map(|server| server.command(&["CLUSTER", "MYID"]));
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    let port = to.port().to_string();
    let (database, timeout_millis) = ("0", "5000");
    loop {
        let keys = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
        let Some(key) = keys.lines().next().filter(|key| !key.is_empty()) else { break };
        from.command(&["MIGRATE", "127.0.0.1", &port, key, database, timeout_millis]);
    }
    // The target takes the slot first, so that a master always holds it. Then all masters learn its new place.
    for server in [to, from].into_iter().chain(cluster.masters()) {
        server.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
}
