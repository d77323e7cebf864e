//! A database for one test.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::Server;
use crate::server::SIDECAR_ROLE;

/// A database for one test, made from its server's template and dropped with this value.
pub struct Database {
    server: Arc<Server>,
    name: String,
    client: Mutex<Option<Client>>,
}

impl Database {
    /// Makes a database on a server.
    pub async fn create(server: Arc<Server>) -> Self {
        let maker = Arc::clone(&server);
        let name = spawn_blocking(move || maker.create_database()).await.unwrap();
        Self { server, name, client: Mutex::new(None) }
    }

    /// Makes a database that has nothing in it, for a restore.
    pub async fn create_empty(server: Arc<Server>) -> Self {
        let maker = Arc::clone(&server);
        let name = spawn_blocking(move || maker.create_empty_database()).await.unwrap();
        Self { server, name, client: Mutex::new(None) }
    }

    /// A database that a server has already. It goes with this value all the same.
    pub fn of(server: Arc<Server>, name: &str) -> Self {
        Self { server, name: name.to_owned(), client: Mutex::new(None) }
    }

    /// The server that it is on.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address for the sidecar's role at a port of 127.0.0.1: the server's, or a proxy's.
    pub fn sidecar_url(&self, port: u16) -> String {
        format!("postgres://{SIDECAR_ROLE}@127.0.0.1:{port}/{}", self.name)
    }

    /// A session of its own for the superuser.
    ///
    /// # Panics
    ///
    /// When the server does not let it in.
    pub async fn session(&self) -> Client {
        self.try_session().await.unwrap_or_else(|error| panic!("{}: {error:?}", self.name))
    }

    /// As [`Database::session`], telling why it cannot be had.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or does not let it in.
    pub async fn try_session(&self) -> Result<Client, tokio_postgres::Error> {
        let url = self.server.url("postgres", &self.name);
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements as the superuser, each in a transaction of its own unless they say otherwise.
    ///
    /// # Panics
    ///
    /// When one fails.
    pub async fn exec(&self, sql: &str) {
        self.try_exec(sql).await.unwrap_or_else(|error| panic!("{error:?} in: {sql:.300}"));
    }

    /// As [`Database::exec`], telling what failed.
    ///
    /// # Errors
    ///
    /// When a statement fails.
    pub async fn try_exec(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.rows_or_error(sql).await.map(drop)
    }

    /// The first value of the first row, as text; the empty text stands for NULL and for no row.
    ///
    /// # Panics
    ///
    /// When the query fails.
    pub async fn text(&self, sql: &str) -> String {
        self.rows(sql).await.into_iter().next().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default()
    }

    /// The rows of a query, values as text.
    ///
    /// # Panics
    ///
    /// When the query fails.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.rows_or_error(sql).await.unwrap_or_else(|error| panic!("{error:?} in: {sql:.300}"))
    }

    /// How many rows of some tables a statement reads, whether one after the other or by an index. `tables`: a condition on
    /// `pg_class`' names.
    ///
    /// # Panics
    ///
    /// When the statement fails.
    pub async fn rows_read(&self, statement: &str, tables: &str) -> i64 {
        // What was read before in this session may be counted as well, as long as it has not been reported.
        let so_far = format!(
            "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint from pg_stat_xact_all_tables where {tables}"
        );
        let rows = self.rows(&format!("begin; {so_far}; {statement}; {so_far}; commit")).await;
        let count = |row: Option<&Vec<Option<String>>>| row.unwrap()[0].as_ref().unwrap().parse::<i64>().unwrap();
        count(rows.last()) - count(rows.first())
    }

    /// The session is made anew when the server has ended it.
    async fn rows_or_error(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let mut client = self.client.lock().await;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = Some(self.try_session().await?);
        }
        let client = client.as_ref().unwrap();
        Ok(text_rows(&client.simple_query(sql).await?))
    }
}

/// The rows among the messages of a simple query, values as text.
pub fn text_rows(messages: &[SimpleQueryMessage]) -> Vec<Vec<Option<String>>> {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()).collect()
}

impl Drop for Database {
    fn drop(&mut self) {
        self.client.get_mut().take();
        self.server.drop_database(&self.name);
    }
}
