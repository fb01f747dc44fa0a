//! Which pods are to be started and deleted: a pure state machine.
//!
//! A service is a pod, by name. It runs if a manifest has it and nobody has stopped it. A manifest that changes makes
//! its pod go, and come again when it is gone. In the end pods stop one after the other, the last started first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use holdfast_manifest::object::Pod;

/// A pod that a manifest has.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The manifest.
    pub file: PathBuf,
    /// The pod, defaulted and valid.
    pub pod: Pod,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Run this pod.
    Start(Box<Pod>),
    /// Delete the pod of this name.
    Delete(String),
}

/// Why an order of a person cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such service.
    #[error("there is no pod {name:?}; there are: {there}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What could have been.
        there: String,
    },
    /// Everything is being stopped.
    #[error("the agent is stopping")]
    Stopping,
}

#[derive(Debug, Default)]
struct Service {
    wanted: Option<Wanted>,
    /// What was started, if it is not gone yet.
    running: Option<Pod>,
    /// When it was started, among all.
    since: u64,
    deleting: bool,
    /// By a person, until a person starts it again.
    stopped: bool,
    /// To go and come again.
    again: bool,
}

/// All services of a machine.
#[derive(Debug, Default)]
pub struct Services {
    all: BTreeMap<String, Service>,
    started: u64,
    ending: bool,
}

impl Services {
    /// What the manifests have now.
    pub fn want(&mut self, wanted: Vec<Wanted>) -> Vec<Order> {
        for service in self.all.values_mut() {
            service.wanted = None;
        }
        for one in wanted {
            let service = self.all.entry(one.pod.metadata.name.clone()).or_default();
            service.wanted = Some(one);
        }
        self.step()
    }

    /// A pod is gone: nothing of it is left.
    pub fn gone(&mut self, name: &str) -> Vec<Order> {
        if let Some(service) = self.all.get_mut(name) {
            (service.running, service.deleting, service.again) = (None, false, false);
        }
        self.step()
    }

