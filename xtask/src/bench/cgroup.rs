//! A memory limit from outside, with its peak: a control group, version 1 or 2.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// A control group of its own, removed when it is dropped. Without the right to make one, there is no limit.
pub(super) struct Cgroup {
    directory: Option<PathBuf>,
    is_v1: bool,
}

impl Cgroup {
    /// A group whose processes may use `limit` bytes together, page cache included.
    pub(super) fn new(name: &str, limit: u64) -> Result<Self> {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let is_v1 = v1.is_dir();
        let directory = if is_v1 { v1 } else { Path::new("/sys/fs/cgroup") }.join(name);
        let _ = std::fs::remove_dir(&directory);
        if std::fs::create_dir(&directory).is_err() {
            eprintln!(
                "note: no control group can be made (are you root?): memory is not limited from outside"
            );
            return Ok(Self { directory: None, is_v1 });
        }
        let file = if is_v1 { "memory.limit_in_bytes" } else { "memory.max" };
        std::fs::write(directory.join(file), limit.to_string())?;
        Ok(Self { directory: Some(directory), is_v1 })
    }

    /// The same command, within the group.
    pub(super) fn command(&self, command: &Command) -> Command {
        let enter = match &self.directory {
            Some(directory) => format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", directory.display()),
            None => "exec \"$0\" \"$@\"".into(),
        };
        let mut inside = Command::new("sh");
        inside.args(["-c", &enter]).arg(command.get_program()).args(command.get_args());
        inside
    }

    /// The most bytes that were used at any time.
    pub(super) fn peak(&self) -> u64 {
        let file = if self.is_v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let text = self.directory.as_ref().and_then(|dir| std::fs::read_to_string(dir.join(file)).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // On version 1, pages of files keep the group alive until they are dropped.
            let _ = std::fs::write(directory.join("memory.force_empty"), "0");
            let _ = std::fs::remove_dir(directory);
        }
    }
}
