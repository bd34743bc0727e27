//! Batches concurrent script calls per connection. A call costs a write, a wake-up and the start of a script, which together cost
//! more than most operations.
//!
//! The first operation of a batch waits only until the other ready tasks of its core have run. A full batch is sent at once,
//! so that Redis runs it while the core fills the next. Each operation is atomic and has its own answer or error. If the call
//! fails, each operation gets its error. Where a script may not use keys of several buckets (groups of accounts), as in a
//! cluster, a batch holds operations of one bucket only.

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

/// The maximum number of operations of a batch. It is small, since Redis runs nothing else during the call.
const MAX_BATCH: usize = 32;

/// A script that runs several operations per call.
#[derive(Debug)]
pub(super) struct ScriptBatcher {
    script: Script,
    /// Operations to send: a list for each connection.
    waiting: Vec<Mutex<Vec<Operation>>>,
}

/// Selects a batched script. A function, since a task that sends a batch holds the connection and no reference into it.
pub(super) type BatcherSelector = fn(&Scripts) -> &ScriptBatcher;

/// One operation and its caller.
#[derive(Debug)]
struct Operation {
    account: AccountId,
    /// The arguments of the script. The first begins with the account's id.
    arguments: Vec<Value>,
    answer: oneshot::Sender<Result<Value, RedisError>>,
}

impl ScriptBatcher {
    pub(super) fn new(script: Script, connections: usize) -> Self {
        Self { script, waiting: (0..connections.max(1)).map(|_| Mutex::default()).collect() }
    }

    /// The waiting operations of this core's connection.
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
        // With `per_slot`, as in a cluster, `send` splits the operations by bucket: then `MAX_BATCH` operations are not yet a full batch.
        let per_slot = self.per_slot.load(Ordering::Relaxed);
        let (is_first, full_batch) = {
            let mut waiting = batcher.waiting();
            let is_first = waiting.is_empty();
            waiting.push(Operation { account, arguments, answer });
            let is_full = waiting.len() == MAX_BATCH && !per_slot;
            let full_batch = is_full.then(|| mem::take(&mut *waiting));
            (is_first, full_batch)
        };
        // Separate tasks send the batches, since a caller may be dropped before its batch is sent.
        if is_first {
            let connection = Arc::clone(self);
            tokio::spawn(async move {
                // Lets the other ready tasks of this core add their operations.
                tokio::task::yield_now().await;
                let waiting = mem::take(&mut *select(&connection.scripts).waiting());
                connection.send(select, waiting).await;
            });
        }
        if let Some(operations) = full_batch {
            let connection = Arc::clone(self);
            tokio::spawn(async move { connection.send(select, operations).await });
        }
        // At shutdown the runtime drops the tasks, and the senders of the answers with them.
        let result = async { answered.await.unwrap_or_else(|_| Err(shutting_down())) };
        script::measured(&batcher.script, result).await
    }

    /// Sends operations in batches. If Redis refuses a batch because its operations may not share a call, splits and resends it.
    async fn send(self: &Arc<Self>, select: BatcherSelector, mut waiting: Vec<Operation>) {
        while !waiting.is_empty() {
            let calls = split(waiting, self.per_slot.load(Ordering::Relaxed));
            let refused = join_all(calls.into_iter().map(|operations| self.call(select, operations))).await;
            waiting = refused.into_iter().flatten().collect();
        }
    }

    /// Runs operations in one call and delivers the answers. Returns operations that were refused, and not run, because
    /// they may not share a call.
    async fn call(self: &Arc<Self>, select: BatcherSelector, operations: Vec<Operation>) -> Vec<Operation> {
        let names = &self.keys;
        // As `run_batch` in `lua/lib.lua` expects them: three keys of each operation, and the settings of events before the arguments of
        // all operations.
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
                    // The caller may have been dropped: then nobody receives the answer.
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

/// Splits operations into batches. With `per_slot`, the operations of a batch have the same bucket.
fn split(operations: Vec<Operation>, per_slot: bool) -> Vec<Vec<Operation>> {
    let mut batches: Vec<Vec<Operation>> = Vec::new();
    // The index of the last batch of each bucket. Without `per_slot`, all operations count as of bucket 0.
    let mut last_batches: HashMap<usize, usize> = HashMap::new();
    for operation in operations {
        let bucket = if per_slot { key::bucket(operation.account) } else { 0 };
        match last_batches.get(&bucket).copied() {
            Some(index) if batches[index].len() < MAX_BATCH => batches[index].push(operation),
            _ => {
                last_batches.insert(bucket, batches.len());
                batches.push(vec![operation]);
            }
        }
    }
    batches
}

/// The result of one operation, which may be an error of its own (`run_batch` in `lua/lib.lua`).
fn operation_result(answer: Value) -> Result<Value, FredError> {
    if let Value::Array(parts) = &answer
        && let [kind, reason] = &parts[..]
        && kind.as_bytes() == Some(b"error")
    {
        let reason = reason.as_string().unwrap_or_default();
        return Err(FredError::new(ErrorKind::Unknown, reason));
    }
    Ok(answer)
}

fn shutting_down() -> RedisError {
    RedisError::Unavailable("the service is shutting down".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Operations on accounts in these buckets.
    fn operations(buckets: &[u8]) -> Vec<Operation> {
        let operation = |bucket: &u8| {
            // the last byte of an account's id is its bucket
            let mut id = [0; 16];
            id[15] = *bucket;
            let (answer, _) = oneshot::channel();
            Operation { account: AccountId::from_bytes(id), arguments: Vec::new(), answer }
        };
        buckets.iter().map(operation).collect()
    }

    fn batch_sizes(buckets: &[u8]) -> Vec<usize> {
        split(operations(buckets), false).iter().map(Vec::len).collect()
    }

    fn batch_sizes_per_slot(buckets: &[u8]) -> Vec<usize> {
        split(operations(buckets), true).iter().map(Vec::len).collect()
    }

    #[test]
    fn batches_hold_at_most_32_operations_and_with_per_slot_one_bucket() {
        assert!(batch_sizes(&[]).is_empty());
        assert_eq!(batch_sizes(&[1, 2, 1, 3]), [4]);
        assert_eq!(batch_sizes_per_slot(&[1, 2, 1, 3]), [2, 1, 1]);
        assert_eq!(batch_sizes_per_slot(&[7; 70]), [32, 32, 6]);
    }

    #[test]
    fn error_answer_of_an_operation_is_an_error() {
        let error = |reason: &str| -> RedisError {
            operation_result(Value::Array(vec!["error".into(), reason.into()])).unwrap_err().into()
        };
        assert!(matches!(error("ERR latchkey: a session record"), RedisError::Unexpected(_)));
        assert!(matches!(error("OOM command not allowed"), RedisError::Unavailable(_)));
        assert!(operation_result(Value::Array(vec!["gone".into()])).is_ok());
        assert!(operation_result(Value::Integer(1)).is_ok());
    }
}
