//! What a table owner's policy function may try, on each way that a client's policies are run: nothing that it does
//! outlives the call, and it gets no right that the subscriber has not.

use realtime_tests::server::SIDECAR_ROLE;
use realtime_tests::{Database, Server};
use tokio::task::spawn_blocking;
use tokio_postgres::{Client, NoTls};

use attacks::ATTACKS;

mod attacks;
mod mixing;

/// Mallory owns a table that others subscribe to, and the functions in its policies. She may not read the vault or the log.
const WORLD: &str = "
    create role mallory; grant mallory to realtime_sidecar;
    create table vault (secret text); insert into vault values ('crown jewels'); grant select on vault to service_role;
    create schema mal authorization mallory; grant usage, create on schema mal to public;
    create table mal.loot (what text); alter table mal.loot owner to mallory; grant all on mal.loot to public;
    create table mal.t (id int primary key, owner text); alter table mal.t owner to mallory;
    grant select on mal.t to authenticated;
    select realtime.enable_realtime('mal.t'::regclass);
    alter table mal.t enable row level security;
    create function mal.attack() returns boolean language sql as 'select false'; alter function mal.attack() owner to mallory;
    create policy attacked on mal.t for select to authenticated using (case when auth.jwt() ->> 'sub' = 'mallory' then mal.attack() else owner = auth.jwt() ->> 'sub' end);
    insert into realtime.channels (pattern) values ('room:%');
    create policy attacked on realtime.channels for select to authenticated using (case when auth.jwt() ->> 'sub' = 'mallory' then mal.attack() else auth.jwt() ->> 'sub' = 'victim' end);
    create policy attacked on realtime.messages for insert to authenticated with check (case when auth.jwt() ->> 'sub' = 'mallory' then mal.attack() else auth.jwt() ->> 'sub' = 'victim' end);
";

/// After whatever it did, the function tells by its answer whether it now may what it must not.
const FUNCTION: &str = "
    create or replace function mal.attack() returns boolean language plpgsql SECURITY as $attack$
    declare looted boolean := false; x text; n int;
    begin
      begin ATTACK exception when query_canceled then null; when others then null; end;
      begin select secret into x from public.vault; looted := true; exception when others then null; end;
      begin perform count(*) from realtime.log_0; looted := true; exception when others then null; end;
      begin perform realtime.read(0, 10, 100000, null, null); looted := true; exception when others then null; end;
      begin perform realtime.tick(); looted := true; exception when others then null; end;
      return looted;
    end $attack$";

