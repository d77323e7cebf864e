//! Everything that an extension has in the catalogs, as lines that two databases can be compared by.

use std::collections::BTreeSet;

use realtime_tests::Database;

/// Rights of an object in a form in which the default, written out or not, is the same.
macro_rules! rights {
    ($acl:literal, $kind:literal, $owner:literal) => {
        concat!(
            "(select coalesce(string_agg(a::text, ' ' order by a::text), '') from unnest(coalesce(",
            $acl,
            ", acldefault('",
            $kind,
            "', ",
            $owner,
            "))) a)"
        )
    };
}

/// The queries: what it is, and lines of text. Columns go by name, because an upgrade can only add them at the end; those
/// of the tables that the library writes below SQL have their place too.
const QUERIES: [(&str, &str); 12] = [
    (
        "function",
        concat!(
            "select pg_get_functiondef(p.oid) || ' owner ' || p.proowner::regrole || ' rights ' || ",
            rights!("p.proacl", "f", "p.proowner"),
            " || ' first rights ' || ",
            rights!("i.initprivs", "f", "p.proowner"),
            " from pg_proc p left join pg_init_privs i on i.objoid = p.oid and i.classoid = 'pg_proc'::regclass
              where p.pronamespace = 'realtime'::regnamespace"
        ),
    ),
    (
        "relation",
        concat!(
            "select format('%s kind %s options %s rls %s %s persistence %s identity %s', c.relname, c.relkind, c.reloptions,
                           c.relrowsecurity, c.relforcerowsecurity, c.relpersistence, c.relreplident) || ' rights ' || ",
            rights!("c.relacl", "r", "c.relowner"),
            " || ' first rights ' || ",
            rights!("i.initprivs", "r", "c.relowner"),
            " from pg_class c left join pg_init_privs i on i.objoid = c.oid and i.classoid = 'pg_class'::regclass and i.objsubid = 0
              where c.relnamespace = 'realtime'::regnamespace and c.relkind <> 'i'"
        ),
    ),
    (
        "column",
        "select format('%s.%s %s %s notnull %s default %s storage %s rights %s place %s', c.relname, a.attname,
                       format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation, a.attnotnull,
                       pg_get_expr(d.adbin, d.adrelid), a.attstorage, (select string_agg(x::text, ' ' order by x::text) from unnest(a.attacl) x),
                       case when c.relname ~ '^(log_|tick_|layouts|messages|state)' then a.attnum end)
           from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
          where c.relnamespace = 'realtime'::regnamespace and c.relkind in ('r', 'v', 'c') and a.attnum > 0 and not a.attisdropped",
    ),
    (
        "constraint",
        "select format('%s %s %s', coalesce(conrelid::regclass::text, contypid::regtype::text), conname, pg_get_constraintdef(oid))
           from pg_constraint where connamespace = 'realtime'::regnamespace",
    ),
    (
        "index",
        "select pg_get_indexdef(indexrelid) from pg_index join pg_class c on c.oid = indexrelid
          where c.relnamespace = 'realtime'::regnamespace",
    ),
    (
        "trigger",
        "select pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::text from pg_trigger t join pg_class c on c.oid = t.tgrelid
          where c.relnamespace = 'realtime'::regnamespace and not t.tgisinternal",
    ),
    (
        "view",
        "select c.oid::regclass || ' ' || pg_get_viewdef(c.oid) from pg_class c
          where c.relnamespace = 'realtime'::regnamespace and c.relkind = 'v'",
    ),
    ("policy", "select p::text from pg_policies p where p.schemaname = 'realtime'"),
    (
        "comment",
        "select pg_describe_object(d.classoid, d.objoid, d.objsubid) || ' ' || d.description from pg_description d
          where exists (select from pg_depend e where e.deptype = 'e' and e.refobjid = (select oid from pg_extension where extname = 'realtime')
                           and e.classid = d.classoid and e.objid = d.objoid)",
    ),
    (
        "member",
        "select pg_describe_object(e.classid, e.objid, e.objsubid) from pg_depend e
          where e.deptype = 'e' and e.refclassid = 'pg_extension'::regclass
            and e.refobjid = (select oid from pg_extension where extname = 'realtime')",
    ),
    (
        "dumped",
        "select c.name::regclass || ' ' || c.condition from pg_extension e, unnest(e.extconfig, e.extcondition) c(name, condition)
          where e.extname = 'realtime'",
    ),
    (
        "schema",
        concat!(
            "select format('version %s, schema rights %s, settings %s', e.extversion, ",
            rights!("n.nspacl", "n", "n.nspowner"),
            ", (select string_agg(s::text, ' ' order by s::text) from realtime.settings s))
               from pg_extension e, pg_namespace n where e.extname = 'realtime' and n.nspname = 'realtime'"
        ),
    ),
];

/// Everything that the extension has in this database's catalogs.
pub(crate) async fn of(database: &Database) -> BTreeSet<String> {
    database.exec("set search_path = pg_catalog").await;
    let mut lines = BTreeSet::new();
    for (what, query) in QUERIES {
        let rows = database.rows(query).await;
        assert!(!rows.is_empty() || what == "policy", "no {what}");
        lines.extend(rows.into_iter().map(|row| format!("{what}: {}", row[0].clone().unwrap_or_default())));
    }
    lines
}
