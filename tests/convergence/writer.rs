//! Random transactions by several writers who meet at the same rows.

use realtime_tests::Database;
use realtime_tests::random::Random;

const IDS: i32 = 24;

/// Writes transactions; one that fails is taken back whole, like one that is meant to be.
pub(crate) async fn write(database: &Database, transactions: u64, mut random: Random) {
    let session = database.session().await;
    for _ in 0..transactions {
        let mut statements = vec!["begin".to_owned()];
        for _ in 0..1 + random.below(4) {
            statements.push(statement(&mut random));
        }
        statements.push(if random.chance(90) { "commit" } else { "rollback" }.to_owned());
        // Keys collide and writers wait for each other in a circle: that is their life.
        let _ = session.batch_execute(&statements.join("; ")).await;
        session.batch_execute("rollback").await.unwrap();
    }
}

fn statement(random: &mut Random) -> String {
    let statement = change(random);
    match random.below(10) {
        0 => format!("savepoint s; {statement}; rollback to s"),
        1 => format!("savepoint s; {statement}; release s"),
        _ => statement,
    }
}

fn change(random: &mut Random) -> String {
    let (id, other, org) = (random.key(IDS), random.key(IDS), random.key(3));
    let owner = random.pick(&["ada", "bob", "eve", "nobody"]);
    let body = random.pick(&["a", "b", "secret", "c"]);
    let open = random.chance(50);
    match random.below(16) {
        0..=2 => format!(
            "insert into docs values ({id}, '{owner}', {org}, {open}, '{body}') on conflict (id) do update set owner = excluded.owner, open = excluded.open"
        ),
        3 => format!("insert into docs values ({id}, '{owner}', {org}, {open}, '{body}')"),
        4..=5 => format!("update docs set body = '{body}', open = {open} where id = {id}"),
        6 => format!("update docs set owner = '{owner}' where id between {id} and {id} + 3"),
        7 => format!("update docs set org = {org} where id = {id}"),
        8 => format!(
            "update docs set id = id + {IDS} where id = {id}; update docs set id = {id} where id = {other}; update docs set id = {other} where id = {id} + {IDS}"
        ),
        9 => format!("update docs set id = id - 1 where id in ({id}, {id} + 1)"),
        10 => format!("delete from docs where id in ({id}, {other})"),
        11..=12 => format!(
            "insert into logs values ({id}, {org}, '{owner}', '{body}') on conflict (id, org) do update set owner = excluded.owner, body = excluded.body"
        ),
        13 => format!("update logs set org = {org} where id = {id}"),
        14 => format!("update logs set id = {other}, owner = '{owner}' where id = {id}"),
        _ if random.chance(5) => "truncate logs_1".to_owned(),
        _ => format!("delete from logs where id = {id}"),
    }
}
