\set SHOW_CONTEXT never
-- Verdicts on row images by the table's own policies.
create table doc (id int primary key, owner text, org int, body text);
create table member (org int, sub text);
insert into member values (1, 'ada'), (2, 'grace');
select realtime.enable_realtime('public', 'doc');
alter table doc enable row level security;
alter table member enable row level security;
grant select on doc to authenticated;
grant select (id) on doc to anon;
grant select on member to authenticated;
create policy own on doc for select to authenticated using (owner = auth.jwt() ->> 'sub');
create policy shared on doc for select to authenticated using (exists (select from member m where m.org = doc.org));
create policy my_memberships on member for select to authenticated using (sub = auth.jwt() ->> 'sub');
select realtime.tick() is not null as ticked;
create table from_here as select head from realtime.status();
insert into doc values (1, 'ada', null, 'a'), (2, 'grace', null, 'b'), (3, 'nobody', 1, 'c'), (4, 'nobody', 2, 'd');
update doc set owner = 'grace' where id = 1;
update doc set body = 'e' where id = 3;
delete from doc where id = 2;
delete from doc where id = 4;
select events from realtime.tick();
select realtime.judge('doc'::regclass, head, head + 100, array[1]) from from_here;
do $$ begin
  perform realtime.know_identity(1, 'authenticated', '{"sub": "ada"}');
  perform realtime.know_identity(2, 'authenticated', '{"sub": "grace"}');
  perform realtime.know_identity(3, 'authenticated', '{"sub": "eve"}');
  perform realtime.know_identity(4, 'anon', '{}');
  perform realtime.know_identity(5, 'service_role', '{}');
  perform realtime.know_identity(6, 'authenticated', 'not json');
end $$;
grant select on doc to service_role;
create view verdicts as
  select i.id, v.offsets[e.n] - f.head as event,
         coalesce(substr(v.verdicts[array_position(v.seen_by, i.id)], 2 * e.n::int - 1, 2), '..') as old_new
    from from_here f, unnest(array[1, 2, 3, 4, 5, 6]) i(id),
         realtime.judge('doc'::regclass, f.head, f.head + 1000, array[1, 2, 3, 4, 5, 6]) v, generate_subscripts(v.offsets, 1) e(n);
