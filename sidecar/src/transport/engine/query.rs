//! What the address of a request says.

use super::refusal::Refusal;
use crate::protocol::engine;

/// How packets travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Polling,
    WebSocket,
}

/// The parameters of an address.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    revision: Option<&'a str>,
    transport: Option<&'a str>,
    session: Option<&'a str>,
    script: Option<&'a str>,
}

impl<'a> Query<'a> {
    /// Unknown parameters are ignored: clients add the time, and what an application asks them to add.
    pub(super) fn parse(text: &'a str) -> Self {
        let mut query = Self::default();
        for (name, value) in text.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "EIO" => query.revision = Some(value),
                "transport" => query.transport = Some(value),
                "sid" => query.session = Some(value),
                "j" => query.script = Some(value),
                _ => (),
            }
        }
        query
    }

    pub(super) fn transport(&self) -> Result<Transport, Refusal> {
        match self.transport {
            Some("polling") => Ok(Transport::Polling),
            Some("websocket") => Ok(Transport::WebSocket),
            _ => Err(Refusal::Transport),
        }
    }

    /// The session that is named.
    pub(super) fn session(&self) -> Option<&'a str> {
        self.session.filter(|session| !session.is_empty())
    }

    pub(super) fn is_of_our_revision(&self) -> bool {
        self.revision == Some(engine::REVISION)
    }

    /// Whether answers are wanted as scripts, which this server does not make: any page could read them.
    pub(super) fn wants_script(&self) -> bool {
        self.script.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_among_others() {
        let query = Query::parse("EIO=4&t=abc&transport=polling&sid=x%20y&b64=1");
        assert_eq!(query.transport(), Ok(Transport::Polling));
        assert_eq!(query.session(), Some("x%20y"));
        assert!(query.is_of_our_revision() && !query.wants_script());
    }

    #[test]
    fn nothing_is_guessed() {
        for text in ["", "transport", "transport=", "transport=webtransport", "Transport=polling"] {
            assert_eq!(Query::parse(text).transport(), Err(Refusal::Transport), "{text}");
        }
        let query = Query::parse("EIO=3&sid=&j=0");
        assert!(!query.is_of_our_revision() && query.session().is_none() && query.wants_script());
    }
}
