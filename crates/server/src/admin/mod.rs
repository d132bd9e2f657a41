//! The admin port: health, metrics, status, a page to look at, and orders of operators.

pub mod http;
mod listener;
mod metrics;
mod orders;

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use refloat_log_store::BootReport;
use refloat_node::{Node, Status};
use tokio::net::TcpListener;

use self::listener::Bounded;
use crate::commands::Service;
use crate::kv::Kv;
use crate::serve::stopping::Stopping;

/// What the pages are made of.
pub struct Admin {
    /// The node.
    pub node: Node<Kv>,
    /// The client side.
    pub service: Arc<Service>,
    /// What the start found.
    pub boot: BootReport,
    /// Whether orders are taken: the port asks nobody who he is, so only on loopback.
    pub takes_orders: bool,
}

/// Serves until the server stops.
pub async fn serve(listener: TcpListener, admin: Admin, mut stopping: Stopping) {
    let app = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(status))
        .route("/v1/boot", get(boot))
        .route("/v1/members/{order}", post(orders::members))
        .route("/v1/groups/{order}", post(orders::groups))
        .route("/v1/transfer", post(orders::transfer))
        .route("/v1/snapshot", post(orders::snapshot))
        .with_state(Arc::new(admin));
    let stop = async move {
        stopping.wait().await;
    };
    if let Err(error) = axum::serve(Bounded::new(listener), app).with_graceful_shutdown(stop).await
    {
        tracing::warn!("the admin port stopped: {error}");
    }
}

/// How many groups are named before the rest is only counted.
const GROUPS_NAMED: usize = 8;

/// Whether every data group has a leader, or why not.
pub fn readiness(status: &Status, groups: u32) -> Result<(), String> {
    if let Some(waiting) = &status.forming {
        return Err(format!("forming: {waiting}"));
    }
    let led: HashSet<u64> =
        status.groups.iter().filter(|g| g.leader.is_some()).map(|g| g.group).collect();
    let leaderless: Vec<u64> = (1..=u64::from(groups)).filter(|id| !led.contains(id)).collect();
    if leaderless.is_empty() {
        return Ok(());
    }
    let (named, more) = leaderless.split_at(leaderless.len().min(GROUPS_NAMED));
    let named: Vec<String> = named.iter().map(u64::to_string).collect();
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Err(format!("no leader in groups {}{more}", named.join(", ")))
}

async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let result = match admin.node.status().await {
        Ok(status) => readiness(&status, admin.service.options.groups),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    match admin.node.status().await {
        Ok(status) => Json(status).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn boot(State(admin): State<Arc<Admin>>) -> Response {
    Json(&admin.boot).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let (status, counters) = match (admin.node.status().await, admin.node.counters().await) {
        (Ok(status), Ok(counters)) => (status, counters),
        (Err(error), _) | (_, Err(error)) => return unavailable(&error),
    };
    let text = metrics::text(&status, &counters, &admin.service);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn unavailable(error: &dyn std::error::Error) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use refloat_node::GroupStatus;

    use super::*;

    #[test]
    fn a_node_is_ready_when_every_data_group_has_a_leader() {
        let led = |group, leader| GroupStatus { group, leader, ..GroupStatus::default() };
        let mut status = Status { forming: Some("node 2".into()), ..Status::default() };
        assert_eq!(readiness(&status, 2), Err("forming: node 2".into()));
        status.forming = None;
        status.groups = vec![led(0, Some(1)), led(1, Some(1)), led(2, None)];
        assert_eq!(readiness(&status, 3), Err("no leader in groups 2, 3".into()));
        assert_eq!(readiness(&status, 1), Ok(()));
        let why = "no leader in groups 2, 3, 4, 5, 6, 7, 8, 9 and 9991 more";
        assert_eq!(readiness(&status, 10_000), Err(why.into()));
    }
}
