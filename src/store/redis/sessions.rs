//! Operations on sessions. Each function is one atomic round trip within one slot (I8).

use std::{iter::repeat, sync::Arc, time::Duration};

use fred::{
    bytes::{BufMut, Bytes, BytesMut},
    interfaces::HashesInterface,
    types::Value,
};

use super::{
    connection::{RedisConnection, RedisError},
    key,
    last_use::{LastUse, UseOrigin, encode_authentication},
    record::{self, Record},
    revocation_log::{Position, RevocationLog, session_ended},
    script::{self, Script, millis, unexpected},
};
use crate::{
    domain::{
        account::{ClaimsVersion, Epoch, Roles},
        authentication::Authentication,
        clock::Timestamp,
        event::Reason,
        further_claims::FurtherClaims,
        ids::{AccountId, SessionId},
        session::{
            Accepted, ClientGrant, Generation, Grant, Liveness, Origin, OriginTag, RepeatRule, Rotation, Session,
            Transport,
        },
    },
    metrics::Timed,
};

/// How long a fence refuses sign-ins that were checked before an account changed: longer than any request may take.
const FENCE: Duration = Duration::from_mins(5);

/// The latest time of a record, in milliseconds.
const MAX_U48: u64 = (1 << 48) - 1;

/// A session to create.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The id.
    pub id: SessionId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The account's roles.
    pub roles: Roles,
    /// The account's other claims.
    pub further_claims: FurtherClaims,
    /// The version of the account's claims that has these roles.
    pub claims_version: ClaimsVersion,
    /// The account's epoch when its credentials were checked.
    pub epoch: Epoch,
    /// The transport of its refresh token.
    pub transport: Transport,
    /// Address, device and user agent of the sign-in.
    pub origin: Origin,
    /// The tag of its network and user agent.
    pub tag: OriginTag,
    /// The authentication and the grant that the session is based on.
    pub basis: SessionBasis,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub absolute_timeout: Duration,
    /// The maximum number of sessions of the account; the oldest ends first.
    pub max_per_account: u32,
}

/// The authentication and the grant that a session is based on. The default is a sign-in by password to the first-party client.
#[derive(Clone, Debug, Default)]
pub struct SessionBasis {
    /// The authentication; if none, a password at the time of creation.
    pub authentication: Option<Authentication>,
    /// The client, the scopes and the audiences; none for the first-party defaults.
    pub client: Option<ClientGrant>,
    /// The session that it belongs to.
    pub parent: Option<SessionId>,
}

/// A refresh token that is presented.
#[derive(Clone, Copy, Debug)]
pub struct Presentation {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The generation of the token.
    pub generation: Generation,
    /// The sessions whose tokens are accepted. A session of another transport is treated as missing and left unchanged.
    pub accepted: Accepted,
    /// The origin of the request.
    pub origin: UseOrigin,
}

/// The outcome of [`SessionStore::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Create {
    /// The session was created.
    Created {
        /// The new session.
        grant: Grant,
        /// The sessions that the cap has ended for it.
        evicted: Vec<SessionId>,
    },
    /// The account or its claims have changed since its credentials were checked (I5, I16): check them again.
    Stale,
}

/// A session that takes the place of another one when all sessions of the account end.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The id of the new session.
    pub id: SessionId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The session whose place it takes.
    pub replaces: SessionId,
    /// The sessions that may be replaced.
    pub accepted: Accepted,
    /// The account's roles.
    pub roles: Roles,
    /// The account's other claims.
    pub further_claims: FurtherClaims,
    /// The version of the account's claims that has these roles.
    pub claims_version: ClaimsVersion,
    /// The account's new epoch.
    pub epoch: Epoch,
    /// The authentication of the new session; none for that of the replaced one.
    pub authentication: Option<Authentication>,
    /// The idle timeout.
    pub idle_timeout: Duration,
    /// The absolute lifetime.
    pub absolute_timeout: Duration,
}

