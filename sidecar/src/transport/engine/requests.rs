//! The requests of a session over HTTP: a GET fetches packets and waits until there are some, a POST brings a payload.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONNECTION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use hyper::body::Body as _;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::timeout;

use super::{super::turn::Turn, refusal::Refusal};
use crate::{
    connection::{Mailbox, Refused},
    error::CloseReason,
    protocol::engine,
};

/// Answers with the packets that wait, or waits for some.
pub(super) async fn fetch(mailbox: &Arc<Mailbox>, turn: &Turn, waiting: &Gauge) -> Result<Response, Refusal> {
    let mut fetching = mailbox.poll()?;
    let _counted = Counted::new(waiting);
    // It may wait for long, and its session is counted.
    turn.pause();
    let leaving = turn.leaving();
    let packets = tokio::select! {
        packets = fetching.packets() => packets,
        () = leaving.cancelled() => {
            fetching.release();
            fetching.packets().await
        }
    };
    let mut response = text("text/plain; charset=UTF-8", engine::payload(&packets));
    if !turn.resume() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Takes a payload. It is answered before the connection has worked on it: what the client is told comes by fetching.
pub(super) async fn bring(
    mailbox: &Arc<Mailbox>,
    headers: &HeaderMap,
    body: Body,
    patience: Duration,
) -> Result<Response, Refusal> {
    let bringing = mailbox.post()?;
    if headers.get(CONTENT_TYPE).is_some_and(|it| it == "application/octet-stream") {
        mailbox.end(Some(CloseReason::BadPacket));
        return Err(Refusal::Content);
    }
    let payload_bytes_max = mailbox.payload_bytes_max();
    // Whoever is too slow or goes ends the session: part of a payload is lost.
    let read = timeout(patience, read(body, payload_bytes_max));
    let read = tokio::select! {
        read = read => read.unwrap_or(Err(Refusal::TooSlow)),
        () = bringing.ended() => Err(Refusal::Session),
    };
    match read {
        Ok(payload) => bringing.bring(payload).await?,
        Err(Refusal::TooLarge) => {
            bringing.refuse();
            return Err(Refusal::TooLarge);
        }
        Err(refusal) => return Err(refusal),
    }
    // As the reference server has it: browsers would offer another type for download.
    Ok(text("text/html", "ok".to_owned()))
}

/// A whole body.
async fn read(mut body: Body, bytes_max: usize) -> Result<String, Refusal> {
    // What a client says of its size is not believed, but saves reading.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::TooLarge);
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refusal::Content)?;
        let data = frame.data_ref().map(AsRef::as_ref).unwrap_or_default();
        if bytes.len() + data.len() > bytes_max {
            return Err(Refusal::TooLarge);
        }
        bytes.extend_from_slice(data);
    }
    String::from_utf8(bytes).map_err(|_| Refusal::Content)
}

/// One more while it lives.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn text(content_type: &'static str, body: String) -> Response {
    (StatusCode::OK, [(CONTENT_TYPE, content_type)], body).into_response()
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Overlap => Self::Overlap,
            Refused::Elsewhere => Self::Session,
        }
    }
}
