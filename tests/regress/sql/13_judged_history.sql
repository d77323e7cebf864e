\set SHOW_CONTEXT never
-- The history of a table whose policies decide: each event on the images that it carries, by the policies of today.
create table diary (id int primary key, owner text, body text, secret text);
alter table diary enable row level security;
grant select (id, owner, body) on diary to authenticated;
grant select (owner, body) on diary to anon;
create policy own on diary for select using (owner = auth.jwt() ->> 'sub');
select realtime.enable_realtime('diary'::regclass);
select realtime.tick() is not null as ticked;
create table began as select head from realtime.status();
grant select on began to public;
insert into diary values (1, 'ada', 'a', 's'), (2, 'grace', 'b', 's'), (3, 'ada', 'c', 's');
update diary set body = 'a2' where id = 1;
update diary set secret = 't' where id = 1;
update diary set owner = 'grace' where id = 1;
update diary set id = 20 where id = 2;
update diary set owner = 'ada' where id = 20;
delete from diary;
select events > 0 as ticked from realtime.tick();
create function told(who text, role text) returns table (n bigint, event text, payload jsonb) language plpgsql as $$
begin
  perform set_config('role', role, true), set_config('request.jwt.claims', jsonb_build_object('sub', who)::text, true);
  return query select h."offset" - b.head, h.event, h.payload from began b, realtime.history('table:diary', b.head) h;
end $$;
begin; select * from told('ada', 'authenticated'); rollback;
begin; select * from told('grace', 'authenticated'); rollback;
begin; select * from told('eve', 'authenticated'); rollback;
-- Who may not read the key is not told which row left.
begin; select * from told('ada', 'anon'); rollback;
-- A policy that fails: no verdict on what was there.
alter policy own on diary using (owner = auth.jwt() ->> 'sub' and 1 / (id - 3) <> 7);
begin; select n, event, payload from told('ada', 'authenticated') where event = 'GAP' or n = 3; rollback;
-- A page at a time.
alter policy own on diary using (owner = auth.jwt() ->> 'sub');
begin;
set local role authenticated;
set local request.jwt.claims = '{"sub": "grace"}';
select h."offset" - b.head as n, h.event from began b, realtime.history('table:diary', b.head, 2) h;
rollback;
drop table diary;
