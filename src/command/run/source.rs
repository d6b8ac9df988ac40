//! Where `run` learns what is wanted: manifests that are watched, or an API server. Both end in the same [`Input`], and tell
//! which Services have changed in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;

use crate::host::cluster::{ClusterEvent, ClusterOptions, ClusterResource};
use crate::host::{Event, Host};
use crate::manifest::{Kind, ObjectKey, ObjectStore, Touched};
use crate::model::{Config, Mode, Node, ServiceName};
use crate::net::IpFamily;

use super::super::input::{self, Input, Notes, Texts};
use super::super::options::{InputArgs, OptionalInput};
use super::super::{Error, apply};
use super::RunArgs;
use super::log::Log;
use super::trouble::Troubles;

/// For how long the Node object is waited for; then it goes on without (reference section 1.11).
const NODE_WAIT: Duration = Duration::from_secs(30);

/// Which API server is watched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "API server")]
pub struct ClusterArgs {
    /// How the API server is reached [default: clientConnection.kubeconfig of --config, else the account of this pod]
    #[arg(long, value_name = "PATH")]
    pub kubeconfig: Option<String>,

    /// The address of the API server, instead of that of --kubeconfig
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
}

/// What comes from an API server.
struct Objects {
    store: ObjectStore,
    /// What has not been listed yet.
    awaited: BTreeSet<ClusterResource>,
    /// When the Node is waited for no longer.
    node_deadline: Duration,
    /// In which words it has been told that the server does not answer.
    failing: BTreeSet<String>,
}

/// Where what is wanted comes from.
pub(super) struct Source<'a> {
    run: &'a RunArgs,
    args: &'a InputArgs,
    /// What was read last.
    last: Texts,
    /// What it says.
    pub(super) input: Input,
    /// `None` for manifests.
    objects: Option<Objects>,
    /// What of it is left out.
    troubles: Troubles,
    touched: Touched,
}

