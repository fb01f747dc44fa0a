//! Many members in a world of their own: virtual time, a network that loses and parts, the same for the same seed.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::{Event, Input, Key, Keyring, Output, Serf, Settings, Status, Stream, Time};

/// splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Packet {
    Datagram { from: usize, bytes: Vec<u8> },
    Accept(u64),
    Connected(Stream),
    Bytes(Stream, Vec<u8>),
    Close(Stream),
}

struct World {
    now: Duration,
    seed: u64,
    members: Vec<Option<Serf>>,
    /// By time, then order; to whom.
    flying: BinaryHeap<std::cmp::Reverse<(Duration, u64, usize, Packet)>>,
    sent: u64,
    /// Ends of connections: by the world's number, the two members and the opener's own number.
    streams: BTreeMap<u64, (usize, usize, u64)>,
    /// Of a hundred datagrams, so many are lost.
    loss: u64,
    /// Members that do not reach the others.
    apart: BTreeSet<usize>,
    events: Vec<(usize, Event)>,
}

fn address(member: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (member / 250) as u8, (member % 250 + 1) as u8], 7946))
}

fn index(address: SocketAddr) -> usize {
    let SocketAddr::V4(v4) = address else { panic!("only IPv4 here") };
    let [_, _, high, low] = v4.ip().octets();
    usize::from(high) * 250 + usize::from(low) - 1
}

impl World {
    fn new(count: usize, seed: u64, ring: Option<&Keyring>) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            seed,
            members: Vec::new(),
            flying: BinaryHeap::new(),
            sent: 0,
            streams: BTreeMap::new(),
            loss: 0,
            apart: BTreeSet::new(),
            events: Vec::new(),
        };
        for member in 0..count {
            world.add(member, ring);
        }
        world
    }

    fn add(&mut self, member: usize, ring: Option<&Keyring>) {
        let mut settings = Settings::new(format!("n{member}"), address(member));
        settings.keyring = ring.cloned();
        settings.tags.insert("role".into(), format!("r{member}"));
        let mut state = random(&mut self.seed);
        let entropy = Box::new(move |bytes: &mut [u8]| {
            bytes.chunks_mut(8).for_each(|chunk| {
                chunk.copy_from_slice(&random(&mut state).to_le_bytes()[..chunk.len()]);
            });
        });
        let serf = Serf::new(Time::after_origin(self.now), settings, entropy).unwrap();
        if member == self.members.len() {
            self.members.push(Some(serf));
        } else {
            self.members[member] = Some(serf);
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        self.apart.contains(&a) == self.apart.contains(&b)
    }

    fn fly(&mut self, to: usize, packet: Packet) {
        let delay = Duration::from_micros(200 + random(&mut self.seed) % 2000);
        self.sent += 1;
        // Connections keep their order.
        let at = match packet {
            Packet::Datagram { .. } => self.now + delay,
            _ => self.now + Duration::from_millis(3),
        };
        self.flying.push(std::cmp::Reverse((at, self.sent, to, packet)));
    }

    fn tell(&mut self, member: usize, input: Input<'_>) {
        let now = Time::after_origin(self.now);
        let Some(serf) = &mut self.members[member] else { return };
        serf.handle(now, input);
        while let Some(output) = self.members[member].as_mut().and_then(Serf::poll) {
            self.carry_out(member, output);
        }
    }

    fn carry_out(&mut self, member: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                assert!(bytes.len() <= 1400, "a datagram of {} bytes", bytes.len());
                let to = index(to);
                if self.reaches(member, to) && random(&mut self.seed) % 100 >= self.loss {
                    self.fly(to, Packet::Datagram { from: member, bytes });
                }
            }
            Output::Connect { stream, to } => {
                let to = index(to);
                let Stream::Ours(number) = stream else { panic!("it can only ask for its own") };
                if self.reaches(member, to) && self.members.get(to).is_some_and(Option::is_some) {
                    let id = self.sent;
                    self.streams.insert(id, (member, to, number));
                    self.fly(to, Packet::Accept(id));
                    self.fly(member, Packet::Connected(stream));
                } else if self.reaches(member, to) {
                    self.fly(member, Packet::Close(stream));
                }
            }
            Output::Write(stream, bytes) => {
                if let Some((to, theirs)) = self.other_end(member, stream) {
                    self.fly(to, Packet::Bytes(theirs, bytes));
                }
            }
            Output::Close(stream) => {
                if let Some((to, theirs)) = self.other_end(member, stream) {
                    self.fly(to, Packet::Close(theirs));
                }
            }
            Output::Event(event) => self.events.push((member, event)),
        }
    }

    fn other_end(&self, member: usize, stream: Stream) -> Option<(usize, Stream)> {
        match stream {
            Stream::Theirs(id) => {
                self.streams.get(&id).map(|(opener, _, number)| (*opener, Stream::Ours(*number)))
            }
            Stream::Ours(number) => self
                .streams
                .iter()
                // The last: an earlier life of the member may have used the number as well.
                .rfind(|(_, (opener, _, n))| *opener == member && *n == number)
                .map(|(id, (_, to, _))| (*to, Stream::Theirs(*id))),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let alarm = (0..self.members.len())
                .filter_map(|i| {
                    Some((self.members[i].as_ref()?.poll_timeout()?.since(Time::default()), i))
                })
                .min();
            let packet = self.flying.peek().map(|next| next.0.0);
            let next = alarm.map(|(at, _)| at).into_iter().chain(packet).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next.max(self.now);
            if packet == Some(next) {
                let Some(std::cmp::Reverse((_, _, to, packet))) = self.flying.pop() else { break };
                match packet {
                    Packet::Datagram { from, bytes } => {
                        self.tell(to, Input::Datagram { from: address(from), bytes: &bytes });
                    }
                    Packet::Accept(id) => self.tell(to, Input::Accepted(Stream::Theirs(id))),
                    Packet::Connected(stream) => self.tell(to, Input::Connected(stream)),
                    Packet::Bytes(stream, bytes) => {
                        // In pieces, as streams come.
                        for piece in bytes.chunks(700) {
                            self.tell(to, Input::Received(stream, piece));
                        }
                    }
                    Packet::Close(stream) => self.tell(to, Input::Closed(stream)),
                }
            } else if let Some((_, member)) = alarm {
                self.tell(member, Input::Tick);
            }
        }
        self.now = end;
    }

    /// Runs until every member that is there sees this of all; how long it took.
    fn until(&mut self, limit: Duration, holds: impl Fn(usize, &Serf) -> bool) -> Duration {
        let start = self.now;
        while !self
            .members
            .iter()
            .enumerate()
            .all(|(i, serf)| serf.as_ref().is_none_or(|s| holds(i, s)))
        {
            assert!(self.now - start <= limit, "not within {limit:?}: {}", self.picture());
            self.run(Duration::from_millis(50));
        }
        self.now - start
    }

    fn picture(&self) -> String {
        let row = |serf: &Serf| {
            serf.members().map(|m| format!("{}:{}", m.name, m.status)).collect::<Vec<_>>().join(" ")
        };
        self.members.iter().flatten().map(row).collect::<Vec<_>>().join("\n")
    }

    fn join_all(&mut self) {
        for member in 1..self.members.len() {
            self.tell(member, Input::Join(address(0)));
        }
        let count = self.members.len();
        self.until(Duration::from_secs(20), move |_, serf| count_of(serf, Status::Alive) == count);
    }
}

