//! Reads what `ipvsadm -S -n` prints (1.26 and later), and what is written by hand for `ipvsadm -R`, as far as it makes
//! virtual and real servers with numeric addresses.

use std::net::{IpAddr, Ipv6Addr};

use nom::Parser;
use nom::bytes::complete::take_while1;
use nom::character::complete::{char, u16 as port};
use nom::combinator::{all_consuming, map_opt, opt};
use nom::sequence::{delimited, preceded};

use crate::net::{AddrPort, IpFamily, Port, Protocol};
pub use crate::program::words::ParseError;
use crate::program::words::{Word, Words};

use super::emit::{TUNNEL_FLAGS, scheduler_flags};
use super::{
    Flags, Forward, RealServer, SchedulerName, ServiceKey, Tunnel, VirtualServer, VirtualServers, netmask,
};

/// The scheduler if none is named.
const DEFAULT_SCHEDULER: &str = "wlc";
/// Seconds of `-p` without a number.
const DEFAULT_PERSISTENCE: u32 = 360;

/// Reads a text.
pub fn parse(text: &str) -> Result<VirtualServers, ParseError> {
    let mut servers = VirtualServers::new();
    for (number, line) in (1..).zip(text.lines()) {
        let mut words = Words::new(number, line);
        if words.peek().is_some_and(|word| word.text == "ipvsadm") {
            words.next();
        }
        let Some(command) = words.next().filter(|word| !word.text.starts_with('#')) else { continue };
        match command.text {
            "-A" | "--add-service" => add_server(&mut servers, &mut words)?,
            "-a" | "--add-server" => add_real_server(&mut servers, &mut words)?,
            _ => return Err(words.error(&command, "-A or -a")),
        }
    }
    Ok(servers)
}

fn add_server(servers: &mut VirtualServers, words: &mut Words<'_>) -> Result<(), ParseError> {
    let (at, key) = read_key(words)?;
    let family = key.family();
    let mut server = VirtualServer {
        scheduler: SchedulerName::literal(DEFAULT_SCHEDULER),
        flags: Flags::default(),
        persistence_seconds: 0,
        netmask: family.bits(),
        engine: None,
        real_servers: Default::default(),
        counters: None,
        tag: None,
    };
    let mut names = None;
    while let Some(option) = words.next() {
        match option.text {
            "-s" | "--scheduler" => server.scheduler = read_name(words, "the name of a scheduler")?,
            "-p" | "--persistent" => {
                server.flags = server.flags.with(Flags::PERSISTENT);
                server.persistence_seconds = match words.peek() {
                    Some(word) if !word.text.starts_with('-') => read_number(words, "a number of seconds")?,
                    Some(_) | None => DEFAULT_PERSISTENCE,
                };
            }
            "-M" | "--netmask" => server.netmask = read_netmask(words, family)?,
            "--pe" => server.engine = Some(read_name(words, "the name of a persistence engine")?),
            "-o" | "--ops" => server.flags = server.flags.with(Flags::ONE_PACKET),
            "-b" | "--sched-flags" => names = Some(words.need("flags of the scheduler")?),
            _ => return Err(words.error(&option, "-s, -p, -M, --pe, -o, -b or the end of the line")),
        }
    }
    if let Some(names) = names {
        server.flags = server.flags.with(read_flags(words, &names, &server.scheduler)?);
    }
    if servers.insert(key, server.normalized(family)).is_some() {
        return Err(words.error(&at, "another virtual server: this one is there twice"));
    }
    Ok(())
}

fn add_real_server(servers: &mut VirtualServers, words: &mut Words<'_>) -> Result<(), ParseError> {
    let (key_at, key) = read_key(words)?;
    let mut real_server = RealServer { forward: Forward::DirectRoute, ..RealServer::masqueraded(1) };
    let mut at = None;
    while let Some(option) = words.next() {
        match option.text {
            "-r" | "--real-server" => {
                let word = words.need("an address and a port")?;
                let same_port = match key {
                    ServiceKey::Address { at, .. } => at.port,
                    ServiceKey::Mark { .. } => 0,
                };
                at = Some((word, read_addr_port(words, &word, same_port)?));
            }
            "-m" | "--masquerading" => real_server.forward = Forward::Masquerade,
            "-g" | "--gatewaying" => real_server.forward = Forward::DirectRoute,
            "-i" | "--ipip" => real_server.forward = Forward::Tunnel,
            "-w" | "--weight" => real_server.weight = read_number(words, "a weight")?,
            "-x" | "--u-threshold" => real_server.upper_threshold = read_number(words, "a threshold")?,
            "-y" | "--l-threshold" => real_server.lower_threshold = read_number(words, "a threshold")?,
            _ => read_tunnel_option(words, &option, &mut real_server.tunnel)?,
        }
    }
    let Some((word, at)) = at else { return Err(words.end_error("-r and a real server")) };
    let Some(server) = servers.get_mut(&key) else {
        return Err(words.error(&key_at, "a virtual server that was made"));
    };
    if server.real_servers.insert(at, real_server.normalized()).is_some() {
        return Err(words.error(&word, "another real server: this one is there twice"));
    }
    Ok(())
}

