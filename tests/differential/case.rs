//! One table's life: rows, changes of its columns, of rights, of rows; compared after each.

use std::collections::{BTreeSet, HashMap};

use realtime_tests::Database;
use realtime_tests::random::Random;

use crate::answer::{Answer, Pair};
use crate::count::Count;
use crate::identity::Identity;
use crate::judge::Judge;
use crate::oracle::Oracle;
use crate::rights;
use crate::table::{Shape, Table};
use crate::types::Types;

/// Back to what every case begins with.
const RESET: &str = "
    revoke fx_team from fx_plain; alter role fx_distant noinherit; alter role fx_team nobypassrls;
    create or replace function fx.is_even(n numeric) returns boolean language sql immutable as $$ select n % 2 = 0 $$";

/// feature_not_supported: the judge's word for a policy that reads what the image does not hold.
const NOT_IN_THE_IMAGE: &str = "0A000";

/// One state of a row.
#[derive(Clone, Copy, Debug)]
struct Version {
    id: i32,
    part: i32,
}

/// What the log has of one change: places of versions.
#[derive(Clone, Copy, Debug)]
struct Event {
    old: Option<usize>,
    new: Option<usize>,
    /// Its images are older than a column whose values of then only the rows know: they were written anew since, which
    /// takes what the catalog knew of them.
    is_short: bool,
}

impl Event {
    fn new(old: Option<usize>, new: Option<usize>) -> Self {
        Self { old, new, is_short: false }
    }

    /// Verdicts on it for somebody who sees nothing of it.
    fn hidden(&self) -> Pair {
        [self.old, self.new].map(|version| if version.is_some() { b'0' } else { b'-' })
    }
}

/// Where a verdict belongs.
#[derive(Clone, Copy, Debug)]
struct Cell<'a> {
    moment: &'a str,
    channel: usize,
    relation: u32,
    /// Of the event.
    offset: i64,
    event: Event,
    version: usize,
    identity: usize,
}

/// One case.
pub(crate) struct Case<'a> {
    /// Where the table is.
    pub(crate) database: &'a Database,
    /// The side that is believed.
    pub(crate) oracle: &'a Oracle,
    /// The side that is tested.
    pub(crate) judge: &'a Judge,
    random: Random,
    /// Whether rows are written anew. A generator of its own, so that a seed that was noted stays the same case.
    rewriting: Random,
    table: Table,
    identities: Vec<Identity>,
    begin: i64,
    versions: Vec<Version>,
    /// The rows as they are now.
    current: Vec<usize>,
    events: Vec<Event>,
    /// By channel and version: what each identity sees, as Postgres said when that version was the row.
    truth: HashMap<(usize, usize), Vec<u8>>,
    script: Vec<String>,
    count: Count,
}

impl<'a> Case<'a> {
    /// Makes the table and its rights.
    pub(crate) async fn begin(
        seed: u64,
        types: &Types,
        database: &'a Database,
        oracle: &'a Oracle,
        judge: &'a Judge,
    ) -> Self {
        let mut random = Random::new(seed);
        let table = Table::random(&mut random, types);
        let identities = (0..14 + random.below(7)).map(|_| Identity::random(&mut random)).collect();
        let mut case = Self {
            database,
            oracle,
            judge,
            random,
            rewriting: Random::new(!seed),
            table,
            identities,
            begin: 0,
            versions: Vec::new(),
            current: Vec::new(),
            events: Vec::new(),
            truth: HashMap::new(),
            script: Vec::new(),
            count: Count { tables: 1, ..Count::default() },
        };
        case.create().await;
        case
    }

    /// The whole of it. Every seed gives the same case.
    pub(crate) async fn run(mut self) -> Count {
        self.judge.know(&self.identities).await;
        self.insert(6).await;
        self.drift().await;
        self.insert(6).await;
        self.compare("new rows").await;
        for _ in 0..1 + self.random.below(3) {
            let change = rights::change(&self.table, &mut self.random);
            self.try_statement(change).await;
        }
        // What was measured under other rights says nothing now. From here on they stay, so it does of rows that are no more.
        self.truth.clear();
        self.compare("changed rights").await;
        self.change_rows().await;
        self.compare("changed rows").await;
        self.judge.forget(self.identities.len()).await;
        self.drop_table().await;
        self.count
    }

