//! Operations on sessions that come at the same moment go to Redis in one call of their script. A call costs a write, a
//! wake-up and the start of a script, and that is more than most operations cost themselves.
//!
//! The first waits for whatever else is ready to run on its core, and for nothing more; when a call is full it is sent at
//! once, so that Redis works on it while the core works on the next. Each is atomic and has its own answer, an error of its
//! own included; what befalls the call befalls all of them. Where keys of several buckets can't be used in one script, as in
//! a cluster, only those of one bucket go together.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use fred::{
    error::{Error as FredError, ErrorKind},
    types::Value,
};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    connection::{RedisConnection, RedisError},
    key,
    script::{self, Script, Scripts, unexpected},
};
use crate::{domain::ids::AccountId, runtime};

/// The most operations in one call: Redis does nothing else meanwhile.
const MOST: usize = 32;

/// A script that takes several operations.
#[derive(Debug)]
pub(super) struct ScriptBatcher {
    script: Script,
    /// What waits to be sent, by connection.
    waiting: Vec<Mutex<Vec<Operation>>>,
}

/// Which of the scripts.
pub(super) type Which = fn(&Scripts) -> &ScriptBatcher;

/// One operation, and who waits for it.
#[derive(Debug)]
struct Operation {
    account: AccountId,
    /// The first begins with the account's id.
    arguments: Vec<Value>,
    answer: oneshot::Sender<Result<Value, RedisError>>,
}

impl ScriptBatcher {
    pub(super) fn new(script: Script, connections: usize) -> Self {
        Self { script, waiting: (0..connections.max(1)).map(|_| Mutex::default()).collect() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Operation>> {
        let here = runtime::current_core().unwrap_or_default() % self.waiting.len();
        self.waiting[here].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisConnection {
    /// Does an operation on an account's sessions in one round trip, with others that come at the same moment.
    pub(super) async fn run_batched(
        self: &Arc<Self>,
        which: Which,
        account: AccountId,
        arguments: Vec<Value>,
    ) -> Result<Value, RedisError> {
        let together = which(&self.scripts);
        let (answer, answered) = oneshot::channel();
        // in a cluster it isn't known which of them go together
        let apart = self.per_slot.load(Ordering::Relaxed);
        let (first, full) = {
            let mut waiting = together.waiting();
            waiting.push(Operation { account, arguments, answer });
            let full = (waiting.len() == MOST && !apart).then(|| mem::take(&mut *waiting));
            (waiting.len() == 1, full)
        };
        // tasks of their own, since who came first, or last, may be gone before it is sent
        if first {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                // once more through what has arrived meanwhile
                tokio::task::yield_now().await;
                let waiting = mem::take(&mut *which(&connection.scripts).waiting());
                connection.send(which, waiting).await;
            });
        }
        if let Some(full) = full {
            let connection = Arc::clone(self);
            tokio::spawn(async move { connection.send(which, full).await });
        }
        let answered = async { answered.await.unwrap_or_else(|_| Err(given_up())) };
        script::watch(&together.script, answered).await
    }

    async fn send(&self, which: Which, mut waiting: Vec<Operation>) {
        while !waiting.is_empty() {
            let calls = groups(waiting, self.per_slot.load(Ordering::Relaxed));
            let refused = join_all(calls.into_iter().map(|operations| self.call(which, operations))).await;
            waiting = refused.into_iter().flatten().collect();
        }
    }

    /// Sends operations in one call, and gives everyone the answer. Those that were refused, and weren't done, because they
    /// don't go together are given back.
    async fn call(&self, which: Which, operations: Vec<Operation>) -> Vec<Operation> {
        let names = &self.keys;
        let mut keys = Vec::with_capacity(3 * operations.len());
        let mut arguments = vec![self.event_trim_args()];
        for Operation { account, arguments: own, .. } in &operations {
            let bucket = key::bucket(*account);
            keys.extend([names.sessions(*account), names.events_of_bucket(bucket), names.position_of_bucket(bucket)]);
            arguments.extend_from_slice(own);
        }
        let error = match script::call(&which(&self.scripts).script, self.client(), keys, arguments).await {
            Ok(Value::Array(answers)) if answers.len() == operations.len() => {
                for (operation, answer) in operations.into_iter().zip(answers) {
                    // who has gone has no use for it
                    let _ = operation.answer.send(own(answer));
                }
                return Vec::new();
            }
            Ok(answer) => unexpected("a script for several", &answer),
            Err(error) if operations.len() > 1 && error.details().starts_with("CROSSSLOT") => {
                self.per_slot.store(true, Ordering::Relaxed);
                return operations;
            }
            Err(error) => error.into(),
        };
        for operation in operations {
            let _ = operation.answer.send(Err(error.clone()));
        }
        Vec::new()
    }
}

/// Operations that go together.
fn groups(operations: Vec<Operation>, apart: bool) -> Vec<Vec<Operation>> {
    let mut groups: Vec<Vec<Operation>> = Vec::new();
    let mut of_bucket = HashMap::new();
    for operation in operations {
        let bucket = if apart { key::bucket(operation.account) } else { 0 };
        let group = of_bucket.entry(bucket).or_insert(usize::MAX);
        match groups.get_mut(*group) {
            Some(group) if group.len() < MOST => group.push(operation),
            _ => {
                *group = groups.len();
                groups.push(vec![operation]);
            }
        }
    }
    groups
}

/// An operation's answer, which may be an error of its own (`each` in `lua/lib.lua`).
fn own(answer: Value) -> Result<Value, RedisError> {
    if let Value::Array(parts) = &answer
        && let [kind, why] = &parts[..]
        && kind.as_bytes() == Some(b"error")
    {
        let why = why.as_string().unwrap_or_default();
        return Err(FredError::new(ErrorKind::Unknown, why).into());
    }
    Ok(answer)
}

fn given_up() -> RedisError {
    RedisError::Unavailable(FredError::new(ErrorKind::Canceled, "the service stops"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(accounts: &[u8]) -> Vec<Operation> {
        let operation = |last: &u8| {
            let mut id = [0; 16];
            id[15] = *last;
            let (answer, _) = oneshot::channel();
            Operation { account: AccountId::from_bytes(id), arguments: Vec::new(), answer }
        };
        accounts.iter().map(operation).collect()
    }

    fn sizes(accounts: &[u8], apart: bool) -> Vec<usize> {
        groups(operations(accounts), apart).iter().map(Vec::len).collect()
    }

    #[test]
    fn as_many_go_together_as_may() {
        assert!(sizes(&[], false).is_empty());
        assert_eq!(sizes(&[1, 2, 1, 3], false), [4]);
        assert_eq!(sizes(&[1, 2, 1, 3], true), [2, 1, 1]);
        assert_eq!(sizes(&[7; 70], true), [32, 32, 6]);
    }

    #[test]
    fn an_error_of_one_is_its_own() {
        let error = |why: &str| own(Value::Array(vec!["error".into(), why.into()])).unwrap_err();
        assert!(matches!(error("ERR latchkey: a session record"), RedisError::Unexpected(_)));
        assert!(matches!(error("OOM command not allowed"), RedisError::Unavailable(_)));
        assert!(own(Value::Array(vec!["gone".into()])).is_ok());
        assert!(own(Value::Integer(1)).is_ok());
    }
}
