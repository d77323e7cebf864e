//! Private Postgres for run, test and bench.
