//! `latchkey client list --dynamic`: clients that no operator has registered, and that an account has allowed.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    cli::output::{escape, write_json_line},
    domain::dynamic_client::ClientMetadata,
    store::sql::StoredDynamicClient,
};

/// A client, as `--json` prints it.
#[derive(Serialize)]
struct DynamicClientJson<'a> {
    client_id: &'a str,
    /// The id under which consents and sessions name the client.
    reference: &'a str,
    name: Option<String>,
    redirect_uris: Vec<String>,
    created_at: String,
    fetched_at: String,
    disabled_at: Option<String>,
}

impl<'a> DynamicClientJson<'a> {
    fn of(client: &'a StoredDynamicClient) -> Self {
        // a client whose stored metadata cannot be read is listed too, without a name
        let metadata: ClientMetadata = serde_json::from_str(&client.metadata).unwrap_or_default();
        Self {
            client_id: &client.client_id,
            reference: client.id.as_str(),
            name: metadata.name,
            redirect_uris: metadata.redirect_uris,
            created_at: client.created_at.to_string(),
            fetched_at: client.fetched_at.to_string(),
            disabled_at: client.disabled_at.map(|timestamp| timestamp.to_string()),
        }
    }
}

/// Prints the clients, as a table or as JSON lines. Their names and ids are untrusted, so the table escapes characters that could
/// move the cursor.
pub(super) fn list(clients: &[StoredDynamicClient], json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !json {
        writeln!(out, "{:<36}  {:<8}  {:<10}  {:<24}  CLIENT_ID", "REFERENCE", "STATE", "CREATED", "NAME")?;
    }
    for client in clients {
        let client = DynamicClientJson::of(client);
        if json {
            write_json_line(&mut out, &client)?;
            continue;
        }
        let created_on = client.created_at.split('T').next().unwrap_or_default();
        let state = if client.disabled_at.is_some() { "disabled" } else { "enabled" };
        let name = escape(client.name.as_deref().unwrap_or("-"));
        // The `client_id` is the URL of the app's metadata, or a text that Latchkey issued when the app registered itself. Issued
        // texts are long and begin alike, so the table leaves them out: the reference identifies the app.
        let client_id = if client.client_id.starts_with("https://") { client.client_id } else { "(registered itself)" };
        writeln!(out, "{:<36}  {state:<8}  {created_on:<10}  {name:<24}  {}", client.reference, escape(client_id))?;
    }
    out.flush()
}
