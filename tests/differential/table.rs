//! Random tables: names, columns, partitions, children.

use realtime_tests::random::Random;

use crate::types::{Type, Types, quoted};
use crate::world::identifier;

/// Names that have made trouble somewhere.
const NAMES: [&str; 26] = [
    "t",
    "o",
    "x",
    "new",
    "old",
    "row",
    "select",
    "Order",
    "a b",
    "x\"y",
    "it's",
    "__proto__",
    "tab.le",
    "$1",
    "🦀",
    "images",
    "relation",
    "m",
    "member",
    "id2",
    "user",
    "current_user",
    "tableoid_",
    "ROLE",
    "käse",
    "%s",
];
const LONG: &str = "a_name_of_sixty_three_bytes_that_is_as_long_as_names_may_become";
/// The column that partitions and children are told apart by.
pub(crate) const PART: &str = "part";

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As it is called now.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) of: &'static Type,
    /// Computed by the table.
    pub(crate) is_generated: bool,
}

/// How rows are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One table.
    Plain,
    /// A parent and a child that inherits, each with rows of its own.
    Inherited,
    /// Partitions, some of them one level deeper.
    Partitioned,
}

/// Something to subscribe to.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    /// The table's own name, without schema.
    pub(crate) name: String,
    /// Which rows it has, by their part.
    pub(crate) parts: Vec<i32>,
}

/// A table, its partitions or its child.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Where it is.
    pub(crate) schema: &'static str,
    /// How its rows are spread.
    pub(crate) shape: Shape,
    /// Its columns but the key and the part.
    pub(crate) columns: Vec<Column>,
    /// The table first.
    pub(crate) channels: Vec<Channel>,
}

impl Column {
    /// Its name in SQL.
    pub(crate) fn sql(&self) -> String {
        identifier(&self.name)
    }

    /// The column as `create table` and `add column` have it.
    pub(crate) fn definition(&self) -> String {
        format!("{} {}", self.sql(), self.of.sql)
    }

    /// A value for a row.
    pub(crate) fn value(&self, random: &mut Random) -> String {
        if random.chance(12) { "null".to_owned() } else { quoted(random.pick(self.of.values)) }
    }
}

impl Table {
    /// A random one, not yet made.
    pub(crate) fn random(random: &mut Random, types: &Types) -> Self {
        let shape = random.pick(&[Shape::Plain, Shape::Plain, Shape::Plain, Shape::Inherited, Shape::Partitioned]);
        let schema = random.pick(&["public", "public", "fy", "Odd schema"]);
        let name = if random.chance(5) { LONG } else { random.pick(&NAMES) };
        let mut table = Self { schema, shape, columns: Vec::new(), channels: Vec::new() };
        table.channels = channels(name, shape);
        for _ in 0..2 + random.below(4) {
            table.add_column(random.pick(&types.common), random);
        }
        for _ in 0..random.below(4) {
            table.add_column(random.pick(&types.rare), random);
        }
        table
    }

    /// Adds a column with a name that is free.
    pub(crate) fn add_column(&mut self, of: &'static Type, random: &mut Random) {
        let mut name = random.pick(&NAMES).to_owned();
        while self.has(&name) {
            name.push(random.pick(&['a', 'B', '0', '_', '"']));
        }
        self.columns.push(Column { name, of, is_generated: false });
    }

    fn has(&self, name: &str) -> bool {
        ["id", PART].contains(&name) || self.columns.iter().any(|column| column.name == name)
    }

    /// A name for a column that is free, near to the old one.
    pub(crate) fn free_name(&self, random: &mut Random) -> String {
        let mut name = format!("{}!", random.pick(&NAMES));
        while self.has(&name) {
            name.push('!');
        }
        name
    }

    /// A channel's table in SQL.
    pub(crate) fn sql(&self, channel: usize) -> String {
        format!("{}.{}", identifier(self.schema), identifier(&self.channels[channel].name))
    }

    /// The table itself in SQL.
    pub(crate) fn root(&self) -> String {
        self.sql(0)
    }

    /// Where a row of this part is inserted.
    pub(crate) fn home(&self, part: i32) -> String {
        self.sql(usize::from(self.shape == Shape::Inherited && part == 1))
    }

    /// How many parts there are.
    pub(crate) fn parts(&self) -> i32 {
        match self.shape {
            Shape::Plain => 1,
            Shape::Inherited => 2,
            Shape::Partitioned => 4,
        }
    }

    /// The statements that make it.
    pub(crate) fn creation(&mut self, random: &mut Random) -> Vec<String> {
        let mut statements = vec![self.create_root(random)];
        match self.shape {
            Shape::Plain => (),
            Shape::Inherited => {
                let extra = identifier("of the child");
                statements.push(format!(
                    "create table {} ({extra} int default 1, primary key (id, part)) inherits ({})",
                    self.sql(1),
                    self.root()
                ));
            }
            Shape::Partitioned => statements.extend(self.create_partitions(random)),
        }
        statements
    }