/// The outcome of [`SessionStore::replace_all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replace {
    /// The session was replaced, and all others have ended.
    Replaced {
        /// The new session.
        grant: Grant,
        /// How many live sessions ended, without the replaced one.
        ended: u64,
    },
    /// The session to replace has ended; nothing was changed.
    Gone,
    /// The session to replace is not accepted; nothing was changed.
    NotAccepted,
}

/// A live session, with the account's roles and claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSession {
    /// The session.
    pub session: Session,
    /// The account's roles.
    pub roles: Roles,
    /// The version of the account's claims.
    pub claims_version: ClaimsVersion,
}

/// An authentication of a session's user after the sign-in.
#[derive(Clone, Copy, Debug)]
pub struct StepUp {
    /// The account.
    pub account: AccountId,
    /// The session.
    pub session: SessionId,
    /// The account's epoch when its credentials were checked.
    pub epoch: Epoch,
    /// The authentication.
    pub authentication: Authentication,
    /// The origin of the request, for a session that has none.
    pub origin: UseOrigin,
}

/// The outcome of [`SessionStore::step_up`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepUpOutcome {
    /// The session has the authentication now.
    Recorded(Box<Grant>),
    /// The session has ended.
    Gone,
    /// The account has changed since its credentials were checked (I5).
    Stale,
}

/// Sessions and their refresh tokens. Clones share the connections.
#[derive(Clone)]
pub struct SessionStore {
    pub(super) connection: Arc<RedisConnection>,
    pub(super) log: Arc<RevocationLog>,
    /// Metrics of single-session reads.
    pub(super) look_ups: Timed,
}

impl SessionStore {
    pub(super) fn new(connection: Arc<RedisConnection>, log: Arc<RevocationLog>) -> Self {
        Self { look_ups: connection.metrics.timed("look_up"), connection, log }
    }

