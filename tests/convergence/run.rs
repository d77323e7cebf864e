//! Rounds of writing, each with a quiet point at its end at which everybody's picture is compared.

use std::sync::Arc;
use std::time::Instant;

use realtime_tests::Stack;
use realtime_tests::random::{Random, seed_of_now};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::state::Rows;
use crate::subscriber::Subscriber;
use crate::world::{self, VIEWS, View, columns, identities};
use crate::writer;

/// What one run does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything random follows from it, as far as the machine allows.
    pub(crate) seed: u64,
    /// Quiet points.
    pub(crate) rounds: u64,
    /// Transactions of each writer in a round.
    pub(crate) transactions: u64,
    /// Whether clients fold wrongly on purpose.
    pub(crate) is_sabotaged: bool,
}

const WRITERS: u64 = 4;

impl Plan {
    /// `CONVERGENCE_SEED` and `CONVERGENCE_ROUNDS` change it.
    pub(crate) fn of_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
        let seed = number("CONVERGENCE_SEED").unwrap_or_else(seed_of_now);
        let rounds = number("CONVERGENCE_ROUNDS").unwrap_or(8);
        Self { seed, rounds, transactions: 60, is_sabotaged: false }
    }
}

/// Runs the plan, prints its figures and returns how many pictures were wrong.
pub(crate) async fn run(plan: Plan) -> u64 {
    println!("convergence seed {} ({plan:?})", plan.seed);
    let begun = Instant::now();
    let stack = Arc::new(
        Stack::builder()
            .own_server()
            .sql(world::SQL)
            .set("REALTIME_AUTH_ROLES", "authenticated,service_role,anon,reader")
            // Clients ask for the cursor until it is where they want it.
            .set("REALTIME_LIMITS_MESSAGES_PER_SECOND_MAX", "10000")
            .set("REALTIME_LIMITS_MESSAGES_BURST_MAX", "10000")
            .start()
            .await,
    );
    let mut random = Random::new(plan.seed);
    let mut subscribers = subscribers(&plan, &mut random);
    let (mut compared, mut wrong) = (0, 0);
    for round in 0..plan.rounds {
        subscribers = write_and_follow(&stack, &plan, subscribers, &mut random).await;
        for subscriber in &mut subscribers {
            compared += 1;
            wrong += u64::from(!is_right(&stack, subscriber, round, plan.is_sabotaged).await);
        }
    }
    let sum = |of: fn(&Subscriber) -> u64| subscribers.iter().map(of).sum::<u64>();
    println!("convergence resumed {}", sum(|it| it.resumed));
    println!("convergence started over {}", sum(|it| it.started_over));
    println!("convergence rows {}", sum(|it| it.state.rows.len() as u64));
    println!("convergence compared {compared}");
    println!("convergence wrong {wrong}");
    println!("convergence seconds {}", begun.elapsed().as_secs());
    wrong
}

fn subscribers(plan: &Plan, random: &mut Random) -> Vec<Subscriber> {
    let mut subscribers = Vec::new();
    for identity in identities() {
        for view in VIEWS {
            let mut subscriber = Subscriber::new(identity.clone(), view, random.fork());
            subscriber.state.keeps_what_leaves = plan.is_sabotaged;
            subscribers.push(subscriber);
        }
    }
    subscribers
}

/// Writers and clients at once; then the clients take what is still on its way.
async fn write_and_follow(
    stack: &Arc<Stack>,
    plan: &Plan,
    subscribers: Vec<Subscriber>,
    random: &mut Random,
) -> Vec<Subscriber> {
    let (quiet, heard) = watch::channel(0);
    let mut following = JoinSet::new();
    for mut subscriber in subscribers {
        let (stack, heard) = (Arc::clone(stack), heard.clone());
        following.spawn(async move {
            subscriber.follow(&stack, heard).await;
            subscriber
        });
    }
    let mut writing = JoinSet::new();
    for _ in 0..WRITERS {
        let (stack, random, transactions) = (Arc::clone(stack), random.fork(), plan.transactions);
        writing.spawn(async move { writer::write(&stack, transactions, random).await });
    }
    writing.join_all().await;
    quiet.send(head(stack).await).unwrap();
    following.join_all().await
}

/// The offset of the last event that was committed.
async fn head(stack: &Stack) -> i64 {
    stack.exec("select realtime.tick()").await;
    stack.text("select head from realtime.status()").await.parse().unwrap()
}

async fn is_right(stack: &Stack, subscriber: &Subscriber, round: u64, is_quiet: bool) -> bool {
    let expected = select(stack, subscriber).await;
    let rows = &subscriber.state.rows;
    if *rows == expected {
        return true;
    }
    if !is_quiet {
        let (view, identity) = (subscriber.view, &subscriber.identity);
        println!("wrong in round {round}: {view:?} as {} {}", identity.role, identity.claims);
        for (key, row) in rows.iter().filter(|(key, row)| expected.get(*key) != Some(row)) {
            println!("  has {key}: {row}, SELECT {:?}", expected.get(key));
        }
        for (key, row) in expected.iter().filter(|(key, _)| !rows.contains_key(*key)) {
            println!("  lacks {key}: {row}");
        }
    }
    false
}

/// What the identity's own SELECT shows.
async fn select(stack: &Stack, subscriber: &Subscriber) -> Rows {
    let (View { table, condition, .. }, identity) = (subscriber.view, &subscriber.identity);
    let key = if table == "docs" { "id || ' '" } else { "id || ' ' || org || ' '" };
    let session = stack.session().await;
    let statements = format!(
        "begin; set local role {}; do $$ begin perform set_config('request.jwt.claims', '{}', true); end $$;
         select {key}, row_to_json(t)::text from (select {} from {table} where {condition}) t; rollback",
        identity.role,
        identity.claims,
        columns(table, identity.role),
    );
    let rows = realtime_tests::database::text_rows(&session.simple_query(&statements).await.unwrap());
    rows.into_iter().map(|row| (row[0].clone().unwrap(), parse(row[1].as_deref().unwrap()))).collect()
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