fn count_of(serf: &Serf, status: Status) -> usize {
    serf.members().filter(|member| member.status == status).count()
}

fn status_of(serf: &Serf, member: usize) -> Option<Status> {
    let name = format!("n{member}");
    serf.members().find(|m| m.name == name).map(|m| m.status)
}

#[test]
fn members_meet_and_see_who_leaves_and_who_fails() {
    let ring = Keyring::new(Key::new(&[5; 24]).unwrap());
    for (seed, ring) in [(1, None), (2, Some(&ring)), (3, None)] {
        let mut world = World::new(12, seed, ring);
        world.join_all();
        for serf in world.members.iter().flatten() {
            assert!(serf.members().all(|m| m.tags["role"] == m.name.replace('n', "r")));
        }
        world.tell(3, Input::Leave);
        world.until(Duration::from_secs(15), |i, serf| {
            i == 3 || status_of(serf, 3) == Some(Status::Left)
        });
        world.run(Duration::from_secs(15));
        assert!(
            world
                .events
                .iter()
                .any(|(i, e)| *i == 3 && matches!(e, Event::Left(m) if m.name == "n3"))
        );
        assert_eq!(world.members[3].as_ref().unwrap().poll_timeout(), None);
        world.members[3] = None;
        world.members[7] = None;
        let bound = Settings::new("x", address(0)).timing.detection_bound(12);
        let took = world.until(bound, |_, serf| status_of(serf, 7) == Some(Status::Failed));
        eprintln!("seed {seed}: a dead member found out by all after {took:?} (at most {bound:?})");
        assert!(world.events.iter().all(|(_, e)| !matches!(e, Event::Failed(m) if m.name != "n7")));
    }
}

