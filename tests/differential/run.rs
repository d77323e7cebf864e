//! Cases, one after another, on servers of their own, until enough is compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use realtime_tests::random::Random;
use realtime_tests::{Database, Server};
use tokio::task::{JoinSet, spawn_blocking};

use crate::case::Case;
use crate::count::Count;
use crate::judge::Judge;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::world::{self, ROLES};

/// A session of the judge sees so many tables: it keeps plans, and they have to be told apart.
const CASES_PER_SESSION: u64 = 12;

/// Runs the plan and prints its figures.
pub(crate) async fn run(plan: Plan) -> Count {
    println!("differential seed {} ({plan:?})", plan.seed);
    let begun = Instant::now();
    let compared = Arc::new(AtomicU64::new(0));
    let mut random = Random::new(plan.seed);
    let mut workers = JoinSet::new();
    for _ in 0..plan.workers {
        workers.spawn(work(plan.clone(), random.fork(), Arc::clone(&compared)));
    }
    let mut count = Count::default();
    for part in workers.join_all().await {
        count += part;
    }
    count.print();
    println!("differential seconds {}", begun.elapsed().as_secs());
    count
}

/// Each worker has a server: roles and memberships are the server's, and cases change them.
async fn work(plan: Plan, mut random: Random, compared: Arc<AtomicU64>) -> Count {
    let server = spawn_blocking(Server::own).await.unwrap();
    let database = Database::create(server).await;
    database.exec(ROLES).await;
    let types = world::prepare(&database).await;
    let oracle = Oracle::new(&database).await;
    let mut count = Count::default();
    while compared.load(Ordering::Relaxed) < plan.cells {
        let judge = Judge::new(&database, plan.sabotage).await;
        for _ in 0..CASES_PER_SESSION {
            let seed = plan.case.unwrap_or_else(|| random.number());
            let case = Case::begin(seed, &types, &database, &oracle, &judge).await.run().await;
            if case.wrong + case.seats_wrong > 0 && plan.sabotage.is_none() {
                println!("differential case {seed}: {} wrong of {}", case.wrong, case.cells);
            }
            compared.fetch_add(case.cells, Ordering::Relaxed);
            count += case;
            if plan.case.is_some() || plan.sabotage.is_some() && count.cells >= plan.cells {
                return count;
            }
        }
    }
    count
}
