//! Identities are never mixed up: many sessions, many identities, and sessions that are cut, cancelled and meddled with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use realtime_tests::random::{Random, seed_of_now};
use realtime_tests::{Database, Server};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_postgres::Client;

use super::login;

const SESSIONS: u64 = 64;
const IDENTITIES: i32 = 1_000;
const ROWS: i32 = 1_000;
/// Identities in one question.
const BATCH: i32 = 25;
const CHECKS: u64 = 150_000;

/// Each of 1,000 people owns one row, one channel and one name to publish under. Some of their policies raise, some take
/// other people's claims, always their neighbour's.
const WORLD: &str = "
    create table own (id int primary key, owner text, body text);
    select realtime.enable_realtime('own'::regclass); grant select on own to authenticated;
    alter table own enable row level security;
    create function meddle() returns boolean language plpgsql as $$
    declare n int := (auth.jwt() ->> 'sub')::int;
    begin
      if n % 7 = 0 then raise exception 'no'; end if;
      if n % 5 = 0 then perform set_config('request.jwt.claims', format('{\"sub\": \"%s\"}', n + 1), false); end if;
      if n % 3 = 0 then perform set_config('role', 'none', false); end if;
      return false;
    exception when others then return 1 / (n % 7) < 0;
    end $$;
    create policy own on own for select to authenticated using (owner = auth.jwt() ->> 'sub');
    create policy meddling on own for select to authenticated using (id % 10 = 3 and meddle());
    insert into realtime.channels (pattern) values ('own:%');
    create policy own on realtime.channels for select to authenticated using (realtime.channel_name() = 'own:' || (auth.jwt() ->> 'sub'));
    create policy meddling on realtime.channels for select to authenticated using (meddle());
    create policy own on realtime.messages for insert to authenticated with check (channel_name = 'own:' || (auth.jwt() ->> 'sub'));
";

