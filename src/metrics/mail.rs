//! Metrics of mail.

use std::time::Duration;

use prometheus::{Gauge, Histogram, IntCounterVec, IntGauge, core::Collector};

use super::{counters, duration, float_gauge, gauge};
use crate::domain::mail::Template;

/// The outcomes of attempts to send a mail.
const OUTCOMES: [&str; 4] = ["sent", "retried", "rejected", "expired"];

/// Metrics of a node's mails. Clones share the values.
#[derive(Clone, Debug)]
pub struct MailMetrics {
    /// Attempts to send a mail, by outcome.
    pub attempts: IntCounterVec,
    /// Mails that were not queued because the queue was full, by template.
    pub dropped: IntCounterVec,
    /// Duration of attempts, successful or not.
    pub duration: Histogram,
    /// 1 while the last attempt reached the SMTP server or the folder of mails, otherwise 0.
    pub reachable: IntGauge,
    /// Mails that wait in the outbox, of all nodes.
    queued: IntGauge,
    /// Age of the oldest mail that waits, in seconds.
    oldest_seconds: Gauge,
}

impl Default for MailMetrics {
    fn default() -> Self {
        let metrics = Self {
            attempts: counters("latchkey_mail_attempts_total", "Attempts to send a mail, by outcome.", &["outcome"]),
            dropped: counters(
                "latchkey_mail_dropped_total",
                "Mails that were not queued because mail.max_queued mails waited, by template.",
                &["template"],
            ),
            duration: duration("latchkey_mail_delivery_duration_seconds", "Duration of attempts to deliver a mail."),
            reachable: gauge(
                "latchkey_mail_server_reachable",
                "1 while the last attempt reached the SMTP server or the folder of mails.",
            ),
            queued: gauge("latchkey_mail_queued", "Mails that wait in the outbox, of all nodes."),
            oldest_seconds: float_gauge(
                "latchkey_mail_oldest_seconds",
                "Age of the oldest mail that waits; 0 if there is none.",
            ),
        };
        // Each series exists from the start, with the value 0, so that queries see its first increase.
        for outcome in OUTCOMES {
            metrics.attempts.with_label_values(&[outcome]);
        }
        for template in Template::ALL {
            metrics.dropped.with_label_values(&[template.as_str()]);
        }
        // No attempt has failed yet.
        metrics.reachable.set(1);
        metrics
    }
}

impl MailMetrics {
    /// The collectors to register.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.attempts.clone()),
            Box::new(self.dropped.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.reachable.clone()),
            Box::new(self.queued.clone()),
            Box::new(self.oldest_seconds.clone()),
        ]
    }

    /// Sets the gauges of the outbox: the number of mails that wait, and the age of the oldest.
    pub fn set_queue(&self, waiting: u64, oldest_age: Duration) {
        self.queued.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.oldest_seconds.set(oldest_age.as_secs_f64());
    }
}