    async fn create(&mut self) {
        self.database.exec(RESET).await;
        for statement in self.table.creation(&mut self.random) {
            self.statement(statement).await;
        }
        let path = self.random.pick(&["\"$user\", public, realtime", "public, fx"]);
        self.statement(format!("set search_path = {path}")).await;
        for statement in rights::first(&self.table, &mut self.random) {
            self.try_statement(statement).await;
        }
        let tables = if self.table.shape == Shape::Inherited { 2 } else { 1 };
        for channel in 0..tables {
            let name = crate::types::quoted(&self.table.sql(channel));
            self.statement(format!("select realtime.enable_realtime({name}::regclass)")).await;
        }
        self.begin = self.head().await;
    }

    async fn statement(&mut self, statement: String) {
        self.database.exec(&statement).await;
        self.script.push(statement);
    }

    /// A statement that Postgres may refuse; then the case goes on without it.
    async fn try_statement(&mut self, statement: String) -> bool {
        let is_taken = self.database.try_exec(&statement).await.is_ok();
        if is_taken {
            self.count.taken += 1;
            self.script.push(statement);
        } else {
            self.count.refused += 1;
        }
        is_taken
    }

    async fn head(&self) -> i64 {
        self.database.exec("select realtime.tick()").await;
        self.database.text("select head from realtime.status()").await.parse().unwrap()
    }

    async fn insert(&mut self, count: usize) {
        for _ in 0..count {
            let id = i32::try_from(self.versions.len()).unwrap() + 1;
            let part = self.random.key(self.table.parts());
            let statement = self.table.insertion(id, part, &mut self.random);
            self.statement(statement).await;
            let new = self.version(id, part);
            self.current.push(new);
            self.events.push(Event::new(None, Some(new)));
        }
    }

    fn version(&mut self, id: i32, part: i32) -> usize {
        self.versions.push(Version { id, part });
        self.versions.len() - 1
    }

    /// Columns that come, go and are renamed, so that old images have another layout.
    async fn drift(&mut self) {
        let before = self.table.columns.len();
        for _ in 0..self.random.below(3) {
            match self.random.below(4) {
                0 => self.drop_column().await,
                1 => self.rename_column().await,
                _ => self.add_column().await,
            }
        }
        if self.table.columns.len() > before && self.rewriting.chance(40) {
            self.rewrite().await;
        }
    }

    /// What old rows have in columns that came later is in the rows from now on, and in the catalog no more.
    async fn rewrite(&mut self) {
        for statement in self.table.rewriting() {
            self.statement(statement).await;
        }
        let last = self.table.columns.last().unwrap().sql();
        if self.rewriting.chance(60) {
            self.statement(format!("alter table {} alter column {last} drop default", self.table.root())).await;
        }
        self.shorten();
    }

    fn shorten(&mut self) {
        self.events.iter_mut().for_each(|event| event.is_short = true);
    }

    async fn drop_column(&mut self) {
        let place = self.random.place(self.table.columns.len());
        let column = self.table.columns[place].sql();
        if self.table.columns.len() > 1
            && self.try_statement(format!("alter table {} drop column {column}", self.table.root())).await
        {
            self.table.columns.remove(place);
        }
    }

    async fn rename_column(&mut self) {
        let place = self.random.place(self.table.columns.len());
        let name = self.table.free_name(&mut self.random);
        let (old, new) = (self.table.columns[place].sql(), crate::world::identifier(&name));
        if self.try_statement(format!("alter table {} rename column {old} to {new}", self.table.root())).await {
            self.table.columns[place].name = name;
        }
    }

    /// With a constant default, which old rows have without being written anew.
    async fn add_column(&mut self) {
        let of = self.table.columns[self.random.place(self.table.columns.len())].of;
        let is_domain = ["fx.small", "fx.mail"].contains(&of.sql);
        let mut wider = self.table.clone();
        wider.add_column(of, &mut self.random);
        let column = wider.columns.last().unwrap();
        // Rows are written anew for a checked domain, also when it has no default.
        let default = if is_domain { String::new() } else { format!("default {}", of.literal(self.random.place(9))) };
        let statement = format!("alter table {} add column {} {default}", wider.root(), column.definition());
        if self.try_statement(statement).await {
            self.table = wider;
            if is_domain {
                self.shorten();
            }
        }
    }

