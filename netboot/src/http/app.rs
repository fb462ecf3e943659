//! The routes: `/healthz`, `/api/v1/…`, `/tftp/…`, `/files/…`, `/ipxe`, `/nocloud/…`, `/ignition`, `/t/…`, `/phone_home`; every other path is
//! the caller's cloud-config.
//!
//! Nothing here writes anything but an order for a machine's next boot, and nothing waits for another part.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State as Extract};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ipnetwork::Ipv4Network;

use super::{Reads, Token, api, booted, cloud_config, files, ignition, ipxe, named, nocloud, order, whole};
use crate::config::Unknown;
use crate::dhcp::vacant::Network;
use crate::dhcp::waiting::Waiting;
use crate::inventory::rendering::Server;
use crate::inventory::{Inventory, Templates};
use crate::loader::names;
use crate::orders::Orders;
use crate::store;
use crate::tftp::Files;
use crate::timeline::{Step, Timeline};

/// Longest path with its query, bytes. hyper bounds the headers.
const LONGEST_TARGET: usize = 2048;

/// Largest order, bytes.
const LARGEST_ORDER: usize = 4096;

/// What the handlers see of the rest of the program.
#[derive(Clone)]
pub struct State {
    /// The machines.
    pub inventory: Arc<Inventory>,
    /// The templates of the machines.
    pub templates: Arc<Templates>,
    /// Opens the files of `tftp/`, on disk or generated.
    pub files: Files,
    /// Where this server is.
    pub server: Server,
    /// How often each machine has had its secrets.
    pub reads: Arc<Reads>,
    /// Where the machines are.
    pub subnets: Arc<[Ipv4Network]>,
    /// Who of them may see another host's cloud-config, and the lists of machines and leases; everybody outside may.
    pub override_from: Arc<[Ipv4Network]>,
    /// Who shows it may see and order as these may, from anywhere.
    pub token: Option<Arc<Token>>,
    /// The leases that are on disk.
    pub leases: store::Reader,
    /// What machines boot next.
    pub orders: Arc<Orders>,
    /// What of the PXE network can be given to machines.
    pub network: Arc<Network>,
    /// What becomes of machines without a reservation.
    pub unknown: Unknown,
    /// Those of them that have asked.
    pub waiting: Arc<Mutex<Waiting>>,
    /// Where steps are recorded.
    pub timeline: Timeline,
    /// All sockets are bound and the first snapshot is live.
    pub ready: Arc<AtomicBool>,
    /// How XDP is attached, for people.
    pub xdp: Arc<ArcSwap<String>>,
}

impl State {
    /// Whether the cloud-config of the machine at this address can be made without waiting for a disk: a trip to another
    /// thread costs more than making it.
    pub(super) fn is_at_hand(&self, whose: IpAddr) -> bool {
        let IpAddr::V4(addr) = whose else { return false };
        let snapshot = self.inventory.snapshot();
        snapshot.by_addr(addr).is_some_and(|host| self.templates.holds(snapshot.template(host)))
    }
}

/// What a handler is given is one for all requests: to count how many hold each part of it is what processors quarrel about.
pub(super) type Shared = Arc<State>;

/// Makes the application. Its requests need [`ConnectInfo`] with the client's address.
pub fn app(state: State) -> Router {
    let state = Arc::new(state);
    let recorded = |what| from_fn_with_state((state.clone(), what), record);
    let no_file = get(|| async { (StatusCode::NOT_FOUND, "not found\n") });
    let files = Router::new()
        .route("/tftp", no_file.clone())
        .route("/tftp/", no_file.clone())
        .route("/tftp/{*name}", get(files::tftp))
        .route("/ipxe", get(ipxe::serve))
        .route("/files", no_file.clone())
        .route("/files/", no_file.clone())
        .route("/files/{*name}", get(files::own))
        .layer(recorded("file"));
    let configs = Router::new().fallback(get(cloud_config::serve)).layer(recorded("cloud-config"));
    let nocloud = Router::new()
        .route("/nocloud/{file}", get(nocloud::own))
        .route("/nocloud/{mac}/{file}", get(nocloud::of))
        .layer(recorded("nocloud"));
    let ignition = Router::new().route("/ignition", get(ignition::serve)).layer(recorded("ignition"));
    let named = Router::new().route("/t/{*name}", get(named::serve)).layer(recorded("template"));
    let booted = Router::new()
        .route("/api/v1/booted", post(booted::serve))
        .route("/phone_home", post(booted::serve))
        .route("/phone_home/{*rest}", post(booted::serve))
        .layer(DefaultBodyLimit::max(booted::LARGEST));
    Router::new()
        .route("/healthz", get(healthz))
        .route("/api/v1/status", get(api::status))
        .route("/api/v1/leases", get(api::leases))
        .route("/api/v1/hosts", get(api::hosts))
        .route("/api/v1/hosts/{mac}", post(order::serve).layer(DefaultBodyLimit::max(LARGEST_ORDER)))
        .route("/api/{*rest}", no_file)
        .merge(files)
        .merge(nocloud)
        .merge(ignition)
        .merge(named)
        .merge(booted)
        .fallback_service(configs.with_state(state.clone()))
        .layer(axum::middleware::from_fn(bounded))
        .with_state(state)
}

async fn healthz(Extract(state): Extract<Shared>) -> (StatusCode, &'static str) {
    if state.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    }
}

/// The client's address; an IPv4 client of an IPv6 socket is an IPv4 client.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Refuses requests that no boot loader makes, and keeps browsers from guessing what a text is.
async fn bounded(request: Request, next: Next) -> Response {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let mut response = if target > LONGEST_TARGET {
        (StatusCode::URI_TOO_LONG, "path too long\n").into_response()
    } else {
        next.run(request).await
    };
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Puts a finished request on the timeline.
async fn record(
    Extract((state, what)): Extract<(Shared, &'static str)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let asked = match name {
        Ok(Path(name)) => Some(name).filter(|_| path.starts_with("/tftp/")),
        Err(_) => (path == "/ipxe").then(|| names::SCRIPT.to_owned()),
    };
    let asked = asked.filter(|_| what == "file" && request.method() == Method::GET);
    let line = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    let length =
        response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let bytes = response.body().size_hint().exact().or(length).unwrap_or(0);
    let status = response.status().as_u16();
    state.timeline.record(&Step::Http { peer: canonical(peer), request: line, what, status, bytes });
    match asked {
        Some(file) => whole::told(response, &state.orders, peer.ip(), file),
        None => response,
    }
}