/// What of a session may be another before and after. Read-only figures of the current statement are left out.
const STATE: &str = "
    select concat_ws(' | ', session_user, current_user, current_setting('role'), current_setting('session_authorization'),
      (select md5(string_agg(name || '=' || setting, ',' order by name)) from pg_settings where name not like 'transaction_%' and name <> 'in_hot_standby'),
      'claims ' || coalesce(nullif(current_setting('request.jwt.claims', true), ''), 'none'),
      'evil ' || coalesce(nullif(current_setting('app.evil', true), ''), 'none'),
      'prepared ' || (select count(*) from pg_prepared_statements where not from_sql is false and statement not like '%concat_ws%'),
      'cursors ' || (select count(*) from pg_cursors where name <> ''),
      'listening ' || (select count(*) from pg_listening_channels()),
      'advisory ' || (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
      'locks ' || (select count(*) from pg_locks where locktype = 'relation' and pid = pg_backend_pid() and relation in ('mal.t'::regclass, 'mal.loot'::regclass, 'vault'::regclass)),
      'temporary ' || (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
      'large objects ' || (select count(*) from pg_largeobject_metadata),
      'functions ' || (select count(*) from pg_proc where pronamespace = 'mal'::regnamespace),
      'tables ' || (select count(*) from pg_class where relnamespace = 'mal'::regnamespace),
      'policies ' || (select md5(string_agg(p::text, ',' order by p.oid)) from pg_policy p),
      'rights ' || (select md5(string_agg(c.oid || coalesce(c.relacl::text, '') || c.relrowsecurity || c.relowner, ',' order by c.oid)) from pg_class c where c.relnamespace in ('mal'::regnamespace, 'public'::regnamespace, 'realtime'::regnamespace)),
      'roles ' || (select md5(string_agg(r.rolname || r.rolconfig::text || r.rolsuper, ',' order by r.rolname)) from pg_roles r))";

const MALLORY: &str = r#"{"sub": "mallory", "role": "authenticated"}"#;
const VICTIM: &str = r#"{"sub": "victim", "role": "authenticated"}"#;

/// A way on which policies are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Judge,
    Subscribe,
    Publish,
    Snapshot,
    History,
    Explain,
}

/// A session like the sidecar's, and the one that looks after it.
struct Scene {
    database: Database,
    sidecar: Client,
    /// A session of an application, which has assumed a role and claims by itself.
    person: Client,
    relation: u32,
    until: i64,
}

impl Scene {
    async fn set() -> Self {
        let database = Database::create(spawn_blocking(Server::own).await.unwrap()).await;
        database.exec(&format!("alter database {} set realtime.worker = off", database.name())).await;
        database.exec(WORLD).await;
        database.exec("select realtime.tick()").await;
        database.exec("insert into mal.t values (1, 'victim'), (2, 'nobody')").await;
        database.exec("select realtime.tick()").await;
        let relation = database.text("select 'mal.t'::regclass::oid").await.parse().unwrap();
        let until = database.text("select head from realtime.status()").await.parse().unwrap();
        let (sidecar, person) = (login(&database).await, login(&database).await);
        let scene = Self { database, sidecar, person, relation, until };
        scene.person.batch_execute("set role authenticated").await.unwrap();
        scene.claim(MALLORY).await;
        for (id, claims) in [(1, MALLORY), (2, VICTIM)] {
            let know = "select realtime.know_identity($1, 'authenticated', $2)";
            scene.sidecar.execute(know, &[&id, &claims]).await.unwrap();
        }
        for session in [&scene.sidecar, &scene.person] {
            session.batch_execute("prepare drivers as select 'the driver''s'::text").await.unwrap();
        }
        scene
    }

    async fn state(&self, way: Way) -> String {
        let session = if way == Way::History { &self.person } else { &self.sidecar };
        let rows = realtime_tests::database::text_rows(&session.simple_query(STATE).await.unwrap());
        let drivers = session.simple_query("execute drivers").await.unwrap();
        let drivers = realtime_tests::database::text_rows(&drivers)[0][0].clone().unwrap();
        format!("{} | {drivers}", rows[0][0].clone().unwrap())
    }

    /// Runs the attack, and returns what mallory and the victim were answered.
    async fn attack(&self, way: Way) -> [bool; 2] {
        match way {
            Way::Judge => self.judge().await,
            Way::Subscribe => [self.subscribe(MALLORY).await, self.subscribe(VICTIM).await],
            Way::Publish => [self.publish(MALLORY).await, self.publish(VICTIM).await],
            Way::Snapshot => [self.snapshot(MALLORY).await, self.snapshot(VICTIM).await],
            // Mallory last: her claims are the session's own.
            Way::History => {
                let victim = self.history(VICTIM).await;
                [self.history(MALLORY).await, victim]
            }
            Way::Explain => [self.explain(MALLORY).await, self.explain(VICTIM).await],
        }
    }

    /// Whether any row is in it.
    async fn snapshot(&self, claims: &str) -> bool {
        self.sidecar.batch_execute("begin isolation level repeatable read, read only").await.unwrap();
        let ask = "select count(*) from realtime.snapshot('authenticated', $1, $2)";
        let rows = self.sidecar.query_one(ask, &[&claims, &self.relation]).await.map(|row| row.get::<_, i64>(0));
        self.sidecar.batch_execute(if rows.is_ok() { "commit" } else { "rollback" }).await.unwrap();
        rows.is_ok_and(|count| count > 0)
    }

    /// Whether any event is in it.
    async fn history(&self, claims: &str) -> bool {
        self.claim(claims).await;
        let ask = "select count(*) from realtime.history('table:mal.t')";
        self.person.query_one(ask, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) > 0)
    }

    async fn claim(&self, claims: &str) {
        let set = "select set_config('request.jwt.claims', $1, false)";
        self.person.execute(set, &[&claims]).await.unwrap();
    }

    async fn judge(&self) -> [bool; 2] {
        let ask = "select * from realtime.judge($1, 0, $2, array[1, 2])";
        let row = self.sidecar.query_one(ask, &[&self.relation, &self.until]).await.unwrap();
        let (seen_by, verdicts): (Vec<i32>, Vec<String>) = (row.get("seen_by"), row.get("verdicts"));
        [1, 2].map(|id| seen_by.iter().position(|seen| *seen == id).is_some_and(|at| verdicts[at].contains('1')))
    }

    async fn subscribe(&self, claims: &str) -> bool {
        let ask = "select allowed from realtime.may_subscribe('authenticated', $1, 'room:1', null, null)";
        self.sidecar.query_one(ask, &[&claims]).await.unwrap().get(0)
    }

    async fn publish(&self, claims: &str) -> bool {
        let ask = "select duplicate from realtime.publish_as('authenticated', $1, 'room:1', 'e', '{}', null)";
        self.sidecar.query_one(ask, &[&claims]).await.is_ok()
    }

    /// Each policy is asked by itself, of a stored row, of a channel and of a message.
    async fn explain(&self, claims: &str) -> bool {
        let ask = "select count(*) filter (where x.subject = 'policy attacked' and x.allowed) as said_yes,
                          count(*) filter (where x.subject = 'policy attacked') as asked
                     from unnest(array['table:mal.t', 'room:1'], array['{\"id\": 1}', null]) q(channel, key)
                    cross join lateral realtime.explain_access($1::text::jsonb, q.channel, q.key::jsonb) x";
        let row = self.sidecar.query_one(ask, &[&claims]).await.unwrap();
        assert_eq!(row.get::<_, i64>("asked"), 3);
        // All of them for the victim; a single one would be too many for her.
        row.get::<_, i64>("said_yes") >= if claims == VICTIM { 3 } else { 1 }
    }
}

