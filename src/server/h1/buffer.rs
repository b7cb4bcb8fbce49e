//! What was read too early.

/// First size. Doubled as needed.
const SMALL: usize = 4 * 1024;

/// Bytes read from the socket and not yet given to hyper. Owns no memory until there are any.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether it holds as much as may wait behind an open call.
    pub(super) const fn is_full(&self) -> bool {
        self.len() >= SMALL
    }

    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.len());
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Replaces what it holds.
    pub(super) fn set(&mut self, bytes: &[u8]) {
        self.data.clear();
        self.data.extend_from_slice(bytes);
        (self.start, self.end) = (0, bytes.len());
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        if let Some(room) = self.data.get_mut(self.end..self.end + bytes.len()) {
            room.copy_from_slice(bytes);
            self.end += bytes.len();
        }
    }

    /// Gives its memory back; it must be empty.
    pub(super) fn release(&mut self) {
        debug_assert!(self.is_empty());
        *self = Self::default();
    }

    fn make_room(&mut self, count: usize) {
        if self.data.len() - self.end >= count {
            return;
        }
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        let wanted = self.end + count;
        if self.data.len() < wanted {
            self.data.resize(wanted.next_power_of_two().max(SMALL), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_out_in_order_whatever_was_consumed_before() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        for round in 0..300_u32 {
            let piece = vec![round as u8; (round % 37) as usize];
            buffer.push(&piece);
            expected.extend(piece);
            let count = (round as usize * 7) % (buffer.len() + 1);
            assert_eq!(buffer.bytes()[..count], expected[..count]);
            buffer.consume(count);
            expected.drain(..count);
        }
        assert_eq!(buffer.bytes(), expected);
    }

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.data.capacity(), 0);
        buffer.push(b"abc");
        buffer.consume(3);
        buffer.release();
        assert_eq!(buffer.data.capacity(), 0);
    }
}