    async fn change_rows(&mut self) {
        for _ in 0..8 {
            let place = self.random.place(self.current.len());
            let old = self.current[place];
            let Version { id, part } = self.versions[old];
            if self.random.chance(30) && self.current.len() > 4 {
                let home = self.table.home(part);
                self.statement(format!("delete from {home} where id = {id}")).await;
                self.current.remove(place);
                self.events.push(Event::new(Some(old), None));
                continue;
            }
            let moves = self.table.shape == Shape::Partitioned && self.random.chance(40);
            let to = moves.then(|| self.random.key(self.table.parts()));
            let statement = self.table.update(id, part, to, &mut self.random);
            self.statement(statement).await;
            let new = self.version(id, to.unwrap_or(part));
            self.current[place] = new;
            self.events.extend(events_of_update(old, new, to.is_some_and(|to| to != part)));
        }
    }

    async fn compare(&mut self, moment: &str) {
        let until = self.head().await;
        for channel in 0..self.table.channels.len() {
            // Every partition by itself would be most of the time.
            if channel == 0 || self.random.chance(45) {
                self.measure(channel).await;
                self.compare_channel(channel, until, moment).await;
            }
        }
    }

    fn has(&self, channel: usize, version: usize) -> bool {
        self.table.channels[channel].parts.contains(&self.versions[version].part)
    }

    /// Asks Postgres who sees the present rows.
    async fn measure(&mut self, channel: usize) {
        let rows: Vec<usize> = self.current.iter().copied().filter(|row| self.has(channel, *row)).collect();
        let ids: Vec<i32> = rows.iter().map(|row| self.versions[*row].id).collect();
        for row in &rows {
            self.truth.insert((channel, *row), Vec::new());
        }
        let table = self.table.sql(channel);
        for identity in &self.identities {
            let answers = self.oracle.visible(&table, &ids, identity).await;
            for (row, answer) in rows.iter().zip(answers) {
                self.truth.get_mut(&(channel, *row)).unwrap().push(answer);
            }
        }
    }

    async fn compare_channel(&mut self, channel: usize, until: i64, moment: &str) {
        let name = self.table.sql(channel);
        let oid = self.database.text(&format!("select {}::regclass::oid", crate::types::quoted(&name))).await;
        let relation = oid.parse().unwrap();
        let ids: Vec<i32> = (0..i32::try_from(self.identities.len()).unwrap()).collect();
        let answer = self.judge.verdicts(relation, self.begin, until, Some(&ids)).await;
        let events: Vec<Event> = self.events_of(channel);
        assert_eq!(
            answer.offsets.len(),
            events.len(),
            "{moment}: other events than were made; {}",
            self.script.join(";\n")
        );
        self.compare_seated(relation, until, &ids, &events, &answer).await;
        assert!(answer.tells_only_what_is_seen(), "somebody is named who sees nothing: {answer:?}");
        for (n, event) in events.iter().enumerate() {
            for (identity, id) in ids.iter().enumerate() {
                let pair = answer.seen_by.get(id).map_or_else(|| event.hidden(), |pairs| pairs[n]);
                for (verdict, version) in [(pair[0], event.old), (pair[1], event.new)] {
                    let Some(version) = version else {
                        self.count.wrong += u64::from(verdict != b'-');
                        continue;
                    };
                    let (event, offset) = (*event, answer.offsets[n]);
                    let cell = Cell { moment, channel, relation, offset, event, version, identity };
                    self.compare_cell(verdict, cell).await;
                }
            }
        }
    }