    /// Creates a session.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn create(&self, new: NewSession, now: Timestamp) -> Result<Create, RedisError> {
        let SessionBasis { authentication, client, parent } = new.basis;
        let grant =
            client.as_ref().map(|client| record::encode_grant(client).ok_or_else(|| too_long(client))).transpose()?;
        let (record, ttl) = new_record(new.transport, new.idle_timeout, new.absolute_timeout, now);
        let record = Record { has_grant: grant.is_some(), has_last_use: true, ..record };
        let last_use = LastUse::new(UseOrigin { tag: new.tag, ip: new.origin.ip }, authentication, parent);
        let mut all = session_arg_prefix(new.account, new.id, 60);
        for time in [now.as_millis().max(0).unsigned_abs(), whole_millis(ttl)] {
            all.put_uint(time.min(MAX_U48), 6);
        }
        all.put_u32(new.max_per_account);
        all.put_u32(new.epoch.0);
        all.put_u32(new.claims_version.0);
        all.extend_from_slice(&record.encode());
        let mut arguments = vec![Value::Bytes(all.freeze()), new.further_claims.encode_with(&new.roles).into()];
        let details = record::encode_details(grant, &new.origin).into_iter().map(Bytes::from);
        arguments.extend(details.chain(repeat(Bytes::new())).take(record::DETAIL_PARTS).map(Value::Bytes));
        arguments.push(Value::Bytes(last_use.encode(now).into()));
        let answer = self.connection.run_batched(|scripts| &scripts.create, new.account, arguments).await?;
        // The position of the last event, where the cap has ended sessions.
        let (outcome, ended) = match &answer {
            Value::Array(parts) => (parts.first().and_then(Value::as_str), parts.get(1)),
            outcome => (outcome.as_str(), None),
        };
        match outcome.as_deref() {
            Some("created") => {
                let evicted = evicted(&answer);
                for session in &evicted {
                    self.log.session_cache.remove_session(new.account, *session);
                }
                if let Some(position) = ended {
                    self.confirm_ended("create", new.account, position).await?;
                }
                let client = client.map(Box::new);
                let claims = (new.roles, new.further_claims, new.claims_version);
                let grant = record.into_grant(new.account, new.id, claims, Some(&last_use), client);
                Ok(Create::Created { grant, evicted })
            }
            Some("stale") => Ok(Create::Stale),
            _ => Err(unexpected("create", &answer)),
        }
    }

    /// Presents a refresh token of generation `presented`. Repeats are accepted within `grace` only (I1, I2).
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn rotate(
        &self,
        account: AccountId,
        session: SessionId,
        presented: Generation,
        grace: Duration,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<Rotation, RedisError> {
        let (accepted, origin) = (Accepted::Any, UseOrigin::default());
        let presentation = Presentation { account, session, generation: presented, accepted, origin };
        let rule = RepeatRule { grace, retry_window: Duration::ZERO, counted_repeats_limit: 8 };
        self.present(&presentation, &rule, idle_timeout, now).await
    }

    /// Presents the refresh token of a session of the first-party client: see [`SessionStore::present_for`].
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn present(
        &self,
        presentation: &Presentation,
        rule: &RepeatRule,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<Rotation, RedisError> {
        self.present_for(presentation, None, rule, idle_timeout, now).await
    }

    /// Presents a refresh token: rotates it, answers a repeat, or ends the session (I1, I2). The session of another client than `client`,
    /// the first-party client if there is none, is treated as missing and left unchanged.
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
        let mut words = session_arg_prefix(account, session, 55 + client.map_or(0, |client| 1 + client.len()));
        words.put_u32(generation.0);
        for time in [now.as_millis().max(0).unsigned_abs(), whole_millis(rule.grace), whole_millis(idle_timeout)] {
            words.put_uint(time.min(MAX_U48), 6);
        }
        words.put_u8(if client.is_some() { 2 } else { (accepted == Accepted::Bearer).into() });
        words.put_uint(whole_millis(rule.retry_window).min(MAX_U48), 6);
        words.put_u8(rule.counted_repeats_limit);
        if let Some(client) = client {
            // No client has a longer id.
            words.put_u8(u8::try_from(client.len()).unwrap_or(u8::MAX));
            words.extend_from_slice(&client.as_bytes()[..client.len().min(255)]);
        }
        origin.encode(&mut words);
        let arguments = vec![Value::Bytes(words.freeze())];
        let answer = self.connection.run_batched(|scripts| &scripts.rotate, account, arguments).await?;
        if let Some(record) = answer.as_bytes() {
            // the common case: rotated, and there are no roles, no other version of the claims and no client grant
            let record = Record::decode(record)?;
            let grant = record.into_grant(account, session, Default::default(), None, None);
            return Ok(Rotation::Rotated(grant));
        }
        let Value::Array(parts) = &answer else { return Err(unexpected("rotate", &answer)) };
        let outcome = parts.first().and_then(Value::as_str);
        let grant = || -> Result<Grant, RedisError> {
            let record = parts.get(1).and_then(Value::as_bytes).ok_or_else(|| unexpected("rotate", &answer))?;
            let record = Record::decode(record)?;
            let (roles, further) = claims_of(parts.get(2))?;
            let claims = record::decode_claims(parts.get(3).and_then(Value::as_bytes))?;
            let last_use = parts.get(4).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
            let client = client_of(&record, parts.get(5))?;
            Ok(record.into_grant(account, session, (roles, further, claims.version), last_use.as_ref(), client))
        };
        match outcome.as_deref() {
            Some("rotated") => Ok(Rotation::Rotated(grant()?)),
            Some("repeated") => Ok(Rotation::Repeated(grant()?)),
            Some("counted") => Ok(Rotation::Counted(grant()?)),
            Some(ended @ ("reused" | "second_holder")) => {
                self.log.session_cache.remove_session(account, session);
                self.count_revocation(Reason::Reuse);
                let position = parts.get(1).ok_or_else(|| unexpected("rotate", &answer))?;
                self.confirm_ended("rotate", account, position).await?;
                Ok(if ended == "reused" { Rotation::Reused } else { Rotation::SecondHolder })
            }
            Some("expired") => Ok(Rotation::Expired),
            Some("gone") => Ok(Rotation::Gone),
            _ => Err(unexpected("rotate", &answer)),
        }
    }

    /// Records an authentication of a session's user after the sign-in. Its refresh token stays.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn step_up(&self, step_up: StepUp, now: Timestamp) -> Result<StepUpOutcome, RedisError> {
        let StepUp { account, session, epoch, authentication, origin } = step_up;
        let mut use_origin = BytesMut::with_capacity(25);
        origin.encode(&mut use_origin);
        let arguments = [
            bytes(session.as_bytes()),
            millis(now),
            Value::Integer(epoch.0.into()),
            Value::Bytes(encode_authentication(authentication).into()),
            Value::Bytes(use_origin.freeze()),
        ];
        let answer = self.run(&self.connection.scripts.step_up, account, arguments).await;
        // On success and on failure: the next lookup reads the flag of the step-up.
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        match answer.as_str().as_deref() {
            Some("gone") => return Ok(StepUpOutcome::Gone),
            Some("stale") => return Ok(StepUpOutcome::Stale),
            _ => {}
        }
        let Value::Array(parts) = &answer else { return Err(unexpected("step_up", &answer)) };
        let record = parts.first().and_then(Value::as_bytes).ok_or_else(|| unexpected("step_up", &answer))?;
        let record = Record::decode(record)?;
        let (roles, further) = claims_of(parts.get(1))?;
        let claims = record::decode_claims(parts.get(2).and_then(Value::as_bytes))?;
        let last_use = parts.get(3).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
        let client = client_of(&record, parts.get(4))?;
        let grant = record.into_grant(account, session, (roles, further, claims.version), last_use.as_ref(), client);
        Ok(StepUpOutcome::Recorded(Box::new(grant)))
    }

    /// The authentication of a session's sign-in, and its user's last one after that; none if the session has ended.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn authentications(
        &self,
        account: AccountId,
        session: SessionId,
    ) -> Result<Option<(Authentication, Option<Authentication>)>, RedisError> {
        let client = self.connection.client();
        let id = Bytes::copy_from_slice(session.as_bytes());
        let fields = vec![id, record::last_use_field(session)];
        let answer = Box::pin(client.hmget(self.connection.keys.sessions(account), fields));
        let (record, last_use): (Option<Bytes>, Option<Bytes>) = self.look_ups.watch(answer).await?;
        let Some(record) = record else { return Ok(None) };
        let record = Record::decode(&record)?;
        let last_use = last_use.filter(|_| record.has_last_use);
        let last_use = last_use.map(|part| LastUse::decode(&part)).transpose()?;
        Ok(Some((record.authentication(last_use.as_ref()), last_use.and_then(|last_use| last_use.step_up))))
    }

    /// Ends one session (I3). Returns whether there was one, once no other node can call it active. Waits also if the session had
    /// ended before: its end may not have reached every node yet.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke(
        &self,
        account: AccountId,
        session: SessionId,
        reason: Reason,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        let pending = self.log.acks.open();
        let from = pending.origin();
        let mut which = session_arg_prefix(account, session, from.len());
        which.extend_from_slice(from.as_bytes());
        let event = session_ended(account, session, reason, now);
        let arguments = vec![Value::Bytes(which.freeze()), event.into()];
        let answer = self.connection.run_batched(|scripts| &scripts.revoke, account, arguments).await;
        // On success and on failure: the next lookup reads Redis.
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        let ended = matches!(answer, Value::Integer(1));
        if ended {
            self.count_revocation(reason);
            pending.confirmed().await;
        } else {
            let position = position_of("revoke", &answer)?;
            self.log.confirm_position(pending, account, position).await;
        }
        Ok(ended)
    }

    /// Ends one session and, if it is a browser's, the sessions beneath it (I3). Returns the sessions that ended, once no other node
    /// can call them active.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke_tree(
        &self,
        account: AccountId,
        session: SessionId,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Vec<SessionId>, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [bytes(session.as_bytes()), reason.as_str().into(), millis(now), pending.origin().into()];
        let answer = self.run(&self.connection.scripts.revoke_tree, account, arguments).await;
        self.log.session_cache.remove_session(account, session);
        let answer = answer?;
        let Value::Array(parts) = &answer else {
            let position = position_of("revoke_tree", &answer)?;
            self.log.confirm_position(pending, account, position).await;
            return Ok(Vec::new());
        };
        let ids = parts.iter().filter_map(|id| <[u8; 16]>::try_from(id.as_bytes()?).ok());
        let ended: Vec<_> = ids.map(SessionId::from_bytes).collect();
        for session in &ended {
            self.log.session_cache.remove_session(account, *session);
        }
        self.count_revocation(reason);
        pending.confirmed().await;
        Ok(ended)
    }

    /// Moves the sessions beneath a browser's session `former` to `new`, which takes its place, and ends the former (I3). If the new one is
    /// not live, ends all of them. Returns whether `former` existed.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn adopt(
        &self,
        account: AccountId,
        former: SessionId,
        new: SessionId,
        reason: Reason,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [
            bytes(former.as_bytes()),
            bytes(new.as_bytes()),
            reason.as_str().into(),
            millis(now),
            pending.origin().into(),
        ];
        let answer = self.run(&self.connection.scripts.adopt, account, arguments).await;
        self.log.session_cache.remove_account(account, Some(new));
        let answer = answer?;
        if matches!(answer, Value::Integer(1)) {
            self.count_revocation(reason);
            pending.confirmed().await;
            Ok(true)
        } else {
            let position = position_of("adopt", &answer)?;
            self.log.confirm_position(pending, account, position).await;
            Ok(false)
        }
    }

    /// Reads a live session.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn find(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<FoundSession>, RedisError> {
        let id = session.as_bytes().as_slice();
        let numbers = 1..=4;
        let mut fields = vec![Bytes::copy_from_slice(id), Bytes::from_static(b"r"), Bytes::from_static(b"v")];
        fields.extend(numbers.clone().map(|number| Bytes::from([id, &[number]].concat())));
        let answer = Box::pin(self.connection.client().hmget(self.connection.keys.sessions(account), fields));
        let found: Vec<Option<Bytes>> = self.look_ups.watch(answer).await?;
        let [Some(record), roles, claims, parts @ ..] = found.as_slice() else { return Ok(None) };
        let parts = numbers.zip(parts).filter_map(|(number, part)| Some((number, part.as_ref()?))).collect();
        let session = record::decode_session(account, session, record, parts)?;
        if session.is_expired(now) {
            return Ok(None);
        }
        let roles = match roles {
            Some(text) => {
                FurtherClaims::decode_with_roles(&String::from_utf8_lossy(text))
                    .map_err(|error| RedisError::Unexpected(error.to_string()))?
                    .0
            }
            None => Roles::default(),
        };
        let claims_version = record::decode_claims(claims.as_deref())?.version;
        Ok(Some(FoundSession { session, roles, claims_version }))
    }

    /// Extends the idle timeout of a session that has no tokens. Returns whether it is live.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn touch(
        &self,
        account: AccountId,
        session: SessionId,
        origin: UseOrigin,
        idle_timeout: Duration,
        now: Timestamp,
    ) -> Result<bool, RedisError> {
        let mut encoded = BytesMut::with_capacity(25);
        origin.encode(&mut encoded);
        let arguments =
            [bytes(session.as_bytes()), millis(now), script::duration(idle_timeout), Value::Bytes(encoded.freeze())];
        let answer = self.run(&self.connection.scripts.touch, account, arguments).await?;
        Ok(matches!(answer, Value::Integer(1)))
    }

    /// Ends every session of an account, except one if given (I3). Returns the number of live sessions ended, once no other
    /// node can call them active. With an epoch, no sign-in that was checked against an older one can create a session any
    /// more (I5).
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn revoke_all(
        &self,
        account: AccountId,
        except: Option<SessionId>,
        epoch: Option<Epoch>,
        reason: Reason,
        now: Timestamp,
    ) -> Result<u64, RedisError> {
        let answer = self.run_revoke_all(account, except, epoch, reason, now, []).await?;
        answer.as_u64().ok_or_else(|| unexpected("revoke_all", &answer))
    }

    /// Ends every session of an account and starts the one that takes the place of `replacement.replaces` (I5), with its
    /// transport and its details. Does nothing if the session to replace has ended (I3) or is not accepted. Returns once no
    /// other node can call an ended session active.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn replace_all(
        &self,
        replacement: Replacement,
        reason: Reason,
        now: Timestamp,
    ) -> Result<Replace, RedisError> {
        let Replacement {
            id,
            account,
            replaces,
            accepted,
            roles,
            further_claims,
            claims_version,
            epoch,
            authentication,
            idle_timeout,
            absolute_timeout,
        } = replacement;
        let (record, ttl) = new_record(Transport::Bearer, idle_timeout, absolute_timeout, now);
        let extra = [
            bytes(replaces.as_bytes()),
            Value::Bytes(record.encode().into()),
            script::duration(ttl),
            further_claims.encode_with(&roles).into(),
            if accepted == Accepted::Bearer { "1".into() } else { "".into() },
            Value::Integer(claims_version.0.into()),
            Value::Bytes(authentication.map(encode_authentication).unwrap_or_default().into()),
        ];
        let answer = self.run_revoke_all(account, Some(id), Some(epoch), reason, now, extra).await?;
        match answer.as_str().as_deref() {
            Some("gone") => return Ok(Replace::Gone),
            Some("cookie") => return Ok(Replace::NotAccepted),
            _ => {}
        }
        let Value::Array(parts) = &answer else { return Err(unexpected("revoke_all", &answer)) };
        let (Some(ended), Some(record)) =
            (parts.first().and_then(Value::as_u64), parts.get(1).and_then(Value::as_bytes))
        else {
            return Err(unexpected("revoke_all", &answer));
        };
        let record = Record::decode(record)?;
        let claims = record::decode_claims(parts.get(2).and_then(Value::as_bytes))?;
        let last_use = parts.get(3).and_then(Value::as_bytes).map(LastUse::decode).transpose()?;
        let client = client_of(&record, parts.get(4))?;
        let claims = (roles, further_claims, claims.version);
        let grant = record.into_grant(account, id, claims, last_use.as_ref(), client);
        Ok(Replace::Replaced { grant, ended })
    }

    async fn run_revoke_all(
        &self,
        account: AccountId,
        except: Option<SessionId>,
        epoch: Option<Epoch>,
        reason: Reason,
        now: Timestamp,
        replacement: impl IntoIterator<Item = Value>,
    ) -> Result<Value, RedisError> {
        let pending = self.log.acks.open();
        let from = pending.origin();
        let arguments = [
            except.map_or_else(|| "".into(), |id| bytes(id.as_bytes())),
            reason.as_str().into(),
            millis(now),
            epoch.map_or_else(|| "".into(), |epoch| Value::Integer(epoch.0.into())),
            millis(now + FENCE),
            from.into(),
        ];
        let arguments = arguments.into_iter().chain(replacement);
        let answer = self.run(&self.connection.scripts.revoke_all, account, arguments).await;
        self.log.session_cache.remove_account(account, except);
        let answer = answer?;
        // A text means that nothing was done.
        if answer.as_u64().is_some() || answer.is_array() {
            self.count_revocation(reason);
            pending.confirmed().await;
        }
        Ok(answer)
    }

    /// Replaces the roles and other claims that the next refresh of each session of an account returns, and their version (I16).
    /// Returns the version once no other node accepts a token with an older one: `version`, or a later one if Redis has given
    /// `version` to a change that the database did not store. A sign-in that was checked against an epoch older than `epoch` can't create a session
    /// any more, so that it can't write the former roles.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn set_claims(
        &self,
        account: AccountId,
        roles: &Roles,
        further: &FurtherClaims,
        version: ClaimsVersion,
        epoch: Epoch,
        now: Timestamp,
    ) -> Result<ClaimsVersion, RedisError> {
        let pending = self.log.acks.open();
        let arguments = [
            further.encode_with(roles).into(),
            millis(now),
            Value::Integer(epoch.0.into()),
            millis(now + FENCE),
            Value::Integer(version.0.into()),
            pending.origin().into(),
        ];
        let answer = self.run(&self.connection.scripts.set_claims, account, arguments).await;
        // On success and on failure: the next lookup of each session reads Redis.
        self.log.session_cache.remove_account(account, None);
        let answer = answer?;
        let version = answer.as_u64().and_then(|version| u32::try_from(version).ok());
        let version = version.ok_or_else(|| unexpected("set_claims", &answer))?;
        pending.confirmed().await;
        Ok(ClaimsVersion(version))
    }

    /// The version of an account's claims in Redis. None if Redis holds no version; the database may hold one.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn claims_version(&self, account: AccountId) -> Result<Option<ClaimsVersion>, RedisError> {
        let client = self.connection.client();
        let found = client.hget(self.connection.keys.sessions(account), record::CLAIMS_FIELD);
        let found: Option<Bytes> = Box::pin(found).await?;
        Ok(found.map(|stamp| record::decode_claims(Some(&stamp))).transpose()?.map(|stamp| stamp.version))
    }

    /// The live sessions of an account, oldest first.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn list(&self, account: AccountId, now: Timestamp) -> Result<Vec<Session>, RedisError> {
        let client = self.connection.client();
        let fields: Vec<(Bytes, Bytes)> = client
            .hgetall::<std::collections::HashMap<Bytes, Bytes>, _>(self.connection.keys.sessions(account))
            .await?
            .into_iter()
            .collect();
        let mut sessions = record::decode_all(account, &fields);
        sessions.retain(|session| !session.is_expired(now));
        sessions.sort_by_key(|session| (session.created_at, session.id));
        Ok(sessions)
    }

    /// Whether a session is live.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn is_live(&self, account: AccountId, session: SessionId, now: Timestamp) -> Result<bool, RedisError> {
        Ok(self.look_up(account, session, now).await?.is_some())
    }

    /// Returns how long a session is live, or none if it has ended. Reads Redis.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn liveness_in_redis(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        self.look_up(account, session, now).await
    }

    /// Returns how long a session is live, or none if it has ended. Reads the node's session cache while it is valid, else
    /// Redis.
    ///
    /// # Errors
    /// [`RedisError`]
    pub async fn liveness(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        let session_cache = &self.log.session_cache;
        if let Some(known) = session_cache.get(account, session, now) {
            return Ok(Some(known));
        }
        let as_of = session_cache.version(account);
        let found = self.look_up(account, session, now).await?;
        if let (Some(as_of), Some(found)) = (as_of, found) {
            session_cache.insert(account, session, found, as_of);
        }
        Ok(found)
    }

    /// As [`SessionStore::liveness`], from the cache alone. Counts no cache hit ([`SessionStore::count_cache_hit`] does).
    pub fn cached_liveness(&self, account: AccountId, session: SessionId, now: Timestamp) -> Option<Liveness> {
        self.log.session_cache.peek(account, session, now)
    }

    /// Counts a hit of the session cache.
    pub fn count_cache_hit(&self) {
        self.log.session_cache.count_hit();
    }

    /// Waits until no other node can call the sessions active that a script has ended, up to its last event at `position`.
    async fn confirm_ended(
        &self,
        script: &'static str,
        account: AccountId,
        position: &Value,
    ) -> Result<(), RedisError> {
        let position = position_of(script, position)?;
        self.log.confirm_position(self.log.acks.open(), account, position).await;
        Ok(())
    }

    fn count_revocation(&self, reason: Reason) {
        self.connection.metrics.revocations.with_label_values(&[reason.as_str()]).inc();
    }

    #[tracing::instrument(level = "trace", target = "latchkey::span", name = "redis look_up", skip_all, fields(otel.kind = "client", db.system.name = "redis", db.operation.name = "look_up"))]
    async fn look_up(
        &self,
        account: AccountId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Liveness>, RedisError> {
        let client = self.connection.client();
        let fields =
            vec![Bytes::copy_from_slice(session.as_bytes()), Bytes::from_static(record::CLAIMS_FIELD.as_bytes())];
        // Boxed, as in script.rs.
        let answer = Box::pin(client.hmget(self.connection.keys.sessions(account), fields));
        let (found, claims): (Option<Bytes>, Option<Bytes>) = self.look_ups.watch(answer).await?;
        let Some(record) = found else { return Ok(None) };
        let Record { created_at, idle_ends_at, ends_at, has_step_up: stepped_up, .. } = Record::decode(&record)?;
        let claims = record::decode_claims(claims.as_deref())?;
        let live = Liveness { created_at, idle_ends_at, ends_at, claims, stepped_up };
        Ok((now < idle_ends_at.min(ends_at)).then_some(live))
    }

    /// Runs a script on an account's sessions in one round trip, with the keys and arguments that every script gets
    /// (`lua/lib.lua`).
    async fn run(
        &self,
        script: &Script,
        account: AccountId,
        own: impl IntoIterator<Item = Value>,
    ) -> Result<Value, RedisError> {
        let (keys, bucket) = (&self.connection.keys, key::bucket(account));
        let keys = vec![keys.sessions(account), keys.events_of_bucket(bucket), keys.position_of_bucket(bucket)];
        let mut arguments = Vec::with_capacity(9);
        arguments.extend([self.connection.event_trim_args(), bytes(account.as_bytes())]);
        arguments.extend(own);
        script::run(script, &self.connection, keys, arguments).await
    }
}

