//! What clients are told when a command is refused: enough to mend it, nothing that a stranger may not know.

use tracing::{debug, warn};

use super::Services;
use crate::{
    auth::{AuthError, GrantError},
    court::JudgeError,
    denials::{Denial, What},
    error::{Code, CommandError},
    model::{Identity, Refusal},
    postgres::publish::PublishError,
};

impl Services {
    /// Counts and logs what an identity was refused.
    pub fn denied(&self, identity: &Identity, what: What, channel: &str, refusal: &Refusal) {
        self.denials.note(&Denial {
            what,
            reason: refusal.label(),
            sqlstate: refusal.sqlstate(),
            subject: identity.user.as_deref(),
            role: &identity.role,
            channel,
        });
    }
}

pub(super) fn auth_error(services: &Services, error: &AuthError) -> CommandError {
    services.metrics.auth_failures.inc(error.label());
    let code = if *error == AuthError::Expired { Code::TokenExpired } else { Code::Unauthorized };
    CommandError::new(code, error.to_string())
}

pub(super) fn grant_error(error: &GrantError) -> CommandError {
    match error {
        GrantError::Refused(_) => CommandError::no_such_channel(),
        GrantError::Unavailable(error) => {
            warn!(error = error.chain(), "a subscription could not be judged");
            CommandError::unavailable()
        }
    }
}

/// Nobody can say what may be seen of a table.
pub(super) fn judge_error(
    services: &Services,
    identity: &Identity,
    what: What,
    channel: &str,
    error: &JudgeError,
) -> CommandError {
    let JudgeError::Held(wait) = error else {
        warn!(error = %error, "a subscription could not be judged");
        return CommandError::unavailable();
    };
    services.denied(identity, what, channel, &Refusal::TooSlow);
    let text = "the policies of this table take too long for you or end their session: come back later, or ask its owner to mend them";
    CommandError::new(Code::Unavailable, text).retry_after(*wait)
}

pub(super) fn publish_error(error: &PublishError) -> CommandError {
    let (code, text) = match error {
        PublishError::Forbidden(_) => {
            (Code::Unauthorized, "no such channel, or your role may not publish on it: check its name and policies")
        }
        PublishError::BadName => (
            Code::InvalidMessage,
            "the channel or event name is not accepted: an event name has 1 to 255 bytes and is no word of the connection's own",
        ),
        PublishError::BadPayload => {
            (Code::InvalidMessage, "the payload cannot be stored: Postgres accepts neither \\u0000 nor lone surrogates")
        }
        PublishError::TooLarge => (
            Code::PayloadTooLarge,
            "the payload is larger than an event may be: send a reference instead of the content",
        ),
        PublishError::BadId => (Code::InvalidMessage, "message_id names another message: make a new uuid for each"),
        PublishError::Failed(cause) => {
            debug!(error = cause.chain(), "a policy or trigger failed: message not published");
            (Code::InternalError, "a policy or trigger on realtime.messages failed: ask the owner of the database")
        }
        PublishError::Unavailable(cause) => {
            warn!(error = cause.chain(), "a message could not be published");
            return CommandError::unavailable();
        }
    };
    CommandError::new(code, text)
}
