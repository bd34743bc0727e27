//! Checks of Redis and the database.

use std::time::Duration;

use super::{Finding, keys, mail};
use crate::{
    cli::bootstrap::{connect_redis, missing_sqlite_file},
    config::Config,
    domain::clock::Clock,
    service::readiness,
    store::{
        redis::{
            RedisError, RedisHealth, Severity,
            embedded::{EmbeddedRedis, server_process},
        },
        sql::{DatabaseKind, Sql, SqlError},
    },
};

/// The duration of a round trip to Redis above which there is a warning: each sign-in, refresh and sign-out needs one.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(5);

/// The oldest tested PostgreSQL.
const OLDEST_POSTGRES: u32 = 15;

/// The findings of both stores. A store that cannot be checked is a finding, too.
pub(super) async fn check(config: &Config, clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    match connect_redis(config).await {
        Err(error) => findings.push(Finding::fail("redis", format!("{error:#}"))),
        Ok((redis, embedded_redis)) => {
            match check_redis(&redis.health, clock).await {
                Ok(found) => findings.extend(found),
                Err(error) => {
                    let remedy = if error.is_answer() {
                        "Redis has answered, and its own log may say more".to_owned()
                    } else {
                        silent_redis_remedy(config).await
                    };
                    findings.push(Finding::fail("redis", format!("{error}; {remedy}")));
                }
            }
            redis.close().await;
            // started by this command, because no node runs it
            if let Some(embedded_redis) = embedded_redis {
                embedded_redis.stop().await;
            }
        }
    }
    match check_database(config, clock).await {
        Ok(found) => findings.extend(found),
        Err(error) => {
            let remedy = if error.is_unavailable() {
                "; start the database, or correct database.url (LATCHKEY_DATABASE_URL)"
            } else {
                ""
            };
            findings.push(Finding::fail("database", format!("{error}{remedy}")));
        }
    }
    findings
}

/// The remedy for a Redis that does not answer.
async fn silent_redis_remedy(config: &Config) -> String {
    if config.redis.url.is_some() {
        return "check that a supported Redis runs there, or correct redis.url (LATCHKEY_REDIS_URL)".to_owned();
    }
    let embedded_socket = EmbeddedRedis::socket_in(&config.data_dir.join("redis"));
    match server_process(&embedded_socket).await {
        Some(pid) => format!(
            "its process {pid} accepts connections and does not answer: continue it if it was stopped \
             (kill -CONT {pid}), or end it (kill -KILL {pid}). The service then starts it again; no acknowledged write is lost"
        ),
        None => "the service starts it again when it has exited, and logs why it exited: read the log of the service"
            .to_owned(),
    }
}

async fn check_redis(health: &RedisHealth, clock: &Clock) -> Result<Vec<Finding>, RedisError> {
    const CHECK: &str = "redis";
    health.ping().await?;
    // lets `readiness::redis_findings` report a Redis user that may not subscribe
    health.probe_subscription().await?;
    let mut findings: Vec<Finding> = readiness::redis_findings(health, clock)
        .await?
        .into_iter()
        .map(|finding| match finding.severity {
            Severity::Warning => Finding::warn(CHECK, finding.detail),
            Severity::Error => Finding::fail(CHECK, finding.detail),
        })
        .collect();
    let description = health.describe().await?;
    let round_trip = format!("{:.2} ms", description.round_trip.as_secs_f64() * 1000.0);
    let topology = match (description.clustered, description.replicas) {
        (true, _) => "a cluster".to_owned(),
        (false, 1) => "1 replica".to_owned(),
        (false, replicas) => format!("{replicas} replicas"),
    };
    // without a finding, Redis is persistent and evicts nothing
    if findings.is_empty() {
        let detail =
            format!("{}, {topology}, round trip {round_trip}; persistent, without eviction", description.server);
        findings.push(Finding::ok(CHECK, detail));
    }
    if description.round_trip > SLOW_ROUND_TRIP {
        let detail = format!(
            "a round trip takes {round_trip}, and each sign-in, refresh and sign-out needs one: move {} closer",
            description.server
        );
        findings.push(Finding::warn(CHECK, detail));
    }
    if let Some(state) = description.cluster_state.filter(|state| state != "ok") {
        let detail = format!("the cluster's state is {state}: see `redis-cli cluster info` and `cluster nodes`");
        findings.push(Finding::fail(CHECK, detail));
    }
    Ok(findings)
}

async fn check_database(config: &Config, clock: &Clock) -> Result<Vec<Finding>, SqlError> {
    const CHECK: &str = "database";
    // Connecting would create a missing SQLite file.
    match missing_sqlite_file(config) {
        Ok(None) => {}
        Ok(Some(path)) => {
            let detail = format!(
                "there is no database at {}; correct database.url (LATCHKEY_DATABASE_URL), or run `latchkey migrate`",
                path.display()
            );
            return Ok(vec![Finding::fail(CHECK, detail)]);
        }
        Err(error) => return Ok(vec![Finding::fail(CHECK, format!("{error:#}"))]),
    }
    let sql = Sql::connect(&config.database).await?;
    sql.ping().await?;
    let kind = sql.describe().await?;
    let missing_migrations = sql.missing_migrations().await?;
    let mut findings = Vec::new();
    let name = match &kind {
        DatabaseKind::Sqlite { version } => format!("SQLite {version}"),
        DatabaseKind::Postgres { version } => {
            let major = version.split(['.', ' ']).next().and_then(|major| major.parse::<u32>().ok());
            if major.is_some_and(|major| major < OLDEST_POSTGRES) {
                let detail = format!(
                    "PostgreSQL {version} is older than {OLDEST_POSTGRES}, the oldest tested release: upgrade it"
                );
                findings.push(Finding::warn(CHECK, detail));
            }
            format!("PostgreSQL {version}")
        }
    };
    // keys and mails are in tables that a missing migration may still have to create
    if missing_migrations == 0 {
        findings.push(Finding::ok(CHECK, format!("{name}, up to date")));
        findings.extend(keys::check(config, &sql, clock.now()).await?);
        findings.extend(mail::check_queue(&sql, clock).await?);
    } else {
        let missing = match missing_migrations {
            1 => "1 migration is missing".to_owned(),
            number => format!("{number} migrations are missing"),
        };
        let detail = format!("{name}: {missing}; run `latchkey serve` or `latchkey migrate`");
        findings.push(Finding::warn(CHECK, detail));
    }
    sql.close().await;
    Ok(findings)
}
