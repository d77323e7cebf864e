//! Row changes reach the subscribers of their table.

use realtime_tests::Stack;
use serde_json::json;

const TABLE: &str = "
    create table t (id int primary key, name text);
    select realtime.enable_realtime('t');
    grant select on t to anon, authenticated;
";

/// A row event carries what changed, when, and in which transaction.
#[tokio::test]
async fn an_insert_arrives_with_its_record() {
    let stack = Stack::with(TABLE).await;
    let mut client = stack.native().await;
    let ack = client.subscribe("table:t").await;
    assert_eq!(ack["key"], json!(["id"]));
    stack.exec("insert into t values (1, 'one')").await;
    let event = client.event().await;
    assert_eq!(event["payload"]["type"], "INSERT");
    assert_eq!(event.record(), &json!({"id": 1, "name": "one"}));
    assert_eq!(event["txn"], event["offset"]);
}
