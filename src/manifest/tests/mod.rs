//! What is loaded, and what is said, from the outside: one test for each rule.

mod overlay;
mod store;

use expect_test::{Expect, expect};

use super::*;
use crate::net::Protocol;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.to_owned(), text: text.to_owned() }
}

fn loaded(text: &str) -> Loaded {
    load(&[source("a.yaml", text)], &LoadOptions::default())
}

/// Everything said: severity, line and column, the text under the caret, code, object, message, hint.
fn said(sources: &[Source], loaded: &Loaded) -> String {
    let mut out = String::new();
    for diagnostic in &loaded.diagnostics {
        let severity = match diagnostic.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let place = diagnostic.place.as_ref().map_or_else(String::new, |place| {
            let source = &sources[place.source.0 as usize];
            let (line, column) = source.line_column(place.span.start);
            format!("{line}:{column} <{}>", &source.text[place.span.clone()])
        });
        out.push_str(&format!("{severity}[{}] {place} ", diagnostic.code));
        if let Some(object) = &diagnostic.object {
            out.push_str(&format!("{object}: "));
        }
        out.push_str(&format!("{}\n", diagnostic.message));
        if let Some(hint) = &diagnostic.hint {
            out.push_str(&format!("  hint: {hint}\n"));
        }
    }
    out
}

fn says(text: &str, expect: Expect) {
    expect.assert_eq(&said(&[source("a.yaml", text)], &loaded(text)));
}

/// Services and endpoints, one a line.
fn shown(loaded: &Loaded) -> String {
    let mut out = String::new();
    for service in loaded.cluster.services.values() {
        let ips = [service.cluster_ips.v4, service.cluster_ips.v6].into_iter().flatten();
        let ips: Vec<String> = ips.map(|addr| addr.to_string()).collect();
        let ports: Vec<String> = service
            .ports
            .iter()
            .map(|port| {
                let node_port = port.node_port.map_or_else(String::new, |number| format!("->{number}"));
                format!("{}:{}/{}{node_port}", port.name, port.port, port.protocol)
            })
            .collect();
        out.push_str(&format!("{} {:?} {} {}\n", service.name, service.kind, ips.join(","), ports.join(" ")));
    }
    for groups in [&loaded.cluster.endpoints.v4, &loaded.cluster.endpoints.v6] {
        for (name, endpoints) in groups {
            let addrs: Vec<String> = endpoints
                .iter()
                .map(|endpoint| {
                    let conditions = endpoint.conditions;
                    let flag = |is_so: bool, text: &'static str| if is_so { text } else { "" };
                    let node = endpoint.node.as_deref().map_or_else(String::new, |node| format!("@{node}"));
                    format!(
                        "{}{node}{}{}{}",
                        endpoint.addr,
                        flag(!conditions.ready, "!ready"),
                        flag(!conditions.serving, "!serving"),
                        flag(conditions.terminating, "!terminating")
                    )
                })
                .collect();
            out.push_str(&format!("{name}/{} {}\n", name.protocol, addrs.join(" ")));
        }
    }
    out
}

fn shows(text: &str, expect: Expect) {
    let loaded = loaded(text);
    assert_eq!(said(&[source("a.yaml", text)], &loaded), "");
    expect.assert_eq(&shown(&loaded));
}

