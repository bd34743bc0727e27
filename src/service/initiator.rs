//! The initiator of an administrative change of an account.

use crate::domain::{
    audit::Actor,
    client::{Client, ClientId},
    ids::AccountId,
};

/// The initiator of a change of another account, such as an invitation, a reset of its factors or new metadata.
#[derive(Clone, Debug)]
pub enum Initiator {
    /// An admin, signed in.
    Admin(AccountId),
    /// A service client with the scope of the change.
    Client(ClientId),
    /// An operator at the command line.
    Operator,
}

impl Initiator {
    /// The service client as the initiator, if it has the scope of the change.
    pub fn of_client(client: &Client, scope: &str) -> Option<Self> {
        client.scopes.contains(scope).then(|| Self::Client(client.id.clone()))
    }

    /// The actor for the audit log. `None` for an operator, whom the command's database handle adds to each entry (`Sql::acting_as`).
    pub(super) fn actor(&self) -> Option<Actor> {
        match self {
            Self::Admin(id) => Some(Actor::Admin(*id)),
            Self::Client(id) => Some(Actor::Client(id.clone())),
            Self::Operator => None,
        }
    }
}
