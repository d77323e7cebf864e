//! Rows that change without row events.

use realtime_tests::Stack;
use serde_json::json;

const PARTED: &str = "
    create table whole (id int primary key, v int) partition by range (id);
    create table low partition of whole for values from (0) to (10);
    create table high partition of whole for values from (10) to (20);
    insert into whole values (1, 1), (11, 1);
    select realtime.enable_realtime('whole');
    grant select on whole to anon;
";

#[tokio::test]
async fn rows_that_change_without_events_are_a_gap() {
    let stack = Stack::with(PARTED).await;
    let mut client = stack.native().await;
    client.subscribe("table:whole").await;
    // Tables are looked at every second, and this one may not have been yet.
    stack.exec("select realtime._notice_changes(true)").await;
    stack.exec("alter table whole detach partition high").await;
    let gap = client.expect("gap").await;
    assert_eq!((&gap["id"], &gap["reason"]), (&json!("table:whole"), &json!("unjudged")));
    stack.exec("update whole set v = 2").await;
    assert_eq!(client.event().await.record(), &json!({"id": 1, "v": 2}));
}
