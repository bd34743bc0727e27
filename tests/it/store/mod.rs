//! The session store, on every server that it is meant for.

mod batch;
mod life;
mod memory;
mod model;
pub(crate) mod places;
mod scripts;
pub(crate) mod server;
mod upgrade;

/// Runs tests, each a function that is given a [`server::Server`], on every kind of server there is.
macro_rules! on_every_server {
    ($($test:ident),* $(,)?) => {
        on_every_server!(@ redis_7_0 [$($test)*]);
        on_every_server!(@ redis_6_2 [$($test)*]);
        on_every_server!(@ valkey_9 [$($test)*]);
    };
    (@ $server:ident [$($test:ident)*]) => {
        mod $server {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test($crate::store::server::Server::$server()).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_server;
