//! What operators ask a running node to do. Answers are JSON; a refusal names its kind.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use refloat_node::{NodeChange, RequestError};
use refloat_types::{GroupId, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;

/// The body of an order; each order uses what it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    node: Option<u64>,
    group: Option<u64>,
    #[serde(default)]
    learner: bool,
    #[serde(default)]
    accept_loss: bool,
}

type Body = Result<Json<Order>, JsonRejection>;

pub(super) async fn members(
    State(admin): State<Arc<Admin>>,
    Path(order): Path<String>,
    body: Body,
) -> Response {
    if !admin.takes_orders {
        return forbidden();
    }
    let body = match body {
        Ok(Json(body)) => body,
        Err(error) => return usage(&error.to_string()),
    };
    let Some(node) = body.node.filter(|node| *node > 0).map(NodeId) else {
        return usage("the order names no node");
    };
    let change = match order.as_str() {
        "add" => NodeChange::Add { node, learner: body.learner },
        "promote" => NodeChange::Promote { node },
        "remove" => NodeChange::Remove { node },
        _ => return usage("members are added, promoted or removed"),
    };
    let done = json!({ "done": order, "node": node.0 });
    answer(admin.node.change_nodes(change).await, done)
}

pub(super) async fn groups(
    State(admin): State<Arc<Admin>>,
    Path(order): Path<String>,
    body: Body,
) -> Response {
    let Order { group, accept_loss, .. } = match body {
        _ if !admin.takes_orders => return forbidden(),
        Ok(Json(body)) => body,
        Err(error) => return usage(&error.to_string()),
    };
    let Some(id) = group.map(GroupId) else { return usage("the order names no group") };
    match order.as_str() {
        "delete" if !accept_loss => usage("a deletion says that the loss is accepted"),
        "delete" => match admin.node.delete_group(id).await {
            Ok(existed) => {
                answer(Ok(()), json!({ "done": order, "group": id.0, "existed": existed }))
            }
            Err(error) => answer(Err(error), Value::Null),
        },
        "create" => {
            let (last, group) = (u64::from(admin.service.options.groups), id);
            let created = match (1..=last).contains(&id.0) {
                true => admin.node.create_group(id, Vec::new()).await.map(drop),
                false => {
                    let reason = format!("the keys are spread over groups 1 to {last}");
                    Err(RequestError::Refused { group, reason })
                }
            };
            answer(created, json!({ "done": order, "group": id.0 }))
        }
        _ => usage("groups are created or deleted"),
    }
}

pub(super) async fn transfer(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match body {
        _ if !admin.takes_orders => forbidden(),
        Ok(Json(Order { node: Some(node), group: Some(group), .. })) => {
            let result = admin.node.group(GroupId(group)).transfer(NodeId(node)).await;
            answer(result, json!({ "done": "transfer", "group": group, "node": node }))
        }
        _ => usage("a transfer names a group and a node"),
    }
}

pub(super) async fn snapshot(State(admin): State<Arc<Admin>>, body: Body) -> Response {
    match body {
        _ if !admin.takes_orders => forbidden(),
        Ok(Json(Order { group: Some(group), .. })) => {
            let result = admin.node.group(GroupId(group)).snapshot().await;
            answer(result, json!({ "done": "snapshot", "group": group }))
        }
        _ => usage("a snapshot names a group"),
    }
}

/// Whoever reaches a port beyond loopback may look, and not change anything.
fn forbidden() -> Response {
    let body = json!({
        "error": "orders are taken only where --admin-addr is a loopback address",
        "kind": "refused",
    });
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

fn usage(text: &str) -> Response {
    let body = json!({ "error": text, "kind": "usage" });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn answer(result: Result<(), RequestError>, done: Value) -> Response {
    let error = match result {
        Ok(()) => return Json(done).into_response(),
        Err(error) => error,
    };
    let (status, kind) = match &error {
        RequestError::Refused { .. } => (StatusCode::CONFLICT, "refused"),
        RequestError::UnknownGroup { .. } => (StatusCode::NOT_FOUND, "unknown-group"),
        RequestError::NotLeader { .. } => (StatusCode::MISDIRECTED_REQUEST, "not-leader"),
        RequestError::NotTransferred { .. } => (StatusCode::CONFLICT, "not-transferred"),
        RequestError::Unknown { .. } => (StatusCode::GATEWAY_TIMEOUT, "unknown"),
        RequestError::Superseded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "superseded"),
        RequestError::NoLeader { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no-leader"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    let leader = error.leader_hint().map(|node| node.0);
    (status, Json(json!({ "error": error.to_string(), "kind": kind, "leader": leader })))
        .into_response()
}
