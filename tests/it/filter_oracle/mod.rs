//! Filters say what Postgres says of the same WHERE: on random rows, values and filters of every type.

mod columns;
mod grammar;

use realtime_sidecar::filter::Filter;
use realtime_tests::random::{Random, seed_of_now};
use realtime_tests::{Database, Server};
use tokio::task::spawn_blocking;
use tokio_postgres::Client;

use self::columns::{COLUMNS, Column, ICU_COLUMNS};
use self::grammar::{Grammar, Pair, quoted};

const ROWS: usize = 100;
const FILTERS: usize = 1_500;
/// How many answers must be compared, at least.
const CELLS_MIN: usize = 50_000;

const TYPES: &str = "
    create type colour as enum ('red', 'dark blue', 'green');
    create domain positive as int check (value > 0);
    create domain address as text collate \"C\";
";
const ICU: &str = "create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

/// The table, as the database has it and as its events show it.
struct World {
    session: Client,
    /// Names, and how their values are compared.
    columns: Vec<(String, String)>,
    images: Vec<String>,
}

#[derive(Debug, Default)]
struct Count {
    cells: usize,
    matching: usize,
    wrong: usize,
    /// Answers that were left open.
    open: usize,
    refused: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_say_what_postgres_says() {
    let seed = std::env::var("REALTIME_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(seed_of_now);
    let database = Database::create(spawn_blocking(Server::shared).await.unwrap()).await;
    let mut random = Random::new(seed);
    database.exec(TYPES).await;
    let mut columns = COLUMNS.to_vec();
    if database.try_exec(ICU).await.is_ok() {
        columns.extend_from_slice(ICU_COLUMNS);
    }
    let world = World::make(&database, &columns, &mut random).await;
    let mut grammar = Grammar { columns: &columns, random };
    let mut count = Count::default();
    for _ in 0..FILTERS {
        world.compare(&grammar.filter(), &mut count).await;
    }
    println!("filters, seed {seed}: {count:?}");
    assert_eq!(count.wrong, 0, "REALTIME_TEST_SEED={seed} shows them again");
    assert!(count.cells >= CELLS_MIN, "too little was compared: {count:?}");
    assert!(count.matching * 20 > count.cells, "too few rows match for a test: {count:?}");
    assert!(count.open * 50 < count.cells, "too many answers are open: {count:?}");
}

impl World {
    async fn make(database: &Database, columns: &[Column], random: &mut Random) -> Self {
        let declared: Vec<String> = columns.iter().enumerate().map(|(n, it)| format!("c{n} {}", it.sql)).collect();
        let create = format!("create table f (id int primary key, {})", declared.join(", "));
        database.exec(&format!("{create}; select realtime.enable_realtime('f')")).await;
        database.exec("select realtime.tick()").await;
        let head: i64 = database.text("select head from realtime.status()").await.parse().unwrap();
        for id in 0..ROWS {
            let values: Vec<String> = columns.iter().map(|column| value(column, random)).collect();
            database.exec(&format!("insert into f values ({id}, {})", values.join(", "))).await;
        }
        database.exec("select realtime.tick()").await;
        let events =
            format!("select record from realtime.read({head}, {ROWS}, 100000000, null, null) where kind = 'e'");
        let images: Vec<String> =
            database.rows(&events).await.into_iter().filter_map(|mut row| row.remove(0)).collect();
        assert_eq!(images.len(), ROWS);
        let comparable = "select c.name, c.how from (select array_agg(attname::text order by attnum) as names from pg_attribute \
                                where attrelid = 'f'::regclass and attnum > 0) a, \
                          unnest(a.names, realtime.comparable('f'::regclass, a.names)) c(name, how)";
        let columns = database.rows(comparable).await.into_iter();
        let columns = columns.map(|mut row| (row[0].take().unwrap(), row[1].take().unwrap())).collect();
        Self { session: database.session().await, columns, images }
    }

    async fn compare(&self, pair: &Pair, count: &mut Count) {
        let Ok(filter) = Filter::parse(&pair.filter, &self.columns) else {
            count.refused += 1;
            return;
        };
        let answers = self.answers(&pair.sql).await;
        for (id, image) in self.images.iter().enumerate() {
            count.cells += 1;
            match (filter.matches(image), &answers[id]) {
                (None, _) => count.open += 1,
                (Some(said), Ok(wanted)) if said == *wanted => count.matching += usize::from(said),
                (said, wanted) => {
                    count.wrong += 1;
                    println!(
                        "{}\n  said {said:?}, Postgres says {wanted:?} to {}\n  on {image}",
                        pair.filter, pair.sql
                    );
                }
            }
        }
    }

    /// What Postgres says of each row; asked one by one where that fails.
    async fn answers(&self, sql: &str) -> Vec<Result<bool, String>> {
        let all = format!("select coalesce({sql}, false) from f order by id");
        if let Ok(rows) = self.session.query(&all, &[]).await {
            return rows.iter().map(|row| Ok(row.get(0))).collect();
        }
        let mut answers = Vec::new();
        for id in 0..self.images.len() {
            let one =
                self.session.query_one(&format!("select coalesce({sql}, false) from f where id = {id}"), &[]).await;
            answers.push(one.map(|row| row.get(0)).map_err(|error| format!("{error:?}")));
        }
        answers
    }
}

fn value(column: &Column, random: &mut Random) -> String {
    if random.chance(10) { "null".to_owned() } else { quoted(random.pick(column.values)) }
}
