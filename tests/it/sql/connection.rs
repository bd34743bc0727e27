//! Opening the database, and the errors when that fails. A database is *unavailable* if a later attempt may succeed; other errors are
//! *permanent*.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use latchkey::{
    config::DatabaseSettings,
    domain::account::Roles,
    store::sql::{InsertError, Sql, SqlError},
};
use sqlx::{Connection, Executor, SqliteConnection};

use super::{Backend, LATER, new_account, new_id, on_every_backend, settings};
use crate::harness::{certificates, guard, pgbouncer, postgres};

#[tokio::test]
async fn ping_works_until_closed() {
    on_every_backend(async |backend| {
        let sql = backend.connect().await;
        sql.ping().await.unwrap();
        sql.close().await;
        assert!(sql.ping().await.unwrap_err().is_unavailable());
    })
    .await;
}

#[tokio::test]
async fn sqlite_file_is_private_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a folder with 100% odd#names?.db");
    // these characters have a meaning in a URL
    let url = format!("sqlite://{}", file.display()).replace('%', "%25").replace('#', "%23").replace('?', "%3F");
    let sql = Sql::connect(&settings(&url)).await.unwrap();
    sql.migrate().await.unwrap();
    sql.insert_account(&new_account("ann@example.com")).await.unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the database, the write-ahead log and the index of the log");
    assert!(file.exists());
}

#[tokio::test]
async fn account_in_sqlite_survives_restart() {
    let backend = Backend::sqlite();
    let sql = backend.migrated_pool().await;
    let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
    sql.close().await;
    let sql = backend.migrated_pool().await;
    assert_eq!(sql.account(account.id).await.unwrap(), Some(account));
}

#[tokio::test]
async fn locked_sqlite_is_unavailable() {
    let mut backend = Backend::sqlite();
    backend.migrated_pool().await.close().await;
    // another process that writes
    let mut other = SqliteConnection::connect(backend.settings.url.expose()).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    // how long the write of this test waits for the lock
    backend.settings.acquire_timeout = Duration::from_millis(50);
    let sql = backend.connect().await;
    let refused = sql.insert_account(&new_account("ann@example.com")).await;
    assert!(matches!(&refused, Err(InsertError::Sql(error)) if error.is_unavailable()), "{refused:?}");
    // Readers do not wait for the lock.
    assert_eq!(sql.account(new_id()).await.unwrap(), None);
    other.execute("COMMIT").await.unwrap();
    sql.insert_account(&new_account("ann@example.com")).await.unwrap();
}

#[tokio::test]
async fn file_that_is_not_sqlite_is_corrupt_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("latchkey.db");
    // longer than the header of a database, which has 100 bytes
    std::fs::write(&file, "Dear diary, ".repeat(1000)).unwrap();
    let error = Sql::connect(&settings(&format!("sqlite://{}", file.display()))).await.unwrap_err();
    assert!(matches!(error, SqlError::Corrupt(_)), "{error}");
    let expected = format!("{}: file is not a database; restore the file from a backup", file.display());
    assert!(error.to_string().ends_with(&expected), "{error}");
}

#[tokio::test]
async fn missing_folder_is_reported_with_its_path() {
    let error = Sql::connect(&settings("sqlite:///nowhere/at/all.db")).await.unwrap_err();
    assert_eq!(error.to_string(), "/nowhere/at/all.db: No such file or directory (os error 2)");
}

#[tokio::test]
async fn invalid_url_is_refused() {
    for url in ["mysql://root@localhost/x", "", "latchkey.db", "postgres://localhost/x?sslmode=perhaps"] {
        let refused = Sql::connect(&settings(url)).await;
        assert!(matches!(refused, Err(SqlError::Address(_))), "{url}: {refused:?}");
    }
    // migrations must run on the same kind of database
    let mixed = DatabaseSettings { migrate_url: Some("sqlite://x.db".into()), ..settings("postgres://localhost/x") };
    let refused = Sql::connect(&mixed).await;
    assert!(matches!(refused, Err(SqlError::Address(_))), "{refused:?}");
}

#[tokio::test]
async fn unreachable_postgres_is_unavailable_and_hides_password() {
    let url = format!("postgres://latchkey:hunter2@127.0.0.1:{}/latchkey", guard::free_port());
    let down = DatabaseSettings { acquire_timeout: Duration::from_millis(50), ..settings(&url) };
    let sql = Sql::connect(&down).await.unwrap();
    for error in [
        sql.ping().await.unwrap_err(),
        sql.migrate().await.unwrap_err(),
        sql.account(new_id()).await.unwrap_err(),
        sql.keys().await.unwrap_err(),
    ] {
        assert!(error.is_unavailable(), "{error}");
        let source = std::error::Error::source(&error);
        let all_text = format!("{error} {error:?} {source:?} {sql:?}");
        assert!(!all_text.contains("hunter2"), "{all_text}");
    }
}

#[tokio::test]
async fn unreachable_postgres_is_reported_with_address_and_without_password() {
    let port = guard::free_port();
    let url = format!("postgres://latchkey:hunter2@127.0.0.1:{port}/latchkey");
    let down = DatabaseSettings { acquire_timeout: Duration::from_millis(50), ..settings(&url) };
    let sql = Sql::connect(&down).await.unwrap();
    assert_eq!(sql.ping().await.unwrap_err().to_string(), "the database is unavailable: connection refused");
    assert_eq!(sql.label(), format!("database.url, 127.0.0.1:{port}/latchkey"));
}

