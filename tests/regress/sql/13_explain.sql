-- Why somebody may listen, or may not.
create table explained (id int primary key, owner text, secret text);
alter table explained enable row level security;
create policy mine on explained for select to authenticated using (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
create policy never on explained as restrictive for select to service_role using (false);
insert into explained values (1, 'ada', 'x'), (2, 'eve', 'y'), (3, null, 'z');
select * from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained');
select realtime.enable_realtime('public', 'explained');
select * from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:public.explained');
grant select (id, owner) on explained to authenticated;
select * from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 1}');
select subject, allowed, says, detail from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 2}') where subject in ('policy mine', 'row', 'verdict');
select subject, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 3}') where subject in ('policy mine', 'row');
select subject, says, detail from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 9}') where subject in ('policy mine', 'row');
grant select on explained to anon;
select * from realtime.explain_access('{"role": "anon"}', 'table:explained', '{"id": 1}');
select * from realtime.explain_access('{"sub": "ada"}', 'table:explained');
select * from realtime.explain_access('{"role": "nobody"}', 'room:1');
select subject, allowed from realtime.explain_access('{"role": "anon"}', 'none:1');
set role anon;
select * from realtime.explain_access('{"role": "anon"}', 'room:1');
reset role;
-- Each policy by itself: yes, no, null, an error; whether it reads other tables under their own policies, other rows, or
-- the table itself, which no statement could.
create table friends (sub text, of text);
alter table friends enable row level security;
grant select on friends to authenticated;
create policy own on friends for select to authenticated using (sub = auth.jwt() ->> 'sub');
insert into friends values ('ada', 'eve'), ('bob', 'eve');
create function explodes(t text) returns boolean language plpgsql as $$ begin raise exception 'secret is %', t using errcode = 'RT042'; end $$;
create policy a_friends on explained for select to authenticated using (exists (select from friends f where f.of = explained.owner));
create policy b_whole on explained for select to authenticated using (explained is not null and tableoid = 'explained'::regclass);
create policy c_explodes on explained for select to authenticated using (explodes(secret));
create policy d_divides on explained as restrictive for select to authenticated using (1 / (id - 1) > 0);
create policy e_writes on explained for update to authenticated using (true);
create policy f_all on explained for all to authenticated using (pg_backend_pid() > 0) with check (false);
create policy g_check on explained to authenticated with check (true);
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 1}') where subject like 'policy%' or says is not null;
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 2}') where subject like 'policy%' or says is not null;
select subject, says from realtime.explain_access('{"role": "authenticated", "sub": "grace"}', 'table:explained', '{"id": 2}') where subject = 'policy a_friends';
create policy h_itself on explained for select to authenticated using (exists (select from explained x where x.id = 1));
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 1}') where subject in ('policy mine', 'policy h_itself', 'row');
-- The key may name any columns, but no others, and one row.
select subject, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"owner": "eve", "secret": "y"}') where subject = 'policy mine';
insert into explained values (4, 'eve', 'y');
select subject, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"owner": "eve", "secret": "y"}') where subject = 'policy mine';
select * from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"no\" such": 1}');
select * from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{}');
-- A partitioned table, quoted names, dropped columns.
create schema "Ex ""plain";
create table "Ex ""plain"."Parts" ("I d" int, gone text, "Own""er" text, primary key ("I d")) partition by range ("I d");
create table part_1 partition of "Ex ""plain"."Parts" for values from (0) to (10);
alter table "Ex ""plain"."Parts" drop column gone;
alter table "Ex ""plain"."Parts" enable row level security;
create policy "My ""own" on "Ex ""plain"."Parts" for select to authenticated using ("Own""er" = auth.jwt() ->> 'sub');
insert into "Ex ""plain"."Parts" values (1, 'ada'), (2, 'eve');
select realtime.enable_realtime('"Ex ""plain"."Parts"'::regclass);
select subject, allowed, says, detail from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:"Ex ""plain"."Parts"', '{"I d": 1}');
grant usage on schema "Ex ""plain" to authenticated;
grant select on "Ex ""plain"."Parts" to authenticated;
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:"Ex ""plain"."Parts"', '{"I d": 2}') where says is not null or subject = 'verdict';
-- Channels: each policy for each pattern that matches, and for a message.
insert into realtime.channels (pattern) values ('ex:%'), ('ex:1');
create policy ex_own on realtime.channels for select to authenticated using (pattern = 'ex:1' and realtime.channel_name() = 'ex:' || (auth.jwt() ->> 'n'));
create policy ex_fails on realtime.channels for select to authenticated using (length(pattern) / (auth.jwt() ->> 'zero')::int > 0);
create policy ex_speak on realtime.messages for insert to authenticated
  with check (channel_name = 'ex:1' and sender = auth.jwt() ->> 'sub' and realtime.channel_name() = channel_name and channel_id is not null and payload ->> 'text' <> '');
create policy ex_not_loud on realtime.messages as restrictive for insert to authenticated with check (event_name <> 'loud');
select subject, allowed, says, detail from realtime.explain_access('{"role": "authenticated", "sub": "ada", "n": 1, "zero": 0}', 'ex:1') where detail not like '%other roles%' and subject !~ '^policy (nosy|noisy|enter)';
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'ex:1', '{"event_name": "loud", "payload": {"text": "x"}}') where subject ~ 'ex_speak|ex_not_loud|publish';
select subject, allowed, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'ex:1', '{"payload": {"text": "x"}}') where subject ~ 'ex_speak|ex_not_loud|publish';
select count(*) from realtime.messages where channel_name = 'ex:1';
-- Nobody forges an expression, and whatever a policy does is undone.
select '({CONST})'::pg_node_tree;
create function meddles() returns boolean language plpgsql as $$
begin
  perform set_config('request.jwt.claims', '{"role": "service_role"}', false);
  begin perform set_config('role', 'none', false); exception when others then raise notice 'role: %', sqlerrm; end;
  begin create temp table stays (); exception when others then raise notice 'temp: %', sqlerrm; end;
  begin insert into friends values ('x', 'y'); exception when others then raise notice 'write: %', sqlerrm; end;
  begin execute 'prepare p as select 1'; exception when others then raise notice 'prepare: %', sqlerrm; end;
  begin execute 'listen l'; exception when others then raise notice 'listen: %', sqlerrm; end;
  perform pg_advisory_lock(4711);
  raise notice 'user %', current_user;
  return true;
end $$;
create policy i_meddles on explained for select to authenticated using (meddles());
select subject, says from realtime.explain_access('{"role": "authenticated", "sub": "ada"}', 'table:explained', '{"id": 1}') where subject = 'policy i_meddles';
select current_user = session_user as own, current_setting('role') as role, current_setting('request.jwt.claims', true) as claims,
       current_setting('realtime.channel_name', true) as channel, current_setting('transaction_read_only') as read_only;
select count(*) as locks from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();
select count(*) as prepared from pg_prepared_statements;
select realtime.tick() is not null as ticked;
drop policy ex_own on realtime.channels; drop policy ex_fails on realtime.channels;
drop policy ex_speak on realtime.messages; drop policy ex_not_loud on realtime.messages;
delete from realtime.channels where pattern like 'ex:%';
drop table explained, friends; drop schema "Ex ""plain" cascade; drop function explodes, meddles;