#[test]
fn lost_datagrams_make_nobody_fail() {
    let mut world = World::new(10, 4, None);
    world.join_all();
    world.loss = 25;
    world.run(Duration::from_secs(120));
    let failed = world.events.iter().filter(|(_, e)| matches!(e, Event::Failed(_))).count();
    assert_eq!(failed, 0, "{}", world.picture());
}

#[test]
fn parts_that_were_cut_off_meet_again() {
    let mut world = World::new(8, 5, None);
    world.join_all();
    world.apart = BTreeSet::from([1, 2, 3]);
    world.until(Duration::from_secs(120), |_, serf| count_of(serf, Status::Failed) > 2);
    world.run(Duration::from_secs(60));
    world.apart.clear();
    let took = world.until(Duration::from_secs(300), |_, serf| count_of(serf, Status::Alive) == 8);
    eprintln!("met again after {took:?}");
}

#[test]
fn a_member_that_restarts_outdoes_what_is_said_of_its_earlier_life() {
    let mut world = World::new(5, 6, None);
    world.join_all();
    world.members[2] = None;
    world.until(Duration::from_secs(60), |_, serf| status_of(serf, 2) == Some(Status::Failed));
    world.add(2, None);
    world.tell(2, Input::Join(address(4)));
    world.until(Duration::from_secs(20), |_, serf| count_of(serf, Status::Alive) == 5);
    // Left, and back.
    world.tell(2, Input::Leave);
    world.until(Duration::from_secs(20), |i, serf| {
        i == 2 || status_of(serf, 2) == Some(Status::Left)
    });
    world.run(Duration::from_secs(12));
    world.add(2, None);
    world.tell(2, Input::Join(address(1)));
    world.until(Duration::from_secs(20), |_, serf| count_of(serf, Status::Alive) == 5);
}

#[test]
fn without_the_keys_nobody_is_let_in() {
    let ring = |byte: u8| Keyring::new(Key::new(&[byte; 16]).unwrap());
    let mut world = World::new(3, 7, Some(&ring(1)));
    world.join_all();
    for (member, keys) in [(3, Some(ring(2))), (4, None)] {
        world.add(member, keys.as_ref());
        world.tell(member, Input::Join(address(0)));
        world.run(Duration::from_secs(30));
        let failed =
            |(i, e): &(usize, Event)| *i == member && matches!(e, Event::JoinFailed { .. });
        assert!(world.events.iter().any(failed));
        assert!(world.events.iter().any(|(i, e)| *i == 0 && matches!(e, Event::Refused { .. })));
    }
    for member in 0..3 {
        assert_eq!(count_of(world.members[member].as_ref().unwrap(), Status::Alive), 3);
    }
}

#[test]
fn a_name_that_is_taken_is_not_given_twice() {
    let mut world = World::new(4, 8, None);
    let mut settings = Settings::new("n1", address(3));
    settings.tags.insert("role".into(), "impostor".into());
    let now = Time::after_origin(world.now);
    world.members[3] = Some(Serf::new(now, settings, Box::new(|bytes| bytes.fill(3))).unwrap());
    for member in [1, 2] {
        world.tell(member, Input::Join(address(0)));
    }
    world.run(Duration::from_secs(5));
    world.tell(3, Input::Join(address(0)));
    world.run(Duration::from_secs(30));
    for member in [0, 2] {
        let serf = world.members[member].as_ref().unwrap();
        let n1 = serf.members().find(|m| m.name == "n1").unwrap();
        assert_eq!((n1.address, n1.status), (address(1), Status::Alive));
    }
    assert!(
        world
            .events
            .iter()
            .any(|(_, e)| matches!(e, Event::NameTaken { name, .. } if name == "n1"))
    );
}

#[test]
fn a_hundred_members_meet_in_time() {
    let mut world = World::new(100, 9, None);
    for member in 1..100 {
        world.tell(member, Input::Join(address(member / 2)));
    }
    let took = world.until(Duration::from_secs(60), |_, serf| count_of(serf, Status::Alive) == 100);
    eprintln!("100 members know each other after {took:?}");
    assert!(world.events.iter().all(|(_, e)| !matches!(e, Event::Failed(_))));
}