/// The beginning of an operation's first argument, with capacity for `more` bytes. Everything is in one argument, since each
/// further one costs Redis as much as a small command.
fn session_arg_prefix(account: AccountId, session: SessionId, more: usize) -> BytesMut {
    let mut all = BytesMut::with_capacity(32 + more);
    all.extend_from_slice(account.as_bytes());
    all.extend_from_slice(session.as_bytes());
    all
}

/// The ids of the sessions that `create.lua` has ended.
pub(super) fn evicted(answer: &Value) -> Vec<SessionId> {
    let Value::Array(parts) = answer else { return Vec::new() };
    let ids = parts.iter().skip(2).filter_map(|id| <[u8; 16]>::try_from(id.as_bytes()?).ok());
    ids.map(SessionId::from_bytes).collect()
}

/// The record of a session that begins now, and the TTL that its key needs at least.
pub(super) fn new_record(
    transport: Transport,
    idle: Duration,
    absolute: Duration,
    now: Timestamp,
) -> (Record, Duration) {
    let (idle_ends_at, ends_at) = (now + idle, now + absolute);
    let kept_until = idle_ends_at.min(ends_at) + idle / 16;
    let generation = Generation(0);
    let record = Record {
        has_grant: false,
        has_last_use: false,
        has_step_up: false,
        generation,
        transport,
        created_at: now,
        last_used_at: now,
        idle_ends_at,
        ends_at,
        kept_until,
    };
    (record, kept_until.saturating_since(now))
}

