//! Faults: processes killed and servers restarted at random times, all of them children of this test.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use realtime_tests::Sidecar;
use rustix::process::{Pid, Signal, kill_process};
use xtask::cluster::{Cluster, ClusterError, Stop};

use crate::plan::Plan;
use crate::random::Random;

/// What is done to the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL of a session's process: the server ends all sessions and recovers.
    Backend,
    /// SIGKILL of the worker's process: the same.
    Worker,
    /// SIGKILL of the sidecar, which is then started again.
    Sidecar,
    /// The whole server stops as if it had crashed, and starts again: a new incarnation.
    Restart,
}

/// What faults are done to.
pub(crate) struct Machines {
    pub(crate) cluster: Cluster,
    /// Without clients there is none.
    pub(crate) sidecar: Option<Sidecar>,
}

/// Faults in their order, spread over the run.
pub(crate) struct Faults {
    random: Random,
    times: Vec<Duration>,
}

impl Faults {
    /// As many as the plan wants.
    pub(crate) fn new(plan: &Plan, mut random: Random) -> Self {
        let millis = u64::try_from(plan.duration.as_millis()).unwrap_or(u64::MAX);
        // Not in the first moments: there should be something to lose.
        let first = millis / 20;
        let mut times: Vec<_> =
            (0..plan.faults).map(|_| Duration::from_millis(first + random.below(millis - first))).collect();
        times.sort_unstable();
        Self { random, times }
    }

    /// Commits them all. Blocks for the whole time.
    ///
    /// # Errors
    ///
    /// When the server does not come back.
    pub(crate) fn commit(mut self, machines: &mut Machines) -> Result<usize, ClusterError> {
        let begin = Instant::now();
        let mut done = 0;
        for time in std::mem::take(&mut self.times) {
            thread::sleep(time.saturating_sub(begin.elapsed()));
            let what = self.one(machines)?;
            println!("fault at {:.1} s: {what}", begin.elapsed().as_secs_f64());
            done += 1;
        }
        Ok(done)
    }

    fn one(&mut self, machines: &mut Machines) -> Result<String, ClusterError> {
        let fault = self.random.pick(&[Fault::Backend, Fault::Backend, Fault::Worker, Fault::Restart, Fault::Sidecar]);
        match (fault, &mut machines.sidecar) {
            (Fault::Sidecar, Some(sidecar)) => {
                sidecar.kill();
                sidecar.start_again();
                Ok("SIGKILL sidecar".to_owned())
            }
            (Fault::Restart, _) => {
                machines.cluster.restart(Stop::Immediate)?;
                Ok("immediate restart".to_owned())
            }
            _ => self.kill_child(fault, &mut machines.cluster),
        }
    }

    /// Kills a session, or the worker when there is one.
    fn kill_child(&mut self, fault: Fault, cluster: &mut Cluster) -> Result<String, ClusterError> {
        let children = children(cluster.pid().unwrap_or(0));
        let is_victim = |title: &str| match fault {
            Fault::Worker => title.contains("realtime worker"),
            _ => title.contains("127.0.0.1("),
        };
        let victims: Vec<_> = children.into_iter().filter(|(_, title)| is_victim(title)).collect();
        if victims.is_empty() {
            cluster.restart(Stop::Immediate)?;
            return Ok(format!("immediate restart (nobody there for {fault:?})"));
        }
        let (pid, title) = &victims[usize::try_from(self.random.below(victims.len() as u64)).unwrap_or(0)];
        if let Some(process) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            // Gone already is as good as killed.
            let _ = kill_process(process, Signal::KILL);
        }
        Ok(format!("SIGKILL {title}"))
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
