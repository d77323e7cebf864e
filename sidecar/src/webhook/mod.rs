//! Sends messages to the webhooks of their channels.
//!
//! What is to be sent stands in the database ([`crate::postgres::webhook`]); one sidecar at a time is elected to send it. A
//! delivery is claimed, asked once, and finished: delivered, due again later, or failed. Sockets have nothing to do with any
//! of it: the sender has its own session and its own task.

mod address;
mod outcome;
mod places;
mod request;
mod sender;
mod signature;
#[cfg(test)]
mod tests;

pub use sender::Sender;

/// Why the sender cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The names of headers cannot be made.
    #[error("webhooks.header_prefix cannot begin the name of a header; give letters, digits and -")]
    HeaderPrefix,
    /// The HTTP client cannot be made.
    #[error("the client for webhooks cannot be set up; install ca-certificates")]
    Client(#[from] reqwest::Error),
}
