//! Room for output that has been read and that nobody has taken yet.
//!
//! Whoever shows the output of containers may be slower than they write. Each line that a runtime passes
//! on brings a [`Receipt`] along, which is given back when the line has been written; a runtime reads no
//! further while too much is out. All containers of a run share the room.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::contract::Receipt;

/// How many bytes of output may be on their way to whoever shows them, of all containers.
const ROOM: usize = 4 << 20;
/// What a line takes beside its text.
const LINE_COST: usize = 128;

/// What is left of it. Clones are the same room.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// Waits until there is some.
    pub(crate) async fn some(&self) {
        // It is never closed.
        let _ = self.0.acquire().await;
    }

    /// Room for a line that has been read, of so many bytes. It takes what there is: what one reading
    /// gave may be on its way beyond the limit.
    pub(crate) fn receipt(&self, length: usize) -> Receipt {
        let wanted = (length + LINE_COST).min(self.0.available_permits());
        let permit = Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(wanted).ok()?);
        permit.ok().map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_room_again() {
        let room = Room::default();
        let receipts: Vec<Receipt> =
            std::iter::from_fn(|| room.is_some().then(|| room.receipt(1000))).collect();
        assert_eq!(receipts.len(), ROOM.div_ceil(1000 + LINE_COST));
        assert!(room.receipt(1).is_some(), "a line that has been read is never refused");
        assert!(!room.is_some());
        drop(receipts);
        assert_eq!(room.0.available_permits(), ROOM);
    }
}
