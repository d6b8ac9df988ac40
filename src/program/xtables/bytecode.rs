//! The one BPF program that is modelled: no other match compares two parts of a packet with each other.

use crate::net::IpFamily;

/// `--bytecode` of a program that takes packets to the address that they come from, as iptables-save prints it: how many
/// instructions, then code, jump if true, jump if false and operand of each (xt_bpf; linux/filter.h). Each word of the source
/// is loaded (32), put aside (7) and compared (29) with that of the destination; 6 ends with yes (65535) or no.
pub(super) fn to_itself(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0",
        IpFamily::V6 => {
            "18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,\
             32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 65535,6 0 0 0"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    /// What a program says of the head of a packet, by the instructions that it may have (linux/filter.h).
    fn run(program: &str, head: &[u8]) -> bool {
        let mut parts = program.split(',');
        let n: usize = parts.next().unwrap().parse().unwrap();
        let numbers = |part: &str| -> [usize; 4] {
            let all: Vec<usize> = part.split(' ').map(|number| number.parse().unwrap()).collect();
            all.try_into().unwrap()
        };
        let program: Vec<[usize; 4]> = parts.map(numbers).collect();
        assert_eq!(program.len(), n);
        let (mut at, mut loaded, mut aside) = (0, 0, 0);
        loop {
            let [code, if_true, if_false, operand] = program[at];
            at += 1;
            match code {
                32 => loaded = u32::from_be_bytes(head[operand..operand + 4].try_into().unwrap()),
                7 => aside = loaded,
                29 => at += if loaded == aside { if_true } else { if_false },
                6 => return operand != 0,
                _ => panic!("{code}"),
            }
        }
    }

    /// The head of a packet, as far as its addresses.
    fn head(source: &str, destination: &str) -> (IpFamily, Vec<u8>) {
        let octets = |text: &str| match text.parse().unwrap() {
            IpAddr::V4(addr) => addr.octets().to_vec(),
            IpAddr::V6(addr) => addr.octets().to_vec(),
        };
        let family = IpFamily::of(source.parse().unwrap());
        let before = if family == IpFamily::V4 { 12 } else { 8 };
        (family, [vec![0; before], octets(source), octets(destination)].concat())
    }

    #[test]
    fn every_word_of_both_addresses_counts() {
        for (source, destination, is_itself) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("fd00::1:2:3:4", "fd00::1:2:3:4", true),
            ("fd00::1:2:3:4", "fd01::1:2:3:4", false),
            ("fd00:0:0:1:2:3:4:5", "fd00:0:0:2:2:3:4:5", false),
            ("fd00:0:0:1:2:3:4:5", "fd00:0:0:1:2:4:4:5", false),
            ("fd00::1:2:3:4", "fd00::1:2:3:5", false),
        ] {
            let (family, head) = head(source, destination);
            assert_eq!(run(to_itself(family), &head), is_itself, "{source} {destination}");
        }
    }
}
