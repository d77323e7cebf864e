//! What is measured from outside: processes, and statements that the server was asked.

use std::fs;

use realtime_tests::Stack;

/// Bytes of a process in memory.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Open files and sockets of a process.
pub(crate) fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

/// Statements of sidecars that the server has logged; it must have been started with `log_statement = all`.
pub(crate) fn sidecar_statements(stack: &Stack) -> Vec<String> {
    let log = fs::read_to_string(stack.server().log_file()).unwrap();
    let ours = log.lines().filter(|line| line.contains(" realtime_sidecar@"));
    let said = ours.filter_map(|line| line.split_once("execute ").or_else(|| line.split_once("statement: ")));
    said.map(|(_, text)| text.to_owned()).collect()
}

/// Lets this process, and those that it starts, have as many sockets as the system lets anybody have.
pub(crate) fn take_all_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The value that so many of a hundred do not exceed.
pub(crate) fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let place = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(place).copied().unwrap_or(f64::NAN)
}
