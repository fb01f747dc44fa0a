//! The proxy and the small API server: on the WireGuard address, for as long as there is one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_apiproxy as apiproxy;
use holdfast_apiproxy::rules::Hosts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{Config, RunError, Tasks};
use crate::api::Api;
use crate::bind::{self, Bound, Ends};
use crate::cluster::Connection;
use crate::config::{Mode, Proxy, User, Users};
use crate::health::{Check, Endpoint, Verdict};
use crate::search::{self, Found, NOT_LOOKED};
use crate::serve;
use crate::status::Ports;
use crate::users::{self, Mappings, Sync};

/// Both servers, and what they are made of.
pub(super) struct Servers {
    interface: String,
    retry: holdfast_wireguard::retry::Retry,
    proxy: apiproxy::Proxy,
    tls: Option<apiproxy::ServingTls>,
    /// What was found, and where each server wants to be: the interface's addresses, or one that was given.
    found: watch::Sender<Found>,
    places: [Place; 2],
    /// Users are synchronised only where they mean something.
    users: Option<(Users, Sync)>,
    tracker: TaskTracker,
}

struct Place {
    name: &'static str,
    port: u16,
    given: Option<IpAddr>,
    device: Option<String>,
    bound: watch::Sender<Bound>,
}

impl Servers {
    pub(super) fn new(
        config: &Config,
        settings: &Proxy,
        cluster: &Connection,
        ports: &Ports,
    ) -> Result<Self, RunError> {
        let proxy = apiproxy::Proxy::new(apiproxy::Config {
            mode: mode(settings),
            upstream: cluster.credentials.upstream(),
            hosts: Hosts { names: settings.accept_hosts.clone(), ..Hosts::default() },
            limits: apiproxy::Limits::default(),
            timeouts: apiproxy::Timeouts::default(),
        })?;
        let tls = settings.tls.as_ref().map(|(chain, key): &(PathBuf, PathBuf)| {
            apiproxy::ServingTls::from_files(chain.clone(), key.clone(), true)
        });
        let place = |name, port: Option<u16>, wish: crate::config::Place| Place {
            name,
            port: port.unwrap_or(wish.port.base()),
            given: wish.ip,
            device: settings
                .peers_only
                .then(|| config.interface.clone())
                .filter(|_| wish.ip.is_none()),
            bound: watch::Sender::new(Bound::Not(NOT_LOOKED.to_owned())),
        };
        let users = settings.users.clone().filter(|_| settings.mode == Mode::Auth);
        let users = users.map(|users| (users.clone(), Sync::new(users.max_age)));
        Ok(Self {
            interface: config.interface.clone(),
            retry: config.retry,
            proxy,
            tls: tls.transpose()?,
            found: watch::Sender::new(Found::Not(NOT_LOOKED.to_owned())),
            places: [
                place("proxy", ports.proxy, settings.proxy),
                place("API server", ports.api, settings.api),
            ],
            users,
            tracker: TaskTracker::new(),
        })
    }

    /// The proxy itself: clones are the same one.
    pub(super) fn proxy(&self) -> apiproxy::Proxy {
        self.proxy.clone()
    }

    /// Where the proxy and the API server listen.
    pub(super) fn bound(&self) -> [watch::Receiver<Bound>; 2] {
        self.places.each_ref().map(|place| place.bound.subscribe())
    }

    /// Whether anybody wants the interface's addresses.
    fn needs_interface(&self) -> bool {
        self.places.iter().any(|place| place.given.is_none())
    }

    /// `wireguard`, `proxy`, and with synchronised users `user-sync`.
    pub(super) fn checks(&self) -> Vec<Check> {
        let found = self.found.subscribe();
        let needed = self.needs_interface();
        let wireguard = Check::new("wireguard", move || match (&*found.borrow(), needed) {
            (_, false) => {
                Verdict::Noted("not looked for: PROXY_BIND_IP and API_BIND_IP are set".to_owned())
            }
            (Found::Not(why), _) => Verdict::Failed(why.clone()),
            (Found::Addresses(_), _) => Verdict::Ok,
        });
        let bound = self.bound();
        let names = self.places.each_ref().map(|place| place.name);
        let proxy = Check::new("proxy", move || {
            let faults: Vec<String> = bound
                .iter()
                .zip(names)
                .filter_map(|(bound, name)| match &*bound.borrow() {
                    Bound::Not(why) => Some(format!("the {name} does not listen: {why}")),
                    Bound::At(_) => None,
                })
                .collect();
            if faults.is_empty() { Verdict::Ok } else { Verdict::Failed(faults.join("; ")) }
        });
        let mut checks = vec![wireguard, proxy];
        checks.extend(self.users.iter().map(|(_, sync)| sync.check()));
        checks
    }

