//! Processor time.

use std::fs;

/// What the kernel counts ended children in.
const TICKS_PER_S: f64 = 100.0;

/// Processor time of a process and all its threads, in seconds.
pub(crate) fn of_process(pid: u32) -> f64 {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0.0; // it has just ended, and is its parent's to count
    };
    let times = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    times.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

/// Processor time of a process, its children, and those of its children that have ended, in seconds.
pub(crate) fn of_family(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let living: f64 = children.split_whitespace().filter_map(|child| child.parse().ok()).map(of_process).sum();
    living + of_process(pid) + of_ended_children(pid)
}

fn of_ended_children(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; cutime and cstime are the 14th and 15th word behind it.
    let words: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / TICKS_PER_S
}
