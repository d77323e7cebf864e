//! What an answer means: delivered, tried again, or failed. Pure.

use crate::{
    config::{Retry, WebhookSettings},
    postgres::webhook::Finished,
};

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver answered with this status.
    Status(u16),
    /// It did not: not reached, or not in time.
    None(String),
    /// It was not asked, and never will be.
    Refused(String),
}

impl Answer {
    fn is_delivered(&self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    /// Whether the same request may fare better later.
    fn may_change(&self, retry: Retry) -> bool {
        match self {
            Self::None(_) => true,
            Self::Status(status) => retry == Retry::All && (*status == 429 || *status >= 500),
            Self::Refused(_) => false,
        }
    }

    /// Judges the answer to a request after `attempts` before it.
    pub(super) fn judge(self, id: String, attempts: u32, settings: &WebhookSettings) -> Finished {
        let delivered = self.is_delivered();
        let is_tried_again = !delivered && attempts < settings.retries_max && self.may_change(settings.retry);
        let wait_ms = || settings.retry_ms.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX));
        let retry_ms = is_tried_again.then(wait_ms);
        let (status, error) = match self {
            Self::Status(status) => (Some(status), (!delivered).then(|| format!("the receiver answered {status}"))),
            Self::None(why) | Self::Refused(why) => (None, Some(why)),
        };
        Finished { id, delivered, status, error, retry_ms }
    }
}

/// The word that it is counted under.
pub(super) fn label(finished: &Finished) -> &'static str {
    match (finished.delivered, finished.retry_ms) {
        (true, _) => "delivered",
        (false, Some(_)) => "retried",
        (false, None) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn settings(retry: Retry) -> WebhookSettings {
        let url = ("REALTIME_DATABASE_URL".to_owned(), "postgres://u@h/d".to_owned());
        let sources = Sources { environment: vec![url], ..Sources::default() };
        WebhookSettings { retry, ..Config::load(&sources).expect("a url is all that is needed").webhooks }
    }

    fn retry_ms(answer: Answer, attempts: u32, retry: Retry) -> Option<u32> {
        answer.judge(String::new(), attempts, &settings(retry)).retry_ms
    }

    #[test]
    fn trouble_is_tried_again_twice_after_one_and_two_seconds() {
        for answer in [Answer::None("timeout".into()), Answer::Status(500), Answer::Status(503), Answer::Status(429)] {
            let waits: Vec<_> = (0..4).map(|attempts| retry_ms(answer.clone(), attempts, Retry::All)).collect();
            assert_eq!(waits, [Some(1000), Some(2000), None, None], "{answer:?}");
        }
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        for status in [200, 204, 299, 301, 302, 307, 400, 401, 404, 410] {
            assert_eq!(retry_ms(Answer::Status(status), 0, Retry::All), None, "{status}");
        }
        assert_eq!(retry_ms(Answer::Refused("private".into()), 0, Retry::All), None);
        assert_eq!(retry_ms(Answer::Status(503), 0, Retry::Network), None);
        assert_eq!(retry_ms(Answer::None("reset".into()), 0, Retry::Network), Some(1000));
    }

    #[test]
    fn only_success_is_delivered_and_the_rest_says_why() {
        let judge = |answer: Answer| answer.judge("id".into(), 0, &settings(Retry::All));
        let taken = judge(Answer::Status(204));
        assert_eq!((taken.delivered, taken.status, taken.error), (true, Some(204), None));
        let moved = judge(Answer::Status(302));
        assert_eq!((moved.delivered, moved.status), (false, Some(302)));
        assert!(moved.error.is_some_and(|error| error.contains("302")));
    }
}
