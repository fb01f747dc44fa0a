//! The message of a condition.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use crate::plan::ContainerId;
use crate::set::ContainerSet;

/// The message of a condition: a text, to be used like a `str`.
///
/// Those that name containers are put together when somebody reads them. A pod of a thousand
/// containers changes its messages a thousand times, and each may name all of them.
#[derive(Clone)]
pub struct Message(Repr);

#[derive(Clone)]
enum Repr {
    Text(Cow<'static, str>),
    Waiting(Arc<Waiting>),
}

/// The containers that a condition waits for.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// All containers of the pod.
    names: Arc<[Arc<str>]>,
    /// The word for those in `unmet`.
    what: &'static str,
    /// Those without a status.
    unknown: ContainerSet,
    /// Those that do not meet the condition.
    unmet: ContainerSet,
    /// The message, once somebody has read it.
    text: OnceLock<String>,
}

impl Waiting {
    pub(crate) fn new(names: Arc<[Arc<str>]>, what: &'static str) -> Self {
        let (unknown, unmet) = Default::default();
        Self { names, what, unknown, unmet, text: OnceLock::new() }
    }

    /// Notes whether a container meets the condition; `None` if it has no status. What was published
    /// stays as it is.
    pub(crate) fn note(this: &mut Arc<Self>, id: ContainerId, met: Option<bool>) {
        let (unknown, unmet) = (met.is_none(), met == Some(false));
        if this.unknown.contains(id) != unknown || this.unmet.contains(id) != unmet {
            let this = Arc::make_mut(this);
            this.unknown.set(id, unknown);
            this.unmet.set(id, unmet);
            this.text = OnceLock::new();
        }
    }

    pub(crate) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_over(&self) -> bool {
        self.unknown.is_empty() && self.unmet.is_empty()
    }

    /// `containers with unknown status: [a b], containers with <what> status: [c]`.
    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let mut text = String::new();
            for (what, set) in [("unknown", &self.unknown), (self.what, &self.unmet)] {
                if set.is_empty() {
                    continue;
                }
                let comma = if text.is_empty() { "" } else { ", " };
                text.extend([comma, "containers with ", what, " status: ["]);
                for (at, id) in set.iter().enumerate() {
                    text.extend([if at > 0 { " " } else { "" }, &self.names[id.index()]]);
                }
                text.push(']');
            }
            text
        })
    }
}

impl Clone for Waiting {
    /// Without the text: a copy is made to be changed.
    fn clone(&self) -> Self {
        Self {
            unknown: self.unknown.clone(),
            unmet: self.unmet.clone(),
            ..Self::new(Arc::clone(&self.names), self.what)
        }
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.names, &other.names) && self.what == other.what {
            return self.unknown == other.unknown && self.unmet == other.unmet;
        }
        self.text() == other.text()
    }
}

impl Eq for Waiting {}

impl Message {
    /// No message.
    pub const NONE: Self = Self(Repr::Text(Cow::Borrowed("")));

    pub(crate) fn waiting_for(these: &Arc<Waiting>) -> Self {
        Self(Repr::Waiting(Arc::clone(these)))
    }
}

impl Deref for Message {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Repr::Text(text) => text,
            Repr::Waiting(waiting) => waiting.text(),
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Waiting(a), Repr::Waiting(b)) => Arc::ptr_eq(a, b) || a == b,
            // Most are empty, and comparing no bytes at no address is slow: the masked loads of
            // `memcmp` trap into microcode there.
            (Repr::Text(a), Repr::Text(b)) => a.len() == b.len() && (a.is_empty() || a == b),
            _ => **self == **other,
        }
    }
}

impl Eq for Message {}

impl PartialEq<str> for Message {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl From<&'static str> for Message {
    fn from(text: &'static str) -> Self {
        Self(Repr::Text(Cow::Borrowed(text)))
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self(Repr::Text(Cow::Owned(text)))
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_stays_as_it_was() {
        let names: Arc<[Arc<str>]> = ["a", "b", "c"].map(Arc::from).into();
        let mut waiting = Arc::new(Waiting::new(names, "unready"));
        for (id, met) in [(0, Some(false)), (1, None), (2, Some(false))] {
            Waiting::note(&mut waiting, ContainerId(id), met);
        }
        let unread = Message::waiting_for(&waiting);
        let read = unread.clone();
        let text = "containers with unknown status: [b], containers with unready status: [a c]";
        assert_eq!(read, text);
        Waiting::note(&mut waiting, ContainerId(1), Some(true));
        Waiting::note(&mut waiting, ContainerId(2), Some(true));
        assert_eq!((&*unread, &*read), (text, text));
        let now = Message::waiting_for(&waiting);
        assert_eq!(now, "containers with unready status: [a]");
        assert!(now != read && now == Message::from(now.to_string()));
        Waiting::note(&mut waiting, ContainerId(0), Some(true));
        assert!(waiting.is_over() && !now.is_empty());
    }
}
