//! Values arrive as the database has them: every type, every digit, every name, whatever the writer's settings.

use std::collections::BTreeMap;

use realtime_tests::Stack;
use serde_json::json;

/// A value of each built-in type; the last ones are at its edges.
const VALUES: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("bytea", &[r"\x00ff5c", ""]),
    ("\"char\"", &["x"]),
    ("name", &["a name"]),
    ("int8", &["9007199254740993", "-9223372036854775808", "9223372036854775807"]),
    ("int2", &["-32768"]),
    ("int2vector", &["1 2 3"]),
    ("int4", &["2147483647"]),
    ("text", &["ünïcode 🎉 \"quoted\" back\\slash \t \u{1} \u{7f} \u{2028}", ""]),
    ("oid", &["4294967295"]),
    ("tid", &["(4,2)"]),
    ("xid", &["4294967295"]),
    ("cid", &["7"]),
    ("oidvector", &["1 2"]),
    ("json", &[r#"{"b":  1.10, "a": "\u0000", "b": 2}"#, "null", "\"x\"", "[1e300]"]),
    ("xml", &["<a b=\"c\">d</a>"]),
    ("point", &["(1.5,-2)"]),
    ("lseg", &["[(0,0),(1,1)]"]),
    ("path", &["((0,0),(1,1))", "[(0,0),(1,1)]"]),
    ("box", &["(1,1),(0,0)"]),
    ("polygon", &["((0,0),(1,1),(1,0))"]),
    ("line", &["{1,2,3}"]),
    ("float4", &["0.1", "NaN", "Infinity", "-Infinity", "-0"]),
    ("float8", &["0.30000000000000004", "NaN", "Infinity", "1e300", "-0"]),
    ("circle", &["<(0,0),1>"]),
    ("money", &["1234.56"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("inet", &["10.0.0.1/8", "::1"]),
    ("cidr", &["10.0.0.0/8"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("aclitem", &["postgres=r/postgres"]),
    ("bpchar", &["pad "]),
    ("varchar", &["some"]),
    ("date", &["2026-02-28", "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"]),
    ("time", &["23:59:59.999999", "24:00"]),
    ("timestamp", &["2026-02-28 12:34:56.789", "infinity", "-infinity", "4713-01-01 BC", "294276-12-31 23:59:59"]),
    ("timestamptz", &["2026-02-28 12:34:56.789+05:45", "infinity", "-infinity", "0001-01-01 00:00+00 BC"]),
    ("interval", &["1 year 2 mons 3 days 04:05:06.7", "-1 day +00:00:01"]),
    ("timetz", &["12:00+05:45"]),
    ("bit", &["1"]),
    ("varbit", &["10101"]),
    (
        "numeric",
        &[
            "1.10",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789",
            "0.0000000000000000001",
            "1e20",
        ],
    ),
    ("refcursor", &["cursor"]),
    ("regprocedure", &["pg_sleep(double precision)"]),
    ("regoper", &["|/"]),
    ("regoperator", &["+(integer,integer)"]),
    ("regclass", &["pg_class"]),
    ("regcollation", &["\"C\""]),
    ("regtype", &["integer"]),
    ("regrole", &["postgres"]),
    ("regnamespace", &["public"]),
    ("regproc", &["pg_sleep"]),
    ("regconfig", &["english"]),
    ("regdictionary", &["simple"]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("pg_lsn", &["16/B374D848"]),
    ("tsvector", &["'fat':2 'cat':3"]),
    ("tsquery", &["'fat' & 'rat'"]),
    ("jsonb", &[r#"{"b": 1.10, "a": [null, 1e20]}"#, "null", "9007199254740993"]),
    ("jsonpath", &["$.\"a\""]),
    ("txid_snapshot", &["10:20:10,14"]),
    ("pg_snapshot", &["10:20:10,14"]),
    ("xid8", &["18446744073709551615"]),
    ("int4range", &["[1,5)", "empty", "(,)"]),
    ("numrange", &["[1.10,2)"]),
    ("tsrange", &["[2026-01-01,infinity)"]),
    ("tstzrange", &["[2026-01-01 00:00+02,)"]),
    ("daterange", &["[2026-01-01,2026-02-01)"]),
    ("int8range", &["[9007199254740993,)"]),
    ("int4multirange", &["{[1,3),[5,6)}"]),
    ("nummultirange", &["{[1.5,2)}"]),
    ("tsmultirange", &["{}"]),
    ("tstzmultirange", &["{[2026-01-01 00:00+02,)}"]),
    ("datemultirange", &["{[2026-01-01,2026-02-01)}"]),
    ("int8multirange", &["{[1,2)}"]),
];

/// Types that no table can hold a value of.
const INTERNAL: &[&str] = &[
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// Some builds of Postgres have the type and no values of it.
async fn has_xml(stack: &Stack) -> bool {
    stack.try_exec("select '<a/>'::xml").await.is_ok()
}

/// What the database itself says, with the settings that events are made with.
const PINNED: &str = "set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set extra_float_digits = 1; set bytea_output = 'hex';";

/// Inserts every value and returns, for each row, the event's record and what `row_to_json` says, member by member.
async fn compare(stack: &Stack, types: &[(String, Vec<String>)]) {
    let columns: Vec<String> = (0..types.len()).map(|index| format!("c{index}")).collect();
    let declared: Vec<String> =
        columns.iter().zip(types).map(|(column, (kind, _))| format!("{column} {kind}")).collect();
    stack
        .exec(&format!(
            "create table v (id int primary key, {}); select realtime.enable_realtime('v'); grant select on v to anon",
            declared.join(", ")
        ))
        .await;
    let mut client = stack.native().await;
    client.subscribe("table:v").await;
    let rows = types.iter().map(|(_, values)| values.len()).max().unwrap();
    for row in 0..rows {
        let values: Vec<String> = types
            .iter()
            .map(|(kind, values)| match values.get(row) {
                Some(value) => format!("'{}'::{kind}", value.replace('\'', "''")),
                None => "null".to_owned(),
            })
            .collect();
        stack.exec(&format!("insert into v values ({row}, {})", values.join(", "))).await;
    }
    let session = stack.session().await;
    session.batch_execute(PINNED).await.unwrap();
    for row in 0..rows {
        let event = client.event().await;
        for (index, (kind, values)) in types.iter().enumerate() {
            let asked = session
                .query_one(&format!("select to_json(c{index})::text from v where id = {row}"), &[])
                .await
                .unwrap();
            let expected: Option<String> = asked.get(0);
            let found = event.raw(&["payload", "record", &format!("c{index}")]);
            assert_eq!(found, expected.unwrap_or_else(|| "null".to_owned()), "{kind} {:?}", values.get(row));
        }
    }
}

#[tokio::test]
async fn every_built_in_type_arrives_as_the_database_writes_it() {
    let stack = Stack::start().await;
    let known: BTreeMap<&str, &[&str]> =
        VALUES.iter().map(|(kind, values)| (kind.trim_matches('"'), *values)).collect();
    let all = stack
        .rows(
            "select typname::text from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype in ('b', 'r', 'm') and typcategory <> 'A'",
        )
        .await;
    for name in all.into_iter().map(|row| row[0].clone().unwrap()) {
        assert!(
            known.contains_key(name.as_str()) || INTERNAL.contains(&name.as_str()),
            "no value of type {name} is tested"
        );
    }
    let has_xml = has_xml(&stack).await;
    let types: Vec<_> = VALUES
        .iter()
        .filter(|(kind, _)| has_xml || *kind != "xml")
        .map(|(kind, values)| ((*kind).to_owned(), values.iter().map(|v| (*v).to_owned()).collect()))
        .collect();
    compare(&stack, &types).await;
}

#[tokio::test]
async fn arrays_domains_enums_and_rows_arrive_as_the_database_writes_them() {
    let stack = Stack::with(
        "create type mood as enum ('sad', 'it''s \"ok\"'); create domain positive as int check (value > 0);
         create domain numbers as numeric[]; create type pair as (a int, b text, \"c d\" timestamptz); create domain dpair as pair;
         create type frange as range (subtype = float8); create domain dj as jsonb;",
    )
    .await;
    let types = [
        ("int[]", vec!["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={1,2}"]),
        ("text[]", vec![r#"{a,"b c","","NULL",NULL,"q\"q"}"#]),
        ("numeric[]", vec!["{1.10,NaN}"]),
        ("timestamptz[]", vec!["{\"2026-01-01 00:00+05\",infinity}"]),
        ("jsonb[]", vec![r#"{"{\"a\": 1.10}",NULL}"#]),
        ("bytea[]", vec![r#"{"\\x00ff"}"#]),
        ("mood", vec!["it's \"ok\"", "sad"]),
        ("mood[]", vec!["{sad}"]),
        ("positive", vec!["7"]),
        ("numbers", vec!["{1.10}"]),
        ("pair", vec!["(1,\"x y\",\"2026-01-01 00:00+05\")", "(,,)"]),
        ("pair[]", vec![r#"{"(1,x,)"}"#]),
        ("dpair", vec!["(1,x,)"]),
        ("frange", vec!["[0.1,0.30000000000000004)"]),
        ("dj", vec![r#"{"a": 1.10}"#]),
        ("varchar(3)", vec!["abc"]),
        ("char(5)", vec!["ab"]),
        ("numeric(10,4)", vec!["1.1"]),
        ("bit(3)", vec!["101"]),
        ("timestamp(0)", vec!["2026-01-01 00:00:00.6"]),
    ];
    let types: Vec<(String, Vec<String>)> = types
        .into_iter()
        .map(|(kind, values)| (kind.to_owned(), values.into_iter().map(str::to_owned).collect()))
        .collect();
    compare(&stack, &types).await;
}

#[tokio::test]
async fn digits_are_exact_on_the_wire() {
    let stack = Stack::with("create table t (i int8 primary key, n numeric, f float8, j json, b jsonb); select realtime.enable_realtime('t'); grant select on t to anon").await;
    let mut client = stack.native().await;
    let mut seed = stack.seed().await;
    client.subscribe("table:t").await;
    seed.subscribe("table:t").await;
    stack.exec("insert into t values (9007199254740993, 1.10, 0.1, '{\"n\": 1.10, \"z\": \"\\u0000\"}', '{\"n\": 9007199254740993.10}')").await;
    for event in [client.event().await, seed.event().await] {
        let member = |name: &str| event.raw(&["payload", "record", name]);
        assert_eq!(member("i"), "9007199254740993");
        assert_eq!(member("n"), "1.10");
        assert_eq!(member("f"), "0.1");
        assert_eq!(member("j"), r#"{"n": 1.10, "z": "\u0000"}"#);
        assert_eq!(member("b"), r#"{"n": 9007199254740993.10}"#);
    }
}

#[tokio::test]
async fn the_writer_s_settings_change_nothing() {
    let stack = Stack::with(
        "create table t (id serial primary key, d date, ts timestamp, tz timestamptz, i interval, b bytea, f float8, f4 float4, m money, x xml, a timestamptz[]);
         select realtime.enable_realtime('t'); grant select on t to anon",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    let xml = if has_xml(&stack).await { "'<a/>'" } else { "null" };
    let insert = "insert into t (d, ts, tz, i, b, f, f4, m, x, a) values (date '2026-02-03', timestamp '2026-02-03 04:05:06',
        timestamptz '2026-02-03 04:05:06+00', interval '1 year 2 mons 3 days 04:05:06', '\\x00ff5c', 0.30000000000000004, 0.1, 12.34::money, XML, array[timestamptz '2026-02-03 04:05:06+00'])";
    let settings = [
        "select 1",
        "set datestyle = 'German, DMY'; set timezone = 'Asia/Kathmandu'",
        "set datestyle = 'SQL, MDY'; set timezone = 'America/St_Johns'; set intervalstyle = 'sql_standard'",
        "set datestyle = 'Postgres, DMY'; set intervalstyle = 'iso_8601'; set extra_float_digits = -15",
        "set bytea_output = 'escape'; set intervalstyle = 'postgres_verbose'; set extra_float_digits = 3",
        "set xmlbinary = 'hex'; set xmloption = 'document'; set search_path = pg_catalog; set standard_conforming_strings = on",
        "set client_encoding = 'LATIN1'; set lc_monetary = 'C'; set role postgres",
    ];
    let mut records = Vec::new();
    for setting in settings {
        let session = stack.session().await;
        session.batch_execute(setting).await.unwrap();
        session.batch_execute(&insert.replace("into t", "into public.t").replace("XML", xml)).await.unwrap();
        let text = client.event().await.raw(&["payload", "record"]);
        records.push(text.split_once(',').unwrap().1.to_owned());
    }
    assert!(records.iter().all(|record| *record == records[0]), "{records:#?}");
    assert!(records[0].contains(r#""tz":"2026-02-03T04:05:06+00:00""#), "{}", records[0]);
}

#[tokio::test]
async fn weird_names_come_through() {
    let stack = Stack::start().await;
    let sixty_three = "x".repeat(63);
    let multibyte = format!("{}é", "y".repeat(61));
    let names = [
        "a.b",
        "a\"b",
        "🎉",
        sixty_three.as_str(),
        multibyte.as_str(),
        "__proto__",
        "constructor",
        "it's",
        "UPPER",
        "select",
        " leading",
        "back\\slash",
        "50%",
        "a_notify_change",
        "{}",
        "$1",
    ];
    let mut client = stack.native().await;
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        stack
            .exec(&format!(
                "create schema if not exists {quoted}; create table {quoted}.{quoted} (id int, {quoted} text primary key);
                 grant usage on schema {quoted} to anon; grant select on {quoted}.{quoted} to anon"
            ))
            .await;
        let literal = name.replace('\'', "''");
        stack.exec(&format!("select realtime.enable_realtime('{literal}', '{literal}')")).await;
        let channel = format!("table:{quoted}.{quoted}");
        let ack = client.subscribe(&channel).await;
        assert_eq!(ack["key"], json!([name]));
        stack.exec(&format!("insert into {quoted}.{quoted} values (1, 'x')")).await;
        let event = client.event().await;
        assert_eq!((&event["payload"]["schema"], &event["payload"]["table"]), (&json!(name), &json!(name)));
        assert_eq!((&event["channel"], &event.record()[name]), (&json!(channel), &json!("x")));
        assert_eq!(event.names(&["payload", "record"]), ["id", name]);
        stack.exec(&format!("select realtime.disable_realtime('{literal}', '{literal}')")).await;
        client.find("the end", |frame| frame["final"] == true).await;
    }
}

#[tokio::test]
async fn columns_keep_their_order_and_strange_names() {
    let stack = Stack::with(
        "create table t (z int primary key, \"a\nb\" int, \"tab\t\" int, gone int, \"\u{1}\" int, \"é\" int, a int);
         alter table t drop column gone; alter table t add column \"0\" int default 9;
         select realtime.enable_realtime('t'); grant select on t to anon",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("insert into t values (1, 2, 3, 4, 5, 6)").await;
    let event = client.event().await;
    assert_eq!(event.names(&["payload", "record"]), ["z", "a\nb", "tab\t", "\u{1}", "é", "a", "0"]);
    assert_eq!(event.raw(&["payload", "record", "0"]), "9");
}

#[tokio::test]
async fn generated_defaulted_and_late_columns_are_there() {
    let stack = Stack::with(
        "create table t (id int generated always as identity primary key, a int, double int generated always as (a * 2) stored);
         insert into t (a) values (1);
         alter table t add column late text default 'default';
         select realtime.enable_realtime('t'); grant select on t to anon",
    )
    .await;
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    stack.exec("update t set a = 5").await;
    let event = client.event().await;
    assert_eq!(event.old_record(), &json!({"id": 1, "a": 1, "double": 2, "late": "default"}));
    assert_eq!(event.record(), &json!({"id": 1, "a": 5, "double": 10, "late": "default"}));
}

#[tokio::test]
async fn a_database_in_another_encoding_speaks_utf_8() {
    let stack = Stack::start().await;
    // Its own database: the template has another encoding.
    let server = stack.server().clone();
    let name = format!("{}_latin1", stack.name());
    let psql = |database: &str, text: &str| server.psql(database, text);
    psql("postgres", &format!("create database {name} encoding 'LATIN1' locale 'C' template template0"));
    psql(
        &name,
        "create extension realtime; select realtime.grant_sidecar('realtime_sidecar'); create table t (id int primary key, name text); select realtime.enable_realtime('t'); grant select on t to anon",
    );
    let url = format!("postgres://realtime_sidecar@127.0.0.1:{}/{name}", server.port());
    let sidecar = realtime_tests::Sidecar::start(&[
        ("REALTIME_DATABASE_URL".to_owned(), url),
        ("REALTIME_JWT_SECRET".to_owned(), stack.signer.secret().to_owned()),
    ]);
    sidecar.ready().await;
    let mut client = stack.connect().through(sidecar.address()).open().await;
    client.subscribe("table:t").await;
    psql(&name, "set client_encoding = 'UTF8'; insert into t values (1, 'größe')");
    assert_eq!(client.event().await.record()["name"], "größe");
    drop(sidecar);
    server.drop_database(&name);
}
