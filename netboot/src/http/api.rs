//! `/api/v1/status`: what the appliance is doing, as JSON. No configuration of any machine is in it.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State as Extract;
use serde_json::{Value, json};

use super::State;

/// More problems than this are only counted.
const MOST_PROBLEMS: usize = 100;

/// `GET /api/v1/status`
pub(super) async fn status(Extract(state): Extract<State>) -> Json<Value> {
    let problems = state.inventory.problems();
    let shown: Vec<_> = problems.iter().take(MOST_PROBLEMS).collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": state.ready.load(Ordering::Acquire),
        "xdp": **state.xdp.load(),
        "inventory": {
            "generation": *state.inventory.changes().borrow(),
            "hosts": state.inventory.snapshot().hosts().len(),
            "problem_count": problems.len(),
            "problems": shown,
        },
        "counters": state.timeline.counters(),
    }))
}
