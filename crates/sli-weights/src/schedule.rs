//! Which request is read next: two queues, two budgets, and the rule that whatever is waited for is read.

use std::collections::VecDeque;

/// The two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// What will be needed, in order.
    Ahead,
    /// What is needed next.
    Urgent,
}

/// Requests on their way from being asked for to being taken. `R` names a request, `T` is what reading it gives.
pub(crate) struct Schedule<R, T> {
    ahead: Queue<R>,
    urgent: Queue<R>,
    ready: Vec<(R, T)>,
    peak: u64,
}

struct Queue<R> {
    /// Bytes that may be held.
    budget: u64,
    /// Bytes held: from the start of reading until the last tensor is dropped.
    held: u64,
    waiting: VecDeque<Waiting<R>>,
    reading: Vec<R>,
}

struct Waiting<R> {
    request: R,
    bytes: u64,
    /// Does somebody wait for it right now?
    wanted: bool,
}

impl<R> Queue<R> {
    fn new(budget: u64) -> Self {
        Self { budget, held: 0, waiting: VecDeque::new(), reading: Vec::new() }
    }
}

impl<R: Clone + PartialEq, T> Schedule<R, T> {
    /// Nothing to read, and how many bytes each lane may hold.
    pub(crate) fn new(ahead_budget: u64, urgent_budget: u64) -> Self {
        Self {
            ahead: Queue::new(ahead_budget),
            urgent: Queue::new(urgent_budget),
            ready: Vec::new(),
            peak: 0,
        }
    }

    /// Puts a request at the end of a queue.
    pub(crate) fn enqueue(&mut self, lane: Lane, request: R, bytes: u64) {
        self.queue(lane).waiting.push_back(Waiting { request, bytes, wanted: false });
    }

    /// Somebody waits for a request: unless it is being read it will be read next, whatever the budgets say. If it is
    /// in no queue, it takes `bytes`.
    pub(crate) fn want(&mut self, request: &R, bytes: u64) {
        if [&self.ahead, &self.urgent].iter().any(|queue| queue.reading.contains(request)) {
            return;
        }
        if let Some(next) = self.ahead.waiting.front_mut()
            && self.ahead.reading.is_empty()
            && next.request == *request
        {
            next.wanted = true;
            return;
        }
        // Out of turn: whichever queue it is in, it goes to the front of the urgent one.
        let queued = [&mut self.urgent, &mut self.ahead].into_iter().find_map(|queue| {
            let index = queue.waiting.iter().position(|waiting| waiting.request == *request)?;
            queue.waiting.remove(index)
        });
        let bytes = queued.map_or(bytes, |queued| queued.bytes);
        self.urgent.waiting.push_front(Waiting { request: request.clone(), bytes, wanted: true });
    }

    /// The next request of a lane and its bytes, which are held from now on; `None` when there is nothing to read or
    /// the budget does not allow it.
    pub(crate) fn start(&mut self, lane: Lane) -> Option<(R, u64)> {
        let queue = self.queue(lane);
        let next = queue.waiting.front()?;
        if !next.wanted && queue.held.saturating_add(next.bytes) > queue.budget {
            return None;
        }
        let Waiting { request, bytes, .. } = queue.waiting.pop_front()?;
        queue.held += bytes;
        queue.reading.push(request.clone());
        self.peak = self.peak.max(self.held());
        Some((request, bytes))
    }

    /// A request that was started is read.
    pub(crate) fn finish(&mut self, lane: Lane, request: R, result: T) {
        let reading = &mut self.queue(lane).reading;
        if let Some(index) = reading.iter().position(|started| *started == request) {
            reading.swap_remove(index);
        }
        self.ready.push((request, result));
    }

    /// Takes a request that is read.
    pub(crate) fn take(&mut self, request: &R) -> Option<T> {
        let index = self.ready.iter().position(|(ready, _)| ready == request)?;
        Some(self.ready.remove(index).1)
    }

    /// Takes all that is read.
    pub(crate) fn take_all(&mut self) -> Vec<(R, T)> {
        std::mem::take(&mut self.ready)
    }

    /// Bytes that are no longer held.
    pub(crate) fn give_back(&mut self, lane: Lane, bytes: u64) {
        self.queue(lane).held -= bytes;
    }

    /// Is an urgent request being read?
    pub(crate) fn reads_urgently(&self) -> bool {
        !self.urgent.reading.is_empty()
    }

    /// Bytes held by both lanes.
    pub(crate) fn held(&self) -> u64 {
        self.ahead.held + self.urgent.held
    }

