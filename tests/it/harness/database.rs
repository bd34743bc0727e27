//! Changes the database without the service.

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use super::test_cluster::TestCluster;

/// Executes statements on a separate connection to the database at `url`.
pub async fn execute_sql(url: &str, statements: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    // The statements are those of a test, not of a user.
    connection.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

impl TestCluster {
    /// Executes statements on a separate connection to the database of the nodes.
    pub async fn execute_sql(&self, statements: &str) {
        execute_sql(self.config.database.url.expose(), statements).await;
    }
}
