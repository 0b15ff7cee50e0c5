//! What the system says about memory.

use sli_core::ByteSize;

/// 80 % of the memory that is available now, within the limit of a control group if there is one.
pub fn default_memory() -> ByteSize {
    let available = meminfo("MemAvailable:").unwrap_or(4 << 30);
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    ByteSize(limit.map_or(available, |limit| limit.min(available)) / 10 * 8)
}

/// Bytes of this process that are in memory now, and the most there were.
pub(crate) fn resident_memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name| kibibytes(&status, name).unwrap_or(0);
    (field("VmRSS:"), field("VmHWM:"))
}

fn meminfo(name: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
