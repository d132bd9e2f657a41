//! Telling every task that the server stops.

use tokio::sync::watch;

/// Held by a task that ends when the server stops.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

/// Held by who says so. Dropping it says so too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Both ends.
pub fn channel() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(receiver))
}

impl Stop {
    /// Says so.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Returns once it is said.
    pub async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
