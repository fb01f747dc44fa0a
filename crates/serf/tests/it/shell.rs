//! A member with real sockets, as small as it can be: a thread a connection, and one for the machine.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use holdfast_serf::{Event, Input, Output, Serf, Settings, Status, Stream, Time};

enum Order {
    Datagram(SocketAddr, Vec<u8>),
    Accepted(TcpStream),
    Connected(Stream, TcpStream),
    Received(Stream, Vec<u8>),
    Closed(Stream),
    Join(SocketAddr),
    Tags(Vec<(String, String)>),
    Leave,
    Die,
}

/// What a member has seen, and its members now.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Event>,
    pub(crate) members: HashMap<String, (Status, Vec<(String, String)>)>,
}

pub(crate) struct Shell {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    orders: Sender<Order>,
}

/// Sockets for datagrams and connections on the same free port of the loopback.
pub(crate) fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

impl Shell {
    pub(crate) fn start(name: &str, adjust: impl FnOnce(&mut Settings)) -> Self {
        let (udp, tcp) = sockets();
        let address = tcp.local_addr().unwrap();
        let mut settings = Settings::new(name, address);
        adjust(&mut settings);
        let random = Box::new(|bytes: &mut [u8]| {
            std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
        });
        let serf = Serf::new(Time::default(), settings, random).unwrap();
        let (orders, inbox) = channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let datagrams = udp.try_clone().unwrap();
        datagrams.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        spawn_reader(orders.clone(), move |orders| {
            let mut bytes = [0; 65536];
            match datagrams.recv_from(&mut bytes) {
                Ok((n, from)) => orders.send(Order::Datagram(from, bytes[..n].to_vec())).is_ok(),
                Err(_) => orders.send(Order::Closed(Stream::Theirs(u64::MAX))).is_ok(),
            }
        });
        tcp.set_nonblocking(true).unwrap();
        spawn_reader(orders.clone(), move |orders| match tcp.accept() {
            Ok((connection, _)) => {
                connection.set_nonblocking(false).unwrap();
                orders.send(Order::Accepted(connection)).is_ok()
            }
            Err(_) => {
                thread::sleep(Duration::from_millis(5));
                orders.send(Order::Closed(Stream::Theirs(u64::MAX))).is_ok()
            }
        });
        let (sender, shared) = (orders.clone(), seen.clone());
        thread::spawn(move || run(serf, &udp, &sender, &inbox, &shared));
        Self { address, seen, orders }
    }

    fn order(&self, order: Order) {
        self.orders.send(order).expect("the member's thread runs until it is told to die");
    }

    pub(crate) fn join(&self, through: SocketAddr) {
        self.order(Order::Join(through));
    }

    pub(crate) fn leave(&self) {
        self.order(Order::Leave);
    }

    pub(crate) fn set_tags(&self, tags: &[(&str, &str)]) {
        self.order(Order::Tags(tags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()));
    }

    /// Stops without a word, as a process that is killed.
    pub(crate) fn die(&self) {
        let _ = self.orders.send(Order::Die);
    }

    pub(crate) fn status(&self, name: &str) -> Option<Status> {
        self.seen.lock().unwrap().members.get(name).map(|(status, _)| *status)
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.seen.lock().unwrap().events.clone()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.die();
    }
}

fn spawn_reader(
    orders: Sender<Order>,
    mut step: impl FnMut(&Sender<Order>) -> bool + Send + 'static,
) {
    thread::spawn(move || while step(&orders) {});
}

fn read_stream(orders: &Sender<Order>, stream: Stream, mut connection: TcpStream) {
    let orders = orders.clone();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            let order = match connection.read(&mut bytes) {
                Ok(n) if n > 0 => Order::Received(stream, bytes[..n].to_vec()),
                _ => Order::Closed(stream),
            };
            let last = matches!(order, Order::Closed(_));
            if orders.send(order).is_err() || last {
                return;
            }
        }
    });
}

fn run(
    mut serf: Serf,
    udp: &UdpSocket,
    orders: &Sender<Order>,
    inbox: &Receiver<Order>,
    seen: &Mutex<Seen>,
) {
    let start = Instant::now();
    let mut streams: HashMap<Stream, TcpStream> = HashMap::new();
    let mut accepted = 0;
    loop {
        let now = Time::after_origin(start.elapsed());
        let wait = serf.poll_timeout().map_or(Duration::from_secs(1), |at| at.since(now));
        let order = inbox.recv_timeout(wait);
        let now = Time::after_origin(start.elapsed());
        match order {
            Err(RecvTimeoutError::Disconnected) | Ok(Order::Die) => return,
            Err(RecvTimeoutError::Timeout) => serf.handle(now, Input::Tick),
            Ok(Order::Datagram(from, bytes)) => {
                serf.handle(now, Input::Datagram { from, bytes: &bytes })
            }
            Ok(Order::Accepted(connection)) => {
                let stream = Stream::Theirs(accepted);
                accepted += 1;
                read_stream(orders, stream, connection.try_clone().unwrap());
                streams.insert(stream, connection);
                serf.handle(now, Input::Accepted(stream));
            }
            Ok(Order::Connected(stream, connection)) => {
                read_stream(orders, stream, connection.try_clone().unwrap());
                streams.insert(stream, connection);
                serf.handle(now, Input::Connected(stream));
            }
            Ok(Order::Received(stream, bytes)) => serf.handle(now, Input::Received(stream, &bytes)),
            Ok(Order::Closed(stream)) => serf.handle(now, Input::Closed(stream)),
            Ok(Order::Join(through)) => serf.handle(now, Input::Join(through)),
            Ok(Order::Leave) => serf.handle(now, Input::Leave),
            Ok(Order::Tags(tags)) => serf.set_tags(now, tags.into_iter().collect()).unwrap(),
        }
        while let Some(output) = serf.poll() {
            match output {
                Output::Send { to, bytes } => drop(udp.send_to(&bytes, to)),
                Output::Connect { stream, to } => {
                    let orders = orders.clone();
                    thread::spawn(move || {
                        let order = TcpStream::connect_timeout(&to, Duration::from_secs(5))
                            .map_or(Order::Closed(stream), |c| Order::Connected(stream, c));
                        let _ = orders.send(order);
                    });
                }
                Output::Write(stream, bytes) => {
                    if let Some(connection) = streams.get_mut(&stream) {
                        let _ = connection.write_all(&bytes);
                    }
                }
                Output::Close(stream) => {
                    if let Some(connection) = streams.remove(&stream) {
                        let _ = connection.shutdown(std::net::Shutdown::Write);
                    }
                }
                Output::Event(event) => seen.lock().unwrap().events.push(event),
            }
        }
        seen.lock().unwrap().members = serf
            .members()
            .map(|m| {
                let tags = m.tags.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                (m.name.clone(), (m.status, tags))
            })
            .collect();
    }
}
