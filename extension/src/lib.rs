//! The database half.
