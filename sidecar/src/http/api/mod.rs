//! The API below `/api/realtime`: what administrators do with channels and messages, and publishing without a socket.
//!
//! A caller is who their token or key says, as on sockets. Administrators are told by their role; what they do runs in
//! functions of the database that are the sidecar's alone. Publishing runs as the caller's role, under its policies.

mod caller;
mod channels;
mod document;
mod error;
mod input;
mod messages;
mod publish;
mod settings;
mod throttle;

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Bytes, http::header::CONTENT_TYPE, routing::get};
use tokio::sync::{Semaphore, SemaphorePermit};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use error::ApiError;

use crate::{connection::Services, postgres::admin::Admin};
use throttle::Throttle;

/// Sessions that administrators may hold at once: they never take what publishing and replaying need.
const SESSIONS_MAX: usize = 2;
/// How long one waits for such a session.
const SESSION_WAIT: Duration = Duration::from_secs(5);

/// What the routes need. Cloning is cheap.
#[derive(Clone)]
pub struct Api(Arc<ApiState>);

/// What all requests share.
pub struct ApiState {
    services: Arc<Services>,
    /// The role of administrators; `None`: there are none.
    admin_role: Option<String>,
    throttle: Throttle,
    sessions: Semaphore,
}

/// A session of an administrator's request, and its turn.
struct Turn<'a> {
    admin: Admin<'a>,
    _permit: SemaphorePermit<'a>,
}

impl Api {
    /// The API of one sidecar. Whose role is `admin_role` are administrators; `None`: nobody.
    #[must_use]
    pub fn new(services: Arc<Services>, admin_role: Option<String>) -> Self {
        Self(Arc::new(ApiState {
            throttle: Throttle::new(&services.limits),
            services,
            admin_role,
            sessions: Semaphore::new(SESSIONS_MAX),
        }))
    }

    /// A session for an administrator's request, when it is its turn.
    async fn admin(&self) -> Result<Turn<'_>, ApiError> {
        let turn = tokio::time::timeout(SESSION_WAIT, self.sessions.acquire()).await;
        let Ok(Ok(permit)) = turn else {
            return Err(ApiError::unavailable("other administrators' requests take long: try again shortly"));
        };
        Ok(Turn { admin: Admin::open(&self.services.database).await?, _permit: permit })
    }
}

impl std::ops::Deref for Api {
    type Target = ApiState;

    fn deref(&self) -> &ApiState {
        &self.0
    }
}

impl<'a> std::ops::Deref for Turn<'a> {
    type Target = Admin<'a>;

    fn deref(&self) -> &Admin<'a> {
        &self.admin
    }
}

/// The routes, and the document that describes them at `/api/openapi.json`.
pub fn api_router(api: Api) -> Router {
    let (routes, document) = OpenApiRouter::with_openapi(document::begin())
        .routes(routes!(channels::list, channels::create))
        .routes(routes!(channels::show, channels::update, channels::delete))
        .routes(routes!(messages::list, messages::clear))
        .routes(routes!(messages::stats))
        .routes(routes!(settings::permissions))
        .routes(routes!(settings::config, settings::configure))
        .routes(routes!(publish::publish))
        .routes(routes!(publish::broadcast))
        .with_state(api)
        .split_for_parts();
    // A document of types that were all made at compile time; it does not fail to be written.
    let document = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let show = async move || ([(CONTENT_TYPE, "application/json")], document);
    routes.route("/api/openapi.json", get(show))
}
