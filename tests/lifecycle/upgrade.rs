//! ALTER EXTENSION UPDATE while everybody writes and listens, and what it leaves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use realtime_tests::server::{self, SIDECAR_ROLE};
use realtime_tests::{Client, Database, Server, Stack, within};
use tokio::task::{JoinHandle, spawn_blocking};
use xtask::cluster::Tree;
use xtask::script;
use xtask::workspace::VERSION;

use crate::catalog;
use crate::people::assert_same;

/// A version that never was: today's script, and then everything that an upgrade may have to do, undone.
const OLDER: &str = "0.0.1";

/// What makes today's schema an older one.
const UNDO: &str = "
    drop function realtime.enable_realtime_all(text, jsonb);
    create function realtime.gone_since() returns int language c as 'MODULE_PATHNAME', 'max_event_bytes';
    create or replace function realtime.ring() returns void language plpgsql security definer
      set search_path = pg_catalog, pg_temp as 'begin notify realtime; end';
    alter table realtime.channels drop column description;
    alter table realtime.settings alter column description drop not null;
    create index gone_since on realtime.messages (event_name);
    revoke select on realtime.tables from public;
    comment on view realtime.tables is 'Older words.';
    create or replace function realtime.contract_version() returns integer language sql immutable parallel safe return 1;
";

/// What an upgrade script does about it. It gives way to writers, as every upgrade script must.
const REDO: &str = "
    set local lock_timeout = '2s';
    drop function realtime.gone_since();
    alter table realtime.channels add column description text;
    grant select (description) on realtime.channels to public;
    alter table realtime.settings alter column description set not null;
    drop index realtime.gone_since;
    grant select on realtime.tables to public;
";

/// Today's definition of a function, a comment and so on: what begins so in the joined script, up to a line that ends so.
fn today<'a>(script: &'a str, begin: &str, end: &str) -> &'a str {
    let start = script.find(begin).unwrap_or_else(|| panic!("no `{begin}` in the script"));
    let length = script[start..].find(end).unwrap_or_else(|| panic!("`{begin}` does not end")) + end.len();
    &script[start..start + length]
}

/// The older version's script, and the upgrade script to this one.
fn scripts() -> (String, String) {
    let script = script::join().unwrap();
    let ring =
        today(&script, "create function realtime.ring()", "end $$;\n").replacen("create", "create or replace", 1);
    let all = today(&script, "create function realtime.enable_realtime_all(", "end $$;\n");
    let all_comment = today(&script, "comment on function realtime.enable_realtime_all(", "';\n");
    let comment = today(&script, "comment on view realtime.tables", "';\n");
    let contract =
        today(&script, "create function realtime.contract_version()", ";\n").replacen("create", "create or replace", 1);
    (format!("{script}\n{UNDO}"), format!("{REDO}\n{ring}\n{all}\n{all_comment}\n{comment}\n{contract}"))
}

/// A server whose extension has older versions and the way from them to this one.
async fn server_with_history() -> Arc<Server> {
    let start = || {
        server::tree_of(server::version());
        let tree = Tree::prepare_named(server::version(), "history").unwrap();
        let (older, upgrade) = scripts();
        tree.put_script(&format!("realtime--{OLDER}.sql"), &older).unwrap();
        tree.put_script(&format!("realtime--{OLDER}--{VERSION}.sql"), &upgrade).unwrap();
        Server::start_from(&tree, &server::options())
    };
    spawn_blocking(start).await.unwrap()
}

/// A database with an older version of the extension.
async fn older_database(server: &Arc<Server>, version: &str) -> Database {
    let database = Database::create(Arc::clone(server)).await;
    database
        .exec(&format!(
            "drop extension realtime; create extension realtime version '{version}'; select realtime.grant_sidecar('{SIDECAR_ROLE}')"
        ))
        .await;
    database
}

/// The rights of the sidecars' role are people's work, and the same on both sides.
async fn fresh_catalog(server: &Arc<Server>) -> BTreeSet<String> {
    catalog::of(&Database::create(Arc::clone(server)).await).await
}

#[tokio::test]
async fn every_released_version_updates_to_what_a_fresh_install_gives() {
    let server = server_with_history().await;
    let fresh = fresh_catalog(&server).await;
    let releases = script::releases().unwrap();
    let released = releases.frozen().map(|(release, _)| release.to_string()).filter(|release| release != VERSION);
    for version in released.chain([OLDER.to_owned()]) {
        let database = older_database(&server, &version).await;
        assert_ne!(catalog::of(&database).await, fresh, "{version}");
        database.exec("alter extension realtime update").await;
        assert_same(&catalog::of(&database).await, &fresh);
    }
}

/// Writes rows with growing ids until it is told to stop, and says how many. A write that fails is a failed test.
fn writer(session: tokio_postgres::Client, first: i64, stop: &Arc<AtomicBool>) -> JoinHandle<i64> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            let id = first + count;
            session.batch_execute(&format!("insert into t values ({id})")).await.unwrap();
            count += 1;
        }
        count
    })
}

/// Takes events until this many have come, each once.
async fn take(client: &mut Client, count: usize) -> BTreeSet<i64> {
    let mut ids = BTreeSet::new();
    while ids.len() < count {
        let id = client.event().await.record()["id"].as_i64().unwrap();
        assert!(ids.insert(id), "{id} came twice");
    }
    ids
}

#[tokio::test]
async fn an_upgrade_under_load_fails_no_write_and_loses_no_event() {
    let server = server_with_history().await;
    let database = older_database(&server, OLDER).await;
    database
        .exec("create table t (id bigint primary key); select realtime.enable_realtime('t'); grant select on t to anon")
        .await;
    let stack = Stack::builder().start_on(database).await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..4 {
        writers.push(writer(stack.session().await, number * 1_000_000, &stop));
    }
    let mut seen = take(&mut client, 200).await;
    let update = stack.exec("alter extension realtime update");
    within(Duration::from_secs(10), "the upgrade goes through between the writers", update).await;
    seen.extend(take(&mut client, 200).await);
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += usize::try_from(writer.await.unwrap()).unwrap();
    }
    seen.extend(take(&mut client, written - seen.len()).await);
    assert_eq!(seen.len(), written, "what was written came once");
    assert_eq!(stack.text("select extversion from pg_extension where extname = 'realtime'").await, VERSION);
    assert_same(&catalog::of(&stack).await, &fresh_catalog(&server).await);
}
