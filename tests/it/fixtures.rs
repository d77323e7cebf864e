//! What several tests have in their database.

/// A table that everybody may read.
pub(crate) const TABLE: &str = "
    create table t (id int primary key, name text);
    select realtime.enable_realtime('t');
    grant select on t to anon, authenticated, service_role;
";

/// Rooms that everybody may enter, and signed-in people may speak in.
pub(crate) const ROOMS: &str = "
    insert into realtime.channels (pattern) values ('room:%');
    create policy enter on realtime.channels for select to anon, authenticated using (true);
    create policy speak on realtime.messages for insert to authenticated with check (channel_name like 'room:%');
";

/// Ada's subject: messages carry it as `senderId` because it is a uuid.
pub(crate) const ADA: &str = "a0a0a0a0-0000-4000-8000-0000000000ad";

/// Somebody else's subject.
pub(crate) const GRACE: &str = "b0b0b0b0-0000-4000-8000-0000000000be";
