//! The session store, on every supported server and deployment.

mod batch;
pub(crate) mod deployments;
mod life;
mod memory;
mod model;
mod rotate_paths;
mod rotation_rule;
mod scripts;
pub(crate) mod server;
mod upgrade;

/// Runs tests on every supported kind of server. Each test is an async function that takes a [`server::Redis`].
macro_rules! on_every_server {
    ($($test:ident),* $(,)?) => {
        on_every_server!(@ redis_7_0 [$($test)*]);
        on_every_server!(@ redis_6_2 [$($test)*]);
        on_every_server!(@ valkey_9 [$($test)*]);
    };
    // The tests on one kind of server, which the constructor `$server` starts.
    (@ $server:ident [$($test:ident)*]) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test($crate::store::server::Redis::$server()).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_server;
