-- The demo: a coffee bar. Its staff talk in a room under a policy, its orders hang on a wall for everybody to read.
-- Run it as a superuser after `create extension realtime` and `realtime.create_roles()`; any number of times.
--
-- What `make run` suggests to try:
-- try sql: update demo.orders set status = 'ready'
-- try channel: table:demo.orders

-- A schema of this name that is not ours is somebody's own.
do $$
begin
  if to_regnamespace('demo') is not null
     and obj_description(to_regnamespace('demo'), 'pg_namespace') is distinct from 'The demo of the realtime extension.' then
    raise exception 'schema "demo" exists already and is not the demo of realtime' using
      errcode = 'duplicate_schema', hint = 'Use another database, or rename the schema: alter schema demo rename to ...';
  end if;
end $$;
create schema if not exists demo;
comment on schema demo is 'The demo of the realtime extension.';
grant usage on schema demo to public;

-- The room. Who is a member is an ordinary table; mallory has an account like the others and is in no room.
create table if not exists demo.members (
  room   text not null,
  person text not null,
  primary key (room, person)
);
insert into demo.members values ('room:lobby', 'ada'), ('room:lobby', 'grace') on conflict do nothing;

-- The person is the subject of the token: the sidecar has verified it, nobody can write it.
create or replace function demo.is_member(room text) returns boolean
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select exists (select from demo.members m
                  where m.room = is_member.room
                    and m.person = nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
$$;

-- The door: a channel per room, two policies. Reading is SELECT on channels, writing is INSERT into messages.
insert into realtime.channels (pattern, description) values ('room:%', 'Rooms of the demo')
  on conflict (pattern) do nothing;
do $$
begin
  if not exists (select from pg_policy where polname = 'demo: members listen') then
    create policy "demo: members listen" on realtime.channels for select to authenticated
      using (pattern = 'room:%' and demo.is_member(realtime.channel_name()));
  end if;
  if not exists (select from pg_policy where polname = 'demo: members write') then
    create policy "demo: members write" on realtime.messages for insert to authenticated
      with check (channel_name like 'room:%' and demo.is_member(channel_name));
  end if;
end $$;

-- The wall: a table without row level security that everybody may read.
create table if not exists demo.orders (
  id       int generated always as identity primary key,
  customer text not null,
  item     text not null,
  status   text not null default 'placed' check (status in ('placed', 'brewing', 'ready'))
);
grant select on demo.orders to anon, authenticated;
do $$
begin
  if exists (select from realtime.tables where schema_name = 'demo' and table_name = 'orders') then
    return;
  end if;
  perform realtime.enable_realtime('demo', 'orders');
  insert into demo.orders (customer, item, status) values
    ('Linus', 'Flat white', 'ready'), ('Barbara', 'Espresso', 'brewing'), ('Ken', 'Cortado', 'brewing'),
    ('Radia', 'Cappuccino', 'placed'), ('Edsger', 'Filter coffee', 'placed');
  perform realtime.publish('room:lobby', 'message', '{"text": "This room is open to its members. This line was published by SQL."}');
end $$;

-- What a press of the button does: serve one order a step further, or let the next customer in.
-- No parameters, so there is nothing to inject; an order that is ready is collected, so the table stays small.
create or replace function demo.next_step() returns void
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  customers constant text[] := '{Margaret,Tony,Annie,Donald,Hedy,Alan,Katherine,Leslie,Joan,Niklaus}';
  items     constant text[] := '{Espresso,Flat white,Cortado,Filter coffee,Cappuccino,Macchiato,Oat latte}';
  chosen demo.orders;
begin
  if (select count(*) from demo.orders) >= 5 then
    select * into chosen from demo.orders order by random() limit 1 for update skip locked;
  end if;
  case chosen.status
    when 'placed' then update demo.orders set status = 'brewing' where id = chosen.id;
    when 'brewing' then update demo.orders set status = 'ready' where id = chosen.id;
    when 'ready' then delete from demo.orders where id = chosen.id;
    else insert into demo.orders (customer, item)
           values (customers[1 + floor(random() * cardinality(customers))], items[1 + floor(random() * cardinality(items))]);
  end case;
end $$;

-- What hangs on the wall now, for a page that has just subscribed.
create or replace function demo.board() returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(json_agg(o order by o.id), '[]')::text from demo.orders o
$$;

-- The sidecar's login role calls these two for the page; they are open because its name is not known here.
grant execute on function demo.next_step(), demo.board() to public;
