//! What follows from a change in the book: what is said of members, and who is dealt with no more.

use std::sync::Arc;

use foca::Member;

use super::{Membership, Phase, SCOLD_EVERY, Told};
use crate::event::{MemberEvent, Notice, Output, Peer, Status};
use crate::identity::NodeId;
use crate::message::Message;
use crate::mutant::Mutant;
use crate::record::{Claim, Record};
use crate::revocation::Revocation;
use crate::time::Now;

impl Membership {
    /// Draws the conclusions from what has changed in the book.
    pub(super) fn settle(&mut self, now: Now) {
        while self.phase == Phase::Running {
            let (touched, notices, overtaken) = {
                let mut book = self.lock();
                let overtaken = book.overtaken;
                (std::mem::take(&mut book.touched), std::mem::take(&mut book.notices), overtaken)
            };
            self.outputs.extend(notices.into_iter().map(Output::Notice));
            if let Some(version) = overtaken {
                self.outputs.push_back(Output::Notice(Notice::Overtaken { version }));
                self.must_publish = true;
            }
            if touched.contains(&self.id()) && self.expelled() {
                return;
            }
            for id in &touched {
                self.touch(now, *id);
            }
            if self.wanting.as_ref().is_some_and(|w| w.listed && w.ids.is_empty()) {
                self.wanting = None;
                self.may_claim = true;
            }
            self.claim(now);
            if self.must_publish {
                // What it says was checked when it was set.
                let published = self.publish();
                debug_assert!(published.is_ok(), "{published:?}");
            } else if touched.is_empty() {
                return;
            }
        }
    }

    /// Whether this node itself was removed; then it is over.
    pub(super) fn expelled(&mut self) -> bool {
        let revocation = self.lock().revocation(&self.id()).cloned();
        let Some(revocation) = revocation else { return false };
        self.save();
        self.phase = Phase::Over;
        self.timers.clear();
        self.outputs.push_back(Output::Removed(revocation));
        true
    }

    pub(super) fn touch(&mut self, now: Now, id: NodeId) {
        if id == self.id() {
            return;
        }
        if let Some(wanting) = &mut self.wanting {
            wanting.ids.remove(&id);
        }
        let (record, revocation) = {
            let book = self.lock();
            (book.record(&id).cloned(), book.revocation(&id).cloned())
        };
        if revocation.is_some() {
            self.cut_off(now, id);
        } else if record.is_some()
            && let Some(data) = self.queued.remove(&id)
            && let Some(seat) = self.up.get(&id).copied()
        {
            self.send(seat.addr, id, &Message::Swim(&data));
        }
        if record.is_none() {
            self.pairs.remove(&id);
        }
        self.tell(now, id, record, revocation);
        self.save_later(now);
    }

    /// Ends all dealings with a removed node.
    pub(super) fn cut_off(&mut self, now: Now, id: NodeId) {
        if self.is(Mutant::RemovalOutlived) {
            return;
        }
        self.queued.remove(&id);
        self.pending.remove(&id);
        self.windows.remove(&id);
        self.contacts.retain(|_, contact| contact.expect != Some(id));
        if let Some(seat) = self.up.get(&id).copied() {
            let down = std::iter::once(Member::down(seat));
            self.swim(now, |swim, wishes| swim.apply_many(down, true, wishes));
        }
    }

    /// Says what is new of a member.
    pub(super) fn tell(
        &mut self,
        now: Now,
        id: NodeId,
        record: Option<Arc<Record>>,
        revocation: Option<Arc<Revocation>>,
    ) {
        let old = self.told.get(&id);
        let peer = record.as_ref().map(|record| self.peer(record));
        let status = match (&revocation, &record, old.map(|told| told.status)) {
            (Some(_), ..) => Status::Removed,
            (None, None, None) => return,
            (None, Some(record), _) if record.draft().left => Status::Left,
            (None, Some(_), _) if self.up.contains_key(&id) => Status::Alive,
            (None, _, Some(Status::Absent) | None) => Status::Absent,
            (None, ..) => Status::Failed,
        };
        let changed = old.is_none_or(|told| told.status != status);
        let was_known = old.and_then(|told| told.peer.clone());
        let event = match (status, &peer, changed) {
            (Status::Removed, _, true) => revocation.map(MemberEvent::Removed),
            (Status::Alive, Some(peer), true) => Some(MemberEvent::Joined(peer.clone())),
            (Status::Alive, Some(peer), false) if was_known.as_ref() != Some(peer) => {
                Some(MemberEvent::Updated(peer.clone()))
            }
            (Status::Left, Some(peer), true) if old.is_some() => {
                Some(MemberEvent::Left(peer.clone()))
            }
            (Status::Failed, _, true) => peer.clone().or(was_known).map(MemberEvent::Failed),
            _ => None,
        };
        self.outputs.extend(event.map(Output::Member));
        let since = old.filter(|_| !changed).map_or(now.time, |told| told.since);
        self.told.insert(id, Told { status, since, peer });
    }

    pub(super) fn peer(&self, record: &Arc<Record>) -> Peer {
        let book = self.lock();
        let held = |claim: Option<Claim>| {
            let first = self.is(Mutant::FirstHeardHolds);
            let ip = claim.map(|claim| claim.ip);
            ip.filter(|ip| first || book.holders.holder(*ip) == Some(record.id()))
        };
        let (v4, v6) = (held(record.draft().v4), held(record.draft().v6));
        Peer { record: record.clone(), v4, v6 }
    }

    /// Forgets who is gone for long.
    pub(super) fn reap(&mut self, now: Now) {
        let after = self.config.timing.reap_after;
        let old = |told: &Told| {
            let gone = matches!(told.status, Status::Absent | Status::Failed | Status::Left);
            gone && now.time.since(told.since) >= after
        };
        let gone: Vec<NodeId> =
            self.told.iter().filter(|(_, told)| old(told)).map(|(id, _)| *id).collect();
        for id in gone {
            self.lock().forget(&id, now.time + after * 2);
            self.told.remove(&id);
            self.windows.remove(&id);
            self.outputs.push_back(Output::Member(MemberEvent::Reaped(id)));
        }
        self.lock().forgive(now.time);
        self.scolded.retain(|_, last| now.time.since(*last) < SCOLD_EVERY);
    }
}
