//! What a long command is reading, on a terminal and nowhere else.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A command that takes longer than this says what it does.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(250);

/// Shows on standard error what is being read, in one line that is wiped at the end.
pub struct Progress {
    label: Arc<Mutex<String>>,
    shown: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// Starts the clock.
    pub fn start() -> Progress {
        let label = Arc::new(Mutex::new(String::new()));
        let shown = std::io::stderr().is_terminal().then(|| {
            let (stop, stopped) = channel::<()>();
            let label = Arc::clone(&label);
            let start = Instant::now();
            let show = move || {
                let mut wait = PATIENCE;
                while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    let text: String = label.lock().chars().take(100).collect();
                    let seconds = start.elapsed().as_secs();
                    let _ = write!(std::io::stderr(), "\r\x1b[Kreading {text} ({seconds} s)");
                    wait = STEP;
                }
                if wait == STEP {
                    let _ = write!(std::io::stderr(), "\r\x1b[K");
                }
            };
            (stop, std::thread::spawn(show))
        });
        Progress { label, shown }
    }

    /// What is being read from now on.
    pub fn tell(&self, what: &str) {
        what.clone_into(&mut self.label.lock());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.shown.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}