    fn create_root(&mut self, random: &mut Random) -> String {
        let key = random.pick(&["id int", "id bigint", "id int generated by default as identity"]);
        let mut parts = vec![key.to_owned(), format!("{PART} int not null default 0")];
        let dropped = random.chance(40).then(|| random.place(self.columns.len() + 1));
        for (place, column) in self.columns.iter_mut().enumerate() {
            if dropped == Some(place) {
                parts.push("gone text default 'gone'".to_owned());
            }
            if self.shape == Shape::Plain && ["int", "numeric"].contains(&column.of.sql) && random.chance(25) {
                column.is_generated = true;
                parts.push(format!("{} generated always as (part + 1) stored", column.definition()));
            } else {
                parts.push(column.definition());
            }
        }
        let partition = if self.shape == Shape::Partitioned { " partition by list (part)" } else { "" };
        let drop = if parts.iter().any(|part| part.starts_with("gone ")) {
            format!("; alter table {} drop column gone", self.root())
        } else {
            String::new()
        };
        format!("create table {} ({}, primary key (id, {PART})){partition}{drop}", self.root(), parts.join(", "))
    }

    /// Part 0 as people do it; part 1 attached, with its columns in another order and a dropped one; 2 and 3 below one more.
    fn create_partitions(&self, random: &mut Random) -> Vec<String> {
        let root = self.root();
        let identity = format!("alter table {root} alter id drop identity if exists");
        let mut columns: Vec<String> = self.columns.iter().map(Column::definition).collect();
        columns.push("gone int".to_owned());
        columns.push(format!("{PART} int not null default 0"));
        let mut columns = random.some(&columns, 100);
        columns.push("id ID_TYPE not null".to_owned());
        let attached = format!(
            "do $do$ begin execute replace({}, 'ID_TYPE', (select format_type(atttypid, -1) from pg_attribute where attrelid = {}::regclass and attname = 'id')); end $do$",
            quoted(&format!("create table {} ({})", self.sql(2), columns.join(", "))),
            quoted(&root)
        );
        vec![
            identity,
            format!("create table {} partition of {root} for values in (0)", self.sql(1)),
            attached,
            format!("alter table {} drop column gone", self.sql(2)),
            format!("alter table {root} attach partition {} for values in (1)", self.sql(2)),
            format!("create table {} partition of {root} for values in (2, 3) partition by list (part)", self.sql(3)),
            format!("create table {} partition of {} for values in (2)", self.sql(4), self.sql(3)),
            format!("create table {} partition of {} for values in (3)", self.sql(5), self.sql(3)),
        ]
    }

    /// The statements that write all its rows anew.
    pub(crate) fn rewriting(&self) -> Vec<String> {
        let tables = if self.shape == Shape::Inherited { 2 } else { 1 };
        (0..tables).map(|channel| format!("vacuum full {}", self.sql(channel))).collect()
    }

    /// A row to insert.
    pub(crate) fn insertion(&self, id: i32, part: i32, random: &mut Random) -> String {
        let mut names = vec!["id".to_owned(), PART.to_owned()];
        let mut values = vec![id.to_string(), part.to_string()];
        for column in self.columns.iter().filter(|column| !column.is_generated) {
            names.push(column.sql());
            values.push(column.value(random));
        }
        format!("insert into {} ({}) values ({})", self.home(part), names.join(", "), values.join(", "))
    }

    /// A change of a row: one or two columns, and its part when that is given.
    pub(crate) fn update(&self, id: i32, part: i32, to: Option<i32>, random: &mut Random) -> String {
        let changeable: Vec<&Column> = self.columns.iter().filter(|column| !column.is_generated).collect();
        let mut sets: Vec<String> = random
            .some(&changeable, 40)
            .iter()
            .map(|column| format!("{} = {}", column.sql(), column.value(random)))
            .collect();
        sets.push(format!("{PART} = {}", to.unwrap_or(part)));
        format!("update {} set {} where id = {id}", self.home(part), sets.join(", "))
    }
}

fn channels(name: &str, shape: Shape) -> Vec<Channel> {
    let channel = |suffix: &str, parts: &[i32]| {
        let cut = name.char_indices().take_while(|(at, _)| *at < 58).map(|(_, letter)| letter).collect::<String>();
        let name = if suffix.is_empty() { name.to_owned() } else { cut + suffix };
        Channel { name, parts: parts.to_vec() }
    };
    match shape {
        Shape::Plain => vec![channel("", &[0])],
        Shape::Inherited => vec![channel("", &[0]), channel(" of", &[1])],
        Shape::Partitioned => vec![
            channel("", &[0, 1, 2, 3]),
            channel(" 0", &[0]),
            channel(" 1", &[1]),
            channel(" M", &[2, 3]),
            channel(" 2", &[2]),
            channel(" 3", &[3]),
        ],
    }
}
