//! What of all windows is on its way at once, and which sessions of a worker wait for their turn: more would only wait in a
//! queue of the link, or be lost there, and who comes first would keep the others out. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Room that all workers share.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    taken: AtomicU64,
}

impl Room {
    /// For so many bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { most, taken: AtomicU64::new(0) }
    }
}

/// A worker's bytes that are on their way, and its sessions that wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct Flight {
    room: Arc<Room>,
    bytes: u64,
    waiting: VecDeque<u64>,
}

impl Flight {
    /// Nothing yet.
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, bytes: 0, waiting: VecDeque::new() }
    }

    /// Lets a window of so many bytes leave, or puts its session at the end of the queue. A window that is larger than all
    /// there is leaves when nothing else of this worker is on its way.
    pub(super) fn leave(&mut self, id: u64, bytes: u64) -> bool {
        let leaves = self.waiting.is_empty() && self.take(bytes);
        if !leaves {
            self.waiting.push_back(id);
        }
        leaves
    }

    /// A window has arrived, or was given up.
    pub(super) fn land(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Lets the session leave whose turn it is, if there is room; `bytes`: of its window, if it has one still.
    pub(super) fn next(&mut self, bytes: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        while let Some(id) = self.waiting.front().copied() {
            let wanted = bytes(id);
            if wanted.is_some_and(|bytes| !self.take(bytes)) {
                return None;
            }
            self.waiting.pop_front();
            if wanted.is_some() {
                return Some(id);
            }
        }
        None
    }

    fn take(&mut self, bytes: u64) -> bool {
        let (most, alone) = (self.room.most, self.bytes == 0);
        let fits = |taken: u64| (alone || taken + bytes <= most).then_some(taken + bytes);
        let takes = self.room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        self.bytes += if takes { bytes } else { 0 };
        takes
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.land(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Flight, Room};

    #[test]
    fn as_much_leaves_as_there_is_room_for_and_the_rest_in_the_order_in_which_it_came() {
        let mut flight = Flight::new(Arc::new(Room::new(100)));
        assert!(flight.leave(1, 60) && flight.leave(2, 40), "all there is");
        assert!(!flight.leave(3, 1) && !flight.leave(4, 30) && !flight.leave(5, 60));
        assert_eq!(flight.next(|_| Some(1)), None);
        flight.land(40);
        assert!(!flight.leave(6, 1), "not before those that wait");
        // Of those that wait the second has ended.
        let wanted = |id| [(3, 1), (5, 60), (6, 1)].iter().find(|(of, _)| *of == id).map(|(_, bytes)| *bytes);
        assert_eq!(flight.next(wanted), Some(3));
        assert_eq!(flight.next(wanted), None, "a large one is not overtaken by small ones");
        flight.land(60);
        assert_eq!((flight.next(wanted), flight.next(wanted)), (Some(5), Some(6)));
        assert_eq!((flight.next(wanted), flight.bytes, flight.waiting.len()), (None, 62, 0));
        flight.land(62);
        assert!(flight.leave(7, 1000), "a window that is larger than all there is");
        assert!(!flight.leave(8, 1));
    }

    #[test]
    fn workers_share_the_room_and_each_has_one_window_at_least() {
        let room = Arc::new(Room::new(100));
        let (mut one, mut other) = (Flight::new(Arc::clone(&room)), Flight::new(room));
        assert!(one.leave(1, 70) && one.leave(2, 30));
        assert!(other.leave(3, 20), "its first");
        assert!(!other.leave(4, 20) && !one.leave(5, 1));
        one.land(70);
        assert_eq!(other.next(|_| Some(20)), Some(4));
        drop(other);
        assert_eq!(one.next(|_| Some(70)), Some(5));
    }
}
