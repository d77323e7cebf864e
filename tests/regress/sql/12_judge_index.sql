\set SHOW_CONTEXT never
-- Whom the index finds and whom claims as parameters let see: the same as one by one, and the same as a SELECT.
create table note (id int primary key, owner uuid, name text, nick varchar(20), org int, rank numeric, pub bool, state text, mark float8);
create table team (org int, sub uuid);
alter table note enable row level security;
alter table team enable row level security;
grant select on note, team to authenticated, anon;
create policy mine on team for select using (sub = auth.uid());
select realtime.enable_realtime('note'::regclass);
create function person(n int) returns uuid language sql immutable as $$ select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid $$;
insert into team select n % 7, person(n) from generate_series(1, 30) n;
select realtime.tick() is not null as ticked;
create table started as select head from realtime.status();
insert into note select n, person(n % 33), 'user ' || n % 9, 'nick' || n % 5, nullif(n % 8, 0), (n % 6)::numeric(10, 2), nullif(n % 4, 0) = 1,
    (array['open', 'shut', null])[1 + n % 3], case n % 5 when 0 then '-0' when 1 then 'NaN' else n::float8 end
  from generate_series(1, 40) n;
select events from realtime.tick();
create table person_as (id int primary key, role text, claims text);
grant select on person_as to public;
insert into person_as select n, case when n % 10 = 0 then 'anon' else 'authenticated' end,
    jsonb_build_object('sub', person(n), 'name', 'user ' || n % 12, 'nick', 'nick' || n % 6, 'org', n % 9, 'rank', (n % 7)::text || '.0', 'mark', case when n % 2 = 0 then '0' else 'NaN' end,
      'role', case when n % 13 = 0 then 'admin' else 'user' end, 'orgs', jsonb_build_array(n % 5, n % 8, null), 'people', array[person(n), person(n + 1)]) :: text
  from generate_series(1, 36) n;
insert into person_as values (101, 'authenticated', '{}'), (102, 'authenticated', '{"sub": "nobody", "org": "x", "rank": "", "orgs": 5, "mark": "y"}'), (103, 'authenticated', '{"sub": null, "org": null}'),
  (104, 'authenticated', '[]'), (105, 'authenticated', '{"org": "  3 ", "sub": "00000000-0000-0000-0000-000000000004"}'), (106, 'anon', '{}');
select count(realtime.know_identity(id, role, claims)) from person_as;
select realtime.seat('note'::regclass, array_agg(id)) from person_as;
create function opaque() returns uuid language plpgsql stable as $$ begin return auth.uid(); end $$;
create function is_mine(owner uuid) returns bool language sql stable as $$ select owner = auth.uid() $$;
-- New images stand behind the old ones; an insert has the new one only.
create view asked as
  select 'index' as by, j.offsets, j.seen_by, (select array_agg(regexp_replace(v, '.(.)', '\1', 'g') order by n) from unnest(j.verdicts) with ordinality u(v, n)) as verdicts
    from started s, realtime.judge('note'::regclass, s.head, s.head + 1000) j
  union all
  select 'each', j.offsets, j.seen_by, (select array_agg(regexp_replace(v, '.(.)', '\1', 'g') order by n) from unnest(j.verdicts) with ordinality u(v, n))
    from started s, realtime.judge('note'::regclass, s.head, s.head + 1000, (select array_agg(id) from person_as)) j;
create function said(out index_pairs bigint, out each_pairs bigint, out native_pairs bigint, out wrong bigint) language plpgsql as $$
declare p record; seen int[];
begin
  create temp table if not exists pairs (by text, person int, row_id int) on commit preserve rows;
  truncate pairs;
  insert into pairs select a.by, a.seen_by[i], e from asked a, generate_subscripts(a.seen_by, 1) i, generate_series(1, cardinality(a.offsets)) e
    where substr(a.verdicts[i], e, 1) = '1';
  for p in select * from person_as loop
    begin
      perform set_config('role', p.role, true), set_config('request.jwt.claims', p.claims, true);
      seen := null;
      execute 'select array_agg(id) from note' into seen;
      perform set_config('role', 'none', true);
      insert into pairs select 'native', p.id, s from unnest(seen) s;
    exception when others then
      -- The query as a whole fails: row by row.
      for r in 1..40 loop
        begin
          perform set_config('role', p.role, true), set_config('request.jwt.claims', p.claims, true);
          execute format('select array_agg(id) from note where id = %s', r) into seen;
          perform set_config('role', 'none', true);
          insert into pairs select 'native', p.id, s from unnest(seen) s;
        exception when others then null;
        end;
      end loop;
    end;
  end loop;
  select count(*) filter (where by = 'index'), count(*) filter (where by = 'each'), count(*) filter (where by = 'native') into index_pairs, each_pairs, native_pairs from pairs;
  select count(*) into wrong from (select person, row_id from pairs group by 1, 2 having count(distinct by) < 3) x;
