//! Opens a WebSocket to a sidecar, in the clear or with TLS.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderValue, Response, StatusCode, header},
    },
};

use super::{Cut, TailError};

/// Time for address, line, TLS and opening request together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A WebSocket over whatever line there is.
pub(super) type Socket = WebSocketStream<Box<dyn Line>>;

/// A line in the clear or with TLS.
pub(super) trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// Connects and speaks the native protocol from the first frame on. The token goes into a header: addresses are logged.
pub(super) async fn connect(url: &str, token: Option<&SecretString>) -> Result<Socket, Cut> {
    let request = request(url, token)?;
    let opened = tokio::time::timeout(OPEN_TIMEOUT, open(request)).await;
    opened.map_err(|_| Cut::Lost("the server does not answer".to_owned()))?
}

async fn open(request: Request) -> Result<Socket, Cut> {
    let line = line(&request).await?;
    match client_async(request, line).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(refused(&response)),
        Err(error) => Err(Cut::Lost(format!("the line could not be opened: {error}"))),
    }
}

fn request(url: &str, token: Option<&SecretString>) -> Result<Request, TailError> {
    let wrong = || TailError::Url(crate::telemetry::redact(url).into_owned());
    let mut request = url.into_client_request().map_err(|_| wrong())?;
    let is_websocket = matches!(request.uri().scheme_str(), Some("ws" | "wss"));
    if !is_websocket || request.uri().host().is_none() {
        return Err(wrong());
    }
    let headers = request.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("realtime.v1"));
    if let Some(token) = token {
        let text = format!("Bearer {}", token.expose_secret().trim());
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| TailError::Refused("the token holds characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    Ok(request)
}

async fn line(request: &Request) -> Result<Box<dyn Line>, Cut> {
    let uri = request.uri();
    let is_tls = uri.scheme_str() == Some("wss");
    // IPv6 addresses stand in brackets in an address, but not in a name.
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let unreachable = |error: std::io::Error| Cut::Lost(format!("{host}:{port} cannot be reached: {error}"));
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host.clone())
        .map_err(|_| TailError::Refused(format!("{host} is no name that a certificate can have")))?;
    let connector = connector().map_err(|error| TailError::Refused(error.to_string()))?;
    Ok(Box::new(connector.connect(name, stream).await.map_err(unreachable)?))
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()).into())
}

/// An answer that is no WebSocket: overload passes, refusals do not.
fn refused(response: &Response<Option<Vec<u8>>>) -> Cut {
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let told = serde_json::from_slice::<serde_json::Value>(body).ok();
    let told = told.as_ref().and_then(|body| body.get("error")).and_then(serde_json::Value::as_str);
    let text = told.map_or_else(|| status.to_string(), |told| format!("{} {told}", status.as_u16()));
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Cut::Lost(text)
    } else {
        Cut::Final(TailError::Refused(text))
    }
}
