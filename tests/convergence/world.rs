//! Tables whose policies decide, whose triggers write again, and whose keys move; and who looks at them.

use serde_json::{Value, json};

/// Triggers of every kind that makes events come in another order than they happened: one that updates the row again
/// before we are told, one that takes the old row of a key away, ones that write to the other table.
pub(crate) const SQL: &str = "
create role reader; grant reader to realtime_sidecar;
create table members (org int, sub text);
insert into members values (0, 'ada'), (1, 'ada'), (2, 'bob'), (1, 'eve');
create table docs (id int primary key, owner text, org int, open boolean, body text);
create table logs (id int, org int, owner text, body text, primary key (id, org)) partition by list (org);
create table logs_0 partition of logs for values in (0);
create table logs_1 (body text, gone int, owner text, id int not null, org int not null);
alter table logs_1 drop column gone;
alter table logs attach partition logs_1 for values in (1);
create table logs_2 partition of logs for values in (2);
select realtime.enable_realtime(t::regclass) from unnest(array['docs', 'logs']) t;
grant select on docs, logs, members to authenticated, service_role;
grant select (id, owner, org) on docs to reader; grant select on logs, members to reader;
alter table docs enable row level security; alter table logs enable row level security;
create policy mine on docs using (owner = auth.jwt() ->> 'sub');
create policy open_in_org on docs for select using (open and org = (auth.jwt() ->> 'org')::int);
create policy of_members on docs for select to authenticated using (exists (select from members m where m.org = docs.org and m.sub = auth.jwt() ->> 'sub' and not docs.open));
create policy no_secrets on docs as restrictive for select using (body is distinct from 'secret');
create policy of_org on logs using (org = (auth.jwt() ->> 'org')::int or owner = auth.jwt() ->> 'sub');
create function bump() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 3 and new.id % 3 = 0 then
    update docs set body = left(body || '+', 20), owner = case owner when 'ada' then 'bob' when 'bob' then 'eve' else 'ada' end where id = new.id;
  end if;
  return null;
end $$;
create trigger a_bump after update on docs for each row execute function bump();
create function replace_old() returns trigger language plpgsql as $$
begin
  if new.id % 5 = 0 then delete from docs where id = new.id; end if;
  return new;
end $$;
create trigger a_replace before insert on docs for each row execute function replace_old();
create function spread() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 3 and new.id % 4 = 0 then
    update docs set org = (coalesce(org, 0) + 1) % 3 where id in (new.id - 1, new.id);
    insert into logs values (new.id, coalesce(new.org, 0), new.owner, 'spread') on conflict (id, org) do update set body = left(logs.body || '*', 20);
  end if;
  return null;
end $$;
create trigger zz_spread after insert on docs for each row execute function spread();
create function move_logs() returns trigger language plpgsql as $$
begin
  if pg_trigger_depth() < 3 then update logs set org = (org + 1) % 3 where id = old.id and org = 2; end if;
  return null;
end $$;
create trigger b_move after delete on docs for each row execute function move_logs();
";

/// Who looks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The database role.
    pub(crate) role: &'static str,
    /// The claims of the token, without its end.
    pub(crate) claims: Value,
}

/// Everybody who looks.
pub(crate) fn identities() -> Vec<Identity> {
    let of = |role: &'static str, sub: &str, org: i32| Identity {
        role,
        claims: json!({"role": role, "sub": sub, "org": org.to_string()}),
    };
    vec![
        of("authenticated", "ada", 0),
        of("authenticated", "bob", 1),
        of("authenticated", "eve", 2),
        of("authenticated", "nobody", 7),
        of("reader", "ada", 1),
        of("service_role", "ada", 0),
    ]
}

/// What is followed: a table, some of its rows or all, and the same in SQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// The table.
    pub(crate) table: &'static str,
    /// The subscription's filter.
    pub(crate) filter: Option<&'static str>,
    /// The condition that says the same.
    pub(crate) condition: &'static str,
}

/// Everything that is followed.
pub(crate) const VIEWS: [View; 5] = [
    View { table: "docs", filter: None, condition: "true" },
    View { table: "logs", filter: None, condition: "true" },
    View { table: "docs", filter: Some("owner=eq.ada"), condition: "owner = 'ada'" },
    View { table: "docs", filter: Some("or=(id.lt.8,org.not.in.(1,2))"), condition: "(id < 8 or org not in (1, 2))" },
    View {
        table: "logs",
        filter: Some("org=neq.1,owner=in.(ada,eve)"),
        condition: "org <> 1 and owner in ('ada', 'eve')",
    },
];

/// The columns of a table that a role may read.
pub(crate) fn columns(table: &str, role: &str) -> &'static str {
    match (table, role) {
        ("docs", "reader") => "id, owner, org",
        ("docs", _) => "id, owner, org, open, body",
        _ => "id, org, owner, body",
    }
}
