//! The connections of the admin port: so many and no more, whatever their clients do.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The most connections at a time. The oldest makes room for a new one: a client that asks for
/// half a page and waits costs the others nothing, and the node no descriptors that its files need.
pub const CONNECTIONS_MAX: usize = 64;
/// After an error such as "too many open files" accepting pauses, instead of spinning.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections of which the oldest end when there are too many.
pub struct Bounded {
    listener: TcpListener,
    /// Oldest first; dropping one ends its connection.
    open: VecDeque<oneshot::Sender<()>>,
}

impl Bounded {
    /// Takes the place of a listener.
    pub fn new(listener: TcpListener) -> Bounded {
        Bounded { listener, open: VecDeque::new() }
    }
}

impl axum::serve::Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    self.open.retain(|open| !open.is_closed());
                    while self.open.len() >= CONNECTIONS_MAX {
                        self.open.pop_front();
                    }
                    let (held, dropped) = oneshot::channel();
                    self.open.push_back(held);
                    return (Connection { stream, dropped, over: false }, address);
                }
                Err(error) => {
                    tracing::warn!("cannot accept at the admin port: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection, which is over when another one takes its place.
pub struct Connection {
    stream: TcpStream,
    dropped: oneshot::Receiver<()>,
    over: bool,
}

impl Connection {
    /// The stream, unless the connection is over; who waits for it hears when it is.
    fn live(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        self.over = self.over || Pin::new(&mut self.dropped).poll(cx).is_ready();
        if self.over {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.live(cx)?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.live(cx)?.poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.live(cx)?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
