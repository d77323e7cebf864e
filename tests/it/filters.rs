//! Filters: a subscription is about some rows of a table. They come into it and leave it like rows that a policy shows.

use std::collections::BTreeMap;

use realtime_tests::{Client, Frame, Stack};
use serde_json::{Value, json};

use crate::{
    fixtures::{ADA, GRACE},
    row_level_security::{NOTES, told},
};

const ORDERS: &str = "
    create table orders (id int primary key, item text collate \"C\", price numeric, secret text);
    select realtime.enable_realtime('orders');
    grant select (id, item, price) on orders to anon;
";

async fn listen(client: &mut Client, filter: &str) {
    client.subscribe_with(json!({"channel": "table:orders", "filter": filter})).await;
}

async fn tell(client: &mut Client, count: usize) -> Vec<Value> {
    client.events(count).await.iter().map(told).collect()
}

fn order(id: i64, item: &str, price: f64) -> Value {
    json!({"id": id, "item": item, "price": price})
}

#[tokio::test]
async fn rows_come_into_a_filter_and_leave_it() {
    let stack = Stack::with(ORDERS).await;
    let mut client = stack.native().await;
    listen(&mut client, "price=gt.2,item=not.like.b*").await;
    stack.exec("insert into orders values (1, 'a', 1.5), (2, 'a', 2.5), (3, 'b', 2.5), (4, 'a', null)").await;
    stack.exec("update orders set price = 3.5 where id in (1, 2)").await;
    stack.exec("update orders set price = 1.5, id = 10 where id = 1").await;
    stack.exec("update orders set item = 'c' where id = 3").await;
    stack.exec("update orders set secret = 'x'").await;
    stack.exec("delete from orders where id in (2, 4, 10)").await;
    stack.exec("truncate orders").await;
    assert_eq!(
        tell(&mut client, 7).await,
        [
            json!(["INSERT", null, order(2, "a", 2.5)]),
            json!(["INSERT", null, order(1, "a", 3.5)]),
            json!(["UPDATE", order(2, "a", 2.5), order(2, "a", 3.5)]),
            json!(["DELETE", {"id": 1}, null]),
            json!(["INSERT", null, order(3, "c", 2.5)]),
            json!(["DELETE", order(2, "a", 3.5), null]),
            json!(["TRUNCATE", null, null]),
        ]
    );
}

#[tokio::test]
async fn a_filter_may_ask_for_a_column_that_is_not_shown() {
    let stack = Stack::with(ORDERS).await;
    let mut client = stack.native().await;
    let frame = json!({"channel": "table:orders", "filter": "price=gte.2", "columns": ["id"], "events": ["INSERT"]});
    client.subscribe_with(frame).await;
    stack.exec("insert into orders values (1, 'a', 1), (2, 'a', 2), (3, 'a', 1)").await;
    stack.exec("update orders set price = 9 where id = 3").await;
    assert_eq!(tell(&mut client, 2).await, [json!(["INSERT", null, {"id": 2}]), json!(["INSERT", null, {"id": 3}])]);
}

#[tokio::test]
async fn policies_and_filters_both_decide() {
    let stack = Stack::with(NOTES).await;
    let mut ada = stack.native_as(ADA).await;
    ada.subscribe_with(json!({"channel": "table:notes", "filter": "body=in.(yes,maybe)"})).await;
    let all = format!("insert into notes values (1, '{ADA}', 'yes'), (2, '{GRACE}', 'yes'), (3, '{ADA}', 'no')");
    stack.exec(&all).await;
    stack.exec("update notes set body = 'maybe'").await;
    stack.exec(&format!("update notes set owner = '{GRACE}' where id = 1")).await;
    stack.exec("update notes set body = 'no' where id = 3").await;
    let events = tell(&mut ada, 5).await;
    let said: Vec<_> =
        events.iter().map(|it| (it[0].as_str().unwrap(), it[1]["id"].as_i64(), it[2]["id"].as_i64())).collect();
    assert_eq!(
        said,
        [
            ("INSERT", None, Some(1)),
            ("UPDATE", Some(1), Some(1)),
            ("INSERT", None, Some(3)),
            ("DELETE", Some(1), None),
            ("DELETE", Some(3), None)
        ]
    );
}

#[tokio::test]
async fn who_comes_back_gets_what_the_filter_is_about() {
    let stack = Stack::with(ORDERS).await;
    let mut client = stack.native().await;
    listen(&mut client, "price=lt.5").await;
    stack.exec("insert into orders values (1, 'a', 1)").await;
    let seen = client.event().await.offset();
    client.close().await;
    stack.exec("insert into orders values (2, 'a', 9), (3, 'a', 3.5)").await;
    stack.exec("update orders set price = 9 where id = 1").await;
    let mut client = stack.native().await;
    let frame = json!({"channel": "table:orders", "filter": "price=lt.5", "since": seen});
    assert_eq!(client.subscribe_with(frame).await["recovered"], true);
    assert_eq!(
        tell(&mut client, 2).await,
        [json!(["INSERT", null, order(3, "a", 3.5)]), json!(["DELETE", {"id": 1}, null])]
    );
}

/// Folds a snapshot and the events after it, until an event of this row comes.
async fn fold(client: &mut Client, last: i64) -> BTreeMap<i64, Value> {
    let mut rows = BTreeMap::new();
    loop {
        let part = client.expect("snapshot").await;
        for row in part["rows"].as_array().unwrap() {
            rows.insert(row["id"].as_i64().unwrap(), row.clone());
        }
        if part["last"] == true {
            break;
        }
    }
    while !rows.contains_key(&last) {
        apply(&mut rows, &client.event().await);
    }
    rows
}

fn apply(rows: &mut BTreeMap<i64, Value>, event: &Frame) {
    let payload = &event["payload"];
    if payload["type"] != "INSERT" {
        rows.remove(&payload["old_record"]["id"].as_i64().unwrap());
    }
    if payload["type"] != "DELETE" {
        rows.insert(payload["record"]["id"].as_i64().unwrap(), payload["record"].clone());
    }
}

#[tokio::test]
async fn a_filtered_snapshot_and_its_events_are_what_the_where_selects() {
    let stack = Stack::with(ORDERS).await;
    stack.exec("insert into orders select n, 'n' || n % 7, n % 10 from generate_series(1, 500) n").await;
    let writes = async {
        for step in 0..60 {
            stack
                .exec(&format!(
                    "update orders set price = (price + {step}) % 10 where id % 11 = {step} % 11;
                     update orders set id = id + 1000, item = 'n' || (id + {step}) % 7 where id % 50 = {step} % 50 and id < 1000;
                     delete from orders where id % 97 = {step}"
                ))
                .await;
        }
        stack.exec("insert into orders values (0, 'n3', 4)").await;
    };
    let reads = async {
        let mut client = stack.native().await;
        let filter = "or=(price.lt.3,and(item.gte.n3,item.lt.n5)),id=not.in.(5,7)";
        client.subscribe_with(json!({"channel": "table:orders", "filter": filter, "snapshot": true})).await;
        fold(&mut client, 0).await
    };
    let ((), rows) = tokio::join!(writes, reads);
    let wanted = stack
        .text(
            "select jsonb_object_agg(id, jsonb_build_object('id', id, 'item', item, 'price', price)) from orders
              where (price < 3 or item >= 'n3' and item < 'n5') and id not in (5, 7)",
        )
        .await;
    let wanted: BTreeMap<i64, Value> = serde_json::from_str(&wanted).unwrap();
    assert!(rows.len() > 50, "{}", rows.len());
    assert_eq!(rows, wanted);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_with_its_place() {
    let stack = Stack::with(&format!(
        "{ORDERS} alter table orders add note text; grant select (note) on orders to anon;
         insert into realtime.channels (pattern) values ('room'); create policy all_may on realtime.channels for select using (true);"
    ))
    .await;
    let mut client = stack.native().await;
    let refused = |filter: &str| json!({"channel": "table:orders", "filter": filter});
    for (filter, position, start) in [
        ("price=gt.x", 10, "this is no value of the column's type"),
        ("id=eq.1,price=about.3", 15, "\"about\" is no operator"),
        ("note=gt.a", 6, "the order of texts is known only under the collation C"),
        ("", 1, "a column is expected here"),
    ] {
        let answer = client.try_subscribe(refused(filter)).await;
        assert_eq!((answer.code(), &answer["position"]), ("FILTER_INVALID", &json!(position)), "{answer:?}");
        assert!(answer["error"].as_str().unwrap().starts_with(start), "{answer:?}");
        assert!(answer.value().get("final").is_none());
    }
    let hidden = client.try_subscribe(refused("secret=eq.1")).await;
    let missing = client.try_subscribe(refused("secreT=eq.1")).await;
    let text = |answer: &Frame| answer["error"].as_str().unwrap().to_lowercase();
    assert_eq!(text(&hidden), text(&missing), "what may not be read looks like what is not there");
    let room = client.try_subscribe(json!({"channel": "room", "filter": "id=eq.1"})).await;
    assert_eq!(room.code(), "FILTER_INVALID");
}

#[tokio::test]
async fn a_filter_on_a_column_that_is_taken_away_ends_its_subscription() {
    let stack = Stack::with(ORDERS).await;
    let mut client = stack.native().await;
    listen(&mut client, "price=gt.2").await;
    stack.exec("revoke select (price) on orders from anon").await;
    let error = client.expect("error").await;
    assert_eq!((error.code(), &error["final"]), ("FILTER_INVALID", &json!(true)), "{error:?}");
}

#[tokio::test]
async fn a_filter_that_a_new_collation_makes_unclear_ends_its_subscription() {
    let stack = Stack::with(ORDERS).await;
    let mut client = stack.native().await;
    listen(&mut client, "item=gt.b").await;
    stack.exec("alter table orders alter item type text collate \"default\"").await;
    let error = client.find("the end of the subscription", |it| it.kind() == "error" && it["final"] == true).await;
    assert_eq!(error.code(), "FILTER_INVALID", "{error:?}");
}

#[tokio::test]
async fn where_an_image_cannot_say_a_gap_says_so() {
    let stack = Stack::with(
        "create table orders (id int primary key, price numeric, body text);
         select realtime.enable_realtime('orders'::regclass, '{\"old\": \"key\"}'); grant select on orders to anon;",
    )
    .await;
    let mut by_key = stack.native().await;
    listen(&mut by_key, "id=lt.5").await;
    let mut by_price = stack.native().await;
    listen(&mut by_price, "price=gt.2").await;
    stack.exec("insert into orders values (1, 1), (2, 3)").await;
    stack.exec("update orders set price = 3 where id = 1").await;
    stack.exec("insert into orders values (3, 1, repeat('x', 2000000))").await;
    let insert = by_price.event().await;
    assert_eq!(insert.record()["id"], 2);
    for _ in ["an old price is not there", "nor is one of a row that is too large"] {
        assert_eq!(by_price.expect("gap").await["reason"], "unjudged");
    }
    let kinds: Vec<_> = by_key.events(4).await.iter().map(|it| it["payload"]["type"].clone()).collect();
    assert_eq!(kinds, ["INSERT", "INSERT", "UPDATE", "INSERT"]);
}
