//! A network of our own: each node in a network namespace, as on a host of its own, all of them on
//! one bridge beside the clients. What one host sends to another can be made to vanish, in one
//! direction or in both, while connections stay open and clients reach everybody.

use std::process::{Child, Command, Stdio};

/// Where packets go that are to vanish: nobody has this address.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// The hosts, as long as this lives.
pub struct Hosts {
    /// Processes that only keep their namespaces.
    keepers: Vec<Child>,
}

impl Hosts {
    /// Makes the bridge and so many hosts, within a network namespace that nobody else uses.
    pub fn new(count: usize) -> Hosts {
        ip("link set lo up");
        ip("link add bridge0 type bridge");
        ip("addr add 10.99.0.254/24 dev bridge0");
        ip("link set bridge0 up");
        let keepers = (0..count).map(|_| {
            let mut keeper = Command::new("unshare");
            keeper.args(["-n", "sh", "-c", "echo; exec sleep 1000"]);
            let mut keeper = keeper.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = [0];
            let mut stdout = keeper.stdout.take().unwrap();
            std::io::Read::read_exact(&mut stdout, &mut line).unwrap();
            keeper
        });
        let hosts = Hosts { keepers: keepers.collect() };
        for (at, keeper) in hosts.keepers.iter().enumerate() {
            let (pid, hardware) = (keeper.id(), hardware(at));
            ip(&format!("link add host{at} type veth peer name eth0 netns {pid}"));
            ip(&format!("link set host{at} master bridge0 up"));
            hosts.on(at, "link set lo up");
            hosts.on(at, &format!("link set eth0 address {hardware} up"));
            hosts.on(at, &format!("addr add {}/24 dev eth0", address(at)));
        }
        (0..count).for_each(|from| (0..count).for_each(|to| hosts.join(from, to)));
        hosts
    }

    /// What to run a program with, so that it runs on a host.
    pub fn launcher(&self, at: usize) -> Vec<String> {
        let keeper = self.keepers[at].id().to_string();
        ["nsenter", "-n", "-t", &keeper].map(str::to_owned).into()
    }

    /// From now on nothing of what one host sends to another arrives.
    pub fn cut(&self, from: usize, to: usize) {
        self.send(from, to, NOWHERE);
    }

    /// What one host sends to another arrives again.
    pub fn join(&self, from: usize, to: usize) {
        self.send(from, to, &hardware(to));
    }

    fn send(&self, from: usize, to: usize, hardware: &str) {
        if from != to {
            let to = address(to);
            self.on(from, &format!("neigh replace {to} lladdr {hardware} dev eth0 nud permanent"));
        }
    }

    fn on(&self, at: usize, args: &str) {
        let keeper = self.keepers[at].id().to_string();
        run(Command::new("nsenter").args(["-n", "-t", &keeper, "ip"]).args(args.split(' ')));
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

/// The address of a host.
pub fn address(at: usize) -> String {
    format!("10.99.0.{}", at + 1)
}

fn hardware(at: usize) -> String {
    format!("02:00:00:00:00:{:02x}", at + 1)
}

fn ip(args: &str) {
    run(Command::new("ip").args(args.split(' ')));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Runs an ignored test of this program in a network namespace; says that it was skipped where
/// none can be made.
pub fn inside_a_network_of_our_own(name: &str) {
    let within = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script]).arg(std::env::current_exe().unwrap());
        command
    };
    let probe = "ip link add bridge0 type bridge && unshare -n true && nsenter -n -t $$ true";
    match within(probe).output() {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: no network can be made here: {other:?}");
            return;
        }
    }
    let script = format!("exec \"$0\" --ignored --exact --nocapture {name}");
    let output = within(&script).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{errors}");
    println!("{text}");
}
