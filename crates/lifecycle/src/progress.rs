//! What became of containers between two published statuses, for timelines.

use crate::status::{ContainerStatus, PodStatus};

/// A change of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It counts as started.
    Started,
    /// It counts as ready, and runs.
    Ready,
    /// It runs and does no longer count as ready.
    Unready,
}

/// The changes from `old` to `new`, in the order of the containers.
pub fn progress<'a>(
    old: &'a PodStatus,
    new: &'a PodStatus,
) -> impl Iterator<Item = (&'a ContainerStatus, Progress)> {
    // The lists keep their order.
    let lists = [(&old.init, &new.init), (&old.regular, &new.regular)];
    lists.into_iter().flat_map(|(old, new)| {
        new.iter().enumerate().flat_map(|(at, s)| {
            let same = old.get(at).filter(|o| o.instance == s.instance);
            let (started, ready) = (s.started == Some(true), s.ready && s.state.is_running());
            let was_started = same.is_some_and(|o| o.started == Some(true));
            let was_ready = same.is_some_and(|o| o.ready);
            let unready = was_ready && !ready && s.state.is_running();
            [
                (started && !was_started).then_some(Progress::Started),
                (ready && !was_ready).then_some(Progress::Ready),
                unready.then_some(Progress::Unready),
            ]
            .into_iter()
            .flatten()
            .map(move |change| (s, change))
        })
    })
}
