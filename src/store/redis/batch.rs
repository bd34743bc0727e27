//! Batches concurrent script calls per connection: a call costs a write, a wake-up and the start of a script, which is more
//! than most operations cost themselves.
//!
//! The first operation of a batch waits only until the other ready tasks of its core have run. A full batch is sent at once,
//! so that Redis works on it while the core fills the next. Each operation is atomic and has its own answer or error; an error
//! of the call is the answer of all. Where a script may not use keys of several buckets, as in a cluster, a batch holds
//! operations of one bucket only.

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

/// The maximum number of operations of a batch: Redis runs nothing else during the call.
const MAX_BATCH: usize = 32;

/// A script that runs several operations per call.
#[derive(Debug)]
pub(super) struct ScriptBatcher {
    script: Script,
    /// Operations to send, by connection.
    waiting: Vec<Mutex<Vec<Operation>>>,
}

/// Selects a batched script.
pub(super) type BatcherSelector = fn(&Scripts) -> &ScriptBatcher;

/// One operation and its caller.
#[derive(Debug)]
struct Operation {
    account: AccountId,
    /// The first argument begins with the account's id.
    arguments: Vec<Value>,
    answer: oneshot::Sender<Result<Value, RedisError>>,
}

impl ScriptBatcher {
    pub(super) fn new(script: Script, connections: usize) -> Self {
        Self { script, waiting: (0..connections.max(1)).map(|_| Mutex::default()).collect() }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Operation>> {
        let index = runtime::current_core().unwrap_or_default() % self.waiting.len();
        self.waiting[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RedisConnection {
    /// Runs an operation on an account's sessions in one round trip, batched with concurrent ones.
    pub(super) async fn run_batched(
        self: &Arc<Self>,
        select: BatcherSelector,
        account: AccountId,
        arguments: Vec<Value>,
    ) -> Result<Value, RedisError> {
        let batcher = select(&self.scripts);
        let (answer, answered) = oneshot::channel();
        // In a cluster, how the operations split into batches is decided when they are sent.
        let per_slot = self.per_slot.load(Ordering::Relaxed);
        let (first, full) = {
            let mut waiting = batcher.waiting();
            waiting.push(Operation { account, arguments, answer });
            let full = (waiting.len() == MAX_BATCH && !per_slot).then(|| mem::take(&mut *waiting));
            (waiting.len() == 1, full)
        };
        // Tasks of their own: a caller may be dropped before the batch is sent.
        if first {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                // Lets the other ready tasks of this core add their operations.
                tokio::task::yield_now().await;
                let waiting = mem::take(&mut *select(&connection.scripts).waiting());
                connection.send(select, waiting).await;
            });
        }
        if let Some(full) = full {
            let connection = Arc::clone(self);
            tokio::spawn(async move { connection.send(select, full).await });
        }
        let answered = async { answered.await.unwrap_or_else(|_| Err(shutting_down())) };
        script::watch(&batcher.script, answered).await
    }

    async fn send(self: &Arc<Self>, select: BatcherSelector, mut waiting: Vec<Operation>) {
        while !waiting.is_empty() {
            let calls = batches(waiting, self.per_slot.load(Ordering::Relaxed));
            let refused = join_all(calls.into_iter().map(|operations| self.call(select, operations))).await;
            waiting = refused.into_iter().flatten().collect();
        }
    }

    /// Runs operations in one call and delivers the answers. Returns operations that were refused, and not run, because
    /// they may not share a call.
    async fn call(self: &Arc<Self>, select: BatcherSelector, operations: Vec<Operation>) -> Vec<Operation> {
        let names = &self.keys;
        let mut keys = Vec::with_capacity(3 * operations.len());
        let mut arguments = vec![self.event_trim_args()];
        for Operation { account, arguments: own, .. } in &operations {
            let bucket = key::bucket(*account);
            keys.extend([names.sessions(*account), names.events_of_bucket(bucket), names.position_of_bucket(bucket)]);
            arguments.extend_from_slice(own);
        }
        let error = match script::call(&select(&self.scripts).script, self, keys, arguments).await {
            Ok(Value::Array(answers)) if answers.len() == operations.len() => {
                for (operation, answer) in operations.into_iter().zip(answers) {
                    let answer = operation_result(answer).map_err(|error| {
                        self.reconnect_if_demoted(&error);
                        error.into()
                    });
                    // A caller that is gone needs no answer.
                    let _ = operation.answer.send(answer);
                }
                return Vec::new();
            }
            Ok(answer) => unexpected("a batch", &answer),
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

/// Splits operations into batches.
fn batches(operations: Vec<Operation>, per_slot: bool) -> Vec<Vec<Operation>> {
    let mut batches: Vec<Vec<Operation>> = Vec::new();
    let mut of_bucket = HashMap::new();
    for operation in operations {
        let bucket = if per_slot { key::bucket(operation.account) } else { 0 };
        let group = of_bucket.entry(bucket).or_insert(usize::MAX);
        match batches.get_mut(*group) {
            Some(group) if group.len() < MAX_BATCH => group.push(operation),
            _ => {
                *group = batches.len();
                batches.push(vec![operation]);
            }
        }
    }
    batches
}

/// The result of one operation, which may be an error of its own (`each` in `lua/lib.lua`).
fn operation_result(answer: Value) -> Result<Value, FredError> {
    if let Value::Array(parts) = &answer
        && let [kind, why] = &parts[..]
        && kind.as_bytes() == Some(b"error")
    {
        let why = why.as_string().unwrap_or_default();
        return Err(FredError::new(ErrorKind::Unknown, why));
    }
    Ok(answer)
}

fn shutting_down() -> RedisError {
    RedisError::Unavailable("the service is shutting down".to_owned())
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

    fn sizes(accounts: &[u8], per_slot: bool) -> Vec<usize> {
        batches(operations(accounts), per_slot).iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_are_as_large_as_allowed() {
        assert!(sizes(&[], false).is_empty());
        assert_eq!(sizes(&[1, 2, 1, 3], false), [4]);
        assert_eq!(sizes(&[1, 2, 1, 3], true), [2, 1, 1]);
        assert_eq!(sizes(&[7; 70], true), [32, 32, 6]);
    }

    #[test]
    fn error_answer_of_an_operation_is_an_error() {
        let error = |why: &str| -> RedisError {
            operation_result(Value::Array(vec!["error".into(), why.into()])).unwrap_err().into()
        };
        assert!(matches!(error("ERR latchkey: a session record"), RedisError::Unexpected(_)));
        assert!(matches!(error("OOM command not allowed"), RedisError::Unavailable(_)));
        assert!(operation_result(Value::Array(vec!["gone".into()])).is_ok());
        assert!(operation_result(Value::Integer(1)).is_ok());
    }
}
