//! The product from outside, one module per behaviour.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod fixtures;
mod identity;
mod insforge;
mod messages;
mod resume;
mod rows;
mod seed;
