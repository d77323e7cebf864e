//! Random transactions.

/// xorshift: the same seed, the same story.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Everything that has subscribers: tables, a partitioned table and its partitions.
pub(super) const TABLES: &[&str] = &["quick", "later", "parted", "parted_low", "parted_mid", "parted_high", "tree"];

const WRITTEN: [&str; 4] = ["quick", "later", "parted", "tree"];

/// Keys that are checked at once and keys that are checked at the end; partitions; foreign keys that cascade into the same
/// table. Triggers that write to their own table, before and behind ours in their order; `v` says what they do.
pub(super) const SCHEMA: &str = "
    set client_min_messages = warning;
    create table quick (id int primary key, v int, padding text);
    create table later (id int primary key deferrable initially deferred, v int, padding text);
    create table parted (id int primary key deferrable, v int, padding text) partition by range (id);
    create table parted_low partition of parted for values from (minvalue) to (5);
    create table parted_mid partition of parted for values from (5) to (10);
    create table parted_high partition of parted for values from (10) to (maxvalue);
    create table tree (id int primary key, v int, padding text,
                       parent int references tree on delete cascade on update cascade deferrable);
    create function pad() returns text language sql stable
      as $$ select repeat('x', coalesce(current_setting('test.padding', true), '0')::int) $$;
    create function again() returns trigger language plpgsql as $$
    begin
      if pg_trigger_depth() > 3 then
        return null;
      end if;
      if tg_op = 'DELETE' then
        if old.v % 5 = 0 then
          execute format('insert into %1$I select $1, $2 where not exists (select from %1$I where id = $1)', tg_argv[0])
            using old.id, old.v + 1;
        end if;
      elsif new.v % 7 = 0 then
        execute format('delete from %I where id = $1', tg_argv[0]) using new.id;
      elsif new.v % 3 = 0 then
        execute format('update %I set v = v + 1 where id = $1', tg_argv[0]) using new.id;
      elsif new.v % 11 = 0 then
        execute format('update %I set v = v + 3 where id between $1 - 1 and $1 + 1', tg_argv[0]) using new.id;
      elsif new.v % 13 = 0 then
        execute format('update %I set id = id + 20 where id = $1', tg_argv[0]) using new.id;
      end if;
      return null;
    end $$;
    create function again_later() returns trigger language plpgsql as $$
    begin
      if pg_trigger_depth() <= 3 and new.v % 3 = 0 then
        execute format('delete from %I where id = $1', tg_argv[0]) using new.id + 1;
        execute format('insert into %I values ($1, 1)', tg_argv[0]) using new.id + 1;
      end if;
      return null;
    end $$;
    create function make_room() returns trigger language plpgsql as $$
    begin
      if new.v % 4 = 0 and pg_trigger_depth() < 4 then
        execute format('delete from %I where id = $1', tg_argv[0]) using new.id;
      end if;
      new.padding := pad();
      return new;
    end $$;
    do $$
    declare name text;
    begin
      foreach name in array '{quick, later, parted, tree}'::text[] loop
        execute format('create trigger a_again after insert or update or delete on %I for each row execute function again(%1$L)', name);
        execute format('create trigger z_again after update on %I for each row execute function again(%1$L)', name);
        execute format('create trigger make_room before insert on %I for each row execute function make_room(%1$L)', name);
        execute format('create constraint trigger at_end after update on %I deferrable initially deferred
                        for each row execute function again_later(%1$L)', name);
        perform realtime.enable_realtime(name::regclass);
      end loop;
    end $$;
";

/// One transaction, with savepoints.
pub(super) fn transaction(random: &mut Random) -> String {
    let mut story = String::from("begin;\n");
    if random.below(3) == 0 {
        story += "set constraints all immediate;\n";
    }
    for step in 0..=random.below(6) {
        let what = statement(random);
        match random.below(6) {
            0 => story += &format!("savepoint s{step};\n{what};\nrollback to s{step};\n"),
            1 => story += &format!("savepoint s{step};\n{what};\nrelease s{step};\n"),
            _ => story += &format!("{what};\n"),
        }
    }
    story + "commit"
}

fn statement(random: &mut Random) -> String {
    let table = random.pick(&WRITTEN);
    let (id, other, v) = (random.below(15), random.below(15), random.below(60));
    match random.below(16) {
        0..=2 => format!("insert into {table} values ({id}, {v}), ({other} + 15, {v} + 1)"),
        3 if table == "quick" || table == "tree" => {
            format!("insert into {table} values ({id}, {v}) on conflict (id) do update set v = excluded.v")
        }
        4 => format!("update {table} set id = id + {}", 1 + random.below(3)),
        5 => format!("update {table} set id = id - 1 where id > {id}"),
        6 => {
            format!("update {table} set id = case id when {id} then {other} else {id} end where id in ({id}, {other})")
        }
        7 | 8 => format!("update {table} set v = v + 1 where id >= {id}"),
        9 => format!("delete from {table} where id between {id} and {id} + 2"),
        10 => format!(
            "with gone as (delete from {table} where id = {id} returning *) insert into {table} values ({id}, {v})"
        ),
        11 => format!("insert into {table} values ({id}, {v}); delete from {table} where id = {id} and v <> {v}"),
        12 => format!("delete from {table} where id > 15; update {table} set v = {v} where id = {id}"),
        13 if random.below(5) == 0 => format!("truncate {}", random.pick(&["quick", "later", "parted", "parted_mid"])),
        14 if table == "tree" => {
            format!("update tree set parent = {other} where id = {id} and exists (select from tree where id = {other})")
        }
        _ => format!("update {table} set v = {v} where id in ({id}, {other})"),
    }
}
