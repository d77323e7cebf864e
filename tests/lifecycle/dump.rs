//! pg_dump and restore: what people made survives, the log and the messages do not, and clients are told.

use std::process::Command;
use std::sync::Arc;

use realtime_tests::{Database, Server, Stack};
use serde_json::json;
use tokio::task::spawn_blocking;
use xtask::process::{self, ProcessError};

use crate::people::{ADA, FAMILIES, MADE_BY_PEOPLE, assert_same, kept, told_of_a_new_history};

/// A program of the server's own version, told which database.
fn program(server: &Server, name: &str, database: &str) -> Command {
    let mut command = server.tree().program(name);
    command.args(["--host", "127.0.0.1", "--username", "postgres", "--dbname", database]);
    command.arg("--port").arg(server.port().to_string());
    command
}

/// How a dump travels.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// As SQL, restored in one transaction.
    Plain,
    /// As an archive, restored by several sessions at once.
    Parallel,
}

/// Dumps one database and restores it into a new one, on the same server or another. A statement that fails fails it.
async fn copy(from: &Database, to: &Arc<Server>, form: Form) -> Database {
    let target = Database::create_empty(Arc::clone(to)).await;
    let dump = program(from.server(), "pg_dump", from.name());
    let name = target.name().to_owned();
    let to = Arc::clone(to);
    let copied = spawn_blocking(move || match form {
        Form::Plain => copy_plain(dump, program(&to, "psql", &name)),
        Form::Parallel => copy_parallel(dump, program(&to, "pg_restore", &name)),
    });
    copied.await.unwrap().unwrap_or_else(|error| panic!("{form:?}: {error}"));
    target
}

fn copy_plain(mut dump: Command, mut restore: Command) -> Result<(), ProcessError> {
    restore.args(["--no-psqlrc", "--quiet", "--single-transaction", "--output", "/dev/null"]);
    restore.args(["--set", "ON_ERROR_STOP=1"]);
    process::capture_with_input(&mut restore, &process::capture(&mut dump)?).map(drop)
}

fn copy_parallel(mut dump: Command, mut restore: Command) -> Result<(), ProcessError> {
    let archive = std::env::temp_dir().join(format!("realtime-archive-{}", uuid::Uuid::new_v4()));
    dump.args(["--format", "custom", "--file"]).arg(&archive);
    restore.args(["--jobs", "3", "--exit-on-error"]).arg(&archive);
    let copied = process::capture(&mut dump).and_then(|_| process::capture(&mut restore));
    let _ = std::fs::remove_file(&archive);
    copied.map(drop)
}

/// A server with the roles that a dump needs: roles are not in it.
async fn another_server() -> Arc<Server> {
    spawn_blocking(Server::own).await.unwrap()
}

/// A stack whose database has what people make, some events and a message; with the offset of the last event.
async fn old_stack() -> (Stack, i64) {
    let stack = Stack::with(MADE_BY_PEOPLE).await;
    let mut client = stack.native().await;
    client.subscribe("table:orders").await;
    stack
        .exec("insert into public.orders values (1, 'tea', 'x'); select realtime.publish('room:1', 'said', '{}')")
        .await;
    let offset = client.event().await.offset();
    stack.exec("select realtime.save_policies()").await;
    (stack, offset)
}

async fn assert_restored(old: &Stack, offset: i64, target: &Arc<Server>, form: Form) {
    let database = copy(old, target, form).await;
    assert_same(&kept(&database).await, &kept(old).await);
    assert_eq!(database.text("select count(*) from realtime.log").await, "0", "what the dump wrote made no events");
    assert_eq!(database.text("select count(*) from realtime.messages").await, "0");
    assert_eq!(database.text("select size_max from realtime.state").await, (1 << 30).to_string());
    let new = Stack::builder().start_on(database).await;
    let mut client = told_of_a_new_history(&new, offset).await;
    new.exec("insert into public.orders values (2, 'milk', 'x'); delete from public.orders where id = 1").await;
    let (insert, delete) = (client.event().await, client.event().await);
    assert_eq!((insert.record(), delete.old_record()), (&json!({"id": 2, "item": "milk"}), &json!({"id": 1})));
    assert!(insert.offset() > offset, "no offset names two events");
    let mut member = new.native_as(ADA).await;
    member.subscribe("room:1").await;
    assert_eq!(member.try_subscribe(json!({"channel": "room:2"})).await.code(), "UNAUTHORIZED");
    assert_eq!(member.publish("room:1", "said", json!("again")).await.kind(), "ack");
    assert_eq!(member.event().await["payload"]["payload"], "again", "only what is new comes");
    new.exec("drop extension realtime").await;
    assert_eq!(new.text("select string_agg(item, ' ') from public.orders").await, "milk");
}

#[tokio::test]
async fn a_dump_restores_what_people_made_into_the_same_cluster_and_another() {
    let (old, offset) = old_stack().await;
    assert_restored(&old, offset, old.server(), Form::Plain).await;
    assert_restored(&old, offset, &another_server().await, Form::Parallel).await;
}

#[tokio::test]
async fn partitions_children_and_triggers_that_always_fire_come_through_a_dump() {
    let old = Stack::with(FAMILIES).await;
    old.exec("insert into public.logs values (1, 11, 'old'), (2, 31, 'old')").await;
    for form in [Form::Plain, Form::Parallel] {
        let database = copy(&old, old.server(), form).await;
        assert_same(&kept(&database).await, &kept(&old).await);
        let new = Stack::builder().start_on(database).await;
        let mut client = new.native().await;
        for channel in ["table:logs", "table:parent", "table:copied"] {
            client.subscribe(channel).await;
        }
        new.exec(
            "insert into public.logs values (3, 12, 'new'), (4, 32, 'new'); update public.logs_2_a set note = 'x'",
        )
        .await;
        let ids: Vec<i64> = client.events(4).await.iter().map(|event| event.record()["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [3, 4, 1, 3]);
        // The trigger of an ordinary parent is its own, and not its children's.
        new.exec("insert into public.logs_1 values (9, 1, 'detached'); insert into public.child values (1, 'x')").await;
        new.exec("insert into public.parent values (2)").await;
        assert_eq!(client.event().await.record(), &json!({"id": 2}));
        new.exec("set session_replication_role = replica; insert into public.parent values (3)").await;
        new.exec("insert into public.copied values (4); set session_replication_role = origin").await;
        let event = client.event().await;
        assert_eq!((&event["channel"], event.record()), (&json!("table:copied"), &json!({"id": 4})));
        new.exec("drop extension realtime").await;
        let triggers = "select count(*) from pg_trigger where tgname like '%notify%'";
        assert_eq!(new.text(triggers).await, "0");
        assert_eq!(new.text("select count(*) from public.logs").await, "4");
    }
}
