//! Random conditions of policies, as people write them and as they should not.

use realtime_tests::random::Random;

use crate::table::{Column, PART, Table};
use crate::types::{Kind, quoted};
use crate::world::identifier;

/// Makes conditions for one channel of a table.
pub(crate) struct Grammar<'a> {
    /// The table.
    pub(crate) table: &'a Table,
    /// The channel that the policy belongs to.
    pub(crate) channel: usize,
    /// Where chance comes from.
    pub(crate) random: &'a mut Random,
}

const INT_CLAIMS: [&str; 18] = [
    "(auth.jwt() ->> 'org')::int",
    "(auth.jwt() ->> 'org')::int",
    "fx.org_sql()",
    "fx.org_pl()",
    "fx.org_or_none()",
    "fx.org_imm()",
    "fx.org_imm_pl()",
    "fx.org_wrapped()",
    "(select fx.org_sql())",
    "(select (auth.jwt() ->> 'org')::int)",
    "(auth.jwt() -> 'app' ->> 'org')::int",
    "(auth.jwt() ->> 'org')::numeric",
    "(auth.jwt() ->> 'org')::bigint",
    "(auth.jwt() ->> 'org')::float8",
    "coalesce((auth.jwt() ->> 'org')::int, 1)",
    "nullif((auth.jwt() ->> 'org')::int, 2)",
    "(auth.jwt() #>> '{app,org}')::int2",
    "(current_setting('request.jwt.claims', true)::json ->> 'org')::int",
];
const TEXT_CLAIMS: [&str; 15] = [
    "(auth.jwt() ->> 'sub')",
    "(auth.jwt() ->> 'sub')",
    "auth.email()",
    "auth.role()",
    "fx.sub()",
    "fx.claim('email')",
    "fx.claim('org')",
    "(select auth.jwt() ->> 'sub')",
    "current_user",
    "current_user::text",
    "lower(auth.email())",
    "coalesce(auth.jwt() ->> 'sub', '1')",
    "nullif(auth.jwt() ->> 'sub', 'ada')",
    "(current_setting('request.jwt.claims', true)::jsonb ->> 'sub')",
    "auth.uid()::text",
];
const UUID_CLAIMS: [&str; 6] = [
    "auth.uid()",
    "auth.uid()",
    "(select auth.uid())",
    "fx.uid_pl()",
    "(auth.jwt() ->> 'sub')::uuid",
    "coalesce(auth.uid(), 'b0b0b0b0-0000-4000-8000-0000000000be')",
];
const BOOL_CLAIMS: [&str; 3] = [
    "(auth.jwt() ->> 'active')::boolean",
    "(auth.jwt() -> 'active')::boolean",
    "coalesce((auth.jwt() ->> 'active')::boolean, false)",
];
const INT_LISTS: [&str; 7] = [
    "array(select jsonb_array_elements_text(auth.jwt() -> 'teams')::int)",
    "fx.teams()",
    "(select fx.teams())::int[]",
    "string_to_array(auth.jwt() ->> 'list', ',')::int[]",
    "translate(auth.jwt() ->> 'teams', '[]', '{}')::int[]",
    "array[(auth.jwt() ->> 'org')::int, 3]",
    "array(select fx.team_rows())",
];
const TEXT_LISTS: [&str; 4] = [
    "string_to_array(auth.jwt() ->> 'list', ',')",
    "array(select jsonb_array_elements_text(auth.jwt() -> 'teams'))",
    "array[auth.jwt() ->> 'sub', auth.email()]",
    "array[current_user::text, 'ada']",
];
const OF_IDENTITY: [&str; 16] = [
    "auth.role() = 'admin'",
    "(auth.jwt() ->> 'active')::boolean",
    "current_user = 'fx_plain'",
    "auth.jwt() is not null",
    "auth.jwt() ? 'teams'",
    "pg_has_role('fx_team', 'member')",
    "pg_has_role(current_user, 'fx_team', 'usage')",
    "fx.role_now() = 'fx_member'",
    "current_setting('role') = 'fx_plain'",
    "session_user <> current_user",
    "(select auth.role()) in ('admin', 'editor')",
    "auth.jwt() @> '{\"role\": \"admin\"}'",
    "exists (select from fx.member)",
    "(select count(*) from fx.member) > 1",
    "current_setting('is_superuser') = 'off'",
    "row_security_active('fx.member')",
];

