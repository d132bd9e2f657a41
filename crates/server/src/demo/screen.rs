//! What a person sees: events line by line, and, at a terminal, one line that lives.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::load::Progress;

const REDRAW: Duration = Duration::from_millis(100);

/// Where events and progress go. Clones write to the same place.
#[derive(Clone)]
pub struct Screen {
    start: Instant,
    /// With JSON, standard output holds nothing else.
    to_stderr: bool,
    /// The line that lives, if there is one on the screen now.
    live: Arc<Mutex<Option<String>>>,
    is_terminal: bool,
}

impl Screen {
    /// Standard output, or standard error if the former is for a program.
    pub fn new(json: bool) -> Screen {
        let is_terminal =
            if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        Screen { start: Instant::now(), to_stderr: json, live: Arc::default(), is_terminal }
    }

    /// Tells an event.
    pub fn say(&self, event: &str) {
        let live = self.live.lock();
        let clear = if live.is_some() { CLEAR } else { "" };
        let again = live.as_deref().unwrap_or_default();
        let seconds = self.start.elapsed().as_secs_f64();
        self.write(&format!("{clear}{seconds:5.1} s  {event}\n{again}"));
    }

    /// Shows progress until told to stop. Does nothing without a terminal.
    pub fn watch(&self, progress: Arc<Progress>) -> Live {
        let screen = self.clone();
        let task = self.is_terminal.then(|| tokio::spawn(screen.redraw(progress)));
        Live { task, screen: self.clone() }
    }

    async fn redraw(self, progress: Arc<Progress>) {
        let mut before = (Instant::now(), progress.acknowledged());
        let mut rate = 0.0;
        loop {
            tokio::time::sleep(REDRAW).await;
            let now = (Instant::now(), progress.acknowledged());
            let latest = (now.1 - before.1) as f64 / (now.0 - before.0).as_secs_f64();
            rate = 0.7 * rate + 0.3 * latest;
            before = now;
            let line = format!(
                "{:5.1} s  {:>9} writes acknowledged, {:>6.0} per second, {} connections",
                self.start.elapsed().as_secs_f64(),
                now.1,
                rate,
                progress.connected()
            );
            let mut live = self.live.lock();
            self.write(&format!("{CLEAR}{line}"));
            *live = Some(line);
        }
    }

    fn clear(&self) {
        if self.live.lock().take().is_some() {
            self.write(CLEAR);
        }
    }

    fn write(&self, text: &str) {
        // A reader that went away is no reason to stop.
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

const CLEAR: &str = "\r\x1b[K";

/// A line that lives.
pub struct Live {
    task: Option<JoinHandle<()>>,
    screen: Screen,
}

impl Live {
    /// Takes it off the screen.
    pub async fn stop(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
        self.screen.clear();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.screen.clear();
    }
}
