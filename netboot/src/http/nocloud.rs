//! `/nocloud/…`: what cloud-init's data source `NoCloud` reads, with `ds=nocloud;s=http://<server>/nocloud/` on the
//! kernel's command line.

use axum::extract::{Path, State as Extract};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::app::Shared;
use super::client::Client;
use super::cloud_config::asked;
use super::text::{self, Answer, Making, Refused};
use super::whose::Asked;
use crate::inventory::user_data::{NETWORK_CONFIG, VENDOR_DATA};
use crate::mac::Mac;

/// `GET /nocloud/<file>`
pub(super) async fn own(
    Extract(state): Extract<Shared>,
    client: Client,
    Path(file): Path<String>,
    uri: Uri,
) -> Response {
    text::send(state, false, client, asked(&uri), text::PLAIN, move |making| made(making, &file)).await
}

/// `GET /nocloud/<mac>/<file>`: for that machine alone.
pub(super) async fn of(
    Extract(state): Extract<Shared>,
    client: Client,
    Path((mac, file)): Path<(String, String)>,
) -> Response {
    let mac = mac.parse::<Mac>();
    let asked = mac.as_ref().map_or_else(|_| Asked::default(), |mac| Asked::of(*mac));
    text::send(state, false, client, asked, text::PLAIN, move |making| match mac {
        Ok(mac) if making.snapshot.may_have(making.subject.host, mac) => made(making, &file),
        _ => Err(Refused(StatusCode::NOT_FOUND, "this is not the path of this machine".to_owned())),
    })
    .await
}

fn made(making: &Making<'_>, file: &str) -> Answer {
    let host = making.subject.host;
    match file {
        "user-data" => making.rendered(making.snapshot.template(host)),
        // The machine is the same one as long as this is, and is configured once.
        "meta-data" => {
            let id = host.mac.to_string().replace(':', "");
            Ok(format!("instance-id: netboot-{id}\nlocal-hostname: {}\n", host.hostname))
        }
        "vendor-data" => Ok(making.rendered_if_there(VENDOR_DATA)?.unwrap_or_default()),
        "network-config" => making.rendered(NETWORK_CONFIG),
        _ => {
            let why = "this is none of user-data, meta-data, vendor-data and network-config";
            Err(Refused(StatusCode::NOT_FOUND, why.to_owned()))
        }
    }
}