struct Shared {
    database: Database,
    relation: u32,
    /// The offset before the first row.
    before: i64,
    checks: AtomicU64,
    mixed: AtomicU64,
    cut: AtomicU64,
    is_over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_are_never_mixed_up() {
    let seed = seed_of_now();
    let mut random = Random::new(seed);
    let shared = Arc::new(prepare().await);
    let mut sessions = JoinSet::new();
    for _ in 0..SESSIONS {
        sessions.spawn(ask_until_enough(Arc::clone(&shared), random.fork()));
    }
    let cutter = tokio::spawn(cut(Arc::clone(&shared), random.fork()));
    sessions.join_all().await;
    shared.is_over.store(true, Ordering::Relaxed);
    cutter.await.unwrap();
    let figure = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    println!("mixing seed {seed}\nmixing checks {}\nmixing cut {}", figure(&shared.checks), figure(&shared.cut));
    println!("mixing mixed {}", figure(&shared.mixed));
    assert!(figure(&shared.checks) >= CHECKS && figure(&shared.cut) > 20);
    assert_eq!(figure(&shared.mixed), 0, "seed {seed}");
    check_messages(&shared.database).await;
}

async fn prepare() -> Shared {
    let database = Database::create(spawn_blocking(Server::own).await.unwrap()).await;
    database.exec(&format!("alter database {} set realtime.worker = off", database.name())).await;
    database.exec(WORLD).await;
    database.exec("select realtime.tick()").await;
    let before = database.text("select head from realtime.status()").await.parse().unwrap();
    database.exec(&format!("insert into own select n, n, 'x' from generate_series(1, {ROWS}) n")).await;
    database.exec("select realtime.tick()").await;
    let relation = database.text("select 'own'::regclass::oid").await.parse().unwrap();
    let zero = || AtomicU64::new(0);
    Shared { database, relation, before, checks: zero(), mixed: zero(), cut: zero(), is_over: AtomicBool::new(false) }
}

fn claims(n: i32) -> String {
    format!("{{\"sub\": \"{n}\", \"role\": \"authenticated\"}}")
}

/// A session of a pool: it is closed after any error, and the next one is made.
async fn ask_until_enough(shared: Arc<Shared>, mut random: Random) {
    while shared.checks.load(Ordering::Relaxed) < CHECKS {
        let session = login(&shared.database).await;
        while shared.checks.load(Ordering::Relaxed) < CHECKS {
            let asked = match random.below(4) {
                0 => subscribe(&shared, &session, &mut random).await,
                1 => publish(&shared, &session, &mut random).await,
                _ => judge(&shared, &session, &mut random).await,
            };
            if asked.is_err() {
                break;
            }
        }
    }
}

/// Twenty-five people and forty rows, some of them their own.
async fn judge(shared: &Shared, session: &Client, random: &mut Random) -> Result<(), tokio_postgres::Error> {
    let (first, step) = (random.key(ROWS - 40), random.key(30) + 1);
    let people: Vec<i32> = (0..BATCH).map(|n| (first + n * step / 4) % IDENTITIES + 1).collect();
    let claims: Vec<String> = people.iter().map(|n| claims(*n)).collect();
    let know = "select realtime.know_identity(id, 'authenticated', c) from unnest($1::int[], $2::text[]) p(id, c)";
    session.query(know, &[&people, &claims]).await?;
    let after = shared.before + i64::from(first);
    let is_seated = random.chance(50);
    if is_seated {
        session.query("select realtime.seat($1, $2)", &[&shared.relation, &people]).await?;
    }
    let named = (!is_seated).then_some(&people);
    let ask = "select * from realtime.judge($1, $2, $3, $4)";
    let row = session.query_one(ask, &[&shared.relation, &after, &(after + 40), &named]).await?;
    if is_seated {
        session.query("select realtime.unseat($1, $2)", &[&shared.relation, &people]).await?;
    }
    let (seen_by, verdicts): (Vec<i32>, Vec<String>) = (row.get("seen_by"), row.get("verdicts"));
    for person in people {
        let spoken = seen_by.iter().position(|seen| *seen == person).map(|at| verdicts[at].as_bytes());
        for n in 0..40_usize {
            let owner = first + i32::try_from(n).unwrap() + 1;
            let is_seen = spoken.is_some_and(|verdicts| verdicts[2 * n + 1] == b'1');
            if !meddles_with_itself(person) {
                let is_right = is_seen == (owner == person);
                shared.check(is_right, || format!("{person} and row {owner}: {is_seen}"));
            }
        }
    }
    Ok(())
}

/// Whether the meddling policy takes other claims, which then hold for the rest of this person's own policies: Postgres
/// does the same, and the others in the question must not notice.
fn meddles_with_itself(person: i32) -> bool {
    person % 5 == 0
}

async fn subscribe(shared: &Shared, session: &Client, random: &mut Random) -> Result<(), tokio_postgres::Error> {
    let (person, room) = (random.key(IDENTITIES) + 1, random.key(IDENTITIES) + 1);
    let room = if random.chance(50) { person } else { room };
    let ask = "select allowed from realtime.may_subscribe('authenticated', $1, $2, null, null)";
    let allowed: bool = session.query_one(ask, &[&claims(person), &format!("own:{room}")]).await?.get(0);
    if !meddles_with_itself(person) {
        let is_right = allowed == (person == room);
        shared.check(is_right, || format!("{person} and room {room}: {allowed}"));
    }
    Ok(())
}

async fn publish(shared: &Shared, session: &Client, random: &mut Random) -> Result<(), tokio_postgres::Error> {
    let (person, room) = (random.key(IDENTITIES) + 1, random.key(IDENTITIES) + 1);
    let room = if random.chance(50) { person } else { room };
    let ask = "select message_id from realtime.publish_as('authenticated', $1, $2, 'e', to_jsonb($3::int)::text, null)";
    let answer = session.query_one(ask, &[&claims(person), &format!("own:{room}"), &person]).await;
    match answer {
        Ok(_) => shared.check(person == room, || format!("{person} published to {room}")),
        Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => {
            shared.check(person != room, || format!("{person} was denied their room"))
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What was published is stamped with who published it.
async fn check_messages(database: &Database) {
    let mixed = "select count(*) from realtime.messages where sender is distinct from payload #>> '{}' or channel_name <> 'own:' || sender";
    assert_eq!(database.text(mixed).await, "0");
    assert_ne!(database.text("select count(*) from realtime.messages").await, "0");
}

impl Shared {
    fn check(&self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            println!("mixed: {}", what());
        }
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.mixed.fetch_add(u64::from(!is_right), Ordering::Relaxed);
    }
}

/// Ends and cancels sessions at random, in the middle of whatever they do.
async fn cut(shared: Arc<Shared>, mut random: Random) {
    while !shared.is_over.load(Ordering::Relaxed) {
        let how = random.pick(&["pg_terminate_backend", "pg_cancel_backend", "pg_cancel_backend"]);
        let pause = f64::from(random.key(20)) / 1_000.0;
        let cut = format!(
            "select pg_sleep({pause}); select count({how}(pid)) from (select pid from pg_stat_activity where usename = 'realtime_sidecar' and state = 'active' order by random() limit 1) s"
        );
        let count: u64 = shared.database.rows(&cut).await[1][0].as_deref().unwrap().parse().unwrap();
        shared.cut.fetch_add(count, Ordering::Relaxed);
    }
}