    /// Stops a service until it is started again.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn stop(&mut self, name: &str) -> Result<Vec<Order>, Refusal> {
        self.find(name)?.stopped = true;
        Ok(self.step())
    }

    /// Makes a service go, if it is there, and come again.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn restart(&mut self, name: &str) -> Result<Vec<Order>, Refusal> {
        let service = self.find(name)?;
        (service.stopped, service.again) = (false, service.running.is_some());
        Ok(self.step())
    }

    /// Stops everything for good.
    pub fn end(&mut self) -> Vec<Order> {
        self.ending = true;
        self.step()
    }

    /// Whether everything has been stopped for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ending && self.all.values().all(|service| service.running.is_none())
    }

    /// The manifest of a service.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Path> {
        Some(&self.all.get(name)?.wanted.as_ref()?.file)
    }

    /// The services that have no pod: stopped by a person, or about to be started.
    pub fn resting(&self) -> impl Iterator<Item = &str> {
        let rests = |(_, service): &(&String, &Service)| service.running.is_none();
        self.all.iter().filter(rests).map(|(name, _)| name.as_str())
    }

    fn find(&mut self, name: &str) -> Result<&mut Service, Refusal> {
        if self.ending {
            return Err(Refusal::Stopping);
        }
        if !self.all.contains_key(name) {
            let there: Vec<&str> = self.all.keys().map(String::as_str).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(Refusal::Unknown { name: name.to_owned(), there });
        }
        Ok(self.all.get_mut(name).expect("it was looked for above"))
    }

    fn step(&mut self) -> Vec<Order> {
        if self.ending {
            return self.stop_next();
        }
        self.all.retain(|_, service| service.wanted.is_some() || service.running.is_some());
        let mut orders = Vec::new();
        // In the order of the manifests, so that the last to stop is known beforehand.
        let mut names: Vec<(PathBuf, String)> = self
            .all
            .iter()
            .map(|(n, s)| {
                (s.wanted.as_ref().map(|w| w.file.clone()).unwrap_or_default(), n.clone())
            })
            .collect();
        names.sort();
        for (_, name) in names {
            let Some(service) = self.all.get_mut(&name) else { continue };
            match (&service.wanted, &service.running) {
                (Some(wanted), None) if !service.stopped => {
                    self.started += 1;
                    service.since = self.started;
                    service.running = Some(wanted.pod.clone());
                    orders.push(Order::Start(Box::new(wanted.pod.clone())));
                }
                (wanted, Some(running)) if !service.deleting => {
                    let same = wanted.as_ref().is_some_and(|w| w.pod == *running);
                    if !same || service.stopped || service.again {
                        service.deleting = true;
                        orders.push(Order::Delete(name));
                    }
                }
                _ => {}
            }
        }
        orders
    }

    /// The service started last, unless one is being stopped already.
    fn stop_next(&mut self) -> Vec<Order> {
        if self.all.values().any(|service| service.running.is_some() && service.deleting) {
            return Vec::new();
        }
        let there = self.all.iter_mut().filter(|(_, service)| service.running.is_some());
        let Some((name, last)) = there.max_by_key(|(_, service)| service.since) else {
            return Vec::new();
        };
        last.deleting = true;
        vec![Order::Delete(name.clone())]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(file: &str, name: &str, image: &str) -> Wanted {
        let mut pod = Pod::default();
        pod.metadata.name = name.to_owned();
        pod.spec.node_name = image.to_owned();
        Wanted { file: file.into(), pod }
    }

    fn start(w: &Wanted) -> Order {
        Order::Start(Box::new(w.pod.clone()))
    }

    fn delete(name: &str) -> Order {
        Order::Delete(name.to_owned())
    }

    #[test]
    fn what_changes_goes_first_and_then_comes() {
        let (a, b) = (wanted("1", "a", "x"), wanted("2", "b", "x"));
        let mut services = Services::default();
        assert_eq!(services.want(vec![b.clone(), a.clone()]), [start(&a), start(&b)]);
        assert_eq!(services.want(vec![a.clone(), b.clone()]), []);
        let changed = wanted("1", "a", "y");
        assert_eq!(services.want(vec![changed.clone(), b.clone()]), [delete("a")]);
        // It changes again while it goes: what counts is what is wanted when it is gone.
        let last = wanted("1", "a", "z");
        assert_eq!(services.want(vec![last.clone(), b.clone()]), []);
        assert_eq!(services.gone("a"), [start(&last)]);
        assert_eq!(services.want(vec![b]), [delete("a")]);
        assert_eq!(services.gone("a"), []);
        assert_eq!(services.file("a"), None);
    }

    #[test]
    fn a_person_stops_and_starts() {
        let a = wanted("1", "a", "x");
        let mut services = Services::default();
        services.want(vec![a.clone()]);
        assert_eq!(services.stop("a"), Ok(vec![delete("a")]));
        assert_eq!(services.gone("a"), []);
        // The manifest does not bring it back, a person does.
        assert_eq!(services.want(vec![wanted("1", "a", "y")]), []);
        assert_eq!(services.resting().collect::<Vec<_>>(), ["a"]);
        assert_eq!(services.restart("a"), Ok(vec![start(&wanted("1", "a", "y"))]));
        assert_eq!(services.restart("a"), Ok(vec![delete("a")]));
        assert_eq!(services.restart("a"), Ok(vec![]));
        assert_eq!(services.gone("a"), [start(&wanted("1", "a", "y"))]);
        let unknown = services.stop("b").unwrap_err();
        assert_eq!(unknown.to_string(), "there is no pod \"b\"; there are: a");
    }

    #[test]
    fn in_the_end_all_stop_one_by_one_the_last_first() {
        let mut services = Services::default();
        let all = ["c", "a", "b"].map(|n| wanted(&format!("file-{n}"), n, "x"));
        services.want(all.to_vec());
        assert_eq!(services.end(), [delete("c")]);
        assert_eq!(services.want(vec![]), []);
        assert_eq!(services.stop("a"), Err(Refusal::Stopping));
        assert_eq!(services.gone("c"), [delete("b")]);
        assert!(!services.is_over());
        assert_eq!(services.gone("b"), [delete("a")]);
        assert_eq!(services.gone("a"), []);
        assert!(services.is_over());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Want(Vec<(u8, u8)>),
        Gone(u8),
        Stop(u8),
        Restart(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            prop::collection::vec((0_u8..4, 0_u8..3), 0..4).prop_map(Step::Want),
            (0_u8..4).prop_map(Step::Gone),
            (0_u8..4).prop_map(Step::Stop),
            (0_u8..4).prop_map(Step::Restart),
        ];
        prop::collection::vec(step, 0..40)
    }

    proptest! {
        /// Two pods of one name never run at the same time, and when nothing moves, what runs is what is wanted.
        #[test]
        fn whatever_happens(steps in steps()) {
            let mut services = Services::default();
            let mut running: BTreeMap<String, (Pod, bool)> = BTreeMap::new();
            let mut last = BTreeMap::new();
            for step in steps {
                let orders = match step {
                    Step::Want(list) => {
                        last = list.iter().map(|(n, i)| (format!("p{n}"), *i)).collect();
                        let now = last.iter().map(|(n, i)| wanted(n, n, &i.to_string()));
                        services.want(now.collect())
                    }
                    Step::Gone(n) => {
                        let name = format!("p{n}");
                        // Only what was told to go goes.
                        if !running.get(&name).is_some_and(|(_, going)| *going) {
                            continue;
                        }
                        running.remove(&name);
                        services.gone(&name)
                    }
                    Step::Stop(n) => services.stop(&format!("p{n}")).unwrap_or_default(),
                    Step::Restart(n) => services.restart(&format!("p{n}")).unwrap_or_default(),
                };
                for order in orders {
                    match order {
                        Order::Start(pod) => {
                            let name = pod.metadata.name.clone();
                            prop_assert!(running.insert(name, (*pod, false)).is_none(), "it runs already");
                        }
                        Order::Delete(name) => {
                            let it = running.get_mut(&name);
                            prop_assert!(it.is_some_and(|(_, going)| !std::mem::replace(going, true)));
                        }
                    }
                }
                for (name, (pod, going)) in &running {
                    let image = last.get(name).map(u8::to_string);
                    prop_assert!(*going || image.as_deref() == Some(pod.spec.node_name.as_str()));
                }
            }
        }
    }
}