/// The server accepts the connection, and sends nothing.
#[tokio::test]
async fn migration_of_silent_postgres_reports_that_the_server_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://latchkey@{}/latchkey", silent.local_addr().unwrap());
    let impatient = DatabaseSettings { acquire_timeout: Duration::from_millis(50), ..settings(&url) };
    let error = Sql::connect(&impatient).await.unwrap().migrate().await.unwrap_err();
    let expected = "the database is unavailable: the server does not answer in time (database.acquire_timeout)";
    assert_eq!(error.to_string(), expected);
}

/// PgBouncer refuses a startup parameter that sqlx always sends, unless `ignore_startup_parameters` lists it.
#[tokio::test]
async fn pgbouncer_refusing_startup_parameter_is_permanent_and_names_the_setting() {
    let pgbouncer = pgbouncer::unconfigured();
    let sql = Sql::connect(&settings(&pgbouncer.url("postgres"))).await.unwrap();
    for error in [sql.ping().await.unwrap_err(), sql.migrate().await.unwrap_err()] {
        assert!(!error.is_unavailable(), "{error}");
        let text = error.to_string();
        assert!(text.contains("ignore_startup_parameters"), "names the setting: {text}");
        assert!(text.contains("extra_float_digits"), "names the parameter: {text}");
    }
}

/// The libpq form of a socket URL, without a host.
#[tokio::test]
async fn postgres_socket_url_without_host_connects() {
    let server = postgres::shared();
    let database = server.create_database().await;
    let url = format!("postgres://postgres:unused@/{database}?host={}&port={}", server.socket_folder(), server.port());
    let sql = Sql::connect(&settings(&url)).await.unwrap();
    sql.ping().await.unwrap();
}

/// `hostssl … cert clientcert=verify-full`: the common name of the client's certificate must be the user.
#[tokio::test]
async fn postgres_client_certificate_is_presented() {
    let folder = tempfile::tempdir().unwrap();
    certificates::create(folder.path());
    certificates::issue(folder.path(), "client", "postgres");
    certificates::issue(folder.path(), "stranger", "another-user");
    let server = postgres::Postgres::start_with_client_certificates(folder.path()).unwrap();
    let path = folder.path().display();
    let without_certificate = format!("{}?sslmode=verify-full&sslrootcert={path}/ca.pem", server.url("postgres"));
    let with_certificate =
        |name: &str| format!("{without_certificate}&sslcert={path}/{name}.pem&sslkey={path}/{name}.key");

    let sql = Sql::connect(&settings(&with_certificate("client"))).await.unwrap();
    sql.migrate().await.unwrap();
    let account = sql.insert_account(&new_account("ann@example.com")).await.unwrap();
    assert_eq!(sql.account(account.id).await.unwrap(), Some(account));

    let refusal = async |url: &str| {
        let impatient = DatabaseSettings { acquire_timeout: Duration::from_secs(1), ..settings(url) };
        let sql = Sql::connect(&impatient).await.unwrap();
        sql.ping().await.unwrap_err()
    };
    for (url, expected) in [
        (
            without_certificate.clone(),
            "connection requires a valid client certificate (28000); sslcert and sslkey in database.url name it",
        ),
        (with_certificate("stranger"), "certificate authentication failed for user \"postgres\""),
    ] {
        let error = refusal(&url).await;
        assert!(!error.is_unavailable(), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // The client also verifies the server's certificate, which stranger.pem has not signed.
    let other_authority = with_certificate("client").replace("ca.pem", "stranger.pem");
    let error = refusal(&other_authority).await.to_string();
    assert!(error.contains("TLS: the server's certificate is of an unknown authority"), "{error}");
}

#[tokio::test]
async fn missing_database_is_permanent() {
    let sql = Sql::connect(&settings(&postgres::shared().url("nowhere"))).await.unwrap();
    let error = sql.ping().await.unwrap_err();
    assert!(!error.is_unavailable(), "{error}");
    assert!(error.to_string().contains("\"nowhere\" does not exist"), "{error}");
}

#[tokio::test]
async fn lost_connections_are_replaced() {
    for backend in [Backend::postgres().await, Backend::pgbouncer().await] {
        let sql = backend.migrated_pool().await;
        let id = sql.insert_account(&new_account("ann@example.com")).await.unwrap().id;
        // a transaction, whose connection the server then ends
        let mut change = sql.change_account(id).await.unwrap().unwrap();
        let database = backend.settings.url.expose().rsplit_once('/').unwrap().1;
        let kill = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'");
        postgres::shared().execute(&kill).await;
        let error = change.set_roles(&Roles::parse(["admin"]).unwrap(), LATER).await.unwrap_err();
        assert!(error.is_unavailable(), "on {}: {error}", backend.name);
        drop(change);
        let roles = sql.account(id).await.unwrap().unwrap().roles;
        assert!(roles.is_empty(), "a new connection works, and the interrupted change has no effect");
    }
}
