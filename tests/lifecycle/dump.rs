//! pg_dump and restore: what people made survives, the log and the messages do not, and clients are told.

use std::process::Command;
use std::sync::Arc;

use realtime_tests::{Database, Server, Stack};
use serde_json::json;
use tokio::task::spawn_blocking;
use xtask::process::{self, ProcessError};

const ADA: &str = "a0a0a0a0-0000-4000-8000-0000000000ad";

/// Everything that people make with the extension: options, channels, settings, and policies that need tables and
/// functions of their own.
const MADE_BY_PEOPLE: &str = "
    create table public.orders (id int primary key, item text, secret text);
    grant select on public.orders to anon;
    select realtime.enable_realtime('public.orders'::regclass,
      '{\"exclude\": [\"secret\"], \"old\": \"key\", \"events\": [\"INSERT\", \"DELETE\"], \"max_bytes\": 65536}');
    create table public.\"Odd \"\"name\" (id int primary key);
    grant select on public.\"Odd \"\"name\" to anon;
    select realtime.enable_realtime('public', 'Odd \"name');
    create table public.members (room text, person uuid);
    grant select on public.members to authenticated;
    insert into public.members values ('1', 'a0a0a0a0-0000-4000-8000-0000000000ad');
    create function public.is_member(channel text) returns boolean language sql stable
      as 'select exists (select from public.members where ''room:'' || room = channel and person = auth.uid())';
    insert into realtime.channels (pattern, description, webhook_urls, enabled) values
      ('room:%', 'one room', null, true), ('off', null, '{https://example.com/hook}', false);
    create policy \"enter it's\" on realtime.channels for select to authenticated
      using (public.is_member(realtime.channel_name()));
    create policy never on realtime.channels as restrictive for select to authenticated, anon using (pattern <> 'secret');
    create policy speak on realtime.messages for insert to authenticated with check (public.is_member(channel_name));
    update realtime.settings set value = '60 days' where name = 'messages_retention';
    update realtime.settings set value = '40 days' where name = 'log_retention';
    update realtime.settings set value = '1 GB' where name = 'log_max_size';
    -- A dump has rows as they lie: here the shorter retention comes before the longer one that it needs.
    cluster realtime.settings using settings_pkey;
";

/// What a dump must carry, as text.
const KEPT: [&str; 6] = [
    "select string_agg(c::text, e'\\n' order by pattern) from realtime.channels c",
    "select string_agg(s::text, e'\\n' order by name) from realtime.settings s",
    "select string_agg(p::text, e'\\n' order by tablename, policyname) from pg_policies p where schemaname = 'realtime'",
    "select string_agg(p::text, e'\\n' order by table_name, name) from realtime.saved_policies p",
    "select string_agg(pg_get_triggerdef(oid) || ' ' || tgenabled::text || ' ' || (select string_agg(deptype::text, '' order by deptype) from pg_depend d
        where d.classid = 'pg_trigger'::regclass and d.objid = t.oid), e'\\n' order by tgrelid::regclass::text, tgname)
       from pg_trigger t where tgfoid = 'realtime.notify_table_change()'::regprocedure and not tgisinternal",
    "select string_agg(format('%s %s', p.oid::regprocedure, p.proacl), e'\\n' order by p.oid::regprocedure::text)
       from pg_proc p where p.pronamespace = 'realtime'::regnamespace",
];

/// What a database has of what a dump must carry.
async fn kept(database: &Database) -> Vec<String> {
    // Names are written out where the search path does not have their schema.
    database.exec("set search_path = pg_catalog").await;
    let mut kept = Vec::new();
    for query in KEPT {
        kept.push(database.text(query).await);
    }
    kept
}

/// A program of the server's own version, told which database.
pub(crate) fn program(server: &Server, name: &str, database: &str) -> Command {
    let mut command = server.tree().program(name);
    command.args(["--host", "127.0.0.1", "--username", "postgres", "--dbname", database]);
    command.arg("--port").arg(server.port().to_string());
    command
}

/// How a dump travels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// As SQL, restored in one transaction.
    Plain,
    /// As an archive, restored by several sessions at once.
    Parallel,
}

/// Dumps one database and restores it into a new one, on the same server or another. A statement that fails fails it.
pub(crate) async fn copy(from: &Database, to: &Arc<Server>, form: Form) -> Database {
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
pub(crate) async fn another_server() -> Arc<Server> {
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
    assert_eq!(kept(&database).await, kept(old).await);
    assert_eq!(database.text("select count(*) from realtime.log").await, "0", "what the dump wrote made no events");
    assert_eq!(database.text("select count(*) from realtime.messages").await, "0");
    assert_eq!(database.text("select size_max from realtime.state").await, (1 << 30).to_string());
    let new = Stack::builder().start_on(database).await;
    let mut client = new.native().await;
    let ack = client.resume("table:orders", offset).await;
    assert_eq!(ack["recovered"], false, "{ack}");
    let gap = client.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["from"]), (&json!("history"), &json!(offset + 1)), "{gap}");
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

/// Partitioned tables in every state that ATTACH, DETACH and DROP leave behind, a table with a child, and a table whose
/// trigger fires for replicated rows too.
const FAMILIES: &str = "
    create table public.logs (id int, day int, note text, primary key (id, day)) partition by range (day);
    create table public.logs_1 partition of public.logs for values from (0) to (10);
    create table public.logs_2 partition of public.logs for values from (10) to (20) partition by list (day);
    create table public.logs_2_a partition of public.logs_2 default;
    create table public.logs_3 partition of public.logs for values from (20) to (30);
    grant select on public.logs to anon;
    select realtime.enable_realtime('public', 'logs');
    create table public.attached (note text, day int not null, id int not null);
    alter table public.logs attach partition public.attached for values from (30) to (40);
    alter table public.logs detach partition public.logs_1;
    drop table public.logs_3;
    create table public.parent (id int primary key);
    create table public.child (extra text) inherits (public.parent);
    grant select on public.parent to anon;
    select realtime.enable_realtime('public', 'parent');
    create table public.copied (id int primary key);
    grant select on public.copied to anon;
    select realtime.enable_realtime('public', 'copied');
    alter table public.copied enable always trigger copied_notify_change;
";

#[tokio::test]
async fn partitions_children_and_triggers_that_always_fire_come_through_a_dump() {
    let old = Stack::with(FAMILIES).await;
    old.exec("insert into public.logs values (1, 11, 'old'), (2, 31, 'old')").await;
    for form in [Form::Plain, Form::Parallel] {
        let database = copy(&old, old.server(), form).await;
        assert_eq!(kept(&database).await, kept(&old).await);
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
