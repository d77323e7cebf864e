//! Faults: processes killed and servers restarted at random times, all of them children of this test.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use realtime_tests::Sidecar;
use rustix::process::{Pid, Signal, kill_process};
use xtask::cluster::{Cluster, ClusterError, Stop};

use crate::plan::Plan;
use crate::random::Random;

/// A victim that has not come in this time does not come: after a crash sessions and the worker need a moment.
const VICTIM_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is done to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL of a sidecar, which is then started again.
    Sidecar,
    /// SIGKILL of a session's process: the server ends all sessions and recovers.
    Backend,
    /// SIGKILL of the worker's process: the same.
    Worker,
    /// The whole server stops as if it had crashed, and starts again: a new incarnation.
    Restart,
}

impl Fault {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Sidecar, Self::Backend, Self::Worker, Self::Restart];

    /// What a count of it is called.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecars_killed",
            Self::Backend => "backends_killed",
            Self::Worker => "workers_killed",
            Self::Restart => "immediate_restarts",
        }
    }
}

/// How often each fault happens, or happened.
pub(crate) type Tally = BTreeMap<Fault, u64>;

/// What faults are done to.
pub(crate) struct Machines {
    pub(crate) cluster: Cluster,
    /// Without clients there are none.
    pub(crate) sidecars: Vec<Sidecar>,
}

/// Faults in their order, spread over the run.
pub(crate) struct Faults {
    random: Random,
    schedule: Vec<(Duration, Fault)>,
}

impl Faults {
    /// As many of each kind as the plan wants.
    pub(crate) fn new(plan: &Plan, mut random: Random) -> Self {
        let millis = u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX);
        // Not in the first moments: there should be something to lose.
        let first = millis / 20;
        let mut at = || Duration::from_millis(first + random.below(millis - first));
        let all = plan.faults.iter().flat_map(|(fault, count)| (0..*count).map(|_| *fault));
        let mut schedule: Vec<_> = all.map(|fault| (at(), fault)).collect();
        schedule.sort_unstable();
        Self { random, schedule }
    }

    /// Commits them all. Blocks for the whole time.
    ///
    /// # Errors
    ///
    /// When the server does not come back.
    pub(crate) fn commit(mut self, machines: &mut Machines) -> Result<Tally, ClusterError> {
        let begin = Instant::now();
        let mut done = Tally::new();
        for (time, fault) in std::mem::take(&mut self.schedule) {
            thread::sleep(time.saturating_sub(begin.elapsed()));
            let Some(what) = self.one(fault, machines)? else {
                println!("fault at {:.1} s: nobody there for {fault:?}", begin.elapsed().as_secs_f64());
                continue;
            };
            println!("fault at {:.1} s: {what}", begin.elapsed().as_secs_f64());
            *done.entry(fault).or_default() += 1;
        }
        Ok(done)
    }

    /// One fault and its description; nothing when there was nobody to do it to.
    fn one(&mut self, fault: Fault, machines: &mut Machines) -> Result<Option<String>, ClusterError> {
        match fault {
            Fault::Sidecar => Ok(self.kill_sidecar(&mut machines.sidecars)),
            Fault::Restart => {
                machines.cluster.restart(Stop::Immediate)?;
                Ok(Some("immediate restart".to_owned()))
            }
            Fault::Backend => Ok(self.kill_child("127.0.0.1(", &machines.cluster)),
            Fault::Worker => Ok(self.kill_child("realtime worker", &machines.cluster)),
        }
    }

    fn kill_sidecar(&mut self, sidecars: &mut [Sidecar]) -> Option<String> {
        let place = self.place(sidecars.len());
        let sidecar = sidecars.get_mut(place)?;
        sidecar.kill();
        sidecar.start_again();
        Some(format!("SIGKILL sidecar {place}"))
    }

    /// Kills a child of the server whose title has this text, as soon as there is one.
    fn kill_child(&mut self, title: &str, cluster: &Cluster) -> Option<String> {
        let deadline = Instant::now() + VICTIM_MAX;
        while Instant::now() < deadline {
            let children = children(cluster.pid()?);
            let victims: Vec<_> = children.into_iter().filter(|(_, its)| its.contains(title)).collect();
            let Some((pid, title)) = victims.get(self.place(victims.len())) else {
                thread::sleep(LOOK_AGAIN);
                continue;
            };
            let process = i32::try_from(*pid).ok().and_then(Pid::from_raw)?;
            // Gone already is not killed: another one is looked for.
            if kill_process(process, Signal::KILL).is_ok() {
                return Some(format!("SIGKILL {title}"));
            }
        }
        None
    }

    fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.random.below(count as u64)).unwrap_or(0)
    }
}

/// The children of a process with their titles.
fn children(parent: u32) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).map(|pid| (pid, title_of(pid))).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; state and parent follow.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn title_of(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}
