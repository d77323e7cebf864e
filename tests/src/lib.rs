//! The stack that the end-to-end tests start.