end $$;
create table tried (n int, condition text);
insert into tried select n, c from unnest(array[
  $c$owner = auth.uid()$c$,
  $c$auth.uid() = owner$c$,
  $c$owner = (select auth.uid())$c$,
  $c$is_mine(owner)$c$,
  $c$owner = opaque()$c$,
  $c$name = auth.jwt() ->> 'name'$c$,
  $c$nick = auth.jwt() ->> 'nick'$c$,
  $c$nick::text = (auth.jwt() ->> 'nick')::varchar(3)$c$,
  $c$org = (auth.jwt() ->> 'org')::int$c$,
  $c$org = (auth.jwt() ->> 'org')::bigint$c$,
  $c$rank = (auth.jwt() ->> 'rank')::numeric$c$,
  $c$mark = (auth.jwt() ->> 'mark')::float8$c$,
  $c$name = auth.jwt() ->> 'name' collate "C"$c$,
  $c$pub or owner = auth.uid()$c$,
  $c$state = 'open' or org = (auth.jwt() ->> 'org')::int$c$,
  $c$owner = auth.uid() or auth.jwt() ->> 'role' = 'admin'$c$,
  $c$owner = auth.uid() and (auth.jwt() ->> 'org')::int > 3$c$,
  $c$owner = any (array(select jsonb_array_elements_text(auth.jwt() -> 'people'))::uuid[])$c$,
  $c$owner = any (translate(auth.jwt() ->> 'people', '[] "', '{}')::uuid[])$c$,
  $c$owner in (auth.uid(), person(3))$c$,
  $c$org::text in (select jsonb_array_elements_text(auth.jwt() -> 'orgs'))$c$,
  $c$auth.jwt() -> 'orgs' @> to_jsonb(org)$c$,
  $c$exists (select from team t where t.org = note.org)$c$,
  $c$exists (select from team t where t.org = note.org and t.sub = (select auth.uid())) or name = auth.jwt() ->> 'name'$c$,
  $c$owner is not distinct from auth.uid()$c$,
  $c$not (owner <> auth.uid())$c$,
  $c$coalesce(owner = auth.uid(), pub)$c$,
  $c$case name when 'user 1' then auth.jwt() ->> 'role' = 'admin' when auth.jwt() ->> 'name' then true end$c$,
  $c$case when pub then true else owner = auth.uid() end$c$,
  $c$nullif(name, auth.jwt() ->> 'name') is null$c$,
  $c$current_user = 'anon' and pub$c$,
  $c$org = (auth.jwt() ->> 'org')::int and 1 / (org - 3) > 0$c$,
  $c$(org = (auth.jwt() ->> 'org')::int) is true$c$,
  $c$current_setting('request.jwt.claims', true)::jsonb ->> 'name' = name$c$,
  $c$current_setting('app.user', true) is null and owner = auth.uid()$c$,
  $c$false$c$,
  $c$true$c$,
  $c$note is not null and owner = auth.uid()$c$,
  $c$name < auth.jwt() ->> 'name' and pub$c$,
  $c$(auth.jwt() ->> 'org')::int between org and org + 1$c$
]) with ordinality u(c, n);
create table results (n int, condition text, kind text, index_pairs bigint, each_pairs bigint, native_pairs bigint, wrong bigint);
do $$
declare t record; r record;
begin
  for t in select * from tried order by n loop
    execute format('drop policy if exists tried on note');
    execute format('create policy tried on note using (%s)', t.condition);
    select * into r from said();
    insert into results values (t.n, t.condition, 'alone', r.index_pairs, r.each_pairs, r.native_pairs, r.wrong);
    -- Beside another one, and restricted by a third.
    create policy other on note using (name = auth.jwt() ->> 'name');
    create policy fence on note as restrictive using (org <> 2 or auth.jwt() ->> 'role' = 'admin');
    select * into r from said();
    insert into results values (t.n, t.condition, 'beside', r.index_pairs, r.each_pairs, r.native_pairs, r.wrong);
    drop policy other on note;
    drop policy fence on note;
  end loop;
end $$;
select r.condition, r.native_pairs as seen, b.native_pairs as beside, r.wrong + b.wrong as wrong
  from results r join results b using (n) where r.kind = 'alone' and b.kind = 'beside' order by n;
-- Only candidates are judged: this policy says as whom it is called.
create function tell(n int) returns bool language plpgsql volatile cost 1000 as $$
begin raise notice 'row % as %', n, auth.jwt() ->> 'name'; return true; end $$;
drop policy tried on note;
create policy tried on note using (owner = auth.uid() and tell(id));
select seen_by, verdicts from started s, realtime.judge('note'::regclass, s.head + 3, s.head + 5);
drop policy tried on note;
create policy tried on note using (tell(id) and org = 7 and owner = auth.uid());
select seen_by, verdicts from started s, realtime.judge('note'::regclass, s.head + 6, s.head + 8);
-- Who comes, goes or is another by now.
select realtime.unseat('note'::regclass, array[4]);
select seen_by from started s, realtime.judge('note'::regclass, s.head + 3, s.head + 5);
select realtime.seat('note'::regclass, array[4]), realtime.know_identity(5, 'authenticated', jsonb_build_object('sub', person(7))::text);
select seen_by from started s, realtime.judge('note'::regclass, s.head + 6, s.head + 8);
select realtime.know_identity(5, 'anon', '{}'), realtime.forget_identity(7);
select seen_by from started s, realtime.judge('note'::regclass, s.head + 6, s.head + 8);
-- The hidden sides of the log: images without a column, and with the key alone.
drop policy tried on note;
create policy tried on note using (owner = auth.uid());
select realtime.enable_realtime('note'::regclass, '{"old": "key"}');
update note set state = 'new' where id = 3;
select events from realtime.tick();
select seen_by, verdicts from started s, realtime.judge('note'::regclass, s.head + 40, s.head + 1000, array[2, 3]);
create policy by_key on note using (id = 3 and auth.uid() = person(2));
drop policy tried on note;
select seen_by, verdicts from started s, realtime.judge('note'::regclass, s.head + 40, s.head + 1000, array[2, 3]);
drop view asked;
drop table note, team;