async fn login(database: &Database) -> Client {
    let url = database.server().url(SIDECAR_ROLE, database.name());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn nothing_survives(way: Way, security: &str) {
    let scene = Scene::set().await;
    // Some settings are there once the extension's library is.
    scene.attack(way).await;
    let mut failures = Vec::new();
    for (name, body) in ATTACKS {
        let function = FUNCTION.replace("SECURITY", security).replace("ATTACK", body);
        scene.database.exec(&function).await;
        let before = scene.state(way).await;
        let [mallory, victim] = scene.attack(way).await;
        let after = scene.state(way).await;
        if mallory {
            failures.push(format!("{name}: she got what she must not"));
        }
        if !victim {
            failures.push(format!("{name}: the victim was denied"));
        }
        if before != after {
            failures.push(format!("{name}: left behind\n  {before}\n  {after}"));
        }
        // What an INSERT's policies write themselves is the transaction's own; all else is taken back.
        let loot = scene.database.text("select count(*) from mal.loot").await;
        if way != Way::Publish && loot != "0" {
            failures.push(format!("{name}: wrote {loot} rows"));
        }
    }
    println!("attacks {way:?} {security} {} failures {}", ATTACKS.len(), failures.len());
    assert!(failures.is_empty(), "{way:?} {security}:\n{}", failures.join("\n"));
}

#[tokio::test]
async fn nothing_survives_a_judgement() {
    nothing_survives(Way::Judge, "security invoker").await;
    nothing_survives(Way::Judge, "security definer").await;
}

#[tokio::test]
async fn nothing_survives_a_question_whether_somebody_may_subscribe() {
    nothing_survives(Way::Subscribe, "security invoker").await;
    nothing_survives(Way::Subscribe, "security definer").await;
}

#[tokio::test]
async fn nothing_survives_a_publish() {
    nothing_survives(Way::Publish, "security invoker").await;
    nothing_survives(Way::Publish, "security definer").await;
}

#[tokio::test]
async fn nothing_survives_a_snapshot() {
    nothing_survives(Way::Snapshot, "security invoker").await;
    nothing_survives(Way::Snapshot, "security definer").await;
}

#[tokio::test]
async fn nothing_survives_a_look_at_history() {
    nothing_survives(Way::History, "security invoker").await;
    nothing_survives(Way::History, "security definer").await;
}

#[tokio::test]
async fn nothing_survives_an_explanation() {
    nothing_survives(Way::Explain, "security invoker").await;
    nothing_survives(Way::Explain, "security definer").await;
}

/// Errors that look like somebody's wish that the statement end: they deny her, and nobody else.
#[tokio::test]
async fn a_faked_cancel_denies_nobody_else() {
    let scene = Scene::set().await;
    for code in [
        "query_canceled",
        "admin_shutdown",
        "crash_shutdown",
        "out_of_memory",
        "internal_error",
        "XX001",
        "40001",
        "0A000",
    ] {
        let text = "create or replace function mal.attack() returns boolean language plpgsql as $$ begin raise exception 'canceling statement due to user request' using errcode = 'CODE'; end $$";
        scene.database.exec(&text.replace("CODE", code)).await;
        assert_eq!(scene.judge().await, [false, true], "judged, {code}");
        assert_eq!(scene.attack(Way::Subscribe).await, [false, true], "asked, {code}");
        assert_eq!(scene.attack(Way::Publish).await, [false, true], "published, {code}");
        assert_eq!(scene.attack(Way::Snapshot).await, [false, true], "in a snapshot, {code}");
        assert_eq!(scene.attack(Way::History).await, [false, true], "in history, {code}");
        assert_eq!(scene.attack(Way::Explain).await, [false, true], "explained, {code}");
    }
}

/// A constraint that is checked at the commit is checked as who wrote, not as the sidecar.
#[tokio::test]
async fn a_deferred_trigger_gets_no_rights_of_the_sidecar() {
    let scene = Scene::set().await;
    let found = "create table mal.found (what text); grant all on mal.found to public;
        create function mal.later() returns trigger language plpgsql as $later$
        begin
          insert into mal.found values ('user ' || current_user);
          begin perform realtime.read(0, 10, 100000, null, null); insert into mal.found values ('read the log'); exception when others then null; end;
          begin perform set_config('role', 'service_role', true); insert into mal.found select secret from vault; exception when others then null; end;
          begin execute 'deallocate all'; exception when others then null; end;
          begin execute 'listen ears'; exception when others then null; end;
          begin perform pg_advisory_lock(4711); exception when others then null; end;
          if pg_trigger_depth() < 3 then execute 'set constraints all deferred'; insert into mal.loot values ('again'); end if;
          return null;
        end $later$;
        alter function mal.later() owner to mallory;
        create constraint trigger later after insert on mal.loot deferrable initially deferred for each row execute function mal.later();
        create or replace function mal.attack() returns boolean language plpgsql as $$ begin insert into mal.loot values ('now'); return true; end $$";
    scene.database.exec(found).await;
    scene.attack(Way::Judge).await;
    scene.attack(Way::Subscribe).await;
    scene.attack(Way::Snapshot).await;
    scene.attack(Way::History).await;
    assert_eq!(scene.database.text("select count(*) from mal.found").await, "0", "what judges writes nothing");
    let before = scene.state(Way::Publish).await;
    // Postgres has none of it while rights are restricted: the message is refused.
    assert!(!scene.publish(MALLORY).await);
    assert_eq!(before, scene.state(Way::Publish).await, "something is left behind");
    assert_eq!(scene.database.text("select string_agg(what, ', ') from mal.found").await, "");
}
