-- What the scripts find: the channels, policies and trigger of the documentation, and two people.
create table public.orders (id int primary key, user_id uuid, status text not null);
grant select on public.orders to authenticated;
insert into public.orders values
  (1, '00000000-0000-4000-8000-00000000ada1', 'new'),
  (2, '00000000-0000-4000-8000-0000009ace01', 'new');

insert into realtime.channels (pattern, description, enabled) values
  ('orders', 'Global order events', true),
  ('order:%', 'Order-specific events', true),
  ('chat:%', 'Chat rooms of Ada and Grace', true),
  ('lobby', 'Open to everybody, spoken by the database', true),
  ('staff', 'For servers', true),
  ('closed', 'Switched off', false);

-- The number as a text: a cast of the name would fail for names of other channels, and a policy that fails denies.
create policy users_subscribe_own_orders on realtime.channels for select to authenticated
  using (pattern = 'order:%' and exists (
    select 1 from public.orders
     where id::text = split_part(realtime.channel_name(), ':', 2) and user_id = auth.uid()));
create policy friends_enter on realtime.channels for select to authenticated
  using (pattern = 'chat:%'
    and auth.uid() in ('00000000-0000-4000-8000-00000000ada1', '00000000-0000-4000-8000-0000009ace01'));
create policy everybody_enters on realtime.channels for select to anon, authenticated
  using (pattern in ('lobby', 'closed'));
create policy servers_enter on realtime.channels for select to service_role using (pattern = 'staff');
create policy friends_talk on realtime.messages for insert to authenticated
  with check (channel_name like 'chat:%');

create function public.notify_order_status() returns trigger language plpgsql security definer as $$
begin
  perform realtime.publish('order:' || new.id::text, 'status_changed',
    jsonb_build_object('id', new.id, 'status', new.status));
  return new;
end $$;
create trigger order_status_trigger after update on public.orders
  for each row when (old.status is distinct from new.status) execute function public.notify_order_status();
