//! A chat over WebSocket. `SessionWebSocket` closes a connection when its session ends, such as by a sign-out.

use futures_util::{SinkExt, StreamExt};
use latchkey_verify::poem::SessionWebSocket;
use poem::{
    IntoResponse, handler,
    web::{Data, websocket::Message},
};
use tokio::sync::broadcast::{self, error::RecvError};

/// The number of messages that a slow member may lag behind before some are lost.
const BACKLOG: usize = 256;

/// The room, in which every member receives every message.
#[derive(Clone)]
pub(crate) struct Room(broadcast::Sender<String>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

/// Adds a signed-in user to the chat until the session ends.
#[handler]
pub(crate) fn chat(socket: SessionWebSocket, Data(room): Data<&Room>) -> impl IntoResponse + use<> {
    let room = room.0.clone();
    let account_id = socket.claims().sub.clone();
    socket.on_upgrade(|mut socket| async move {
        let mut messages = room.subscribe();
        loop {
            tokio::select! {
                received = socket.next() => match received {
                    // sending fails only without subscribers, and this connection is one
                    Some(Ok(Message::Text(text))) => drop(room.send(format!("{account_id}: {text}"))),
                    Some(Ok(_)) => {} // binary messages, pings and pongs
                    Some(Err(_)) | None => break,
                },
                message = messages.recv() => {
                    let stays = match message {
                        Ok(text) => socket.send(Message::Text(text)).await.is_ok(),
                        // a slow member misses messages, and stays in the room
                        Err(RecvError::Lagged(_)) => true,
                        Err(RecvError::Closed) => false,
                    };
                    if !stays {
                        break;
                    }
                }
            }
        }
    })
}