/// The roles and the other claims of an account, from the field `r`.
pub(super) fn claims_of(field: Option<&Value>) -> Result<(Roles, FurtherClaims), RedisError> {
    match field.and_then(Value::as_str) {
        None => Ok((Roles::default(), FurtherClaims::default())),
        Some(text) => {
            FurtherClaims::decode_with_roles(&text).map_err(|error| RedisError::Unexpected(error.to_string()))
        }
    }
}

/// The client grant at the beginning of a session's details, if it has one.
pub(super) fn client_of(record: &Record, details: Option<&Value>) -> Result<Option<Box<ClientGrant>>, RedisError> {
    if !record.has_grant {
        return Ok(None);
    }
    Ok(Some(record::decode_grant(details.and_then(Value::as_bytes).unwrap_or_default())?.0))
}

/// The error for a client grant that does not fit into a session.
pub(super) fn too_long(client: &ClientGrant) -> RedisError {
    RedisError::Unexpected(format!(
        "the scopes and audiences that {} requests need more than the {} bytes that a session has for them: request fewer",
        client.client_id,
        record::MAX_GRANT_BYTES
    ))
}

fn bytes(id: &[u8; 16]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(id))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The position that a script has returned.
pub(super) fn position_of(script: &str, answer: &Value) -> Result<Position, RedisError> {
    answer.as_str().and_then(|text| Position::parse(&text)).ok_or_else(|| unexpected(script, answer))
}
