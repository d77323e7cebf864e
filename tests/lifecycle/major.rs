//! pg_upgrade from one major version of Postgres to another.

use realtime_tests::{Database, Server, Stack, Stop, server};
use serde_json::json;
use tokio::task::spawn_blocking;
use xtask::postgres::Version;

use crate::people::{ADA, FAMILIES, MADE_BY_PEOPLE, assert_same, kept, told_of_a_new_history};

#[tokio::test]
async fn pg_upgrade_keeps_what_people_made_and_begins_a_new_history() {
    let old = spawn_blocking(|| Server::start_from(&server::tree_of(Version::V15), &server::options())).await.unwrap();
    let mut stack = Stack::builder().server(&old).sql(MADE_BY_PEOPLE).sql(FAMILIES).start().await;
    let mut client = stack.native().await;
    client.subscribe("table:orders").await;
    stack
        .exec("insert into public.orders values (1, 'tea', 'x'); select realtime.publish('room:1', 'said', '{}')")
        .await;
    let offset = client.event().await.offset();
    let before = kept(&stack).await;
    stack.sidecar.stop().await;
    let new = spawn_blocking(move || {
        forget_column_versions(&old);
        old.stop(Stop::Fast);
        let tree = server::tree_of(Version::V18);
        Server::of(old.with(|cluster| cluster.upgrade(&tree, &server::options())))
    });
    let database = Database::of(new.await.unwrap(), stack.name());
    assert!(database.text("show server_version").await.starts_with("18"));
    assert_same(&kept(&database).await, &before);
    let new = Stack::builder().start_on(database).await;
    let mut client = told_of_a_new_history(&new, offset).await;
    client.subscribe("table:logs").await;
    new.exec("insert into public.orders values (2, 'milk', 'x'); insert into public.logs values (1, 12, 'x')").await;
    assert_eq!(client.event().await.record(), &json!({"id": 2, "item": "milk"}));
    assert_eq!(client.event().await.record(), &json!({"id": 1, "day": 12, "note": "x"}));
    assert_eq!(new.text("select count(*) from realtime.messages").await, "1", "it is the same database");
    let mut member = new.native_as(ADA).await;
    member.subscribe("room:1").await;
    assert_eq!(member.publish("room:1", "said", json!("again")).await.kind(), "ack");
    assert_eq!(member.event().await["payload"]["payload"], "again");
    assert_status(&new).await;
    new.exec("drop extension realtime").await;
    assert_eq!(new.text("select string_agg(item, ' ' order by id) from public.orders").await, "tea milk");
}

/// Debian's 15.20 notes versions of columns in a form that 18.4 (the newest 18 there is to be had with headers) is too old
/// to know, so that pg_upgrade of any table between these two fails. A server of 15 that is as old as the other has none.
fn forget_column_versions(server: &Server) {
    let databases = server.psql("postgres", "select datname from pg_database where datallowconn and not datistemplate");
    for database in databases.lines() {
        server.psql(
            database,
            "update pg_attribute set attoptions = nullif(array(select o from unnest(attoptions) o where o !~ '^pg_attver='), '{}')
              where array_to_string(attoptions, ' ') ~ 'pg_attver='",
        );
    }
}

async fn assert_status(database: &Database) {
    let status = "select mode, head >= oldest, lag_ms < 60000, retention, sidecars from realtime.status()";
    let row: Vec<String> = database.rows(status).await.remove(0).into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(row, ["worker", "t", "t", "40 days", "1"]);
}
