//! What people make with the extension, and how to see that it is still there.

use std::collections::BTreeSet;

use realtime_tests::{Client, Database, Stack};
use serde_json::json;

/// Somebody who is a member of room 1.
pub(crate) const ADA: &str = "a0a0a0a0-0000-4000-8000-0000000000ad";

/// Everything that people make with the extension: options, channels, settings, and policies that need tables and
/// functions of their own.
pub(crate) const MADE_BY_PEOPLE: &str = "
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

/// Partitioned tables in every state that ATTACH, DETACH and DROP leave behind, a table with a child, and a table whose
/// trigger fires for replicated rows too.
pub(crate) const FAMILIES: &str = "
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

/// What a dump must carry, as text.
const KEPT: [&str; 6] = [
    "select string_agg(c::text, e'\\n' order by pattern) from realtime.channels c",
    "select string_agg(s::text, e'\\n' order by name) from realtime.settings s",
    "select string_agg(p::text, e'\\n' order by tablename, policyname) from pg_policies p where schemaname = 'realtime'",
    "select string_agg(p::text, e'\\n' order by table_name, name) from realtime.saved_policies p",
    "select string_agg(pg_get_triggerdef(oid) || ' ' || tgenabled::text || ' ' || (select string_agg(deptype::text, '' order by deptype) from pg_depend d
        where d.classid = 'pg_trigger'::regclass and d.objid = t.oid), e'\\n' order by tgrelid::regclass::text, tgname)
       from pg_trigger t where tgfoid = 'realtime.notify_table_change()'::regprocedure and not tgisinternal",
    "select string_agg(format('%s %s', p.oid::regprocedure, (select string_agg(a::text, ' ' order by a::text)
         from unnest(coalesce(p.proacl, acldefault('f', p.proowner))) a)), e'\\n')
       from pg_proc p where p.pronamespace = 'realtime'::regnamespace",
];

/// What a database has of what a dump must carry, one line each.
pub(crate) async fn kept(database: &Database) -> BTreeSet<String> {
    // Names are written out where the search path does not have their schema.
    database.exec("set search_path = pg_catalog; select realtime.save_policies()").await;
    let mut kept = BTreeSet::new();
    for query in KEPT {
        let text = database.text(query).await;
        kept.extend(text.lines().map(str::to_owned));
    }
    kept
}

/// Panics when something is missing or too much, and says what.
pub(crate) fn assert_same(now: &BTreeSet<String>, before: &BTreeSet<String>) {
    let missing: Vec<_> = before.difference(now).collect();
    let new: Vec<_> = now.difference(before).collect();
    assert!(missing.is_empty() && new.is_empty(), "missing: {missing:#?}\nnew: {new:#?}");
}

/// A client that comes back to `orders` with an offset of another history, and has been told so.
pub(crate) async fn told_of_a_new_history(new: &Stack, offset: i64) -> Client {
    let mut client = new.native().await;
    let ack = client.resume("table:orders", offset).await;
    assert_eq!(ack["recovered"], false, "{ack}");
    let gap = client.expect("gap").await;
    assert_eq!((&gap["reason"], &gap["from"]), (&json!("history"), &json!(offset + 1)), "{gap}");
    client
}
