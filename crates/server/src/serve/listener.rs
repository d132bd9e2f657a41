//! Accepting clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refloat_node::Node;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connection::{self, Bounds};
use super::desk::NodeDesk;
use super::stopping::Stopping;
use crate::commands::Service;
use crate::kv::Kv;

/// After an error such as "too many open files" accepting pauses, instead of spinning.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a stop waits for connections to answer what they are at. One whose client does not
/// read, or whose group has no quorum, would hold it up.
const DRAIN: Duration = Duration::from_secs(3);

/// Accepts until the server stops, then waits for the connections to answer what they are at.
pub async fn accept_all(
    listener: TcpListener,
    node: Node<Kv>,
    service: Arc<Service>,
    bounds: Bounds,
    mut stopping: Stopping,
) {
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a client: {error}");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            () = stopping.wait() => break,
        };
        if connections.len() >= service.options.clients_max {
            service.traffic.rejected.fetch_add(1, Ordering::Relaxed);
            connections.spawn(reject(stream));
            continue;
        }
        service.traffic.connections.fetch_add(1, Ordering::Relaxed);
        let desk = NodeDesk::new(node.clone());
        let stopping = stopping.clone();
        connections.spawn(connection::serve(stream, desk, service.clone(), bounds, stopping));
    }
    let answered = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, answered).await.is_err() {
        connections.shutdown().await;
    }
}

async fn reject(mut stream: TcpStream) {
    let _ = stream.write_all(b"-ERR max number of clients reached\r\n").await;
    let _ = stream.shutdown().await;
}
