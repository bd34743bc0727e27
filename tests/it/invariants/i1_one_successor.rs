//! I1: However many requests present a refresh token at once, the session moves on by exactly one generation; one that
//! was superseded within the grace window is answered with the current token again.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use crate::harness::{bed::Bed, client::Tokens};

#[tokio::test(flavor = "multi_thread")]
async fn i1_one_successor_for_sixteen_at_once_on_two_nodes() {
    let bed = Bed::new();
    let nodes = [bed.node().await, bed.node().await];
    nodes[0].account("ada").await;
    let mut current = nodes[0].login("ada").await.refresh;
    for _ in 0..50 {
        let racers = (0..16).map(|i| nodes[i % 2].refresh(&current));
        let answers: HashSet<String> =
            join_all(racers).await.into_iter().map(|answer| Tokens::of(&answer.expect(200)).refresh).collect();
        assert_eq!(answers.len(), 1, "one successor for all");
        let next = answers.into_iter().next().unwrap();
        assert_ne!(next, current);
        current = next;
        bed.advance(Duration::from_secs(11));
    }
    // and exactly one generation for each round
    let claims = nodes[0].app.refresh_tokens.decode(&current).unwrap();
    assert_eq!(claims.generation.0, 50);
}
