//! What of a worker's windows is on its way at once, and who waits for its turn: more would only wait in a queue of the link,
//! or be lost there, and who comes first would keep the others out. Pure.

use std::collections::VecDeque;

/// Bytes on their way, and the sessions that wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct Flight {
    most: u64,
    bytes: u64,
    waiting: VecDeque<u64>,
}

impl Flight {
    /// With room for so many bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { most, bytes: 0, waiting: VecDeque::new() }
    }

    /// Lets a window of so many bytes leave, or puts its session at the end of the queue. A window that is larger than all
    /// there is leaves when nothing else is on its way.
    pub(super) fn leave(&mut self, id: u64, bytes: u64) -> bool {
        let leaves = self.waiting.is_empty() && self.has_room(bytes);
        if leaves {
            self.bytes += bytes;
        } else {
            self.waiting.push_back(id);
        }
        leaves
    }

    /// A window has arrived, or was given up.
    pub(super) fn land(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Lets the session leave whose turn it is, if there is room; `bytes`: of its window, if it has one still.
    pub(super) fn next(&mut self, bytes: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        while let Some(id) = self.waiting.front().copied() {
            let wanted = bytes(id);
            if wanted.is_some_and(|bytes| !self.has_room(bytes)) {
                return None;
            }
            self.waiting.pop_front();
            if let Some(bytes) = wanted {
                self.bytes += bytes;
                return Some(id);
            }
        }
        None
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::Flight;

    #[test]
    fn as_much_leaves_as_there_is_room_for_and_the_rest_in_the_order_in_which_it_came() {
        let mut flight = Flight::new(100);
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
        flight.land(1000);
        assert!(flight.leave(7, 1000), "a window that is larger than all there is");
        assert!(!flight.leave(8, 1));
    }
}
