//! Differences, and what they do to a kernel.

use super::*;
use crate::program::ipvs::apply::{ApplyError, apply};
use crate::program::ipvs::diff::{ServerChange, diff};

#[test]
fn a_new_server_comes_with_its_real_servers() {
    let web = key("tcp 10.0.0.1:80");
    let wanted = VirtualServers::from([(web, server(&[("10.1.0.2:80", 1, 0), ("10.1.0.1:80", 1, 0)]))]);
    let found = diff(&wanted, &VirtualServers::new(), &all);
    assert_eq!(
        found.make,
        [
            Request::NewService(web, server(&[])),
            Request::NewDestination(web, at("10.1.0.1:80"), RealServer::masqueraded(1)),
            Request::NewDestination(web, at("10.1.0.2:80"), RealServer::masqueraded(1)),
        ]
    );
    assert_eq!(found.remove, []);
    assert_eq!(found.servers[&web].change, ServerChange::Create);
    assert_eq!(found.servers[&web].added, [at("10.1.0.1:80"), at("10.1.0.2:80")]);
}

#[test]
fn a_real_server_with_connections_is_drained() {
    let web = key("tcp 10.0.0.1:80");
    let wanted = VirtualServers::from([(web, server(&[("10.1.0.1:80", 1, 0)]))]);
    let busy = VirtualServers::from([(web, server(&[("10.1.0.1:80", 1, 5), ("10.1.0.2:80", 1, 1)]))]);
    let first = diff(&wanted, &busy, &all);
    assert_eq!(first.remove, [Request::SetDestination(web, at("10.1.0.2:80"), RealServer::masqueraded(0))]);
    assert_eq!(first.draining, [(web, at("10.1.0.2:80"))]);
    assert_eq!(first.servers[&web].drained, [at("10.1.0.2:80")]);

    let mut waiting = after(&busy, &first.remove);
    let second = diff(&wanted, &waiting, &all);
    assert!(second.is_empty() && second.servers.is_empty(), "{second:?}");
    assert_eq!(second.draining, [(web, at("10.1.0.2:80"))]);

    let again = VirtualServers::from([(web, server(&[("10.1.0.1:80", 1, 0), ("10.1.0.2:80", 1, 0)]))]);
    let back = diff(&again, &waiting, &all);
    assert_eq!(back.make, [Request::SetDestination(web, at("10.1.0.2:80"), RealServer::masqueraded(1))]);
    assert_eq!((back.draining.len(), &back.servers[&web].changed[..]), (0, &[at("10.1.0.2:80")][..]));

    let drained = waiting.get_mut(&web).unwrap().real_servers.get_mut(&at("10.1.0.2:80")).unwrap();
    drained.connections = Connections { active: 0, inactive: 1 };
    assert!(diff(&wanted, &waiting, &all).is_empty(), "one that closes counts");
    waiting.get_mut(&web).unwrap().real_servers.get_mut(&at("10.1.0.2:80")).unwrap().connections =
        Connections::default();
    let last = diff(&wanted, &waiting, &all);
    assert_eq!(last.remove, [Request::DeleteDestination(web, at("10.1.0.2:80"))]);
    assert_eq!(last.draining, []);
}

#[test]
fn datagrams_and_whole_servers_are_not_waited_for() {
    let dns = key("udp 10.0.0.1:53");
    let (sctp, web) = (key("sctp 10.0.0.1:7"), key("tcp 10.0.0.1:80"));
    let busy = server(&[("10.1.0.1:53", 1, 9)]);
    let live = VirtualServers::from([(dns, busy.clone()), (sctp, busy.clone()), (web, busy)]);
    let wanted = VirtualServers::from([(dns, server(&[])), (sctp, server(&[]))]);
    let found = diff(&wanted, &live, &all);
    assert_eq!(
        found.remove,
        [
            Request::DeleteService(web),
            Request::DeleteDestination(dns, at("10.1.0.1:53")),
            Request::DeleteDestination(sctp, at("10.1.0.1:53")),
        ]
    );
    assert_eq!(found.draining, []);
    assert_eq!(found.servers[&web].change, ServerChange::Delete);
}

