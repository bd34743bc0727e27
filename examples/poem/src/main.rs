//! An app whose callers sign in with Latchkey. `GET /hello` is for signed-in users, `GET /admin` for those with the role `admin`.
//! `GET /vault` is for users who authenticated with two factors in the last five minutes (RFC 9470).
//! `GET /chat` is a WebSocket that closes when its user signs out.

mod chat;

use std::{env, error::Error, time::Duration};

use latchkey_verify::{
    Verifier,
    poem::{Caller, Verify},
};
use poem::{EndpointExt, Route, Server, get, handler, listener::TcpAcceptor};
use tokio::net::TcpListener;

use chat::Room;

/// Greets a signed-in user.
#[handler]
fn hello(caller: Caller) -> String {
    format!("Hello, {}!\n", caller.sub)
}

/// Greets a user with the role `admin`.
#[handler]
fn admin(caller: Caller) -> String {
    format!("Hello, admin {}!\n", caller.sub)
}

/// Greets a user who recently authenticated with two factors, and names the level of the authentication (`acr`).
#[handler]
fn vault(caller: Caller) -> String {
    format!("Hello, {}, with {}!\n", caller.sub, caller.acr.as_deref().unwrap_or_default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let client_secret = env::var("LATCHKEY_CLIENT_SECRET").map_err(|_| "LATCHKEY_CLIENT_SECRET is not set")?;
    let verifier = Verifier::builder(setting("LATCHKEY_ISSUER", "http://127.0.0.1:8080"))
        .audience(setting("LATCHKEY_AUDIENCE", "latchkey"))
        .client(setting("LATCHKEY_CLIENT_ID", "hello"), client_secret)
        .build()
        .await?;

    let verify = Verify::new(verifier);
    // `aal2`: two factors
    let recent_two_factors = verify.clone().require_acr(["aal2"]).require_max_age(Duration::from_mins(5));
    let app = Route::new()
        .at("/hello", get(hello).with(verify.clone()))
        .at("/chat", get(chat::chat).with(verify.clone()).data(Room::new()))
        .at("/vault", get(vault).with(recent_two_factors))
        .at("/admin", get(admin).with(verify.require_role(["admin"])));
    let listener = TcpListener::bind(setting("LISTEN", "127.0.0.1:3000")).await?;
    println!("http://{}/hello", listener.local_addr()?);
    Server::new_with_acceptor(TcpAcceptor::from_tokio(listener)?).run(app).await?;
    Ok(())
}
