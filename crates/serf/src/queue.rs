//! What is to be told to everyone, each a limited number of times (memberlist: `queue.go`).

/// What a message is about: a newer one about the same replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// A node's state, by name.
    Node(String),
    /// Nothing that another could replace.
    Itself,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    about: About,
    message: Vec<u8>,
    sent: u32,
}

/// Messages waiting to be gossiped.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: Vec<Entry>,
    next: u64,
}

/// A number that a queue has given to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// How many messages wait at most; the ones sent most often go first.
const MOST: usize = 4096;

/// How often a message is sent in a cluster of so many nodes (`retransmitLimit`).
fn times(multiplier: u32, nodes: usize) -> u32 {
    multiplier * ((nodes as f64 + 1.0).log10().ceil() as u32)
}

impl Queue {
    /// Takes a message; what is queued about the same is forgotten.
    pub(crate) fn push(&mut self, about: About, message: Vec<u8>) -> Ticket {
        if about != About::Itself {
            self.entries.retain(|entry| entry.about != about);
        }
        let id = self.next;
        self.next += 1;
        self.entries.push(Entry { id, about, message, sent: 0 });
        if self.entries.len() > MOST {
            self.entries.sort_by_key(|entry| entry.sent);
            self.entries.truncate(MOST);
        }
        Ticket(id)
    }

    /// Whether a message still waits.
    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.entries.iter().any(|entry| entry.id == ticket.0)
    }

    /// As many messages as fit into `room` bytes with `overhead` each, the least sent and then the newest first.
    pub(crate) fn take(
        &mut self,
        overhead: usize,
        room: usize,
        multiplier: u32,
        nodes: usize,
    ) -> Vec<Vec<u8>> {
        let limit = times(multiplier, nodes);
        self.entries.sort_by_key(|entry| (entry.sent, u64::MAX - entry.id));
        let (mut taken, mut used) = (Vec::new(), 0);
        for entry in &mut self.entries {
            let size = overhead + entry.message.len();
            if used + size <= room && taken.len() < usize::from(u8::MAX) - 1 {
                used += size;
                entry.sent += 1;
                taken.push(entry.message.clone());
            }
        }
        self.entries.retain(|entry| entry.sent < limit);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_sent_so_often_and_the_newest_first() {
        let mut queue = Queue::default();
        queue.push(About::Itself, b"old".to_vec());
        let new = queue.push(About::Itself, b"new".to_vec());
        // Five nodes: 4 × ⌈log10 6⌉ = 4 times each.
        assert_eq!(queue.take(2, 5, 4, 5), [b"new".to_vec()]);
        assert_eq!(queue.take(2, 5, 4, 5), [b"old".to_vec()]);
        for _ in 0..2 {
            assert_eq!(queue.take(2, 100, 4, 5).len(), 2);
        }
        assert!(queue.holds(new));
        assert_eq!(queue.take(2, 100, 4, 5).len(), 2);
        assert!(!queue.holds(new) && queue.take(2, 100, 4, 5).is_empty());
        assert_eq!(times(4, 9), 4);
        assert_eq!(times(4, 10), 8);
    }

    #[test]
    fn news_about_a_node_replace_older_news_about_it() {
        let mut queue = Queue::default();
        let first = queue.push(About::Node("a".into()), b"1".to_vec());
        queue.push(About::Node("b".into()), b"2".to_vec());
        queue.push(About::Node("a".into()), b"3".to_vec());
        assert!(!queue.holds(first));
        assert_eq!(queue.take(2, 100, 1, 1), [b"3".to_vec(), b"2".to_vec()]);
    }
}
