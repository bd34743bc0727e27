//! Presents a refresh token: rotates it (I1: one successor), answers an allowed repeat of a superseded token with the current one, or ends
//! the session (I2: reuse ends the session).

use std::time::Duration;

use fred::{bytes::BufMut, types::Value};

use super::{MAX_U48, SessionStore, decode_client_grant, decode_roles_and_claims, session_arg_prefix, whole_millis};
use crate::{
    domain::{
        clock::Timestamp,
        event::EndReason,
        ids::{AccountId, SessionId},
        session::{AcceptedTransport, Generation, Grant, RepeatRule, Rotation},
    },
    store::redis::{
        connection::RedisError,
        last_use::{LastUse, LastUseOrigin},
        record::{self, Record},
        script::unexpected,
    },
};

/// A refresh token that is presented.
#[derive(Clone, Copy, Debug)]
pub struct Presentation {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The generation of the token.
    pub generation: Generation,
    /// The transports of the sessions whose tokens are accepted. A session of another transport is treated as missing and left unchanged.
    pub accepted: AcceptedTransport,
    /// The origin of the request.
    pub origin: LastUseOrigin,
}

impl SessionStore {
    /// Presents a refresh token: rotates it, answers a repeat, or ends the session (I1, I2). `client` is the id of the client that presents
    /// the token; `None` for the first-party client. The session of another client is treated as missing and left unchanged.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn present_for(
        &self,
        presentation: &Presentation,
        client: Option<&str>,
        rule: &RepeatRule,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<Rotation, RedisError> {
        let Presentation { account, session, generation, accepted, origin } = *presentation;
        // In bytes: generation 4, three u48 values 18, accepted sessions 1, retry window 6, limit 1, origin at most 25. For a
        // client also the length of its id, 1, and the id.
        let capacity = 55 + client.map_or(0, |client| 1 + client.len());
        let mut argument = session_arg_prefix(account, session, capacity);
        argument.put_u32(generation.0);
        let now_millis = now.as_millis().max(0).unsigned_abs();
        for time in [now_millis, whole_millis(rule.grace), whole_millis(idle_timeout)] {
            argument.put_uint(time.min(MAX_U48), 6);
        }
        // The accepted sessions, as rotate.lua numbers them. With a client, `accepted` has no effect.
        argument.put_u8(match (client, accepted) {
            (Some(_), _) => 2,
            (None, AcceptedTransport::Bearer) => 1,
            (None, AcceptedTransport::Any) => 0,
        });
        argument.put_uint(whole_millis(rule.retry_window).min(MAX_U48), 6);
        argument.put_u8(rule.counted_repeats_limit);
        if let Some(client) = client {
            // The ids of clients are shorter than 255 bytes.
            argument.put_u8(u8::try_from(client.len()).unwrap_or(u8::MAX));
            argument.extend_from_slice(&client.as_bytes()[..client.len().min(255)]);
        }
        origin.encode(&mut argument);
        let arguments = vec![Value::Bytes(argument.freeze())];
        let answer = self.connection.run_batched(|scripts| &scripts.rotate, account, arguments).await?;
        if let Some(record) = answer.as_bytes() {
            // The common case: the session was rotated, and has no roles, no version of the claims and no client grant. Its last
            // use is only an origin.
            let record = Record::decode(record)?;
            let no_roles_or_claims = Default::default();
            let (last_use, client_grant) = (None, None);
            let grant = record.into_grant(account, session, no_roles_or_claims, last_use, client_grant);
            return Ok(Rotation::Rotated(grant));
        }
        // The parts of the answer are those that rotate.lua describes.
        let Value::Array(parts) = &answer else { return Err(unexpected("rotate", &answer)) };
        let outcome = parts.first().and_then(Value::as_str);
        let read_grant = || -> Result<Grant, RedisError> {
            let record = parts.get(1).and_then(Value::as_bytes).ok_or_else(|| unexpected("rotate", &answer))?;
            let record = Record::decode(record)?;
            let (roles, additional_claims) = decode_roles_and_claims(parts.get(2))?;
            let stamp = record::decode_claims_stamp(parts.get(3).and_then(Value::as_bytes))?;
            let last_use = parts.get(4).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
            let client_grant = decode_client_grant(&record, parts.get(5))?;
            let roles_and_claims = (roles, additional_claims, stamp.version);
            Ok(record.into_grant(account, session, roles_and_claims, last_use.as_ref(), client_grant))
        };
        match outcome.as_deref() {
            Some("rotated") => Ok(Rotation::Rotated(read_grant()?)),
            Some("repeated") => Ok(Rotation::Repeated(read_grant()?)),
            Some("counted") => Ok(Rotation::Counted(read_grant()?)),
            Some(ended @ ("reused" | "second_holder")) => {
                self.log.session_cache.remove_session(account, session);
                self.count_revocation(EndReason::Reuse);
                let position = parts.get(1).ok_or_else(|| unexpected("rotate", &answer))?;
                self.confirm_ended("rotate", account, position).await?;
                Ok(if ended == "reused" { Rotation::Reused } else { Rotation::SecondHolder })
            }
            Some("expired") => Ok(Rotation::Expired),
            Some("gone") => Ok(Rotation::Gone),
            _ => Err(unexpected("rotate", &answer)),
        }
    }
}
