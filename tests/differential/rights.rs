//! Random rights on a table: policies, grants, owners, roles' attributes.

use realtime_tests::random::Random;

use crate::expression::Grammar;
use crate::table::Table;
use crate::world::{Role, identifier};

/// The first rights of a new table, statement by statement. Those that Postgres refuses are left out by the caller.
pub(crate) fn first(table: &Table, random: &mut Random) -> Vec<String> {
    let mut statements = vec![format!("grant usage on schema {} to public", identifier(table.schema))];
    for channel in 0..table.channels.len() {
        // The deeper partitions share their rights with nobody: they are rarely asked for by themselves.
        statements.extend(grants(table, channel, random));
        if channel == 0 || random.chance(70) {
            statements.push(format!("alter table {} enable row level security", table.sql(channel)));
        }
        for n in 0..1 + random.below(3) {
            statements.push(policy(table, channel, &format!("p {n}"), random));
        }
    }
    if random.chance(25) {
        statements.push(format!("alter table {} owner to {}", table.root(), Role::Owner.sql()));
    }
    if random.chance(25) {
        statements.push(format!("alter table {} force row level security", table.root()));
    }
    statements
}

/// One change of rights.
pub(crate) fn change(table: &Table, random: &mut Random) -> String {
    let channel = if random.chance(70) { 0 } else { random.place(table.channels.len()) };
    let name = table.sql(channel);
    let role = random.pick(&Role::ALL).sql();
    match random.below(16) {
        0..=3 => policy(table, channel, &format!("later {}", random.below(1000)), random),
        4..=5 => {
            let condition = Grammar { table, channel, random }.condition(2);
            format!("alter policy \"p 0\" on {name} using ({condition})")
        }
        6 => format!("drop policy if exists \"p 1\" on {name}"),
        7 => format!("alter policy \"p 0\" on {name} to {role}"),
        8 => format!("revoke select on {name} from {role}"),
        9 => format!("grant select on {name} to {role}"),
        10 => format!("alter table {name} {} row level security", random.pick(&["force", "no force", "disable", "enable"])),
        11 => format!("alter table {name} owner to {}", random.pick(&["postgres", "fx_owner", "fx_plain"])),
        12 => random.pick(&["grant fx_team to fx_plain", "revoke fx_team from fx_plain"]).to_owned(),
        13 => format!("alter role fx_distant {}", random.pick(&["inherit", "noinherit"])),
        14 => format!("alter role fx_team {}", random.pick(&["bypassrls", "nobypassrls"])),
        _ => "create or replace function fx.is_even(n numeric) returns boolean language sql immutable as $$ select n % 2 = ODD $$".replace("ODD", random.pick(&["0", "1"])),
    }
}

fn grants(table: &Table, channel: usize, random: &mut Random) -> Vec<String> {
    let name = table.sql(channel);
    match random.below(8) {
        0 => vec![format!("grant select (id) on {name} to public")],
        1 => vec![format!("grant select on {name} to fx_plain, fx_team, {}", Role::Odd.sql())],
        2 => vec![
            format!("grant all on {name} to public"),
            format!("revoke select on {name} from public"),
            format!("grant select on {name} to fx_plain"),
        ],
        _ => vec![format!("grant select on {name} to public")],
    }
}

fn policy(table: &Table, channel: usize, name: &str, random: &mut Random) -> String {
    let kind = if random.chance(25) { " as restrictive" } else { "" };
    let command = random.pick(&["", "", " for select", " for select", " for all", " for update", " for delete"]);
    let to = match random.below(6) {
        0 => " to fx_team".to_owned(),
        1 => format!(" to fx_plain, {}", Role::Odd.sql()),
        2 => format!(" to {}", random.pick(&Role::ALL).sql()),
        _ => String::new(),
    };
    let depth = random.below(4);
    let condition = Grammar { table, channel, random }.condition(depth);
    format!("create policy {} on {}{kind}{command}{to} using ({condition})", identifier(name), table.sql(channel))
}
