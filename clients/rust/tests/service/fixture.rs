//! The fixture of most tests: a node of the service, a proxy in front of it that can cut connections, and a clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use latchkey_verify::{Builder, Clock, Invalid, Verifier, VerifyError};

use crate::harness::{
    fault_proxy::{FaultProxy, Mode},
    test_cluster::{Node, ServiceClient, TestCluster},
    wait,
};

/// The clock of the verifiers: the service's wall clock, and a monotonic clock that a test advances separately. Clones share both.
#[derive(Clone, Debug)]
pub struct TestClock {
    wall: latchkey::domain::clock::Clock,
    elapsed_millis: Arc<AtomicU64>,
}

impl Clock for TestClock {
    fn unix_millis(&self) -> i64 {
        self.wall.now().as_millis()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_millis.load(Ordering::SeqCst))
    }
}

impl TestClock {
    /// Advances the monotonic clock.
    pub fn advance(&self, time: Duration) {
        self.elapsed_millis.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

pub struct Fixture {
    pub cluster: TestCluster,
    pub node: Node,
    /// The proxy that verifiers reach the node through: its URL is the issuer.
    pub proxy: FaultProxy,
    pub clock: TestClock,
    /// The service client of the verifiers.
    pub client: ServiceClient,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with_cluster(TestCluster::new()).await
    }

    pub async fn with_cluster(mut cluster: TestCluster) -> Self {
        // The node's configuration needs the proxy's URL, and the proxy needs the node's address.
        let proxy = FaultProxy::start_without_target().await;
        cluster.config.issuer = proxy.http_url();
        let node = cluster.node().await;
        proxy.forward_to(node.address());
        let client = cluster.service_client("orders").await;
        let clock = TestClock { wall: cluster.clock.clone(), elapsed_millis: Arc::default() };
        Self { cluster, node, proxy, clock, client }
    }

    /// A builder for this issuer. It has no service client yet.
    pub fn builder(&self) -> Builder {
        Verifier::builder(self.proxy.http_url()).audience("latchkey").clock(self.clock.clone())
    }

    /// A verifier whose feed is live.
    pub async fn verifier(&self) -> Verifier {
        self.verifier_with(|builder| builder).await
    }

    /// A verifier whose feed is live, with changed settings.
    pub async fn verifier_with(&self, change: impl FnOnce(Builder) -> Builder) -> Verifier {
        let builder = self.builder().client(&self.client.id, &self.client.secret);
        let verifier = change(builder).build().await.unwrap();
        assert!(verifier.wait_live(Duration::from_secs(60)).await, "the feed is live");
        verifier
    }

    /// Cuts the verifiers off, and shuts the node down.
    pub async fn stop(self) {
        self.proxy.set(Mode::Cut);
        self.node.stop().await;
    }
}

/// Waits until a token is refused as revoked. Until then, the token must be accepted.
pub async fn wait_until_revoked(verifier: &Verifier, token: &str) {
    wait::until("the token is refused", async || match verifier.verify_locally(token) {
        Ok(_) => false,
        Err(VerifyError::Revoked) => true,
        Err(other) => panic!("the token is refused for another reason: {other}"),
    })
    .await;
    // `verify`, which may introspect, gives the same answer.
    assert_eq!(verifier.verify(token).await.unwrap_err(), VerifyError::Revoked);
}

/// The error of a token that is invalid for this reason.
pub fn invalid(reason: Invalid) -> VerifyError {
    VerifyError::Invalid(reason)
}
