//! A word in every row and column that a client must not see, on everything that leaves the sidecar.

use realtime_tests::{Client, Stack, eventually, http, token};
use serde_json::json;

use crate::fixtures::{ADA, GRACE};

/// In every hidden value, and in nothing else.
const CANARY: &str = "canary-7f3a9";

/// Tables with every way to hide something: policies, column privileges, left-out columns, no privilege at all.
const WORLD: &str = "
    create table papers (id int primary key, owner text, title text, notes text, hidden text default 'CANARY', left_out text default 'CANARY');
    select realtime.enable_realtime('papers'::regclass, '{\"exclude\": [\"left_out\"]}');
    grant select (id, owner, title, notes) on papers to authenticated;
    alter table papers enable row level security;
    create function complain(owner text, title text) returns boolean language plpgsql as $$
    begin
      if owner = auth.jwt() ->> 'sub' then return true; end if;
      if auth.jwt() ->> 'sub' = 'fragile' and title <> 'the end' then raise exception 'no verdict on %', title using detail = title, hint = title; end if;
      return title = 'the end';
    end $$;
    create policy own on papers for select to authenticated using (complain(owner, title));
    create table plain (id int primary key, shown text, hidden text default 'CANARY');
    select realtime.enable_realtime('plain'); grant select (id, shown) on plain to authenticated;
    create table closed (id int primary key, hidden text); select realtime.enable_realtime('closed');
    create table keyed (id text primary key, owner text); select realtime.enable_realtime('keyed'); grant select (owner) on keyed to authenticated;
    alter table keyed enable row level security;
    create policy own on keyed for select to authenticated using (owner = auth.jwt() ->> 'sub');
    insert into realtime.channels (pattern) values ('mine:%'), ('closed:%');
    create policy own on realtime.channels for select to authenticated using (realtime.channel_name() like 'mine:%');
";

/// Every change of a row that hides, shows, or both.
const WRITES: &str = "
    insert into papers values (1, 'ADA', 'a', 'n'), (2, 'GRACE', 'CANARY', 'CANARY'), (3, 'nobody', 'CANARY', 'CANARY');
    update papers set notes = 'm' where id = 1; update papers set notes = 'CANARY', hidden = 'CANARY 2' where id in (2, 3);
    update papers set hidden = hidden || 'x', left_out = 'CANARY 3' where id = 1;
    update papers set owner = 'ADA', title = 'b', notes = 'c' where id = 2;
    update papers set owner = 'GRACE', title = 'CANARY', notes = 'CANARY' where id = 1;
    update papers set id = id + 10, notes = 'CANARY' where id = 3; update papers set id = 20 where id = 2;
    insert into papers values (4, 'GRACE', 'CANARY', repeat('CANARY', 200000)); delete from papers where id = 4; delete from papers where id in (1, 20);
    insert into papers values (5, 'ADA', 'd', 'e', repeat('CANARY', 200000)); update papers set title = 'f' where id = 5;
    insert into plain values (1, 's', 'CANARY'); update plain set hidden = 'CANARY 2'; update plain set shown = 'z'; delete from plain;
    insert into closed values (1, 'CANARY'); update closed set hidden = 'CANARY 2'; truncate closed;
    insert into keyed values ('CANARY 1', 'ADA'), ('CANARY 2', 'GRACE'); update keyed set owner = 'GRACE'; delete from keyed;
    select realtime.publish('closed:CANARY', 'CANARY', '{\"text\": \"CANARY\"}');
    begin; insert into papers values (6, 'ADA', 'CANARY', 'CANARY'); rollback;
";

fn sql(text: &str) -> String {
    text.replace("CANARY", CANARY).replace("ADA", ADA).replace("GRACE", GRACE)
}

/// Everything that comes until the last row, as it came.
async fn everything(client: &mut Client, ends: &mut Vec<String>) {
    loop {
        let frame = client.next().await;
        ends.push(frame.text().to_owned());
        if frame.kind() == "broadcast" && frame.record()["title"] == "the end" {
            return;
        }
    }
}

#[tokio::test]
async fn nothing_hidden_leaves_the_sidecar() {
    let stack = Stack::builder().sql(&sql(WORLD)).set("REALTIME_LOG", "trace").start().await;
    let mut sent = Vec::new();
    let begin = stack.native_as(ADA).await.hello().offset();
    let mut live = vec![
        stack.native_as(ADA).await,
        stack.native_as("stranger").await,
        stack.native_as("fragile").await,
        stack.seed_as(ADA).await,
    ];
    for client in &mut live {
        subscribe(client, &mut sent, None, false).await;
    }
    for write in sql(WRITES).split(';') {
        stack.exec(write).await;
    }
    // Rows for those who come later.
    let mut later =
        vec![stack.native_as(ADA).await, stack.native_as("stranger").await, stack.native_as("fragile").await];
    for (place, client) in later.iter_mut().enumerate() {
        subscribe(client, &mut sent, Some(begin), place == 1).await;
    }
    let mut rows = [stack.native_as(ADA).await, stack.native_as("stranger").await, stack.native_as("fragile").await];
    for client in &mut rows {
        let answer = client.try_subscribe(json!({"channel": "table:papers", "snapshot": true})).await;
        sent.push(answer.text().to_owned());
    }
    refused(&stack, &mut sent).await;
    stack.exec("insert into papers values (99, 'everybody', 'the end', '')").await;
    for client in live.iter_mut().chain(&mut later).chain(&mut rows[..2]) {
        everything(client, &mut sent).await;
    }
    for path in ["/metrics", "/ready", "/health", "/api/realtime/stats", "/ping"] {
        for address in [stack.sidecar.address(), stack.sidecar.admin()] {
            sent.push(http::get(address, path).await.map(|answer| answer.body).unwrap_or_default());
        }
    }
    let failed = async || stack.sidecar.log().contains("a snapshot ended early").then_some(());
    eventually("the snapshot of who fails has ended", failed).await;
    let found: Vec<&String> = sent.iter().filter(|text| text.contains(CANARY)).collect();
    let log = stack.sidecar.log();
    let logged: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
    let bytes: usize = sent.iter().map(String::len).sum::<usize>() + log.len();
    println!("canary bytes {bytes}\ncanary found {}", found.len() + logged.len());
    assert!(found.is_empty(), "sent: {:.2000?}", found);
    assert!(logged.is_empty(), "logged: {:.2000?}", logged);
    assert!(sent.iter().any(|text| text.contains("\"title\":\"b\"")), "what is shown is sent");
}

async fn subscribe(client: &mut Client, sent: &mut Vec<String>, since: Option<i64>, oldest: bool) {
    for channel in ["table:papers", "table:plain", "table:keyed", "mine:1"] {
        let mut frame = json!({"channel": channel});
        if let Some(since) = since {
            frame["since"] = if oldest { json!("oldest") } else { json!(since) };
        }
        sent.push(client.try_subscribe(frame).await.text().to_owned());
    }
}

/// What is asked for in vain, and with forged claims.
async fn refused(stack: &Stack, sent: &mut Vec<String>) {
    let claims = json!({"sub": ADA, "role": "authenticated", "exp": token::in_seconds(60), "note": CANARY});
    let mut client = stack.connect().token(&stack.signer.sign(&claims)).open().await;
    for channel in ["table:closed", "closed:1", "table:nothing", "table:keyed"] {
        sent.push(client.try_subscribe(json!({"channel": channel, "snapshot": true})).await.text().to_owned());
        sent.push(client.publish(channel, "e", json!(1)).await.text().to_owned());
    }
}
