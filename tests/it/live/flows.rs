//! UDP flows that go on while rules change: those whose endpoint, or Service, has gone are forgotten, others are not.

use std::net::UdpSocket;

use svcproxy::program::conntrack::Flow;

use super::userspace::Running;
use super::*;

const DNS: &str = "10.96.0.10:53";
const LOG: &str = "10.96.0.11:514";
const FIRST: &str = "10.128.0.1:5353";
const SECOND: &str = "10.128.0.2:5353";
const LOGGER: &str = "10.128.0.3:5140";

/// A namespace that bears the addresses of endpoints, each with a socket that echoes nothing.
struct Node {
    namespace: Namespace,
    folder: Folder,
    endpoints: Vec<UdpSocket>,
}

impl Node {
    fn new() -> Option<Node> {
        let namespace = Namespace::new("flows")?;
        for addr in ["192.0.2.1", "10.128.0.1", "10.128.0.2", "10.128.0.3"] {
            namespace.run(&["ip", "address", "add", &format!("{addr}/32"), "dev", "lo"]);
        }
        namespace.run(&["ip", "route", "add", "10.96.0.0/16", "dev", "lo", "src", "192.0.2.1"]);
        let endpoints = namespace.inside(|| [FIRST, SECOND, LOGGER].map(|at| UdpSocket::bind(at).unwrap()));
        Some(Node { namespace, folder: Folder::new(), endpoints: endpoints.into() })
    }

    /// Writes both Services with these endpoints; `None` for one that is not there. The path.
    fn put(&self, dns: Option<&[&str]>, log: Option<&[&str]>) -> String {
        let mut text = String::new();
        for (name, vip, endpoints) in [("dns", DNS, dns), ("log", LOG, log)] {
            let Some(endpoints) = endpoints else { continue };
            let (ip, port) = vip.split_once(':').unwrap();
            text += &format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: kube-system}}\n\
                 spec: {{clusterIP: {ip}, ports: [{{port: {port}, protocol: UDP}}]}}\n---\n"
            );
            for (nth, endpoint) in endpoints.iter().enumerate() {
                let (addr, port) = endpoint.split_once(':').unwrap();
                text += &format!(
                    "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{nth}, namespace: \
                     kube-system, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nendpoints: \
                     [{{addresses: [{addr}]}}]\nports: [{{port: {port}, protocol: UDP, name: ''}}]\n---\n"
                );
            }
        }
        let draft = self.folder.write("draft", &text);
        let path = self.folder.0.join("services.yaml");
        fs::rename(draft, &path).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A client that has sent something to a VIP.
    fn client(&self, vip: &str) -> UdpSocket {
        let client = self.namespace.inside(|| UdpSocket::bind("192.0.2.1:0")).unwrap();
        client.connect(vip).unwrap();
        client.send(b"?").unwrap();
        client
    }

    /// What the kernel remembers of a client.
    fn remembered(&self, client: &UdpSocket) -> Option<Flow> {
        let flows = self.namespace.inside(|| LinuxHost::new().conntrack_flows(IpFamily::V4, Protocol::Udp));
        let port = client.local_addr().unwrap().port();
        flows.unwrap().into_iter().find(|flow| flow.original.from.port == port)
    }

    fn answerer(&self, client: &UdpSocket) -> String {
        self.remembered(client).unwrap().reply.from.to_string()
    }
}

const INPUT: [&str; 6] = ["--node", "n", "--node-ip", "192.0.2.1", "--family", "ipv4"];

#[test]
fn apply_forgets_flows_to_endpoints_that_have_gone() {
    for way in [Way::Iptables(XtablesVariant::Legacy), Way::Iptables(XtablesVariant::Nft), Way::Nftables] {
        if !way.works() {
            continue;
        }
        let Some(node) = Node::new() else { return };
        let options = way.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let apply =
            |path: &str| must(&node.namespace, &[&["apply", "-f", path], &options[..], &INPUT[..]].concat());
        let said = apply(&node.put(Some(&[FIRST]), Some(&[LOGGER])));
        assert!(!said.contains("forgotten"), "{said}");
        let (asker, logger, other) = (node.client(DNS), node.client(LOG), node.client("192.0.2.1:9"));
        assert_eq!((node.answerer(&asker).as_str(), node.answerer(&logger).as_str()), (FIRST, LOGGER));
        let kept = [&logger, &other].map(|client| node.remembered(client));
        // One more endpoint changes nothing for a flow.
        let said = apply(&node.put(Some(&[FIRST, SECOND]), Some(&[LOGGER])));
        assert!(!said.contains("forgotten"), "{said}");
        assert_eq!(node.answerer(&asker), FIRST);
        let said = apply(&node.put(Some(&[SECOND]), Some(&[LOGGER])));
        assert!(said.contains("1 stale UDP flow forgotten\n"), "{said}");
        assert_eq!(node.remembered(&asker), None);
        assert_eq!([&logger, &other].map(|client| node.remembered(client)), kept);
        // The same client is sent to the one that there is.
        asker.send(b"?").unwrap();
        assert_eq!(node.answerer(&asker), SECOND);
        node.endpoints[1].set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(node.endpoints[1].recv(&mut [0; 9]).unwrap(), 1);
        // Like kube-proxy, it leaves the flows of a Service without endpoints.
        let said = apply(&node.put(Some(&[]), Some(&[LOGGER])));
        assert!(!said.contains("forgotten"), "{said}");
        assert_eq!(node.answerer(&asker), SECOND);
    }
}

#[test]
fn run_forgets_flows_to_services_that_have_gone_or_come() {
    let way = Way::Userspace;
    if !way.works() {
        return;
    }
    let Some(node) = Node::new() else { return };
    let path = node.put(None, Some(&[LOGGER]));
    // Before the rules are there: it goes to the VIP itself.
    node.namespace.run(&["iptables-nft", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW"]);
    let early = node.client(LOG);
    assert_eq!(node.answerer(&early), LOG);
    let args = [&["-f", path.as_str(), "--mode", "userspace", "--iptables", "nft"], &INPUT[..]].concat();
    let mut running = Running::start(&node.namespace, &node.folder, &args);
    let mut forgotten = |client: &UdpSocket| {
        running.wait_until(&node.namespace, &node.folder, |_| node.remembered(client).is_none());
    };
    forgotten(&early);
    node.put(Some(&[FIRST]), Some(&[LOGGER]));
    let asker = loop {
        let client = node.client(DNS);
        if node.answerer(&client) != DNS {
            break client;
        }
    };
    let logger = node.client(LOG);
    let kept = node.remembered(&logger);
    assert!(kept.is_some());
    // That an endpoint goes is no matter of the kernel's: the process carries the flow.
    node.put(None, Some(&[LOGGER]));
    forgotten(&asker);
    assert_eq!(node.remembered(&logger), kept);
}
