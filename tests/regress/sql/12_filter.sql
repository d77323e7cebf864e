-- How the values of columns are compared.
create type colour as enum ('red', 'dark "blue"', 'green');
create domain address as text collate "C";
create domain inner_domain as numeric(5, 1);
create domain outer_domain as inner_domain check (value > 0);
create collation plain_posix (provider = libc, locale = 'POSIX');
create table compared (
  a int, b numeric(10, 2), c timestamptz(3), d varchar(5), e char(3) collate "C", f text collate "POSIX", g colour, h address,
  i outer_domain, j text[], k jsonb, l interval second(2), m name, n colour[], o text collate plain_posix);
create domain far as outer_domain;
alter table compared add p far, add q address, add "?" int, drop c;
select c.* from (select array_agg(attname::text order by attnum) || '{gone}' as names from pg_attribute
                  where attrelid = 'compared'::regclass and attnum > 0 and not attisdropped) a,
       unnest(a.names, realtime.comparable('compared'::regclass, a.names)) c(name, comparable);
alter type colour add value 'black' before 'red';
select realtime.comparable('compared'::regclass, '{g,a}');
select realtime.comparable('compared'::regclass, '{}'), realtime.comparable(0, '{a}');
drop table compared;
drop type colour;
drop domain far, address, outer_domain, inner_domain;
drop collation plain_posix;