impl Grammar<'_> {
    /// A condition.
    pub(crate) fn condition(&mut self, depth: u64) -> String {
        if depth == 0 || self.random.chance(30) {
            return self.atom();
        }
        let (a, b) = (self.condition(depth - 1), self.condition(depth - 1));
        match self.random.below(12) {
            0..=3 => format!("({a} or {b})"),
            4..=6 => format!("({a} and {b})"),
            7 => format!("not ({a})"),
            8 => format!("case when {a} then {b} else {} end", self.atom()),
            9 => format!("coalesce({a}, {b})"),
            10 => {
                format!("(({a}) is {})", self.random.pick(&["true", "not true", "not false", "unknown", "not unknown"]))
            }
            _ => {
                format!("(({a}) {} ({b}))", self.random.pick(&["is distinct from", "=", "<>", "is not distinct from"]))
            }
        }
    }

    fn atom(&mut self) -> String {
        match self.random.below(20) {
            0..=7 => self.column_and_claim(),
            8 => self.column_in_claims(),
            9..=10 => self.random.pick(&OF_IDENTITY).to_owned(),
            11..=13 => self.of_row(),
            14..=15 => self.look_up(),
            16 => self.helper(),
            17 => self.whole_row(),
            18 => self.fragile(),
            _ => self.random.pick(&["true", "false", "null::boolean"]).to_owned(),
        }
    }

    fn table_name(&self) -> String {
        identifier(&self.table.channels[self.channel].name)
    }

    /// Mostly with the table's name, as a column may be called like one of a sub-select.
    fn reference(&mut self, column: &Column) -> String {
        if self.random.chance(60) { format!("{}.{}", self.table_name(), column.sql()) } else { column.sql() }
    }

    fn column(&mut self, kinds: &[Kind]) -> Option<Column> {
        let columns = &self.table.columns;
        let fitting: Vec<&Column> = columns.iter().filter(|column| kinds.contains(&column.of.kind)).collect();
        (!fitting.is_empty()).then(|| fitting[self.random.place(fitting.len())].clone())
    }

    fn column_and_claim(&mut self) -> String {
        let Some(column) = self.column(&[Kind::Int, Kind::Text, Kind::Uuid, Kind::Bool]) else { return self.of_row() };
        let claim = match column.of.kind {
            Kind::Int => self.random.pick(&INT_CLAIMS),
            Kind::Text => self.random.pick(&TEXT_CLAIMS),
            Kind::Uuid => self.random.pick(&UUID_CLAIMS),
            Kind::Bool | Kind::Other => self.random.pick(&BOOL_CLAIMS),
        };
        let name = self.reference(&column);
        let claim = if self.random.chance(10) { format!("{claim}::{}", column.of.sql) } else { claim.to_owned() };
        match self.random.below(12) {
            0..=5 => format!("{name} = {claim}"),
            6 => format!("{claim} = {name}"),
            7 => format!(
                "{name} {} {claim}",
                self.random.pick(&["is not distinct from", "is distinct from", "<>", ">=", "<"])
            ),
            8 => format!("{name}::text = ({claim})::text"),
            9 => format!("not ({name} <> {claim})"),
            10 => format!("nullif({name}, {claim}) is null"),
            _ => format!(
                "{name} {} {claim}",
                self.random.pick(&["operator(fx.=)", "operator(fx.===)", "operator(pg_catalog.=)"])
            ),
        }
    }

    fn column_in_claims(&mut self) -> String {
        let Some(column) = self.column(&[Kind::Int, Kind::Text]) else { return self.look_up() };
        let name = self.reference(&column);
        let list =
            if column.of.kind == Kind::Int { self.random.pick(&INT_LISTS) } else { self.random.pick(&TEXT_LISTS) };
        match self.random.below(6) {
            0..=2 => format!("{name} = any ({list})"),
            3 => format!("{name} <> all ({list})"),
            4 => format!("(auth.jwt() -> 'teams') @> to_jsonb({name})"),
            _ => format!("array[{name}] && ({list})"),
        }
    }

    fn of_row(&mut self) -> String {
        let Some(column) = self.column(&[Kind::Int, Kind::Text, Kind::Uuid, Kind::Bool, Kind::Other]) else {
            return format!("{PART} < 2");
        };
        let name = self.reference(&column);
        let (a, b) = (column.of.literal(self.random.place(9)), column.of.literal(self.random.place(9)));
        match self.random.below(14) {
            0..=2 => format!("{name} = {a}"),
            3 => format!("{name} in ({a}, {b})"),
            4 => format!(
                "{name} {} {a}",
                self.random.pick(&["<", ">=", "<>", "is distinct from", "is not distinct from"])
            ),
            5 => format!("{name} is {}", self.random.pick(&["null", "not null"])),
            6 => format!(
                "{name}::text {} {}",
                self.random.pick(&["=", "like", "ilike"]),
                quoted(self.random.pick(column.of.values))
            ),
            7 => format!("coalesce({name}, {a}) = {b}"),
            8 => format!("case when {name} = {a} then {PART} < 2 else {name} is null end"),
            9 => format!("length({name}::text) % 2 = 0"),
            10 => format!("{name} between {a} and {b}"),
            11 => format!("{PART} = {} or {name} = {a}", self.random.below(4)),
            12 => format!(
                "{}.tableoid = {}::regclass",
                self.table_name(),
                quoted(&self.table.sql(self.random.place(self.table.channels.len())))
            ),
            _ => format!("({name}, {PART}) = ({a}, 0)"),
        }
    }

    /// Conditions that look into other tables, which have policies of their own.
    fn look_up(&mut self) -> String {
        let org = self.column(&[Kind::Int]).map_or_else(|| PART.to_owned(), |column| column.sql());
        let text = self
            .column(&[Kind::Text])
            .map_or_else(|| "'ada'".to_owned(), |column| format!("{}.{}", self.table_name(), column.sql()));
        let org = format!("{}.{org}", self.table_name());
        match self.random.below(11) {
            0 => format!("exists (select from fx.member m where m.org = {org})"),
            1 => format!(
                "exists (select 1 from fx.member m where m.org = {org} and m.sub = (auth.jwt() ->> 'sub') and level > 0)"
            ),
            2 => format!("{org} in (select m.org from fx.member m)"),
            3 => format!("{org} not in (select m.org from fx.member m where m.org is not null)"),
            4 => format!("exists (select from fx.org o where o.id = {org} and o.open)"),
            5 => format!("exists (select from fx.plain p where p.tag = {text})"),
            6 => format!(
                "exists (select from fx.org o join fx.member m on m.org = o.id where o.parent = {org} or m.sub = {text})"
            ),
            7 => format!("{text} = any (select m.sub from fx.member m where m.level = 1)"),
            8 => format!("(select max(m.level) from fx.member m where m.org = {org}) >= 1"),
            9 => format!(
                "exists (with recursive up(id) as (select {org}::int union select o.parent from fx.org o join up using (id)) select from up join fx.plain p using (id))"
            ),
            _ => format!(
                "not exists (select from fx.plain p left join fx.member m on m.org = p.id where p.id = {org} and m.org is null)"
            ),
        }
    }

    fn helper(&mut self) -> String {
        let org = self.column(&[Kind::Int]).map_or_else(|| PART.to_owned(), |column| column.sql());
        let text = self.column(&[Kind::Text]).map_or_else(|| "'x'".to_owned(), |column| column.sql());
        match self.random.below(8) {
            0 => format!("fx.is_member({org}::numeric)"),
            1 => format!("(select fx.is_member({org}::numeric))"),
            2 => format!("fx.is_member_pinned({org}::numeric)"),
            3 => format!("fx.sees_member({org}::numeric)"),
            4 => format!("fx.sees_member_pl({org}::numeric)"),
            5 => format!("fx.is_even({org}::numeric)"),
            6 => format!("fx.eq_loosely({text}::text, auth.email())"),
            _ => format!("fx.strict_true({text})"),
        }
    }

    fn whole_row(&mut self) -> String {
        let (table, row) = (self.table_name(), format!("{}.*", self.table_name()));
        match self.random.below(7) {
            0 => format!("({row})::text like '%a%'"),
            1 => format!("({row}) is not null"),
            2 => format!("({table}) is distinct from null"),
            3 => format!("to_jsonb({table}) ? 'x'"),
            4 => format!("hashtext(({row})::text) % 2 = 0"),
            5 => format!("row_to_json({table})::text ~ (auth.jwt() ->> 'sub')"),
            _ => format!("(to_jsonb({table}) ->> 'part') = (auth.jwt() ->> 'org')"),
        }
    }

    /// Conditions that fail for some rows or some identities.
    fn fragile(&mut self) -> String {
        let org = self.column(&[Kind::Int]).map_or_else(|| PART.to_owned(), |column| column.sql());
        let text = self.column(&[Kind::Text]).map_or_else(|| "'7'".to_owned(), |column| column.sql());
        match self.random.below(6) {
            0 => format!("1 / {org} > 0"),
            1 => format!("{text}::int > 0"),
            2 => format!("{text}::uuid = auth.uid()"),
            3 => format!("fx.raises_for({text}::text)"),
            4 => "fx.raises_for(auth.jwt() ->> 'sub')".to_owned(),
            _ => "fx.org_pl() > 1".to_owned(),
        }
    }
}
