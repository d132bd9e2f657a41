//! What is done to the nodes, and when: decided by the seed.

use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::screen::Screen;
use super::value::mix;
use crate::cli::failure::Failure;

/// A node under load writes a batch of several blocks well within this time.
const TEAR: Duration = Duration::from_secs(3);
/// The load goes on so long after the last fault, so that the end shows a healthy cluster.
const CALM: Duration = Duration::from_millis(1500);

/// One thing to do.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillFollower,
    KillLeader,
    TearFollower,
    TearLeader,
    WipeFollower,
    KillAll,
}

/// Each once in this order; then drawn from among them.
const FIRST: [Fault; 6] = [
    Fault::KillFollower,
    Fault::WipeFollower,
    Fault::KillLeader,
    Fault::TearLeader,
    Fault::KillAll,
    Fault::TearFollower,
];

/// The faults of one demonstration.
pub struct Faults {
    random: u64,
    done: usize,
    restarts: u64,
}

impl Faults {
    /// Decides everything by the seed, except the moments that the cluster itself decides.
    pub fn new(seed: u64) -> Faults {
        Faults { random: mix(seed), done: 0, restarts: 0 }
    }

    /// Does one thing after the other until shortly before the end. Returns how many processes
    /// were started again.
    pub async fn run(
        mut self,
        cluster: &mut Cluster,
        screen: &Screen,
        end: Instant,
    ) -> Result<u64, Failure> {
        loop {
            let wait = Duration::from_millis(400 + self.draw(500));
            if Instant::now() + wait + CALM > end {
                return Ok(self.restarts);
            }
            tokio::time::sleep(wait).await;
            let fault = match FIRST.get(self.done) {
                Some(fault) => *fault,
                None => FIRST[self.draw(FIRST.len() as u64) as usize],
            };
            self.done += 1;
            self.inflict(fault, cluster, screen).await?;
        }
    }

    async fn inflict(
        &mut self,
        fault: Fault,
        cluster: &mut Cluster,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let leader = cluster.leader().await;
        let step = 1 + self.draw(cluster.len() as u64 - 1) as usize;
        let follower = (leader + step) % cluster.len();
        match fault {
            Fault::KillFollower => self.kill(follower, "a follower", cluster, screen).await,
            Fault::KillLeader => self.kill(leader, "the leader", cluster, screen).await,
            Fault::TearFollower => self.tear(follower, "a follower", cluster, screen).await,
            Fault::TearLeader => self.tear(leader, "the leader", cluster, screen).await,
            Fault::WipeFollower => self.wipe(follower, cluster, screen).await,
            Fault::KillAll => {
                screen.say("kill -9 of all three nodes at once, in mid-write");
                cluster.kill_all().await;
                self.restarts += cluster.len() as u64;
                cluster.restart_all(screen).await
            }
        }
    }

    async fn kill(
        &mut self,
        at: usize,
        role: &str,
        cluster: &mut Cluster,
        screen: &Screen,
    ) -> Result<(), Failure> {
        screen.say(&format!("kill -9 of node {}, {role}, in mid-write", cluster.id(at)));
        cluster.kill(at).await;
        self.back(at, cluster, screen).await
    }

    async fn wipe(
        &mut self,
        at: usize,
        cluster: &mut Cluster,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let id = cluster.id(at);
        screen.say(&format!("kill -9 of node {id}, a follower, and its directory erased: join"));
        cluster.kill(at).await;
        self.restarts += 1;
        cluster.replace(at, screen).await
    }

    async fn tear(
        &mut self,
        at: usize,
        role: &str,
        cluster: &mut Cluster,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let id = cluster.id(at);
        let torn = cluster.tear(at, TEAR).await;
        screen.say(&match torn {
            true => format!("node {id}, {role}, died with the first part of a batch on disk"),
            false => format!("node {id}, {role}, killed: no large batch came up to be torn"),
        });
        self.back(at, cluster, screen).await
    }

    /// The others go on alone for a moment.
    async fn back(
        &mut self,
        at: usize,
        cluster: &mut Cluster,
        screen: &Screen,
    ) -> Result<(), Failure> {
        let alone = Duration::from_millis(500 + self.draw(700));
        tokio::time::sleep(alone).await;
        self.restarts += 1;
        cluster.restart(at, screen).await
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random = mix(self.random);
        self.random % below.max(1)
    }
}