    /// Who is seated gets the same verdicts as who is named, in whatever parts they are asked for; nobody else gets any.
    async fn compare_seated(&mut self, relation: u32, until: i64, ids: &[i32], events: &[Event], named: &Answer) {
        let seated = self.random.some(ids, 80);
        let others: Vec<i32> = ids.iter().copied().filter(|id| !seated.contains(id)).collect();
        self.judge.seat(relation, &seated, true).await;
        self.judge.seat(relation, &others, false).await;
        let middle = self.begin + i64::from(self.random.key(i32::try_from(until - self.begin).unwrap() + 1));
        let first = self.judge.verdicts(relation, self.begin, middle, None).await;
        let second = self.judge.verdicts(relation, middle, until, None).await;
        if self.judge.is_sabotaged() {
            return;
        }
        let hidden: Vec<Pair> = events.iter().map(Event::hidden).collect();
        let parts = first.followed_by(&second, &hidden);
        let mut expected = named.clone();
        expected.seen_by.retain(|id, _| seated.contains(id));
        let failed: BTreeSet<_> = expected.failed().symmetric_difference(&parts.failed()).copied().collect();
        // Who cannot see a row, whatever the policies' other arms are worth, is not asked, and so cannot fail.
        let unasked = expected.failed().difference(&(&parts.failed() | &parts.seen_but(&BTreeSet::new()))).count();
        self.count.unasked += unasked as u64;
        self.count.undefined += (failed.len() - unasked) as u64;
        if expected.offsets != parts.offsets || expected.seen_but(&failed) != parts.seen_but(&failed) {
            self.count.seats_wrong += 1;
            println!("seated {seated:?}, parts up to {middle}: {first:?} and {second:?}, but by name {named:?}");
            println!("{};", self.script.join(";\n"));
        }
    }

    /// The channel's events: what happened in parts that it does not have is not among them.
    fn events_of(&self, channel: usize) -> Vec<Event> {
        let here = |version: Option<usize>| version.is_none_or(|version| self.has(channel, version));
        self.events.iter().copied().filter(|event| here(event.old) && here(event.new)).collect()
    }

    async fn compare_cell(&mut self, verdict: u8, cell: Cell<'_>) {
        let answers = self.truth.get(&(cell.channel, cell.version));
        let Some(native) = answers.map(|answers| answers[cell.identity]) else { return };
        self.count.cells += 1;
        self.count.visible += u64::from(native == b'1');
        let fails = verdict == b'e' || native == b'e';
        if (verdict == b'1') == (native == b'1') && verdict != b'-' {
            self.count.failed += u64::from(fails);
            return;
        }
        if verdict == b'e' && self.is_unknown(cell).await {
            self.count.unknown += 1;
            return;
        }
        if fails && self.is_undefined(verdict, cell).await {
            self.count.undefined += 1;
            return;
        }
        self.count.wrong += 1;
        self.report(verdict, native, cell);
    }

    /// Whether a policy reads what neither image nor catalog has, and the judge says that this is why there is no verdict.
    async fn is_unknown(&self, cell: Cell<'_>) -> bool {
        let id = i32::try_from(cell.identity).unwrap();
        cell.event.is_short
            && !self.judge.is_sabotaged()
            && self.judge.failure(cell.relation, cell.offset, id).await.as_deref() == Some(NOT_IN_THE_IMAGE)
    }

    /// Whether Postgres gives this verdict too. Of a row that is no more it cannot be asked again; while the row was there
    /// the same was compared.
    async fn is_undefined(&self, verdict: u8, cell: Cell<'_>) -> bool {
        let (table, id) = (self.table.sql(cell.channel), self.versions[cell.version].id);
        !self.judge.is_sabotaged()
            && (!self.current.contains(&cell.version)
                || self.oracle.may_say(verdict, &table, id, &self.identities[cell.identity]).await)
    }

    fn report(&self, verdict: u8, native: u8, cell: Cell<'_>) {
        // Once a case is enough to look at.
        if self.judge.is_sabotaged() || self.count.wrong > 3 {
            return;
        }
        let (verdict, native) = (char::from(verdict), char::from(native));
        let who = &self.identities[cell.identity];
        println!(
            "wrong, {}: judged {verdict}, Postgres {native}; {} {:?} of {} as {}, claims {}",
            cell.moment,
            if self.current.contains(&cell.version) { "row" } else { "former row" },
            self.versions[cell.version],
            self.table.sql(cell.channel),
            who.role.name(),
            who.claims
        );
        if self.count.wrong == 1 {
            println!("{};", self.script.join(";\n"));
        }
    }

    async fn drop_table(&self) {
        self.database.exec("reset search_path").await;
        self.database.exec(&format!("drop table {} cascade", self.table.root())).await;
    }
}

/// A row that moves to another partition leaves one table and enters another.
fn events_of_update(old: usize, new: usize, moves: bool) -> Vec<Event> {
    if moves {
        vec![Event::new(Some(old), None), Event::new(None, Some(new))]
    } else {
        vec![Event::new(Some(old), Some(new))]
    }
}