fn read_tunnel_option(
    words: &mut Words<'_>,
    option: &Word<'_>,
    tunnel: &mut Tunnel,
) -> Result<(), ParseError> {
    match option.text {
        "--tun-type" => {
            let kind = words.need("ipip, gue or gre")?;
            tunnel.kind = match kind.text {
                "ipip" => 0,
                "gue" => 1,
                "gre" => 2,
                _ => return Err(words.error(&kind, "ipip, gue or gre")),
            };
        }
        "--tun-port" => tunnel.port = read_number(words, "a port")?,
        text => {
            let found = TUNNEL_FLAGS.iter().find(|(_, name)| *name == text);
            let expected = "-r, -m, -g, -i, -w, -x, -y, an option of a tunnel or the end of the line";
            tunnel.flags = found.ok_or_else(|| words.error(option, expected))?.0;
        }
    }
    Ok(())
}

/// The option that names a virtual server, with its value.
fn read_key<'a>(words: &mut Words<'a>) -> Result<(Word<'a>, ServiceKey), ParseError> {
    const EXPECTED: &str = "-t, -u, --sctp-service or -f";
    let option = words.need(EXPECTED)?;
    let protocol = match option.text {
        "-t" | "--tcp-service" => Protocol::Tcp,
        "-u" | "--udp-service" => Protocol::Udp,
        "--sctp-service" => Protocol::Sctp,
        "-f" | "--fwmark-service" => return Ok((option, read_mark(words)?)),
        _ => return Err(words.error(&option, EXPECTED)),
    };
    let word = words.need("an address and a port")?;
    let at = read_addr_port(words, &word, 0)?;
    Ok((option, ServiceKey::Address { protocol, at }))
}

/// A mark; ipvsadm prints one from 2^31 on as if it were negative.
fn read_mark(words: &mut Words<'_>) -> Result<ServiceKey, ParseError> {
    let word = words.need("a mark")?;
    let mark = match word.text.parse::<i32>() {
        Ok(negative) => Ok(negative.cast_unsigned()),
        Err(_) => word.text.parse::<u32>(),
    };
    let mark = mark.ok().filter(|mark| *mark > 0).ok_or_else(|| words.error(&word, "a mark, not 0"))?;
    let is_ipv6 = words.peek().is_some_and(|word| matches!(word.text, "-6" | "--ipv6"));
    if is_ipv6 {
        words.next();
    }
    Ok(ServiceKey::Mark { family: if is_ipv6 { IpFamily::V6 } else { IpFamily::V4 }, mark })
}

/// `10.0.0.1:80`, `[fd00::1]:80`, or without the port.
fn read_addr_port(words: &Words<'_>, word: &Word<'_>, same_port: Port) -> Result<AddrPort, ParseError> {
    let v4 = map_opt(take_while1(|c: char| c.is_ascii_digit() || c == '.'), |text: &str| text.parse().ok());
    let v6_text = take_while1(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let v6 = map_opt(v6_text, |text: &str| text.parse::<Ipv6Addr>().ok());
    let addr = v4.map(IpAddr::V4).or(delimited(char('['), v6, char(']')).map(IpAddr::V6));
    let parsed: nom::IResult<&str, (IpAddr, Option<Port>)> =
        all_consuming((addr, opt(preceded(char(':'), port)))).parse(word.text);
    match parsed {
        Ok((_, (addr, port))) => Ok(AddrPort::new(addr, port.unwrap_or(same_port))),
        Err(_) => Err(words.error(word, "an address and a port, as 10.0.0.1:80 or [fd00::1]:80")),
    }
}

fn read_name(words: &mut Words<'_>, expected: &'static str) -> Result<SchedulerName, ParseError> {
    let word = words.need(expected)?;
    SchedulerName::new(word.text).map_err(|_| words.error(&word, expected))
}

fn read_number<T: std::str::FromStr>(words: &mut Words<'_>, expected: &'static str) -> Result<T, ParseError> {
    let word = words.need(expected)?;
    word.text.parse().map_err(|_| words.error(&word, expected))
}

fn read_netmask(words: &mut Words<'_>, family: IpFamily) -> Result<u8, ParseError> {
    let expected = match family {
        IpFamily::V4 => "a mask without gaps, as 255.255.255.0",
        IpFamily::V6 => "a length of 1 to 128",
    };
    let word = words.need(expected)?;
    let bits = match family {
        IpFamily::V4 => word.text.parse().ok().and_then(netmask::bits),
        IpFamily::V6 => word.text.parse().ok().filter(|bits| (1..=IpFamily::V6.bits()).contains(bits)),
    };
    bits.ok_or_else(|| words.error(&word, expected))
}

/// Flags by their names with this scheduler, or by `flag-1` to `flag-3`.
fn read_flags(words: &Words<'_>, names: &Word<'_>, scheduler: &SchedulerName) -> Result<Flags, ParseError> {
    let known = [scheduler_flags(scheduler.as_str()), scheduler_flags("")].concat();
    let mut flags = Flags::default();
    for name in names.text.split(',') {
        match known.iter().find(|(_, known)| *known == name) {
            Some((flag, _)) => flags = flags.with(*flag),
            None => return Err(words.error(names, format!("flags that scheduler `{scheduler}` has"))),
        }
    }
    Ok(flags)
}
