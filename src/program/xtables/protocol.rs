//! Names of IP protocols, as iptables-save prints them.

/// Numbers with a name (protocols(5)), ascending. The rest is printed as a number.
const NAMES: [(u8, &str); 55] = [
    (0, "ip"),
    (1, "icmp"),
    (2, "igmp"),
    (3, "ggp"),
    (4, "ipencap"),
    (5, "st"),
    (6, "tcp"),
    (8, "egp"),
    (9, "igp"),
    (12, "pup"),
    (17, "udp"),
    (20, "hmp"),
    (22, "xns-idp"),
    (27, "rdp"),
    (29, "iso-tp4"),
    (33, "dccp"),
    (36, "xtp"),
    (37, "ddp"),
    (38, "idpr-cmtp"),
    (41, "ipv6"),
    (43, "ipv6-route"),
    (44, "ipv6-frag"),
    (45, "idrp"),
    (46, "rsvp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (57, "skip"),
    (58, "ipv6-icmp"),
    (59, "ipv6-nonxt"),
    (60, "ipv6-opts"),
    (73, "rspf"),
    (81, "vmtp"),
    (88, "eigrp"),
    (89, "ospf"),
    (93, "ax.25"),
    (94, "ipip"),
    (97, "etherip"),
    (98, "encap"),
    (103, "pim"),
    (108, "ipcomp"),
    (112, "vrrp"),
    (115, "l2tp"),
    (124, "isis"),
    (132, "sctp"),
    (133, "fc"),
    (135, "mobility-header"),
    (136, "udplite"),
    (137, "mpls-in-ip"),
    (138, "manet"),
    (139, "hip"),
    (140, "shim6"),
    (141, "wesp"),
    (142, "rohc"),
    (143, "ethernet"),
];

/// Other names that iptables takes.
const ALIASES: [(u8, &str); 4] = [(58, "icmpv6"), (58, "icmp6"), (135, "mh"), (135, "ipv6-mh")];

/// The name that iptables-save prints for a protocol, if it has one.
pub(super) fn name(number: u8) -> Option<&'static str> {
    match number {
        6 => return Some("tcp"),
        17 => return Some("udp"),
        _ => {}
    }
    NAMES.binary_search_by_key(&number, |(number, _)| *number).ok().map(|at| NAMES[at].1)
}

/// The protocol of a name or a decimal number; 0 is any protocol.
pub(super) fn number(text: &str) -> Option<u8> {
    match text {
        "tcp" => return Some(6),
        "udp" => return Some(17),
        "sctp" => return Some(132),
        "all" => return Some(0),
        _ => {}
    }
    if let Ok(number) = text.parse::<u8>() {
        return text.bytes().all(|byte| byte.is_ascii_digit()).then_some(number);
    }
    NAMES.iter().chain(&ALIASES).find(|(_, name)| name.eq_ignore_ascii_case(text)).map(|(number, _)| *number)
}