    /// What is known of users, for metrics.
    pub(super) fn users(&self) -> Option<Sync> {
        self.users.as_ref().map(|(_, sync)| sync.clone())
    }

    /// Begins to look for the interface, to listen, and to ask who is who.
    pub(super) fn start(&self, ready: &Arc<Endpoint>, stop: &CancellationToken, tasks: &Tasks) {
        if self.needs_interface() {
            let (found, name, retry) = (self.found.clone(), self.interface.clone(), self.retry);
            tasks.spawn(async move { search::search(&name, retry, &found).await });
        }
        if let Some((users, sync)) = self.users.clone() {
            let proxy = self.proxy.clone();
            tasks.spawn(users::synchronise(users, sync, move |m, age| apply(&proxy, m, age)));
        }
        if let Some(tls) = self.tls.clone() {
            tasks.spawn_to_the_end(|stop| async move { tls.follow(stop).await });
        }
        let [proxy, api] = &self.places;
        let (served, tls) = (self.proxy.clone(), self.tls.clone());
        self.follow(proxy, stop, move |listener, Ends { stop, gone }| {
            let (served, tls) = (served.clone(), tls.clone());
            async move { served.serve_at(listener, tls, stop, gone).await }
        });
        let answers = Arc::new(Api { ready: Arc::clone(ready) });
        // Its answers are given at once, so that what has come by an address ends soon in any case.
        self.follow(api, stop, move |listener, Ends { stop, .. }| {
            serve::serve(listener, stop, Arc::clone(&answers))
        });
    }

    fn follow<F>(
        &self,
        place: &Place,
        stop: &CancellationToken,
        serve: impl Fn(tokio::net::TcpListener, Ends) -> F + Send + core::marker::Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let found = match place.given {
            Some(ip) => watch::channel(Found::Addresses(vec![ip])).1,
            None => self.found.subscribe(),
        };
        let (name, port, device) = (place.name, place.port, place.device.clone());
        let (server, bound) = (bind::Server { name, port, device }, place.bound.clone());
        let stop = stop.clone();
        self.tracker.spawn(async move {
            bind::follow(server, found, &bound, stop, serve).await;
        });
    }

    /// Lets what is under way end, for this long at most.
    pub(super) async fn stop(self, drain: Duration) {
        let drained = self.proxy.drain(drain).await;
        info!(cut = drained.cut, "The proxy has ended");
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn mode(settings: &Proxy) -> apiproxy::Mode {
    match settings.mode {
        Mode::NoAuth => apiproxy::Mode::NoAuth,
        Mode::Auth => apiproxy::Mode::Auth {
            unmapped: match settings.unmapped.clone() {
                Some(User { name, groups }) => apiproxy::Unmapped::As(apiproxy::Identity {
                    user: name,
                    groups,
                    ..apiproxy::Identity::default()
                }),
                None => apiproxy::Unmapped::Refuse,
            },
            allowed: apiproxy::SystemNames::default(),
            await_mappings: settings.users.is_some(),
        },
    }
}

/// Puts these users in the place of those before, and says whose cannot be used.
fn apply(proxy: &apiproxy::Proxy, mappings: &Mappings, age: Duration) {
    let identity = |mapping: &users::Mapping| apiproxy::Identity {
        user: mapping.user.clone(),
        groups: mapping.groups.clone(),
        ..apiproxy::Identity::default()
    };
    let table: HashMap<_, _> = mappings.iter().map(|(ip, m)| (ip, identity(m))).collect();
    let refused = proxy.replace_identities(table, Some(age));
    if let Some((peer, error)) = refused.first() {
        warn!(count = refused.len(), %peer, %error, "User mappings that are refused");
    }
}
