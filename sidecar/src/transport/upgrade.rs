//! From an HTTP request to a WebSocket (RFC 6455, section 4.2).

use std::time::Instant;

use axum::{
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
        },
    },
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::connection::{Socket, accept_key};

/// The key of a well-formed opening request; `None` when it is none.
pub(super) fn key(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrades = has_word(headers, &CONNECTION, "upgrade") && has_word(headers, &UPGRADE, "websocket");
    if !upgrades || header(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return None;
    }
    // Sixteen bytes in base64.
    headers.get(SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24).cloned()
}

/// The answer to an opening request.
pub(super) fn switching(key: &HeaderValue, protocol: Option<&'static str>) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

/// The WebSocket behind an answered opening request; `None` when the client went before the answer was written.
pub(super) async fn socket(upgrade: OnUpgrade, frame_bytes_max: usize) -> Option<Socket> {
    let parts = upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    // Eight kilobytes that would otherwise be kept for as long as the connection lives.
    drop(parts.read_buf);
    Some(Socket::new(stream, read, frame_bytes_max, Instant::now()))
}

/// A header's bytes.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(HeaderValue::as_bytes)
}

/// Whether a protocol stands among those that the client offers.
pub(super) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    words(headers, &SEC_WEBSOCKET_PROTOCOL).any(|it| it == protocol)
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    words(headers, name).any(|it| it.eq_ignore_ascii_case(word))
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
