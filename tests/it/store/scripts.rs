//! Scripts that a restarted or flushed server lacks are loaded again.

use latchkey::domain::session::{Generation, Rotation};

use super::{
    on_every_server,
    server::{GRACE, IDLE, NOW, Redis, Rotate, account, create, session},
};
use crate::harness::wait;

on_every_server!(missing_scripts_are_reloaded);

async fn missing_scripts_are_reloaded(mut server: Redis) {
    let store = server.store();
    let ada = account();
    let presented = Generation(0);
    create(&store, ada, session(1), NOW).await;
    server.command(&["SCRIPT", "FLUSH"]);
    let rotation = store.sessions.rotate(ada, session(1), presented, GRACE, IDLE, NOW).await.unwrap();
    assert!(matches!(rotation, Rotation::Rotated(_)));

    server.kill();
    server.restart();
    wait::until("the store is connected again", || async { store.health.ping().await.is_ok() }).await;
    // the restarted server has the rotation, but no script
    let again = store.sessions.rotate(ada, session(1), presented, GRACE, IDLE, NOW).await.unwrap();
    let Rotation::Repeated(grant) = again else { panic!("{again:?}") };
    assert_eq!(grant.generation, Generation(1), "the acknowledged rotation survived");
    // `create` and `list` run further scripts.
    create(&store, ada, session(2), NOW).await;
    assert_eq!(store.sessions.list(ada, NOW).await.unwrap().len(), 2);
    store.close().await;
}
