//! What every database of the test has before its first table: roles, helpers, tables that policies look into.

use realtime_tests::Database;

use crate::types::{COMMON, RARE, Type, Types};

/// A role that identities have. Names are the same in each database; the server's roles are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Nothing special.
    Plain,
    /// Inherits from the team.
    Member,
    /// Belongs to the team without inheriting.
    Distant,
    /// Named by policies; others belong to it.
    Team,
    /// Bypasses policies.
    Bypass,
    /// Owns tables.
    Owner,
    /// Has a name that needs quotes.
    Odd,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Plain, Self::Member, Self::Distant, Self::Team, Self::Bypass, Self::Owner, Self::Odd];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "fx_plain",
            Self::Member => "fx_member",
            Self::Distant => "fx_distant",
            Self::Team => "fx_team",
            Self::Bypass => "fx_bypass",
            Self::Owner => "fx_owner",
            Self::Odd => "fx Odd \"rôle\"",
        }
    }

    /// Its name in SQL.
    pub(crate) fn sql(self) -> String {
        identifier(self.name())
    }
}

/// A name as SQL, always quoted.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Once a server.
pub(crate) const ROLES: &str = "
create role fx_plain; create role fx_team; create role fx_member in role fx_team; create role fx_distant noinherit in role fx_team;
create role fx_bypass bypassrls; create role fx_owner; create role \"fx Odd \"\"rôle\"\"\";
grant fx_plain, fx_team, fx_member, fx_distant, fx_bypass, fx_owner, \"fx Odd \"\"rôle\"\"\" to realtime_sidecar;
";

/// Helpers as people write them, the unwise ones too.
const HELPERS: &str = r#"
create schema fx; grant usage on schema fx to public;
create schema fy; grant usage on schema fy to public;
create schema "Odd schema"; grant usage on schema "Odd schema" to public;
create type fx.mood as enum ('sad', 'ok', 'happy');
create type fx.pair as (a int, b text);
create domain fx.small as int check (value < 1000);
create domain fx.mail as text check (value like '%@%');
create table fx.member (org int, sub text, level int);
create table fx.org (id int primary key, open boolean, parent int);
create table fx.plain (id int, tag text);
insert into fx.member values (1, 'ada', 1), (2, 'ada', 0), (2, 'bob', 1), (3, 'a0a0a0a0-0000-4000-8000-0000000000ad', 2), (null, 'ada', 1), (1, null, 1);
insert into fx.org values (1, true, null), (2, false, 1), (3, null, 2);
insert into fx.plain values (1, 'ada'), (2, 'ADA@x'), (3, null);
grant select on fx.member, fx.org, fx.plain to public;
create function fx.sub() returns text language sql stable as $$ select auth.jwt() ->> 'sub' $$;
create function fx.uid_pl() returns uuid language plpgsql stable as $$ begin return (auth.jwt() ->> 'sub')::uuid; end $$;
create function fx.claim(name text) returns text language sql stable as $$ select auth.jwt() ->> name $$;
create function fx.org_sql() returns int language sql stable as $$ select (auth.jwt() ->> 'org')::int $$;
create function fx.org_pl() returns int language plpgsql stable as $$ begin return (auth.jwt() ->> 'org')::int; end $$;
create function fx.org_or_none() returns int language plpgsql stable as $$ begin return (auth.jwt() ->> 'org')::int; exception when others then return null; end $$;
create function fx.org_imm() returns int language sql immutable as $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::int $$;
create function fx.org_imm_pl() returns int language plpgsql immutable as $$ begin return (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::int; end $$;
create function fx.org_wrapped() returns int language sql stable as $$ select fx.org_imm_pl() $$;
create function fx.teams() returns int[] language sql stable as $$ select array(select jsonb_array_elements_text(auth.jwt() -> 'teams')::int) $$;
create function fx.team_rows() returns setof int language sql stable as $$ select jsonb_array_elements_text(auth.jwt() -> 'teams')::int $$;
create function fx.is_even(n numeric) returns boolean language sql immutable as $$ select n % 2 = 0 $$;
create function fx.strict_true(anyelement) returns boolean language sql immutable strict as $$ select true $$;
create function fx.eq_loosely(a text, b text) returns boolean language sql immutable as $$ select lower(a) = lower(b) $$;
create operator fx.=== (leftarg = text, rightarg = text, function = fx.eq_loosely, commutator = operator(fx.===));
create function fx.is_member(o numeric) returns boolean language sql stable security definer as $$ select exists (select from fx.member m where m.org = o and m.sub = auth.jwt() ->> 'sub') $$;
create function fx.is_member_pinned(o numeric) returns boolean language plpgsql stable security definer set search_path = '' as $$ begin return exists (select from fx.member m where m.org = o and m.sub = (auth.jwt() ->> 'sub')); end $$;
create function fx.sees_member(o numeric) returns boolean language sql stable as $$ select exists (select from fx.member m where m.org = o) $$;
create function fx.sees_member_pl(o numeric) returns boolean language plpgsql as $$ begin return exists (select from fx.member m where m.org = o); end $$;
create function fx.role_now() returns text language plpgsql stable as $$ begin return current_user; end $$;
create function fx.raises_for(text) returns boolean language plpgsql stable as $$ begin if $1 = 'ada' then raise exception 'no'; end if; return true; end $$;
alter table fx.member enable row level security;
create policy mine on fx.member for select using (sub = auth.jwt() ->> 'sub');
alter table fx.org enable row level security;
create policy of_members on fx.org for select using (open or exists (select from fx.member m where m.org = org.id));
"#;

/// Answers as Postgres itself does: each row by a statement of its own, planned for it alone. `1` visible, `0` not, `e` failed.
const ORACLE: &str = "
create function fx.visible(query text, ids int[]) returns text language plpgsql as $$
declare n int; answer text := ''; id int;
begin
  foreach id in array ids loop
    begin
      execute query || id into n;
      answer := answer || n;
    exception when others then
      answer := answer || 'e';
    end;
  end loop;
  return answer;
end $$;
";

/// What not every server has.
const OPTIONAL: [&str; 3] = [
    "create extension citext schema fx",
    "create extension hstore schema fx",
    "create collation fx.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
];

/// Makes helpers and oracle, and returns the types that there are.
pub(crate) async fn prepare(database: &Database) -> Types {
    database.exec(HELPERS).await;
    database.exec(ORACLE).await;
    for statement in OPTIONAL {
        // Without it its type is left out below.
        let _ = database.try_exec(statement).await;
    }
    database.exec(&format!("alter database {} set realtime.worker = off", database.name())).await;
    Types { common: present(database, &COMMON).await, rare: present(database, &RARE).await }
}

async fn present(database: &Database, types: &'static [Type]) -> Vec<&'static Type> {
    let mut present = Vec::new();
    for candidate in types {
        // A server that was built without its library knows the type and none of its values.
        if database.try_exec(&format!("select ({})::{}", candidate.literal(0), candidate.sql)).await.is_ok() {
            present.push(candidate);
        }
    }
    present
}