    /// The most that was held at any time.
    pub(crate) fn peak(&self) -> u64 {
        self.peak
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue<R> {
        match lane {
            Lane::Ahead => &mut self.ahead,
            Lane::Urgent => &mut self.urgent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lane::{Ahead, Urgent};
    use super::*;

    fn schedule(ahead: &[(&'static str, u64)]) -> Schedule<&'static str, ()> {
        let mut schedule = Schedule::new(10, 5);
        for (request, bytes) in ahead {
            schedule.enqueue(Ahead, *request, *bytes);
        }
        schedule
    }

    fn read(schedule: &mut Schedule<&'static str, ()>, lane: Lane) -> Option<&'static str> {
        let (request, _) = schedule.start(lane)?;
        schedule.finish(lane, request, ());
        Some(request)
    }

    #[test]
    fn reading_ahead_stops_at_its_budget() {
        let mut schedule = schedule(&[("a", 4), ("b", 4), ("c", 4)]);
        assert_eq!(read(&mut schedule, Ahead), Some("a"));
        assert_eq!(read(&mut schedule, Ahead), Some("b"));
        assert_eq!(read(&mut schedule, Ahead), None);
        assert!(schedule.take(&"a").is_some());
        assert_eq!(read(&mut schedule, Ahead), None, "taken, but not dropped");
        schedule.give_back(Ahead, 4);
        assert_eq!(read(&mut schedule, Ahead), Some("c"));
        assert_eq!((schedule.held(), schedule.peak()), (8, 8));
    }

    #[test]
    fn what_is_waited_for_is_read_over_the_budget() {
        let mut schedule = schedule(&[("a", 20), ("b", 4), ("c", 4)]);
        assert_eq!(read(&mut schedule, Ahead), None);
        schedule.want(&"a", 0);
        assert_eq!(read(&mut schedule, Ahead), Some("a"), "in its turn: by the same lane");
        schedule.want(&"c", 0);
        assert_eq!(read(&mut schedule, Urgent), Some("c"), "out of turn: urgently");
        schedule.want(&"x", 9);
        assert_eq!(schedule.start(Urgent), Some(("x", 9)), "never asked for before");
        assert_eq!(schedule.held(), 33);
    }

    #[test]
    fn what_is_being_read_is_not_read_again() {
        let mut schedule = schedule(&[("a", 4), ("b", 4)]);
        schedule.start(Ahead);
        schedule.want(&"a", 4);
        assert_eq!(schedule.start(Urgent), None);
        schedule.want(&"b", 4);
        assert_eq!(read(&mut schedule, Urgent), Some("b"));
        schedule.finish(Ahead, "a", ());
        assert_eq!(schedule.start(Ahead), None);
    }

    #[test]
    fn urgent_requests_have_a_budget_of_their_own() {
        let mut schedule = schedule(&[("a", 10), ("b", 10)]);
        assert_eq!(read(&mut schedule, Ahead), Some("a"));
        for request in ["x", "y", "z"] {
            schedule.enqueue(Urgent, request, 2);
        }
        assert_eq!(read(&mut schedule, Urgent), Some("x"));
        assert_eq!(read(&mut schedule, Urgent), Some("y"));
        assert_eq!(read(&mut schedule, Urgent), None);
        schedule.want(&"z", 2);
        assert_eq!(read(&mut schedule, Urgent), Some("z"));
    }

    #[test]
    fn two_urgent_requests_are_read_at_once() {
        let mut schedule = schedule(&[]);
        for request in ["x", "y"] {
            schedule.enqueue(Urgent, request, 2);
        }
        assert_eq!((schedule.start(Urgent), schedule.start(Urgent)), (Some(("x", 2)), Some(("y", 2))));
        schedule.want(&"x", 2);
        assert_eq!(schedule.start(Urgent), None, "being read");
        schedule.finish(Urgent, "y", ());
        assert!(schedule.reads_urgently() && schedule.take(&"x").is_none());
        schedule.finish(Urgent, "x", ());
        assert!(!schedule.reads_urgently() && schedule.take(&"x").is_some());
    }

    #[test]
    fn a_request_may_be_made_twice() {
        let mut schedule = schedule(&[("a", 4), ("a", 4)]);
        assert_eq!(read(&mut schedule, Ahead), Some("a"));
        assert_eq!(read(&mut schedule, Ahead), Some("a"));
        assert!(schedule.take(&"a").is_some());
        assert!(schedule.take(&"a").is_some());
        assert!(schedule.take(&"a").is_none());
    }
}
