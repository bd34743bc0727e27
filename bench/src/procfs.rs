//! CPU time and memory of processes and their children, from `/proc`.

use std::fs;

/// Processor time, in microseconds, and memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads so far.
    pub cpu_micros: f64,
    /// Resident memory. Pages that several processes share count once for each.
    pub resident: u64,
}

/// The ids of a process and of its descendants.
pub fn process_tree(pid: u32) -> Vec<u32> {
    let mut tree = vec![pid];
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(parents.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

/// The total usage of these processes.
pub fn usage(pids: &[u32]) -> Usage {
    let mut usage = Usage::default();
    for stat in pids.iter().filter_map(|pid| stat(*pid)) {
        usage.cpu_micros += stat.cpu_micros;
        usage.resident += stat.resident;
    }
    usage
}

struct Stat {
    parent: u32,
    cpu_micros: f64,
    resident: u64,
}

/// Reads `/proc/PID/stat`; `None` once the process has ended.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // field 2, the name in parentheses, may itself contain spaces and parentheses: read the fields after it
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // `number` is the field's number in proc(5); the first of `fields` is field 3
    let field = |number: usize| fields.get(number - 3).copied();
    let parent = field(4)?.parse().ok()?;
    let user_ticks: u64 = field(14)?.parse().ok()?;
    let system_ticks: u64 = field(15)?.parse().ok()?;
    let resident_pages: u64 = field(24)?.parse().ok()?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let cpu_micros = (user_ticks + system_ticks) as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64;
    Some(Stat { parent, cpu_micros, resident: resident_pages * rustix::param::page_size() as u64 })
}