#[test]
fn what_is_not_ours_stays_unless_it_is_wanted() {
    let (ours, foreign) = (key("tcp 10.0.0.1:80"), key("tcp 192.0.2.1:80"));
    let other = VirtualServer { scheduler: scheduler("wlc"), ..server(&[]) };
    let live = VirtualServers::from([(ours, other.clone()), (foreign, other)]);
    let is_ours = |key: &ServiceKey| *key == ours;
    assert_eq!(diff(&VirtualServers::new(), &live, &is_ours).remove, [Request::DeleteService(ours)]);
    let wanted = VirtualServers::from([(ours, server(&[])), (foreign, server(&[]))]);
    let found = diff(&wanted, &live, &is_ours);
    assert_eq!(
        found.make,
        [Request::SetService(ours, server(&[])), Request::SetService(foreign, server(&[]))]
    );
    assert!(found.servers[&foreign].settings);
}

#[test]
fn the_kernel_refuses_what_is_there_or_is_not() {
    let web = key("tcp 10.0.0.1:80");
    let real = at("10.1.0.1:80");
    let mut servers = VirtualServers::from([(web, server(&[("10.1.0.1:80", 1, 3)]))]);
    let before = servers.clone();
    let mut refusal = |request| apply(&mut servers, &request).unwrap_err();
    let other = key("udp 10.0.0.1:80");
    let one = RealServer::masqueraded(1);
    let exists = refusal(Request::NewService(web, server(&[])));
    assert_eq!(exists, ApplyError::ServerExists(web));
    assert!(exists.is_exists());
    assert_eq!(exists.to_string(), "virtual server 10.0.0.1:80/TCP is there already");
    assert_eq!(refusal(Request::SetService(other, server(&[]))), ApplyError::NoServer(other));
    assert_eq!(refusal(Request::DeleteService(other)), ApplyError::NoServer(other));
    assert_eq!(refusal(Request::NewDestination(other, real, one)), ApplyError::NoServer(other));
    assert_eq!(refusal(Request::NewDestination(web, real, one)), ApplyError::RealServerExists(web, real));
    let gone = at("10.1.0.2:80");
    assert_eq!(refusal(Request::SetDestination(web, gone, one)), ApplyError::NoRealServer(web, gone));
    assert!(!refusal(Request::DeleteDestination(web, gone)).is_exists());
    assert_eq!(servers, before);
    apply(&mut servers, &Request::SetDestination(web, real, RealServer::masqueraded(7))).unwrap();
    let changed = servers[&web].real_servers[&real];
    assert_eq!((changed.weight, changed.connections.active), (7, 3));
}

proptest! {
    #[test]
    fn a_difference_applied_gives_what_is_wanted(wanted in servers(IpFamily::V4), live in servers(IpFamily::V4)) {
        let found = diff(&wanted, &live, &all);
        let made = after(&live, &found.make);
        for (key, server) in &wanted {
            for (at, real_server) in &server.real_servers {
                prop_assert_eq!(made[key].real_servers.get(at), Some(real_server));
            }
        }
        let after = after(&made, &found.remove);
        prop_assert_eq!(without_draining(after.clone(), &found.draining), wanted.clone());
        let again = diff(&wanted, &after, &all);
        prop_assert!(again.is_empty() && again.servers.is_empty(), "{:?}", again);
        prop_assert_eq!(&again.draining, &found.draining);
        prop_assert_eq!(found.is_empty(), found.servers.is_empty());
    }

    #[test]
    fn what_is_not_ours_is_never_touched(wanted in servers(IpFamily::V6), live in servers(IpFamily::V6)) {
        let is_ours = |key: &ServiceKey| matches!(key, ServiceKey::Address { protocol: Protocol::Tcp, .. });
        let found = diff(&wanted, &live, &is_ours);
        let after = after(&after(&live, &found.make), &found.remove);
        for (key, server) in &live {
            if !is_ours(key) && !wanted.contains_key(key) {
                prop_assert_eq!(after.get(key), Some(server));
            }
        }
    }
}
