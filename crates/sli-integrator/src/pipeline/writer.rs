//! A thread that writes, so that computing does not wait for disks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sli_core::{Result, SliError};

type Job = Box<dyn FnOnce() -> Result<()> + Send>;

/// Runs jobs in order on a thread of its own. After a job has failed, the others are dropped and the error is given
/// to the next caller.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Option<SyncSender<Job>>,
    failure: Arc<Mutex<Option<SliError>>>,
    busy_nanoseconds: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// A writer that lets at most `waiting` jobs wait; a caller that would add more is held up.
    pub(crate) fn new(waiting: usize) -> Result<Self> {
        let (jobs, receiver) = sync_channel(waiting);
        let failure = Arc::new(Mutex::new(None));
        let busy_nanoseconds = Arc::new(AtomicU64::new(0));
        let (seen, busy) = (failure.clone(), busy_nanoseconds.clone());
        let thread = std::thread::Builder::new()
            .name("sli-writer".into())
            .spawn(move || work(&receiver, &seen, &busy))
            .map_err(SliError::io("cannot start a thread for", "writing"))?;
        Ok(Self { jobs: Some(jobs), failure, busy_nanoseconds, thread: Some(thread) })
    }

    /// Hands a job over.
    pub(crate) fn submit(&self, job: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        self.check()?;
        match self.jobs.as_ref().map(|jobs| jobs.send(Box::new(job))) {
            Some(Ok(())) => Ok(()),
            _ => self.check(),
        }
    }

    /// Waits until all jobs are done.
    pub(crate) fn flush(&self) -> Result<()> {
        let (done, wait) = sync_channel(1);
        self.submit(move || {
            let _ = done.send(());
            Ok(())
        })?;
        // A failed job drops the ones behind it, and with them the sender.
        let _ = wait.recv();
        self.check()
    }

    /// The time that jobs took since this was last asked.
    pub(crate) fn take_busy_time(&self) -> Duration {
        Duration::from_nanos(self.busy_nanoseconds.swap(0, Ordering::Relaxed))
    }

    fn check(&self) -> Result<()> {
        let failure = self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        failure.map_or(Ok(()), Err)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(jobs: &Receiver<Job>, failure: &Mutex<Option<SliError>>, busy_nanoseconds: &AtomicU64) {
    let mut failed = false;
    for job in jobs {
        let start = Instant::now();
        if !failed && let Err(error) = job() {
            failed = true;
            *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
        }
        busy_nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn jobs_run_in_order_and_flush_waits() {
        let writer = Writer::new(2).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        for expected in 0..100 {
            let count = count.clone();
            writer
                .submit(move || {
                    assert_eq!(count.fetch_add(1, Ordering::SeqCst), expected);
                    Ok(())
                })
                .unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn a_failure_reaches_the_caller_and_stops_the_rest() {
        let writer = Writer::new(2).unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        writer.submit(|| Err(SliError::Usage("full".into()))).unwrap();
        let seen = ran.clone();
        let submitted = writer.submit(move || {
            seen.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        assert!(submitted.is_err() || writer.flush().is_err());
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }
}
