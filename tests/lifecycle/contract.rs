//! The sidecar speaks its own version of the contract and the one before, and refuses the others.

use realtime_tests::{Stack, eventually};
use tokio::task::spawn_blocking;

const TABLE: &str = "
    create table t (id int primary key);
    select realtime.enable_realtime('t');
    grant select on t to anon;
";

/// Makes the extension say that it speaks another version, to every new session.
async fn pretend(stack: &Stack, version: i32) {
    stack
        .exec(&format!(
            "create or replace function realtime.contract_version() returns integer language sql immutable parallel safe
               return {version};
             select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and application_name like 'realtime-sidecar-%'"
        ))
        .await;
}

async fn check(stack: &Stack) -> String {
    let mut command = stack.sidecar.command(&["check"]);
    let output = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

#[tokio::test]
async fn contracts_that_the_sidecar_speaks_are_served_and_others_stand_still() {
    let stack = Stack::with(TABLE).await;
    let ours: i32 = stack.text("select realtime.contract_version()").await.parse().unwrap();
    let mut client = stack.native().await;
    client.subscribe("table:t").await;
    // There was none before the first.
    let spoken = (ours - 1).max(1)..=ours;
    let mut id = 0;
    for (version, remedy) in [(ours + 1, "newer sidecar"), (*spoken.start() - 1, "alter extension realtime update")] {
        pretend(&stack, version).await;
        client.find("the database is down", |frame| frame["database"] == "down").await;
        eventually("the log says why", async || {
            stack.sidecar.log().contains(&format!("the extension speaks contract {version}")).then_some(())
        })
        .await;
        let said = check(&stack).await;
        assert!(said.contains(remedy), "{said}");
        for version in spoken.clone() {
            id += 1;
            stack.exec(&format!("insert into t values ({id})")).await;
            pretend(&stack, version).await;
            let event = client.find("the row", |frame| frame.kind() == "broadcast").await;
            assert_eq!(event.record()["id"], id, "what was committed meanwhile comes");
        }
    }
}