select event, string_agg(old_new, ' ' order by id) as ada_grace_eve_anon_service_bad from verdicts group by event order by event;
-- For whom a policy raised an error, and which.
select v.seen_by, v.failures from from_here f, realtime.judge('doc'::regclass, f.head, f.head + 1000, array[1, 3, 6]) v;
select v.seen_by, v.failures from from_here f, realtime.judge('doc'::regclass, f.head, f.head + 1000, array[1]) v;
-- Who is seated is judged without being named; who sees nothing is not in the answer.
select realtime.seat('doc'::regclass, array[2, 3, 5]);
select realtime.seat('doc'::regclass, array[99]);
select realtime.unseat('doc'::regclass, array[5, 99]);
select seen_by, verdicts, cardinality(offsets) as events from from_here f, realtime.judge('doc'::regclass, f.head, f.head + 1000);
select seen_by, cardinality(offsets) as events from from_here f, realtime.judge('doc'::regclass, f.head + 3, f.head + 6, array[3]);
select offsets, seen_by from from_here f, realtime.judge('member'::regclass, f.head, f.head + 1000);
select realtime.know_identity(7, 'service_role', '{}'), realtime.seat('doc'::regclass, array[7]), realtime.forget_identity(7);
select seen_by from from_here f, realtime.judge('doc'::regclass, f.head, f.head + 1000);
-- A table of the past is judged by the policies of today; other tables as they are now.
insert into member values (2, 'ada');
select event, string_agg(old_new, ' ' order by id) from verdicts where id <= 3 and event in (4, 8) group by event order by event;
-- Renamed, dropped and added columns: images go by number.
alter table doc rename owner to held_by;
alter table doc drop column body;
alter table doc add column note text default 'later';
create policy noted on doc for select to authenticated using (note = 'later' and auth.jwt() ->> 'sub' = 'eve');
select event, string_agg(old_new, ' ' order by id) from verdicts where id <= 3 group by event order by event;
drop policy noted on doc;
-- A type that changed: a policy that reads the column can no longer be judged by old images.
drop policy shared on doc;
alter table doc alter org type bigint;
select event, string_agg(old_new, ' ' order by id) from verdicts where id <= 3 group by event order by event;
create policy shared on doc for select to authenticated using (exists (select from member m where m.org = doc.org));
select event, string_agg(old_new, ' ' order by id) from verdicts where id <= 3 group by event order by event;
drop policy shared on doc;
-- An error denies the identity and the row that it belongs to, nobody else and nothing else.
truncate doc;
alter table doc alter org type int;
create policy shared on doc for select to authenticated using (exists (select from member m where m.org = doc.org));
select realtime.tick() is not null as ticked;
update from_here set head = s.head from realtime.status() s;
create policy fragile on doc for select to authenticated using (auth.jwt() ->> 'sub' = 'eve' and 1 / org > 0);
insert into doc (id, held_by, org) values (1, 'ada', 1), (2, 'ada', 0), (3, 'grace', 1);
select events from realtime.tick();
select id, string_agg(old_new, ' ' order by event) from verdicts group by id order by id;
drop policy fragile on doc;
-- System columns and left-out columns cannot be judged; tableoid can.
create policy system on doc for select to authenticated using (ctid <> '(0,0)' and auth.jwt() ->> 'sub' = 'eve');
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
select realtime.enable_realtime('doc'::regclass);
drop policy system on doc;
create policy by_table on doc for select to authenticated using (tableoid = 'doc'::regclass and auth.jwt() ->> 'sub' = 'eve');
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
drop policy by_table on doc;
select realtime.enable_realtime('doc'::regclass, '{"exclude": ["held_by"]}');
insert into doc (id, held_by, org) values (4, 'ada', 9);
select events from realtime.tick();
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
select realtime.enable_realtime('doc'::regclass);
update from_here set head = s.head from realtime.status() s;
-- Helpers that are wrongly declared IMMUTABLE: nobody gets another identity's answer.
create function uid_immutable() returns text language sql immutable as $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub' $$;
create function uid_immutable_plpgsql() returns text language plpgsql immutable as $$ begin return nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'; end $$;
create function uid_wrapped() returns text language sql stable as $$ select uid_immutable_plpgsql() $$;
drop policy own on doc;
drop policy shared on doc;
insert into doc (id, held_by) values (5, 'ada'), (6, 'grace');
select events from realtime.tick();
create policy own on doc for select to authenticated using (held_by = uid_immutable());
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
alter policy own on doc using (held_by = uid_immutable_plpgsql());
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
alter policy own on doc using (held_by = uid_wrapped());
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
alter policy own on doc using (held_by = (select auth.jwt() ->> 'sub'));
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
-- A policy must not judge.
create function judge_again(id int) returns bool language plpgsql security definer as $$
begin perform realtime.judge('doc'::regclass, (select head from from_here), (select head + 1000 from from_here), array[2]); return true; end $$;
alter policy own on doc using (judge_again(id));
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 2 group by id order by id;
alter policy own on doc using (held_by = (select auth.jwt() ->> 'sub'));
-- Nor change who is judged. Whose policies run can be seen from outside, whatever the session is called, when the
-- statement is marked; afterwards the statement is shown again.
create function tell_more() returns bool language plpgsql security definer as $$ begin perform realtime.forget_identity(1); return true; end $$;
alter policy own on doc using (tell_more());
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 2 group by id order by id;
create function seen() returns text language plpgsql security definer as $$
begin
  perform set_config('application_name', 'another', true); perform pg_stat_clear_snapshot();
  return (select query from pg_stat_activity where pid = pg_backend_pid());
end $$;
alter policy own on doc using (held_by = case when seen() = '/* mark */ judging 2' then 'grace' else '' end);
/* mark */ select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
/* mark */ select seen() like '/* mark */ select%' as restored, (select count(*) > 0 from verdicts) as judged, seen() like '/* mark */ select%' as again;
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
alter policy own on doc using (held_by = (select auth.jwt() ->> 'sub'));
-- A revoked grant, a dropped role membership: seen at once.
revoke select on doc from authenticated;
select id, string_agg(old_new, ' ' order by event) from verdicts where id <= 3 group by id order by id;
grant select on doc to authenticated;
-- Nothing is left behind.
select current_user = session_user as own, current_setting('role') as role, current_setting('request.jwt.claims', true) as claims;
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();
-- Nobody else may ask.
set role authenticated;
select realtime.judge('doc'::regclass, 0, 1, array[1]);
select realtime.know_identity(1, 'service_role', '{}');
reset role;
-- Partitions: a row is judged by the policies of the table that is subscribed to.
create table part (id int, city text, owner text, primary key (id, city)) partition by list (city);
create table part_a partition of part for values in ('a');
create table part_b (owner text, city text not null, id int not null);
alter table part attach partition part_b for values in ('b');
select realtime.enable_realtime('public', 'part');
alter table part enable row level security;
grant select on part, part_b to authenticated;
create policy own on part for select to authenticated using (owner = auth.jwt() ->> 'sub' and tableoid = 'part_b'::regclass);
insert into part values (1, 'a', 'ada'), (2, 'b', 'ada'), (3, 'b', 'grace');
select events from realtime.tick();
select (realtime.judge('part'::regclass, head, head + 1000, array[1, 2])).verdicts, (realtime.judge('part_b'::regclass, head, head + 1000, array[1, 2])).verdicts as leaf from from_here;
