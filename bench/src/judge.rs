//! What verdicts cost, beside a loop in the database that sets role and claims and looks the row up, as WALRUS does.

use std::time::Instant;

use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::server::{Server, number};
use crate::statistics::Sample;

const WORLD: &str = "
select realtime.create_auth_helpers();
create function person(n int) returns uuid language sql immutable
  as $$ select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
create table member (sub uuid, org int, primary key (sub, org));
insert into member select person(n), n % 10 from generate_series(1, 10000) n;
alter table member enable row level security;
create policy mine on member for select using (sub = (select auth.uid()));
create table subscriber (id int primary key, claims text not null);
insert into subscriber select n, jsonb_build_object('sub', person(n), 'org', n % 10, 'role', 'authenticated', 'aud', 'authenticated',
    'email', 'somebody.' || n || '@example.com', 'session_id', person(n + 5000), 'app_metadata', jsonb_build_object('provider', 'email')) from generate_series(1, 10000) n;
create table judged_claim (id int primary key, owner uuid, org int, touched int not null default 0, filler text);
create table judged_exists (like judged_claim including all);
create table judged_owner (like judged_claim including all);
create policy p on judged_claim for select using (org = (auth.jwt() ->> 'org')::int);
create policy p on judged_exists for select using (exists (select from member m where m.org = judged_exists.org));
create policy p on judged_owner for select using (owner = auth.uid());
grant select on member, judged_claim, judged_exists, judged_owner to authenticated;
grant usage on schema auth to authenticated;
";

/// For one table. The loop is the inner one of `realtime.apply_rls()`: a lookup of the row is prepared, and executed with role
/// and claims set for each subscriber.
const TABLE: &str = "
insert into judged_% select n, person(n), n % 10, 0, repeat('x', 200) from generate_series(1, 10000) n;
alter table judged_% enable row level security;
select realtime.enable_realtime('judged_%'::regclass);
analyze judged_%;
create function walrus_%(rows int, identities int) returns bigint language plpgsql as $$
declare who record; visible boolean; seen bigint := 0;
begin
  for n in 1..rows loop
    execute format('prepare walrus_rls_stmt as select true from public.judged_% where id = %L', n);
    for who in select s.claims from public.subscriber s where s.id <= identities loop
      perform set_config('role', 'authenticated', true), set_config('request.jwt.claims', who.claims, true);
      execute 'execute walrus_rls_stmt' into visible;
      seen := seen + (visible is true)::int;
    end loop;
    perform set_config('role', 'none', true);
    deallocate walrus_rls_stmt;
  end loop;
  return seen;
end $$;
";

/// One table's policy, and how many times cheaper than the loop a verdict on one row has to be.
const POLICIES: [(&str, f64); 3] = [("claim", 5.0), ("exists", 3.0), ("owner", 100.0)];

const IDENTITIES: i32 = 1_000;

/// The same change judged for 1,000 identities by both, then for 100 and 10,000 seated ones; of one row and of 100.
pub(crate) fn of_verdicts(runtime: &Runtime) {
    let server = Server::start();
    server.sql(WORLD);
    for (name, _) in POLICIES {
        server
            .sql(&TABLE.replace("judged_%", &format!("judged_{name}")).replace("walrus_%", &format!("walrus_{name}")));
    }
    runtime.block_on(async {
        let session = server.session().await;
        for (name, bar) in POLICIES {
            for rows in [1, 100] {
                against_the_loop(&session, name, rows, bar).await;
            }
        }
        for rows in [1, 100] {
            by_identities(&session, rows).await;
        }
    });
}

async fn against_the_loop(session: &Client, policy: &str, rows: i32, bar: f64) {
    let event = Event::make(session, policy, rows).await;
    seat(session, policy, IDENTITIES).await;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    event.judge_us(session).await;
    event.walrus_us(session).await;
    for _ in 0..number("BENCH_ROUNDS", 5) {
        let (walrus_us, judge_us) = (event.walrus_us(session).await, event.judge_us(session).await);
        theirs.push(walrus_us);
        ours.push(judge_us);
        ratios.push(walrus_us / judge_us);
    }
    let name = format!("{policy}_{rows}_rows_1000_identities");
    Sample::new(ours).print(&format!("judge_us_{name}"), 0);
    Sample::new(theirs).print(&format!("loop_us_{name}"), 0);
    Sample::new(ratios).print(&format!("judge_times_cheaper_{name}"), 1);
    println!("judge_times_cheaper_bar_{policy} {bar}");
}

/// The same rows, each seen by one identity, among few and among many.
async fn by_identities(session: &Client, rows: i32) {
    let event = Event::make(session, "owner", rows).await;
    let (mut few, mut many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..number("BENCH_ROUNDS", 5) {
        let mut us = [0.0; 2];
        for (place, identities) in [100, 10_000].into_iter().enumerate() {
            seat(session, "owner", identities).await;
            event.judge_us(session).await;
            us[place] = event.judge_us(session).await;
        }
        few.push(us[0]);
        many.push(us[1]);
        ratios.push(us[1] / us[0]);
    }
    Sample::new(few).print(&format!("judge_us_owner_{rows}_rows_100_identities"), 0);
    Sample::new(many).print(&format!("judge_us_owner_{rows}_rows_10000_identities"), 0);
    Sample::new(ratios).print(&format!("judge_10000_to_100_identities_{rows}_rows"), 2);
}

/// Seats so many identities, and nobody else.
async fn seat(session: &Client, policy: &str, identities: i32) {
    let statement = format!(
        "select realtime.unseat('judged_{policy}'::regclass, array(select generate_series(1, 10000)));
         select count(realtime.know_identity(id, 'authenticated', claims)) from subscriber where id <= {identities};
         select realtime.seat('judged_{policy}'::regclass, array(select id from subscriber where id <= {identities}))"
    );
    session.batch_execute(&statement).await.unwrap();
}

/// A change of some rows of one table, in the log.
struct Event {
    policy: String,
    rows: i32,
    after: i64,
    until: i64,
}

impl Event {
    async fn make(session: &Client, policy: &str, rows: i32) -> Self {
        let after = head(session).await;
        let statement = format!("update judged_{policy} set touched = touched + 1 where id <= {rows}");
        session.batch_execute(&statement).await.unwrap();
        let until = head(session).await;
        Self { policy: policy.to_owned(), rows, after, until }
    }

    /// The best of some calls, in microseconds.
    async fn judge_us(&self, session: &Client) -> f64 {
        let Self { policy, after, until, .. } = self;
        let statement = format!("select * from realtime.judge('judged_{policy}'::regclass, {after}, {until})");
        best_of(session, &statement, 10).await
    }

    async fn walrus_us(&self, session: &Client) -> f64 {
        let statement = format!("select walrus_{}({}, {IDENTITIES})", self.policy, self.rows);
        best_of(session, &statement, if self.rows == 1 { 3 } else { 1 }).await
    }
}

/// The server's time alone, as both sides are asked once: the way there and back, which a sidecar has for either, is left out.
async fn best_of(session: &Client, statement: &str, times: u32) -> f64 {
    best_with_way(session, statement, times).await - best_with_way(session, "", 50).await
}

async fn best_with_way(session: &Client, statement: &str, times: u32) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..times {
        let began = Instant::now();
        session.batch_execute(statement).await.unwrap();
        best = best.min(began.elapsed().as_secs_f64() * 1e6);
    }
    best
}

/// The log's end, with all that has committed.
async fn head(session: &Client) -> i64 {
    session.batch_execute("select realtime.tick()").await.unwrap();
    session.query_one("select head from realtime.status()", &[]).await.unwrap().get(0)
}
