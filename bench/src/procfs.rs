//! CPU time and memory of processes and their children, from `/proc`.

use std::fs;

/// The processor time and the memory of processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all threads so far, in microseconds.
    pub cpu_micros: f64,
    /// Resident memory, in bytes. Pages that several processes share count once for each.
    pub resident: u64,
}

/// The ids of a process and of its descendants.
pub fn process_tree(root: u32) -> Vec<u32> {
    // The id of each process and of its parent. Names that are no numbers belong to other files of /proc.
    let processes: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.parent)))
        .collect();
    // Appends the children of each process of the tree in turn, until no process remains.
    let mut tree = vec![root];
    let mut next = 0;
    while next < tree.len() {
        let parent = tree[next];
        tree.extend(processes.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    tree
}

/// The total usage of these processes, without those that have ended.
pub fn usage(pids: &[u32]) -> Usage {
    let mut total = Usage::default();
    for process in pids.iter().filter_map(|pid| stat(*pid)) {
        total.cpu_micros += process.cpu_micros;
        total.resident += process.resident;
    }
    total
}

struct Stat {
    parent: u32,
    cpu_micros: f64,
    /// In bytes.
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
    #[expect(clippy::cast_precision_loss, reason = "tick counts are far below 2^52")]
    let cpu_micros = (user_ticks + system_ticks) as f64 * 1e6 / rustix::param::clock_ticks_per_second() as f64;
    Some(Stat { parent, cpu_micros, resident: resident_pages * rustix::param::page_size() as u64 })
}