/// A Service `shop/web` with these lines in `spec`.
fn service(spec: &str) -> String {
    let mut text =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n".to_owned();
    for line in spec.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

const PORT: &str = "ports: [{port: 80}]\n";

#[test]
fn fills_in_the_defaults() {
    let loaded = loaded(&service(&format!("clusterIP: 10.96.0.041\nsessionAffinity: ClientIP\n{PORT}")));
    let service = &loaded.cluster.services[&ServiceName::new("shop", "web")];
    expect![[r#"
        Service {
            name: ServiceName {
                namespace: "shop",
                name: "web",
            },
            kind: ClusterIp,
            cluster_ips: PerFamily {
                v4: Some(
                    10.96.0.41,
                ),
                v6: None,
            },
            external_ips: [],
            has_external_ips: false,
            load_balancer_ips: [],
            source_ranges: [],
            affinity_seconds: Some(
                10800,
            ),
            internal_traffic_policy: Cluster,
            external_traffic_policy: Cluster,
            health_check_node_port: None,
            ports: [
                ServicePort {
                    name: "",
                    protocol: Tcp,
                    port: 80,
                    node_port: None,
                },
            ],
            placeholders: Placeholders {
                cluster_ips: false,
                node_ports: false,
            },
        }
    "#]]
    .assert_debug_eq(service);
}

#[test]
fn leaves_out_services_that_no_proxy_serves() {
    shows(&service(&format!("clusterIP: None\n{PORT}")), expect![""]);
    shows(&service("type: ExternalName\nexternalName: example.org"), expect![""]);
    let proxied = service(&format!("clusterIP: 10.96.0.1\n{PORT}"))
        .replace("name: web", "name: web, labels: {service.kubernetes.io/service-proxy-name: ''}");
    shows(&proxied, expect![""]);
}

#[test]
fn chooses_cluster_ips_by_family() {
    let spec = "clusterIP: fd00::1\nclusterIPs: [fd00::1, 10.96.0.1]\nipFamilies: [IPv6, IPv4]\n";
    shows(
        &service(&format!("{spec}{PORT}")),
        expect![[r#"
        shop/web ClusterIp 10.96.0.1,fd00::1 :80/tcp
    "#]],
    );
    let spec = "clusterIP: fd00::1\nclusterIPs: [fd00::1, 10.96.0.1]\nipFamilies: [IPv6]\n";
    shows(
        &service(&format!("{spec}{PORT}")),
        expect![[r#"
        shop/web ClusterIp fd00::1 :80/tcp
    "#]],
    );
}

#[test]
fn keeps_what_counts_of_the_outside_addresses() {
    let text = service(
        "type: LoadBalancer\nclusterIP: 10.96.0.1\nexternalIPs: [192.0.2.1, '::ffff:192.0.2.2', x]\n\
         loadBalancerSourceRanges: [' 198.51.100.7/24 ', 10.0.0.1]\nports: [{port: 80, nodePort: 30080}]\n",
    ) + "status:\n  loadBalancer:\n    ingress:\n    - {ip: 203.0.113.1}\n    - {ip: 203.0.113.2, ipMode: Proxy}\n    - \
         {hostname: lb.example.org}\n    - {ip: fd00::9, ipMode: VIP}\n    - {ip: y}\n";
    says(
        &text,
        expect![[r#"
            warning[bad-address] 7:48 <x> Service shop/web: external IP `x` is not an IP address
              hint: kube-proxy leaves it out, and so is done here
            warning[bad-cidr] 8:51 <10.0.0.1> Service shop/web: source range `10.0.0.1` is not a CIDR
              hint: write it as `192.0.2.0/24`; kube-proxy leaves it out, and so is done here
            warning[bad-address] 17:12 <y> Service shop/web: load balancer IP `y` is not an IP address
              hint: kube-proxy leaves it out, and so is done here
        "#]],
    );
    let loaded = loaded(&text);
    let service = &loaded.cluster.services[&ServiceName::new("shop", "web")];
    assert_eq!(format!("{:?}", service.external_ips), "[192.0.2.1, 192.0.2.2]");
    assert_eq!(format!("{:?}", service.load_balancer_ips), "[203.0.113.1, fd00::9]");
    assert_eq!(format!("{:?}", service.source_ranges), "[198.51.100.0/24]");
}

const SLICE: &str = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
";

fn slice(name: &str, rest: &str) -> String {
    format!("---\n{}{rest}\n", SLICE.replace("NAME", name))
}

#[test]
fn merges_slices_in_text_order() {
    let text = slice(
        "b",
        "ports: [{port: 80}, {name: x, port: 53, protocol: UDP}, {name: all}]\nendpoints:\n\
         - {addresses: [10.244.2.7, 10.9.9.9], nodeName: n1, conditions: {ready: null}}\n\
         - {addresses: [10.244.1.1], conditions: {ready: true, terminating: true}}\n\
         - {addresses: []}\n- {addresses: null}\n",
    ) + &slice(
        "a",
        "ports: [{port: 80}]\nendpoints:\n- {addresses: [10.244.10.2], conditions: {ready: false}}\n\
         - {addresses: [10.244.1.1], nodeName: n2, conditions: {serving: false}}\n",
    );
    shows(
        &text,
        expect![[r#"
        shop/web/tcp 10.244.1.1:80@n2!serving 10.244.10.2:80!ready 10.244.2.7:80@n1
        shop/web:x/udp 10.244.1.1:53!terminating 10.244.2.7:53@n1
    "#]],
    );
    let six =
        slice("c", "ports: [{port: 80}]\nendpoints: [{addresses: ['fd00::10']}, {addresses: ['fd00::2']}]")
            .replace("IPv4", "IPv6");
    shows(
        &six,
        expect![[r#"
        shop/web/tcp [fd00::10]:80 [fd00::2]:80
    "#]],
    );
    shows(&slice("d", "endpoints: null\nports: null"), expect![""]);
    let headless = slice("e", "ports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.1]}]")
        .replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    shows(&headless, expect![""]);
    shows(&slice("f", "").replace("IPv4", "FQDN"), expect![""]);
}

#[test]
fn mirrors_endpoints_of_services_without_selector() {
    let endpoints = "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets:\n\
        - addresses: [{ip: 10.0.0.2, nodeName: n1}, {ip: 10.0.0.1}, {ip: 'fd00::1'}]\n  \
        notReadyAddresses: [{ip: 10.0.0.1}]\n  ports: [{port: 8080}]\n";
    let bare = service(&format!("clusterIP: 10.96.0.1\n{PORT}"));
    shows(
        &format!("{bare}{endpoints}"),
        expect![[r#"
        shop/web ClusterIp 10.96.0.1 :80/tcp
        shop/web/tcp 10.0.0.1:8080!ready 10.0.0.2:8080@n1
        shop/web/tcp [fd00::1]:8080
    "#]],
    );
    let selecting = service(&format!("clusterIP: 10.96.0.1\nselector: {{app: web}}\n{PORT}"));
    shows(
        &format!("{selecting}{endpoints}"),
        expect![[r#"
        shop/web ClusterIp 10.96.0.1 :80/tcp
    "#]],
    );
    let sliced = slice("s", "ports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.7]}]");
    shows(
        &format!("{bare}{endpoints}{sliced}"),
        expect![[r#"
        shop/web ClusterIp 10.96.0.1 :80/tcp
        shop/web/tcp 10.0.0.7:80
    "#]],
    );
}

#[test]
fn reads_lists_and_json_streams() {
    let item =
        r#"{"metadata":{"name":"a","namespace":"x"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":1}]}}"#;
    let typed = format!(r#"{{"apiVersion":"v1","kind":"ServiceList","items":[{item}]}}"#);
    shows(
        &typed,
        expect![[r#"
        x/a ClusterIp 10.0.0.1 :1/tcp
    "#]],
    );
    let whole = item.replacen('{', r#"{"apiVersion":"v1","kind":"Service","#, 1);
    let b = whole.replace("\"a\"", "\"b\"").replace("10.0.0.1", "10.0.0.2");
    shows(
        &format!("{whole}\n{b}"),
        expect![[r#"
        x/a ClusterIp 10.0.0.1 :1/tcp
        x/b ClusterIp 10.0.0.2 :1/tcp
    "#]],
    );
    let list = format!(
        r#"{{"kind":"List","items":[{whole},{{"kind":"Pod","apiVersion":"v1"}},{b}],"apiVersion":"v1"}}"#
    );
    let loaded = loaded(&list);
    assert_eq!((loaded.n_objects, loaded.cluster.services.len()), (3, 2));
    assert_eq!(loaded.skipped, [("Pod".to_owned(), 1)].into());
    shows(r#"{"apiVersion":"v1","kind":"List","items":null}"#, expect![""]);
    shows(r#"{"apiVersion":"serving.knative.dev/v1","kind":"Service"}"#, expect![""]);
}

#[test]
fn reads_json_and_yaml_alike() {
    let json = load(&[source("a.json", SNAPSHOT)], &LoadOptions::default());
    let yaml = load(&[source("a.yaml", &format!("# JSON is YAML\n{SNAPSHOT}"))], &LoadOptions::default());
    assert_eq!(format!("{:?}", json.cluster), format!("{:?}", yaml.cluster));
    assert_eq!(json.cluster.services.len(), 2);
    let line = |loaded: &Loaded| loaded.places.values().map(|place| place.span.start).collect::<Vec<_>>();
    let shift = "# JSON is YAML\n".len();
    assert_eq!(line(&json).iter().map(|start| start + shift).collect::<Vec<_>>(), line(&yaml));
}

#[test]
fn reads_nodes() {
    let text = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z}}\n\
        spec: {podCIDR: 10.1.0.0/24}\nstatus:\n  addresses:\n  - {type: ExternalIP, address: 192.0.2.1}\n  - \
        {type: Hostname, address: n1}\n  - {type: InternalIP, address: 10.0.0.1}\n";
    let loaded = loaded(text);
    let node = &loaded.cluster.nodes["n1"];
    assert_eq!(
        format!("{:?} {:?} {:?}", node.zone, node.addresses, node.pod_cidrs),
        "Some(\"z\") [10.0.0.1, 192.0.2.1] [10.1.0.0/24]"
    );
}

#[test]
fn says_what_is_no_object() {
    says(
        "",
        expect![[r#"
        error[empty-input] 1:1 <> `a.yaml` has no objects
    "#]],
    );
    says(
        "# nothing\n---\n",
        expect![[r#"
        error[empty-input] 1:1 <> `a.yaml` has no objects
    "#]],
    );
    says(
        "kind: Service\n",
        expect![[r#"
        error[no-kind] 1:1 <> apiVersion is missing
          hint: a Service begins with `apiVersion: v1` and `kind: Service`
    "#]],
    );
    says(
        "- a\n---\nplain text\n---\n{}\n",
        expect![[r#"
            error[not-an-object] 1:1 <> this is not a Kubernetes object
              hint: objects follow one another, in YAML with `---` between them, or are the `items` of a List
            error[not-an-object] 3:1 <plain text> this is not a Kubernetes object
            error[no-kind] 5:1 <{> apiVersion and kind are missing
              hint: a Service begins with `apiVersion: v1` and `kind: Service`
        "#]],
    );
    says(
        "apiVersion: v1beta1\nkind: Service\n---\napiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n",
        expect![[r#"
            error[unknown-version] 1:13 <v1beta1> Service of apiVersion `v1beta1` is not read
              hint: write it as `v1`
            error[unknown-version] 4:13 <discovery.k8s.io/v1beta1> EndpointSlice of apiVersion `discovery.k8s.io/v1beta1` is not read
              hint: write it as `discovery.k8s.io/v1`
        "#]],
    );
}

#[test]
fn reads_on_after_bad_syntax() {
    let good = service(&format!("clusterIP: 10.96.0.1\n{PORT}"));
    let text = format!("a: [1, 2\n---\n{good}---\nb: 'x\n");
    says(
        &text,
        expect![[r#"
            error[yaml-syntax] 1:4 <> unclosed bracket '['
            error[yaml-syntax] 10:4 <> unclosed quote
              hint: the quote that begins here has no end
        "#]],
    );
    assert_eq!(loaded(&text).cluster.services.len(), 1);
    says(
        "{\"a\": 1,}\n{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}\n{\"b\": \n",
        expect![[r#"
            error[json-syntax] 1:8 <> a comma with nothing after it
              hint: take the comma out
            error[json-syntax] 4:1 <> the text ends too early, where a value should be
              hint: it may have been cut off
        "#]],
    );
}

#[test]
fn says_which_field_has_the_wrong_type() {
    says(
        &service("clusterIP: 10\nports: [{port: 80}]"),
        expect![[r#"
            error[wrong-type] 5:14 <10> Service shop/web: spec.clusterIP must be a string, not the number `10`
              hint: quote it: `"10"`
        "#]],
    );
    says(
        &service("clusterIP: 10.0.0.1\nports: [{port: '80'}]"),
        expect![[r#"
            error[wrong-type] 6:18 <'80'> Service shop/web: spec.ports[0].port must be a whole number, not the string `80`
              hint: remove the quotes
        "#]],
    );
    says(
        &service("clusterIP: 10.0.0.1\nports: {port: 80}"),
        expect![[r#"
            error[wrong-type] 6:10 <{> Service shop/web: spec.ports must be a list of mappings, not a mapping
              hint: begin each entry with `- `
        "#]],
    );
    says(
        &service("clusterIP: 10.0.0.1\nports: [{port: 80, port: 81}]"),
        expect![[r#"
            error[duplicate-key] 6:22 <port> Service shop/web: spec.ports[0].port is there twice
              hint: keep one of them: kubectl refuses this, and other readers take the last
        "#]],
    );
    says(
        "{\"apiVersion\": \"v1\", \"kind\": \"Service\",\n \"metadata\": [\"a\"]}",
        expect![[r#"
            error[wrong-type] 2:14 <[> Service: metadata must be a mapping, not a list
        "#]],
    );
}

#[test]
fn says_which_values_are_bad() {
    let ip = "clusterIP: 10.96.0.1\n";
    says(
        &service(&format!("clusterIP: 10.96.0.300\n{PORT}")),
        expect![[r#"
        error[bad-address] 5:14 <10.96.0.300> Service shop/web: cluster IP `10.96.0.300` is not an IP address
    "#]],
    );
    says(
        &service(&format!(
            "{ip}ports: [{{port: 0}}, {{port: 70000, name: a}}, {{port: 1, name: A, nodePort: -1}}]"
        )),
        expect![[r#"
            error[unnamed-port] 6:11 <{> Service shop/web: port 1 of 3 has no name
              hint: with more than one port, every port needs a name
            error[bad-port] 6:18 <0> Service shop/web: port `0` is not between 1 and 65535
            error[bad-port] 6:29 <70000> Service shop/web: port `70000` is not between 1 and 65535
            error[bad-name] 6:62 <A> Service shop/web: the port name `A` is not a DNS label
              hint: 63 characters at most: lower-case letters, digits and `-`, with a letter or digit at both ends
            error[bad-port] 6:75 <-1> Service shop/web: nodePort `-1` is not between 1 and 65535
        "#]],
    );
    says(
        &service(&format!("{ip}ports: [{{port: 1, protocol: tcp}}]\ntype: NodePorts")),
        expect![[r#"
            error[unknown-word] 6:31 <tcp> Service shop/web: protocol cannot be `tcp`
              hint: did you mean `TCP`?
            error[unknown-word] 7:9 <NodePorts> Service shop/web: type cannot be `NodePorts`
              hint: it can be `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`
        "#]],
    );
    says(
        &service(&format!("{ip}ports: [{{port: 1, name: a}}, {{port: 2, name: a}}, {{port: 1, name: b}}]")),
        expect![[r#"
            error[duplicate-port] 6:47 <a> Service shop/web: there is another port named `a`
            error[duplicate-port] 6:58 <1> Service shop/web: there is another port `1` with protocol TCP
        "#]],
    );
    says(
        &service(&format!(
            "{ip}sessionAffinity: ClientIP\nsessionAffinityConfig: {{clientIP: {{timeoutSeconds: 0}}}}\n{PORT}"
        )),
        expect![[r#"
            error[bad-timeout] 7:54 <0> Service shop/web: timeoutSeconds `0` is not between 1 and 86400
        "#]],
    );
    says(
        &service(&format!("{ip}internalTrafficPolicy: local\nexternalTrafficPolicy: Nearby\n{PORT}")),
        expect![[r#"
            error[unknown-word] 6:26 <local> Service shop/web: internalTrafficPolicy cannot be `local`
              hint: did you mean `Local`?
            error[unknown-word] 7:26 <Nearby> Service shop/web: externalTrafficPolicy cannot be `Nearby`
              hint: it can be `Cluster`, `Local`
        "#]],
    );
    says(
        &service(ip),
        expect![[r#"
        error[no-ports] 5:3 <> Service shop/web: the Service has no ports
    "#]],
    );
    says(
        &service(&format!("{ip}clusterIPs: [10.96.0.2]\n{PORT}")),
        expect![[r#"
        error[cluster-ip-mismatch] 5:14 <10.96.0.1> Service shop/web: clusterIP `10.96.0.1` is not the first of clusterIPs, `10.96.0.2`
    "#]],
    );
    says(
        &service(&format!("{ip}clusterIPs: [10.96.0.1]\nipFamilies: [IPv6]\n{PORT}")),
        expect![[r#"
        error[family-mismatch] 7:16 <IPv6> Service shop/web: cluster IP `10.96.0.1` is not IPv6, as ipFamilies says
    "#]],
    );
    says(
        &service(PORT),
        expect![[r#"
        warning[no-cluster-ip] 3:18 <web> Service shop/web: the Service has no cluster IP and is left out
          hint: give --snapshot with what kubectl printed from the cluster, or --service-cidr for placeholder addresses
    "#]],
    );
    says(
        &service(&format!("{ip}{PORT}")).replace("name: web", "name: \"we\\\"b\\n\"").replace("shop", "Shop"),
        expect![[r#"
            error[bad-name] 3:18 <"we\"b\n"> Service: the name `we"b\n` is not a DNS label
              hint: 63 characters at most: lower-case letters, digits and `-`, with a letter or digit at both ends
            error[bad-name] 3:40 <Shop> Service: the namespace `Shop` is not a DNS label
              hint: 63 characters at most: lower-case letters, digits and `-`, with a letter or digit at both ends
        "#]],
    );
}

#[test]
fn says_what_is_odd_about_slices() {
    says(
        &slice("a", "ports: [{port: 80}]\nendpoints: [{addresses: [fd00::1]}, {addresses: [x]}]"),
        expect![[r#"
            warning[bad-address] 7:26 <fd00::1> EndpointSlice shop/a: address `fd00::1` is not IPv4, as addressType says
              hint: the endpoint is left out
            warning[bad-address] 7:50 <x> EndpointSlice shop/a: address `x` is not an IP address
              hint: the endpoint is left out
        "#]],
    );
    says(
        &slice("a", "ports: [{port: 80000}, {name: 'a b', port: 1}, {port: 2, protocol: ICMP}]"),
        expect![[r#"
        error[bad-port] 6:16 <80000> EndpointSlice shop/a: port `80000` is not between 1 and 65535
        error[bad-name] 6:31 <'a b'> EndpointSlice shop/a: the port name `a b` is not a DNS label
        error[unknown-word] 6:68 <ICMP> EndpointSlice shop/a: protocol cannot be `ICMP`
          hint: it can be `TCP`, `UDP`, `SCTP`
    "#]],
    );
    says(
        &slice("a", "").replace("kubernetes.io/service-name: web", ""),
        expect![[r#"
            warning[slice-without-service] 4:38 <labels> EndpointSlice shop/a: the label `kubernetes.io/service-name` is missing
              hint: kube-proxy does not look at this slice
        "#]],
    );
    let text = service("clusterIP: 10.96.0.1\nports: [{port: 80, name: http}]")
        + &slice("a", "ports: [{port: 80, name: web}]\nendpoints: []");
    says(
        &text,
        expect![[r#"
            note[port-without-endpoint] 6:28 <http> Service shop/web: port `http` TCP is in no EndpointSlice of the Service
              hint: EndpointSlice `a` has ports: `web` TCP
        "#]],
    );
}

#[test]
fn says_what_two_objects_cannot_both_have() {
    let a = service("clusterIP: 10.96.0.1\ntype: NodePort\nports: [{port: 80, nodePort: 30080}]");
    let b = a.replace("name: web", "name: api");
    says(
        &format!("{a}---\n{a}---\n{b}"),
        expect![[r#"
            error[duplicate-object] 11:18 <web> Service shop/web: there is another Service `shop/web`
              hint: the first is at `a.yaml:3:18`, and is kept
            warning[vip-conflict] 23:18 <80> Service shop/api: `10.96.0.1:80` TCP is also claimed by Service `shop/web`
            warning[node-port-conflict] 23:32 <30080> Service shop/api: node port `30080` TCP is also claimed by Service `shop/web`
        "#]],
    );
    let nodes = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n";
    says(
        &format!("{nodes}---\n{nodes}{}{}", slice("a", ""), slice("a", "")),
        expect![[r#"
        error[duplicate-object] 7:18 <n> Node n: there is another Node `n`
          hint: the first is at `a.yaml:3:18`, and is kept
        error[duplicate-object] 17:18 <a> EndpointSlice shop/a: there is another EndpointSlice `shop/a`
          hint: the first is at `a.yaml:11:18`, and is kept
    "#]],
    );
}

fn ranges() -> LoadOptions {
    LoadOptions {
        placeholders: Some(PlaceholderRanges {
            service_cidrs: PerFamily { v4: IpCidr::parse_sloppy("10.96.0.0/16"), v6: None },
            node_ports: 30000..=32767,
        }),
        ..LoadOptions::default()
    }
}

#[test]
fn gives_placeholders() {
    let text = service(&format!("type: LoadBalancer\nexternalTrafficPolicy: Local\n{PORT}"));
    let loaded = load(&[source("a.yaml", &text)], &ranges());
    assert!(loaded.diagnostics.is_empty());
    expect![[r#"
        shop/web LoadBalancer 10.96.90.154 :80/tcp->32020
    "#]]
    .assert_eq(&shown(&loaded));
    let service = &loaded.cluster.services[&ServiceName::new("shop", "web")];
    assert!(service.placeholders.cluster_ips && service.placeholders.node_ports);
    assert!(service.health_check_node_port.is_some_and(|port| port >= 30000));
}

const SNAPSHOT: &str = r#"{"apiVersion":"v1","kind":"List","items":[
{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","annotations":{
"kubectl.kubernetes.io/last-applied-configuration":"{\"spec\":{\"externalIPs\":[\"192.0.2.1\"],\"sessionAffinity\":\"ClientIP\"}}"}},
"spec":{"type":"LoadBalancer","clusterIP":"10.96.0.7","clusterIPs":["10.96.0.7","fd00::7"],"ipFamilies":["IPv4","IPv6"],
"ipFamilyPolicy":"RequireDualStack","externalIPs":["192.0.2.1"],"sessionAffinity":"ClientIP","externalTrafficPolicy":"Local",
"healthCheckNodePort":31999,"ports":[{"name":"http","port":80,"protocol":"TCP","nodePort":30080},
{"name":"dns","port":53,"protocol":"UDP","nodePort":30053}]},
"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"}]}}},
{"apiVersion":"v1","kind":"Service","metadata":{"name":"other","namespace":"shop"},
"spec":{"clusterIP":"10.96.0.8","ports":[{"port":1}]}}]}"#;

#[test]
fn replaces_slices_of_the_snapshot() {
    let a = slice("a", "ports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.1]}]");
    let b = slice("a", "ports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.2]}]");
    let loaded = load_over(&[source("a", &a)], &[source("b", &b)], &LoadOptions::default());
    assert!(loaded.diagnostics.is_empty());
    assert_eq!(shown(&loaded), "shop/web/tcp 10.0.0.1:80\n");
    let new = service(PORT);
    let loaded = load_over(&[source("a", &new)], &[source("b", &b)], &ranges());
    assert!(loaded.diagnostics.is_empty());
    assert!(loaded.cluster.services[&ServiceName::new("shop", "web")].placeholders.cluster_ips);
}

#[test]
fn makes_errors_of_warnings_when_strict() {
    let loaded =
        load(&[source("a", &service(PORT))], &LoadOptions { strict: true, ..LoadOptions::default() });
    assert_eq!(loaded.diagnostics[0].severity, Severity::Error);
    assert_eq!(loaded.diagnostics[0].code, "no-cluster-ip");
}

#[test]
fn survives_garbage() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    let seeds = [
        SNAPSHOT.to_owned(),
        service("clusterIP: &a 10.0.0.1\n<<: {x: *a}\nports: [{port: 1}]"),
        slice("a", "ports: [{port: 80}]\nendpoints: [{addresses: [10.0.0.1]}]"),
    ];
    let mutated =
        (0..seeds.len(), proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6))
            .prop_map(|(seed, changes)| {
                let mut bytes = seeds[seed].clone().into_bytes();
                for (index, byte) in changes {
                    let at = index.index(bytes.len());
                    match byte % 3 {
                        0 => bytes[at] = byte,
                        1 => bytes.insert(at, b"{}[]:,'\"-&*|\n "[usize::from(byte) % 15]),
                        _ => bytes.truncate(at + 1),
                    }
                }
                bytes
            });
    let bytes = prop_oneof![mutated, proptest::collection::vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(600) });
    runner
        .run(&bytes, |bytes| {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let garbage = source("g", &text);
            let loaded = load_over(std::slice::from_ref(&garbage), &[source("s", SNAPSHOT)], &ranges());
            said(&[garbage.clone(), source("s", SNAPSHOT)], &loaded);
            load_over(
                &[source("m", &service(PORT))],
                std::slice::from_ref(&garbage),
                &LoadOptions::default(),
            );
            load_config(&garbage, SourceId(0), None);
            Ok(())
        })
        .unwrap();
}

#[test]
fn knows_the_protocols() {
    let text = slice("a", "ports: [{port: 1, protocol: SCTP}]\nendpoints: [{addresses: [10.0.0.1]}]");
    let loaded = loaded(&text);
    assert!(loaded.cluster.endpoints.v4.keys().all(|name| name.protocol == Protocol::Sctp));
}
