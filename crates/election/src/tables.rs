//! What client-go's own tests expect (`leaderelection_test.go`), case by case.

use std::time::Duration;

use crate::{Answer, Change, Election, Input, Lease, Now, Output, Record, Request, Settings};
use crate::{Time, Version, Wall};

/// A candidate "baz" with a clock.
struct Baz {
    election: Election,
    now: Now,
    version: u64,
}

impl Baz {
    fn new() -> Self {
        let seconds = Duration::from_secs;
        let settings = Settings::with("baz", seconds(10), seconds(5), seconds(2)).unwrap();
        let time = Time::from_millis(1_000_000);
        let now = Now { time, wall: Wall(0), chance: 0.0 };
        Self { election: Election::new(settings), now, version: 0 }
    }

    /// One that has seen this record so long ago.
    fn observed(record: Record, ago: Duration) -> Self {
        let mut baz = Self::new();
        assert_eq!(baz.input(Input::Tick), [Output::Request(Request::Get)]);
        baz.got(record);
        baz.input(Input::Answer(Answer::Failed));
        baz.now.time = baz.now.time + ago;
        baz
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.election.handle(self.now, input);
        std::iter::from_fn(|| self.election.poll()).collect()
    }

    fn after(&mut self, passed: Duration) -> Vec<Output> {
        self.now.time = self.now.time + passed;
        self.now.wall.0 += i64::try_from(passed.as_micros()).unwrap();
        self.input(Input::Tick)
    }

    fn lease(&mut self, record: Record) -> Lease {
        self.version += 1;
        Lease { version: Version(self.version.to_string()), record }
    }

    fn got(&mut self, record: Record) -> Vec<Output> {
        let lease = self.lease(record);
        self.input(Input::Answer(Answer::Got(lease)))
    }

    fn written(&mut self, record: Record) -> Vec<Output> {
        let lease = self.lease(record);
        self.input(Input::Answer(Answer::Written(lease)))
    }

    fn shown(&mut self, record: Record) -> Vec<Output> {
        let lease = self.lease(record);
        self.input(Input::Changed(Change::Lease(lease)))
    }

    /// Makes it the leader by creating the lease.
    fn leads(&mut self) {
        assert_eq!(self.input(Input::Tick), [GET]);
        let created = written_of(&self.input(Input::Answer(Answer::NotFound)));
        assert!(self.written(created).contains(&Output::BecameLeader));
    }

    fn is_leading(&self) -> bool {
        self.election.is_leading(self.now.time)
    }

    fn holder(&self) -> &str {
        self.election.lease().map_or("", |lease| &lease.record.holder)
    }
}

const GET: Output = Output::Request(Request::Get);
const SECOND: Duration = Duration::from_secs(1);

fn held_by(holder: &str, duration_seconds: u32) -> Record {
    Record { holder: holder.into(), duration_seconds, ..Record::default() }
}

/// The record of the one write among these.
fn written_of(outputs: &[Output]) -> Record {
    let mut writes = outputs.iter().filter_map(|output| match output {
        Output::Request(Request::Create { record } | Request::Update { record, .. }) => {
            Some(record)
        }
        _ => None,
    });
    let record = writes.next().unwrap_or_else(|| panic!("no write: {outputs:?}")).clone();
    assert_eq!(writes.next(), None);
    record
}

