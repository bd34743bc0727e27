//! A service, a way to it, and a clock: what most tests begin with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use latchkey_verify::{Builder, Clock, Invalid, Verifier, VerifyError};

use crate::{
    harness::{
        test_cluster::{Node, ServiceClient, TestCluster},
        wait,
    },
    proxy::Proxy,
};

/// The service's clock, and beside it one that says how much time has passed, moved by itself.
#[derive(Clone, Debug)]
pub struct Hands {
    clock: latchkey::domain::clock::Clock,
    elapsed: Arc<AtomicU64>,
}

impl Clock for Hands {
    fn unix_millis(&self) -> i64 {
        self.clock.now().as_millis()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}

impl Hands {
    pub fn pass(&self, time: Duration) {
        self.elapsed.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

pub struct Place {
    pub cluster: TestCluster,
    pub node: Node,
    pub proxy: Proxy,
    pub hands: Hands,
    pub client: ServiceClient,
}

impl Place {
    pub async fn new() -> Self {
        Self::with(TestCluster::new()).await
    }

    pub async fn with(mut cluster: TestCluster) -> Self {
        let proxy = Proxy::start().await;
        cluster.config.issuer = proxy.url();
        let node = cluster.node().await;
        proxy.lead_to(&node.client.base);
        let client = cluster.service_client("orders").await;
        let hands = Hands { clock: cluster.clock.clone(), elapsed: Arc::default() };
        Self { cluster, node, proxy, hands, client }
    }

    /// A verifier of this issuer, to be finished.
    pub fn builder(&self) -> Builder {
        Verifier::builder(self.proxy.url()).audience("latchkey").clock(self.hands.clone())
    }

    /// A verifier that follows the feed, and has caught up.
    pub async fn verifier(&self) -> Verifier {
        self.verifier_with(|builder| builder).await
    }

    pub async fn verifier_with(&self, set: impl FnOnce(Builder) -> Builder) -> Verifier {
        let builder = self.builder().client(&self.client.id, &self.client.secret);
        let verifier = set(builder).build().await.unwrap();
        tokio::time::timeout(Duration::from_secs(60), verifier.ready()).await.expect("the feed is heard");
        verifier
    }

    pub async fn stop(self) {
        self.proxy.set(crate::proxy::Mode::Cut);
        self.node.stop().await;
    }
}

/// Waits until a token is refused as revoked. Until then it is accepted, and nothing else.
pub async fn until_revoked(verifier: &Verifier, token: &str) {
    wait::until("the token is refused", async || match verifier.verify_in_memory(token) {
        Ok(_) => false,
        Err(VerifyError::Revoked) => true,
        Err(other) => panic!("{other}"),
    })
    .await;
    assert_eq!(verifier.verify(token).await.unwrap_err(), VerifyError::Revoked);
}

pub fn invalid(invalid: Invalid) -> VerifyError {
    VerifyError::Invalid(invalid)
}