impl<'a> Source<'a> {
    /// Reads the manifests, or begins to watch the API server.
    pub(super) fn start(
        run: &'a RunArgs,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<Source<'a>, Error> {
        let RunArgs { input: OptionalInput(args), cluster, .. } = run;
        let paths: Vec<String> = args.paths().cloned().collect();
        if paths.iter().any(|path| path == "-") {
            return Err(Error::usage("standard input (`-`) cannot be watched").hint("put it into a file"));
        }
        let is_cluster = args.filenames.is_empty();
        if !is_cluster && (cluster.kubeconfig.is_some() || cluster.master.is_some()) {
            return Err(Error::usage(
                "manifests (-f) and an API server (--kubeconfig, --master) exclude each other",
            ));
        }
        if is_cluster && !args.snapshot.is_empty() {
            return Err(Error::usage("--snapshot is for manifests (-f), not for an API server"));
        }
        host.watch(&paths)?;
        let last = input::gather(args, &args.filenames, host)?;
        let input = understand(run, &last, log)?;
        let mut objects = None;
        if is_cluster {
            let options = ClusterOptions {
                kubeconfig: cluster.kubeconfig.clone().or_else(|| input.config.kubeconfig.clone()),
                master: cluster.master.clone(),
                node: input.node.name.to_string(),
            };
            host.watch_cluster(&options).map_err(|error| {
                Error::from(error)
                    .hint("give --kubeconfig or --master for an API server, or -f for manifests")
            })?;
            objects = Some(Objects {
                store: ObjectStore::default(),
                awaited: [ClusterResource::Services, ClusterResource::EndpointSlices, ClusterResource::Nodes]
                    .into(),
                node_deadline: host.now() + NODE_WAIT,
                failing: BTreeSet::new(),
            });
        }
        let touched = Touched { everything: !is_cluster, ..Touched::default() };
        Ok(Source { run, args, last, input, objects, troubles: Troubles::default(), touched })
    }

    /// Whether the node is to get traffic: the API server knows it, and it is not about to go (reference section 6.3).
    pub(super) fn is_node_eligible(&self) -> bool {
        let Input { loaded, node, .. } = &self.input;
        let is_known = self.is_files() || loaded.cluster.nodes.contains_key(&node.name);
        is_known && !node.is_leaving
    }

    /// Whether everything comes from files.
    pub(super) fn is_files(&self) -> bool {
        self.objects.is_none()
    }

    /// When there is enough for a first sync: Services and EndpointSlices have been listed, and the Node has or was waited for.
    /// `None` if that is for the server to say.
    pub(super) fn ready_at(&self) -> Option<Duration> {
        let Some(objects) = &self.objects else { return Some(Duration::ZERO) };
        match objects.awaited.iter().next_back() {
            None => Some(Duration::ZERO),
            Some(ClusterResource::Nodes) if objects.awaited.len() == 1 => Some(objects.node_deadline),
            Some(_) => None,
        }
    }

    /// How many Services are left out.
    pub(super) fn n_left_out(&self) -> usize {
        self.troubles.n_services()
    }

    /// The machine refuses these Services, and no others: tells the API server, if there is one.
    pub(super) fn refuse(
        &mut self,
        services: &BTreeMap<ServiceName, String>,
        host: &mut dyn Host,
    ) -> Result<(), Error> {
        let news = self.troubles.refuse(services);
        if self.is_files() {
            return Ok(());
        }
        news.into_iter().try_for_each(|notice| host.report_to_cluster(notice).map_err(Error::from))
    }

    /// What has changed since this was asked last.
    pub(super) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Takes what has happened. Whether anything has changed; with an error nothing has.
    pub(super) fn take(
        &mut self,
        event: Event,
        host: &mut dyn Host,
        log: &mut Log<'_, '_>,
    ) -> Result<bool, Error> {
        match event {
            Event::Changed => {
                let touched = self.read_again(host, log)?;
                self.touched.append(touched);
            }
            Event::Cluster(events) => {
                for event in events {
                    self.hear(event, host, log)?;
                }
            }
            Event::Stop | Event::TimeUp => {}
        }
        Ok(!self.touched.is_empty())
    }

    /// Reads manifests and configuration again; what differs.
    fn read_again(&mut self, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<Touched, Error> {
        let texts = input::gather(self.args, &self.args.filenames, host)?;
        if self.last == texts {
            return Ok(Touched::default());
        }
        self.last = texts;
        let mut read = understand(self.run, &self.last, log)?;
        let is_userspace = |input: &Input| input.config.mode == Mode::Userspace;
        if is_userspace(&read) != is_userspace(&self.input) || read.node.name != self.input.node.name {
            return Err(Error::input("neither the node nor userspace mode can change while it runs")
                .hint("end it and start it again"));
        }
        let everything = Touched { everything: true, ..Touched::default() };
        if self.objects.is_some() {
            // The cluster is not of these texts: something else in them is another.
            read.loaded.cluster = std::mem::take(&mut self.input.loaded.cluster);
            read.renew_node(self.args);
            self.input = read;
            return Ok(everything);
        }
        let before = std::mem::replace(&mut self.input, read);
        if settings(&before) != settings(&self.input) {
            return Ok(everything);
        }
        Ok(Touched::between(&before.loaded.cluster, &self.input.loaded.cluster))
    }

    /// Takes what the API server tells.
    fn hear(&mut self, event: ClusterEvent, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<(), Error> {
        let Some(Objects { store, awaited, failing, .. }) = &mut self.objects else { return Ok(()) };
        let troubles = &mut self.troubles;
        let cluster = &mut self.input.loaded.cluster;
        let key = |namespace: Box<str>, name: Box<str>| ObjectKey {
            namespace: namespace.into(),
            name: name.into(),
        };
        match event {
            ClusterEvent::ListBegins(resource) => {
                store.begin_list(kind(resource));
                troubles.begin_list(resource);
            }
            ClusterEvent::ListEnds(resource) => {
                store.end_list(kind(resource), cluster);
                troubles.end_list(resource);
                if awaited.remove(&resource) {
                    // An empty list, too, is something to go by.
                    self.touched.everything = true;
                }
            }
            ClusterEvent::Applied { resource, namespace, name, json } => {
                let key = key(namespace, name);
                let said = store.apply(kind(resource), &key, &json, cluster);
                for said in &said {
                    log.diagnostic(said)?;
                }
                if let Some(notice) = troubles.read(resource, &key, &said) {
                    host.report_to_cluster(notice)?;
                }
            }
            ClusterEvent::Deleted { resource, namespace, name } => {
                let key = key(namespace, name);
                store.remove(kind(resource), &key, cluster);
                troubles.forget(resource, &key);
            }
            ClusterEvent::Failed(resource, words) => {
                let message =
                    format!("the API server does not tell {resource}: {words}; what it told goes on");
                if failing.insert(words) {
                    log.warn(&message)?;
                }
            }
            // Where one collection comes from again the others do, too; if not, that is told anew.
            ClusterEvent::Recovered(_) => {
                if !std::mem::take(failing).is_empty() {
                    log.say("the API server answers again")?;
                }
            }
            ClusterEvent::NotTaken(words) => {
                log.warn(&format!("the API server is not told what is wrong with objects: {words}"))?;
            }
        }
        let touched = store.take_touched();
        if touched.everything {
            self.input.renew_node(self.args);
        }
        self.touched.append(touched);
        Ok(())
    }
}

/// What every Service depends on, beside the cluster.
fn settings(input: &Input) -> (&Config, &Node, &BTreeSet<IpFamily>) {
    (&input.config, &input.node, &input.families)
}

/// Reads manifests and configuration once, and watches nothing.
pub(super) fn read_once(run: &RunArgs, host: &mut dyn Host, log: &mut Log<'_, '_>) -> Result<Input, Error> {
    let args = &run.input.0;
    let texts = input::gather(args, &args.filenames, host)?;
    understand(run, &texts, log)
}

/// Understands what was read; an error unless rules may be made of it.
fn understand(run: &RunArgs, texts: &Texts, log: &mut Log<'_, '_>) -> Result<Input, Error> {
    let args = &run.input.0;
    let mut understood = input::understand(args, texts.clone());
    if args.filenames.is_empty() {
        // That is for the server to say.
        understood.forget("no-services");
        understood.forget("no-pod-cidr");
    }
    let mut input = input::say(args, understood, Notes::Hidden, log.console)?;
    input.config.sync_periods = run.periods.lay_over(input.config.sync_periods)?;
    apply::refuse_unfit(&input)?;
    input.say_left_out(log.console)?;
    Ok(input)
}

fn kind(resource: ClusterResource) -> Kind {
    match resource {
        ClusterResource::Services => Kind::Service,
        ClusterResource::EndpointSlices => Kind::EndpointSlice,
        ClusterResource::Nodes => Kind::Node,
        ClusterResource::ServiceCidrs => Kind::ServiceCidr,
    }
}
