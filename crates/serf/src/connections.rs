//! The connections of a member, and what each is for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::event::{Alarm, Event, Output, Stream};
use crate::serf::Serf;
use crate::stream::{Message, Reader, push_pull};
use crate::wire::{self, Ack, kind};

/// How many may have connected at once (memberlist: `maxPushPullRequests`).
const MOST: usize = 128;

#[derive(Debug)]
enum Purpose {
    /// A full exchange, by this member's will.
    Exchange { with: SocketAddr, join: bool, report: bool },
    /// A ping that was not answered by datagram.
    Ping { node: String, number: u32 },
    /// Whatever the other side wants.
    Serve,
}

#[derive(Debug)]
struct Connection {
    purpose: Purpose,
    reader: Reader,
}

/// By who opened them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: BTreeMap<Stream, Connection>,
    next: u64,
}

impl Connections {
    pub(crate) fn knows(&self, stream: Stream) -> bool {
        self.open.contains_key(&stream)
    }

    pub(crate) fn all(&self) -> Vec<Stream> {
        self.open.keys().copied().collect()
    }
}

impl Serf {
    fn open(&mut self, stream: Stream, purpose: Purpose) {
        self.connections.open.insert(stream, Connection { purpose, reader: Reader::default() });
        let limit = self.io.now + self.swim.timing.stream_timeout;
        self.io.alarms.set(limit, Alarm::StreamOver(stream));
    }

    fn connect(&mut self, to: SocketAddr, purpose: Purpose) {
        let stream = Stream::Ours(self.connections.next);
        self.connections.next += 1;
        self.open(stream, purpose);
        self.io.out.push_back(Output::Connect { stream, to });
    }

    /// Exchanges everything with the member at an address; `report`: what comes of it is told.
    pub(crate) fn exchange(&mut self, with: SocketAddr, join: bool, report: bool) {
        self.connect(with, Purpose::Exchange { with, join, report });
    }

    /// Tries a node that is being probed by a connection too.
    pub(crate) fn probe_by_stream(&mut self, number: u32) {
        if let Some((node, at)) = self.swim.probed(number) {
            self.connect(at, Purpose::Ping { node, number });
        }
    }

    pub(crate) fn accepted(&mut self, stream: Stream) {
        let theirs =
            self.connections.open.keys().filter(|s| matches!(s, Stream::Theirs(_))).count();
        if theirs >= MOST {
            self.io.out.push_back(Output::Close(stream));
            return self.io.refuse(None, format!("more than {MOST} connections at once"));
        }
        self.open(stream, Purpose::Serve);
    }

    pub(crate) fn connected(&mut self, stream: Stream) {
        let Some(connection) = self.connections.open.get(&stream) else { return };
        let message = match &connection.purpose {
            Purpose::Exchange { join, .. } => {
                let join = *join;
                self.state_message(join)
            }
            Purpose::Ping { node, number } => {
                let ping = self.swim.ping(node, *number);
                self.io.seal_stream(ping)
            }
            Purpose::Serve => return,
        };
        self.io.out.push_back(Output::Write(stream, message));
    }

    fn state_message(&mut self, join: bool) -> Vec<u8> {
        let (nodes, state) = (self.swim.nodes_to_push(), self.state_to_push());
        push_pull(&mut self.io, &nodes, join, &state)
    }

    pub(crate) fn received(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(connection) = self.connections.open.get_mut(&stream) else { return };
        let message = match connection.reader.read(self.io.keyring.as_ref(), bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(e) => {
                let why = e.to_string();
                self.io.refuse(None, e);
                self.io.out.push_back(Output::Close(stream));
                return self.ended(stream, &why);
            }
        };
        // One message each way is all there is.
        let Some(Connection { purpose, .. }) = self.connections.open.remove(&stream) else {
            return;
        };
        match (purpose, message) {
            (Purpose::Serve, message) => self.serve(stream, message),
            (
                Purpose::Exchange { with, report, join },
                Message::PushPull { nodes, user_state, .. },
            ) => {
                self.swim.merge(&mut self.io, nodes);
                if let Err(e) = self.merge_user_state(&user_state) {
                    self.io.refuse(Some(with), e);
                }
                if join {
                    self.tell_join();
                }
                if report {
                    self.io.event(Event::JoinDone(with));
                }
            }
            (Purpose::Exchange { with, report, .. }, Message::Error(why)) => {
                self.exchange_failed(with, report, format!("it answered: {why}"));
            }
            (Purpose::Exchange { with, report, .. }, _) => {
                self.exchange_failed(with, report, "it answered something else".to_owned());
            }
            (Purpose::Ping { number, .. }, Message::Ack(ack)) if ack.seq_no == number => {
                self.swim.acknowledged(&mut self.io, number);
            }
            (Purpose::Ping { .. }, _) => {}
        }
        self.io.out.push_back(Output::Close(stream));
    }

    /// Nodes first, so that intents are about somebody.
    fn merge_user_state(&mut self, state: &[u8]) -> Result<(), wire::Malformed> {
        self.take_notes();
        self.merge_state(state)
    }

    /// Answers what came over a connection that somebody else opened (`handleConn`).
    fn serve(&mut self, stream: Stream, message: Message) {
        match message {
            Message::PushPull { nodes, user_state, join: _ } => {
                let answer = self.state_message(false);
                self.io.out.push_back(Output::Write(stream, answer));
                self.swim.merge(&mut self.io, nodes);
                if let Err(e) = self.merge_user_state(&user_state) {
                    self.io.refuse(None, e);
                }
            }
            Message::Ping(ping) if ping.node.is_empty() || ping.node == self.swim.name => {
                let ack = wire::encode(kind::ACK, &Ack { seq_no: ping.seq_no });
                let ack = self.io.seal_stream(ack);
                self.io.out.push_back(Output::Write(stream, ack));
            }
            Message::User(message) => {
                if let Err(e) = self.user_message(&message) {
                    self.io.refuse(None, e);
                }
            }
            Message::Ping(_) | Message::Ack(_) | Message::Error(_) => {}
        }
    }

    pub(crate) fn closed(&mut self, stream: Stream) {
        self.ended(stream, "the connection could not be made, or ended early");
    }

    /// A connection came to nothing.
    pub(crate) fn ended(&mut self, stream: Stream, why: &str) {
        let Some(Connection { purpose, .. }) = self.connections.open.remove(&stream) else {
            return;
        };
        if let Purpose::Exchange { with, report, .. } = purpose {
            self.exchange_failed(with, report, why.to_owned());
        }
    }

    fn exchange_failed(&mut self, with: SocketAddr, report: bool, reason: String) {
        if report {
            self.io.event(Event::JoinFailed { through: with, reason });
        }
    }
}
