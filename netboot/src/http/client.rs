//! Who asks: an address, and whether it has shown the operator's token.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use ipnetwork::Ipv4Network;

use super::app::{Shared, State, canonical};

/// A client as the handlers see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) addr: IpAddr,
    /// It has shown the token of `http.token_file`.
    operator: bool,
}

impl Client {
    /// Whether it may change what machines do: this machine itself, and whom the operator trusts by name.
    pub(super) fn may_order(self, state: &State) -> bool {
        self.operator
            || match self.addr {
                IpAddr::V4(addr) => within(&state.override_from, addr.into()),
                IpAddr::V6(addr) => addr.is_loopback(),
            }
    }

    /// Whether it may see what concerns other machines.
    pub(super) fn may_see_others(self, state: &State) -> bool {
        let Self { addr, operator } = self;
        operator || !within(&state.subnets, addr) || within(&state.override_from, addr)
    }
}

fn within(networks: &[Ipv4Network], addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V4(addr) if networks.iter().any(|network| network.contains(addr)))
}

impl FromRequestParts<Shared> for Client {
    type Rejection = <ConnectInfo<SocketAddr> as FromRequestParts<Shared>>::Rejection;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Self::Rejection> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await?;
        let addr = canonical(peer).ip();
        let shown = state.token.as_deref().zip(bearer(parts));
        let operator = shown.is_some_and(|(token, shown)| token.is(shown));
        if shown.is_some() && !operator {
            tracing::warn!(%addr, "HTTP: {addr} shows a token that is not that of http.token_file");
        }
        Ok(Self { addr, operator })
    }
}

/// What is shown as `Authorization: Bearer …`; the scheme's case means nothing (RFC 9110 11.1).
fn bearer(parts: &Parts) -> Option<&[u8]> {
    let value = parts.headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