/// client-go: `TestTryAcquireOrRenewLeases`. What the lease is when it is read; what was observed before,
/// and how long ago; whether it is taken then, with how many transitions.
#[test]
fn try_acquire_or_renew() {
    let long = Duration::from_secs(3_600_000);
    let none = Duration::ZERO;
    type Case = (&'static str, Option<Record>, Option<(Record, Duration)>, Option<u32>);
    let cases: [Case; 8] = [
        ("acquire from no object", None, None, Some(0)),
        ("acquire from object without annotations", Some(Record::default()), None, Some(1)),
        ("acquire from unled object", Some(held_by("", 0)), None, Some(1)),
        (
            "acquire from led, unacked object",
            Some(held_by("bing", 0)),
            Some((held_by("bing", 0), long)),
            Some(1),
        ),
        ("acquire from empty led, acked object", Some(held_by("", 0)), None, Some(1)),
        (
            "don't acquire from led, acked object",
            Some(held_by("bing", 10)),
            Some((held_by("bing", 10), none)),
            None,
        ),
        (
            "don't acquire from led object seen for the first time",
            Some(held_by("bing", 10)),
            None,
            None,
        ),
        (
            "renew already acquired object",
            Some(held_by("baz", 0)),
            Some((held_by("baz", 0), none)),
            Some(0),
        ),
    ];
    for (name, read, observed, taken) in cases {
        let mut baz = match observed {
            Some((record, ago)) => Baz::observed(record, ago),
            None => Baz::new(),
        };
        let first = baz.after(Duration::from_secs(3));
        assert_eq!(first, [GET], "{name}");
        let outputs = match read {
            Some(record) => baz.got(record),
            None => baz.input(Input::Answer(Answer::NotFound)),
        };
        let Some(transitions) = taken else {
            assert!(
                !outputs.iter().any(|o| matches!(o, Output::Request(_))),
                "{name}: {outputs:?}"
            );
            assert_eq!(baz.holder(), "bing", "{name}");
            continue;
        };
        let record = written_of(&outputs);
        assert_eq!((record.holder.as_str(), record.transitions), ("baz", transitions), "{name}");
        assert_eq!(record.duration_seconds, 10, "{name}");
        assert!(baz.written(record).contains(&Output::BecameLeader), "{name}");
        assert!(baz.is_leading() && baz.holder() == "baz", "{name}");
    }
}

/// Its case "acquire from led object with the lease duration seconds": three seconds are the holder's, not
/// ours, and are counted from when the record was first seen.
#[test]
fn the_duration_of_the_record_counts() {
    let mut baz = Baz::new();
    baz.input(Input::Tick);
    assert_eq!(baz.got(held_by("bing", 3)), [Output::NewLeader("bing".into())]);
    assert_eq!(baz.after(2 * SECOND), [GET]);
    assert_eq!(baz.got(held_by("bing", 3)), []);
    // Not at the next poll, but when it ends.
    assert_eq!(baz.election.poll_timeout(), Some(baz.now.time + SECOND));
    assert_eq!(baz.after(SECOND), [GET]);
    let record = written_of(&baz.got(held_by("bing", 3)));
    assert_eq!((record.holder.as_str(), record.transitions), ("baz", 1));
}

/// client-go: `TestFastPathLeaderElection`, both cases: get, create, update, update, (409) get, update, update.
#[test]
fn fast_path() {
    let mut baz = Baz::new();
    baz.leads();
    for _ in 0..2 {
        let outputs = baz.after(2 * SECOND);
        let [Output::Request(Request::Update { version, record })] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(*version, baz.election.lease().unwrap().version);
        let acquired = baz.election.lease().unwrap().record.acquired;
        assert_eq!((record.acquired, record.renewed), (acquired, Some(baz.now.wall)));
        assert_eq!(baz.written(record.clone()), []);
    }
    let renewed = written_of(&baz.after(2 * SECOND));
    assert_eq!(baz.input(Input::Answer(Answer::Conflict)), [GET]);
    let again = written_of(&baz.got(renewed));
    assert_eq!((again.holder.as_str(), again.transitions), ("baz", 0));
    assert_eq!(baz.written(again), []);
    assert_eq!(baz.election.slow_paths(), 1);
    assert!(matches!(baz.after(2 * SECOND)[..], [Output::Request(Request::Update { .. })]));
}

/// client-go: `TestReleaseLeaseLeases`, `TestReleaseOnCancellation_Leases`, `TestReleaseMethodCallsGet`.
#[test]
fn release() {
    let mut baz = Baz::new();
    baz.leads();
    let transitions = baz.election.lease().unwrap().record.transitions;
    assert_eq!(baz.input(Input::Stop), [Output::StopWork]);
    // The work takes its time; until it has ended this process leads, and says so.
    let renewed = written_of(&baz.after(2 * SECOND));
    assert_eq!(renewed.holder, "baz");
    baz.written(renewed.clone());
    assert!(baz.is_leading());
    let outputs = baz.input(Input::WorkStopped);
    assert_eq!(outputs[0], Output::StoppedLeading);
    let expected = Record {
        holder: String::new(),
        duration_seconds: 1,
        acquired: Some(baz.now.wall),
        renewed: Some(baz.now.wall),
        transitions,
    };
    assert_eq!(written_of(&outputs), expected);
    // Somebody has put a label on it.
    assert_eq!(baz.input(Input::Answer(Answer::Conflict)), [GET]);
    assert_eq!(written_of(&baz.got(renewed)), expected);
    assert_eq!(baz.written(expected), [Output::Done { released: true }]);
    assert_eq!(baz.holder(), "");
    assert_eq!((baz.after(60 * SECOND), baz.election.poll_timeout()), (vec![], None));
}

#[test]
fn a_release_without_an_answer_is_tried_again_and_given_up() {
    let mut baz = Baz::new();
    baz.leads();
    baz.input(Input::Stop);
    written_of(&baz.input(Input::WorkStopped));
    for _ in 0..19 {
        assert_eq!(baz.input(Input::Answer(Answer::Failed)), []);
        assert_eq!(baz.after(Duration::from_millis(250)), [GET]);
    }
    assert_eq!(baz.input(Input::Answer(Answer::Failed)), []);
    assert_eq!(baz.after(Duration::from_millis(250)), [Output::Done { released: false }]);
}

#[test]
fn what_is_not_ours_is_not_released() {
    let mut baz = Baz::new();
    assert_eq!(baz.input(Input::Stop), [Output::Done { released: true }], "before anything");

    let mut baz = Baz::observed(held_by("bing", 10), Duration::ZERO);
    assert_eq!(baz.input(Input::Stop), [Output::Done { released: true }]);

    // It may have been written, and has been: it is let go of.
    let mut baz = Baz::new();
    baz.input(Input::Tick);
    let record = written_of(&baz.got(held_by("", 1)));
    assert_eq!(baz.input(Input::Stop), []);
    assert_eq!(baz.input(Input::Answer(Answer::Failed)), [GET]);
    assert_eq!(written_of(&baz.got(record)).holder, "");
}

/// A leader whose renewals fail: tries in the retry period, gives up at the deadline that counts from when
/// the last success was sent, and may be elected again.
#[test]
fn the_renew_deadline() {
    let mut baz = Baz::new();
    baz.leads();
    let until = baz.now.time + 5 * SECOND;
    let sent = baz.after(2 * SECOND);
    let renewed = written_of(&sent);
    baz.now.time = baz.now.time + SECOND;
    assert_eq!(baz.election.leading_until(), Some(until), "not before the answer");
    baz.written(renewed);
    let until = until + 2 * SECOND;
    assert_eq!(baz.election.leading_until(), Some(until), "from when it was sent");
    written_of(&baz.after(2 * SECOND));
    assert_eq!(baz.input(Input::Answer(Answer::Failed)), [GET], "fast, then slow");
    assert_eq!(baz.input(Input::Answer(Answer::Failed)), []);
    // The deadline comes before the next try would.
    assert_eq!(baz.election.poll_timeout(), Some(until));
    baz.now.time = until;
    assert!(!baz.is_leading(), "by the clock alone");
    assert_eq!(baz.input(Input::Tick), [Output::StoppedLeading]);
    // The work of that term has to end before there is another.
    assert_eq!((baz.after(SECOND), baz.election.poll_timeout()), (vec![], None));
    let renewed = written_of(&baz.input(Input::WorkStopped));
    assert!(baz.written(renewed).contains(&Output::BecameLeader));
}

#[test]
fn a_frozen_process_leads_no_more_when_it_wakes() {
    // As a leader, with the answer to its renewal.
    let mut baz = Baz::new();
    baz.leads();
    let renewed = written_of(&baz.after(2 * SECOND));
    baz.now.time = baz.now.time + 20 * SECOND;
    assert!(!baz.is_leading());
    assert_eq!(baz.written(renewed)[0], Output::StoppedLeading);
    // As a candidate, with the answer to its take-over.
    let mut baz = Baz::new();
    baz.input(Input::Tick);
    let record = written_of(&baz.got(held_by("", 1)));
    baz.now.time = baz.now.time + 20 * SECOND;
    assert_eq!(baz.written(record), [Output::NewLeader("baz".into())], "elected, but too late");
    assert!(!baz.is_leading());
    // Within the deadline a late answer does no harm: nobody else can have written in between.
    let mut baz = Baz::new();
    baz.leads();
    let renewed = written_of(&baz.after(4 * SECOND));
    baz.now.time = baz.now.time + 3 * SECOND;
    assert_eq!(baz.written(renewed), []);
    assert!(baz.is_leading());
}

#[test]
fn who_is_not_in_the_lease_leads_no_more() {
    // Another holds it (by hand; candidates cannot).
    let mut baz = Baz::new();
    baz.leads();
    written_of(&baz.after(2 * SECOND));
    assert_eq!(baz.input(Input::Answer(Answer::Conflict)), [GET]);
    let outputs = baz.got(held_by("bing", 10));
    assert_eq!(outputs, [Output::NewLeader("bing".into()), Output::StoppedLeading]);
    // It was deleted.
    let mut baz = Baz::new();
    baz.leads();
    assert!(matches!(
        baz.input(Input::Changed(Change::Gone))[..],
        [Output::Request(Request::Update { .. })]
    ));
    assert_eq!(baz.input(Input::Answer(Answer::NotFound)), [GET]);
    assert_eq!(baz.input(Input::Answer(Answer::NotFound)), [Output::StoppedLeading]);
    assert_eq!(baz.input(Input::WorkStopped), []);
    assert_eq!(baz.after(2 * SECOND), [GET]);
}

/// Our own name after a restart: the lease is ours already (client-go: `IsLeader`).
#[test]
fn our_own_name_is_taken_up() {
    let mut baz = Baz::new();
    baz.input(Input::Tick);
    let before = Record { acquired: Some(Wall(7)), transitions: 3, ..held_by("baz", 10) };
    let record = written_of(&baz.got(before));
    assert_eq!((record.acquired, record.transitions), (Some(Wall(7)), 3));
    assert!(baz.written(record).contains(&Output::BecameLeader));
}

#[test]
fn news_end_a_wait() {
    let mut baz = Baz::observed(held_by("bing", 10), Duration::ZERO);
    // A renewal: the lease begins anew, and nothing is asked for it.
    baz.now.time = baz.now.time + SECOND;
    let renewed = Record { renewed: Some(Wall(1)), ..held_by("bing", 10) };
    assert_eq!(baz.shown(renewed.clone()), []);
    assert_eq!(baz.election.changed_at(), Some(baz.now.time));
    // Released: taken at once, as it was shown.
    let free = Record { transitions: 4, ..held_by("", 1) };
    let outputs = baz.shown(free.clone());
    assert_eq!(written_of(&outputs).transitions, 5);
    // Another was quicker, or the news were old: looked at, at once.
    assert_eq!(baz.input(Input::Answer(Answer::Conflict)), [GET]);
    assert_eq!(baz.got(held_by("bang", 10)), [Output::NewLeader("bang".into())]);
    // Old news, of a version before: nothing.
    let lease = Lease { version: Version("1".into()), record: free.clone() };
    assert_eq!(baz.input(Input::Changed(Change::Lease(lease))), []);
    assert_eq!(baz.holder(), "bang");
    // News that come while a request is under way count after it.
    assert_eq!(baz.after(2 * SECOND), [GET]);
    let old = baz.lease(held_by("bang", 10));
    assert_eq!(baz.shown(free), []);
    assert_eq!(written_of(&baz.input(Input::Answer(Answer::Got(old)))).holder, "baz");
}

#[test]
fn news_of_a_deletion_are_looked_into() {
    let mut baz = Baz::observed(held_by("bing", 10), Duration::ZERO);
    assert_eq!(baz.input(Input::Changed(Change::Gone)), [GET]);
    assert!(matches!(
        baz.input(Input::Answer(Answer::NotFound))[..],
        [Output::Request(Request::Create { .. })]
    ));
    // Somebody else has made it.
    assert_eq!(baz.input(Input::Answer(Answer::Conflict)), []);
    assert_eq!(baz.after(2 * SECOND), [GET]);
}

/// When the API is in trouble nothing is asked more often than in the retry period.
#[test]
fn trouble_is_not_made_worse() {
    let mut baz = Baz::observed(held_by("bing", 10), 20 * SECOND);
    let mut asked = 0;
    let end = baz.now.time + 60 * SECOND;
    while baz.now.time < end {
        for output in baz.input(Input::Tick) {
            if let Output::Request(_) = output {
                asked += 1;
            }
        }
        if asked > 0 {
            asked += baz.input(Input::Answer(Answer::Failed)).len();
        }
        baz.now.time = baz.election.poll_timeout().unwrap();
    }
    assert!((20..=31).contains(&asked), "{asked} requests in a minute");
}

#[test]
fn jitter_is_for_those_who_do_not_lead() {
    let mut baz = Baz::observed(held_by("bing", 10), Duration::ZERO);
    baz.now.chance = 1.0;
    baz.now.time = baz.now.time + 2 * SECOND;
    baz.input(Input::Tick);
    baz.got(held_by("bing", 10));
    let pause = Duration::from_millis(4_400);
    assert_eq!(baz.election.poll_timeout(), Some(baz.now.time + pause));
    let mut baz = Baz::new();
    baz.now.chance = 1.0;
    baz.leads();
    assert_eq!(baz.election.poll_timeout(), Some(baz.now.time + 2 * SECOND));
}
