//! The delay from a change of roles on one node to the refusal of an older access token by another node.

use std::time::{Duration, Instant};

use latchkey::{domain::account::Roles, domain::clock::Clock, service::accounts};

use super::{
    Times,
    harness::{client::Tokens, test_cluster::TestCluster},
    node_process::{NodeProcess, SECRET},
};

/// The number of changes of roles, one after the other.
const CHANGES: usize = 300;

/// Changes an account's roles [`CHANGES`] times on a node of this process. Meanwhile sends requests with the
/// account's older token to `peer`, until `peer` refuses the token.
pub async fn measure(mut cluster: TestCluster, database: &str, peer: &NodeProcess) -> Vec<Times> {
    // the node shares Redis, the database, the secret and the real time with the peer, which is a process of its own
    cluster.clock = Clock::System;
    cluster.config.secrets.current = SECRET.into();
    cluster.config.database.url = database.into();
    let node = cluster.node().await;
    peer.client.register("roles").await;
    let account = accounts::find(&node.state.sql, "roles").await.unwrap().id;
    let mut tokens = peer.client.login("roles").await;
    let (editor, no_roles) = (Roles::parse(["editor"]).unwrap(), Roles::default());
    let mut times = Vec::new();
    for change in 0..CHANGES {
        // the peer accepts the token, so its later refusal is an effect of the change
        peer.client.get("/v1/verify", &tokens.access).await.expect(200);
        let (add, remove) = if change % 2 == 0 { (&editor, &no_roles) } else { (&no_roles, &editor) };
        let refused_at = tokio::spawn({
            let (client, access) = (peer.client.clone(), tokens.access.clone());
            async move {
                while client.get("/v1/verify", &access).await.status == 200 {}
                Instant::now()
            }
        });
        let requested = Instant::now();
        accounts::change_roles(&node.state, account, add, remove).await.unwrap();
        let answered = Instant::now();
        let problem = peer.client.get("/v1/verify", &tokens.access).await.problem();
        assert_eq!(problem, (401, "claims_changed".to_owned()));
        times.push(Times { requested, answered, effect: refused_at.await.unwrap() });
        // the new tokens have the changed roles
        tokens = Tokens::of(&peer.client.refresh(&tokens.refresh).await.expect(200));
        // a pause, so that what the nodes still do for this change does not delay the next one
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    node.stop().await;
    times
}
