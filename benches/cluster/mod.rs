//! A generator of large clusters: JSON Lists as kubectl prints them, the same bytes for the same numbers.

use std::fmt::Write as _;

/// How large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Services, each with one port and one EndpointSlice.
    pub(crate) services: usize,
    /// Endpoints of each.
    pub(crate) endpoints: usize,
    /// One endpoint of Service 0 is another than it would be: to measure what a small change costs.
    pub(crate) moved: bool,
}

/// The List: three Nodes, the Services, their EndpointSlices.
pub(crate) fn list(size: Size) -> String {
    let mut text = String::from("{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[");
    for node in 1..=3 {
        let comma = if node == 1 { "" } else { "," };
        write!(
            text,
            "{comma}{{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{{\"name\":\"node-{node}\",\"labels\":\
             {{\"topology.kubernetes.io/zone\":\"zone-a\"}}}},\"spec\":{{\"podCIDRs\":[\"10.{node}.0.0/16\"]}},\
             \"status\":{{\"addresses\":[{{\"type\":\"InternalIP\",\"address\":\"192.168.0.{node}\"}}]}}}}"
        )
        .unwrap();
    }
    for service in 0..size.services {
        push_service(&mut text, service);
    }
    for service in 0..size.services {
        push_slice(&mut text, service, size);
    }
    text.push_str("]}\n");
    text
}

fn push_service(text: &mut String, index: usize) {
    let ip = address([10, 96, 0, 0], index + 10);
    write!(
        text,
        ",{{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{{\"name\":\"service-{index}\",\"namespace\":\
         \"team-{team}\",\"labels\":{{\"app\":\"app-{index}\"}}}},\"spec\":{{\"type\":\"ClusterIP\",\"selector\":\
         {{\"app\":\"app-{index}\"}},\"clusterIP\":\"{ip}\",\"clusterIPs\":[\"{ip}\"],\"ipFamilies\":[\"IPv4\"],\
         \"ipFamilyPolicy\":\"SingleStack\",\"internalTrafficPolicy\":\"Cluster\",\"sessionAffinity\":\"None\",\
         \"ports\":[{{\"name\":\"http\",\"port\":80,\"protocol\":\"TCP\",\"targetPort\":8080}}]}},\"status\":\
         {{\"loadBalancer\":{{}}}}}}",
        team = index % 100,
    )
    .unwrap();
}

fn push_slice(text: &mut String, index: usize, size: Size) {
    write!(text, ",{{\"addressType\":\"IPv4\",\"apiVersion\":\"discovery.k8s.io/v1\",\"endpoints\":[")
        .unwrap();
    for endpoint in 0..size.endpoints {
        let comma = if endpoint == 0 { "" } else { "," };
        let moved = size.moved && index == 0 && endpoint == 0;
        let ip = if moved {
            "10.200.200.200".to_owned()
        } else {
            address([10, 128, 0, 0], index * size.endpoints + endpoint)
        };
        write!(
            text,
            "{comma}{{\"addresses\":[\"{ip}\"],\"conditions\":{{\"ready\":true,\"serving\":true,\"terminating\":\
             false}},\"nodeName\":\"node-{node}\",\"targetRef\":{{\"kind\":\"Pod\",\"name\":\"app-{index}-{endpoint}\"}},\
             \"zone\":\"zone-a\"}}",
            node = endpoint % 3 + 1,
        )
        .unwrap();
    }
    write!(
        text,
        "],\"kind\":\"EndpointSlice\",\"metadata\":{{\"name\":\"service-{index}-x\",\"namespace\":\"team-{team}\",\
         \"labels\":{{\"kubernetes.io/service-name\":\"service-{index}\"}}}},\"ports\":[{{\"name\":\"http\",\"port\":8080,\
         \"protocol\":\"TCP\"}}]}}",
        team = index % 100,
    )
    .unwrap();
}

fn address(base: [u8; 4], offset: usize) -> String {
    let number = u32::from_be_bytes(base) + u32::try_from(offset).unwrap();
    std::net::Ipv4Addr::from(number).to_string()
}
