//! Parse and emit.

use std::path::PathBuf;

use super::*;
use crate::program::Tag;
use crate::program::ipvs::emit::{emit, write_document, write_document_to, write_request};
use crate::program::ipvs::parse::parse;

/// What ipvsadm 1.31 printed of a kernel with some of everything, in the order of addresses.
const EVERYTHING: &str = "\
-A -t 0.0.0.0:80 -s rr
-A -t 10.0.0.1:80 -s rr -p 600
-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 0
-a -t 10.0.0.1:80 -r 10.1.0.3:80 -g -w 2147483647
-a -t 10.0.0.1:80 -r 10.1.0.4:80 -i -w 1 --tun-type ipip
-a -t 10.0.0.1:80 -r 10.1.0.5:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 10.0.0.1:80 -r 10.1.0.6:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 10.0.0.1:80 -r 10.1.0.7:80 -i -w 1 --tun-type gre --tun-csum
-a -t 10.0.0.1:80 -r 10.1.0.11:0 -m -w 1
-A -t 10.0.0.2:80 -s mh -b mh-port
-a -t 10.0.0.2:80 -r 10.77.77.77:80 -m -w 1
-a -t 10.0.0.2:80 -r [fd00::2]:80 -i -w 1 --tun-type ipip
-A -t 10.0.0.3:80 -s mh -b mh-fallback,mh-port
-A -t 10.0.0.4:80 -s rr -b flag-1,flag-3
-A -t 10.0.0.5:80 -s wlc -p 360 -M 255.255.255.0
-A -t 10.0.0.6:0 -s wlc -p 5 -M 255.255.0.0
-a -t 10.0.0.6:0 -r 10.1.0.1:0 -g -w 1
-A -t 10.0.0.12:80 -s rr -p 5 -M 0.0.0.0
-A -t [::10.0.0.1]:80 -s rr
-A -t [::ffff:10.0.0.1]:80 -s rr
-A -t [fd00::1]:80 -s rr -p 360 -M 64
-a -t [fd00::1]:80 -r 10.1.0.2:80 -i -w 1 --tun-type ipip
-a -t [fd00::1]:80 -r [fd00:1::1]:8080 -m -w 1
-A -u 10.0.0.1:53 -s wrr -o
-A -u 10.0.0.1:80 -s sh -p 60 -M 255.255.255.0 --pe sip -o -b sh-port
-A -u 10.0.0.1:5060 -s rr -p 60 --pe sip
-A --sctp-service 10.0.0.1:53 -s sh -b sh-fallback,sh-port
-a --sctp-service 10.0.0.1:53 -r 127.0.0.1:53 -g -w 1
-A -f 5 -s rr
-a -f 5 -r 10.1.0.1:0 -g -w 1
-a -f 5 -r 10.1.0.2:80 -m -w 1
-A -f 6 -6 -s rr -p 7 -M 96
-a -f 6 -6 -r [fd00:1::1]:0 -g -w 1
";

fn emitted(servers: &VirtualServers) -> String {
    String::from_utf8(emit(servers, "").text).unwrap()
}

fn errors(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[allow(clippy::disallowed_methods, reason = "tests read files")]
/// What ipvsadm printed of kube-proxy's virtual servers, by the name of the folder.
fn recordings() -> Vec<(String, String)> {
    let parent = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert_eq!(folders.len(), 14);
    let read = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("ipvs-save.txt")).unwrap();
        (folder.file_name().unwrap().to_string_lossy().into_owned(), text)
    };
    folders.iter().map(read).collect()
}

#[test]
fn everything_recorded_comes_out_as_it_was() {
    for (folder, text) in recordings() {
        let servers = parse(&text).unwrap();
        let ours = emitted(&servers);
        assert_eq!(parse(&ours).as_ref(), Ok(&servers), "{folder}");
        // ipvsadm sorts addresses as signed numbers.
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&ours), sorted(&text), "{folder}");
    }
}

#[test]
fn text_is_as_ipvsadm_writes_it() {
    let servers = parse(EVERYTHING).unwrap();
    assert_eq!(emitted(&servers), EVERYTHING);
    let web = &servers[&key("tcp 10.0.0.1:80")];
    assert_eq!((web.flags, web.persistence_seconds, web.netmask), (Flags::PERSISTENT, 600, 32));
    assert_eq!(web.real_servers[&at("10.1.0.6:80")].tunnel, Tunnel { kind: 1, port: 6080, flags: 2 });
    assert_eq!(servers[&key("tcp 10.0.0.12:80")].netmask, 0);
    let media = &servers[&key("udp 10.0.0.1:80")];
    assert_eq!(media.flags, Flags::PERSISTENT.with(Flags::ONE_PACKET).with(Flags::SCHEDULER_2));
    assert_eq!(media.engine, Some(scheduler("sip")));
}

#[test]
fn what_ipvsadm_prints_and_does_not_read_is_mended() {
    let servers = parse("-A -f -1 -s sed\n").unwrap();
    assert_eq!(emitted(&servers), "-A -f 4294967295 -s sed\n");
    assert_eq!(parse("-A -f 4294967295 -s sed\n"), Ok(servers));
    let text = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1 -x 100 -y 50\n";
    assert_eq!(emitted(&parse(text).unwrap()), text);
}

#[test]
fn other_spellings_are_read() {
    let long = "ipvsadm --add-service --tcp-service 10.0.0.1:80 --scheduler rr --persistent --netmask 255.255.255.0\n\
        # a comment\n\n  ipvsadm --add-server --tcp-service 10.0.0.1:80 --real-server 10.1.0.1 --masquerading --weight 3\r\n";
    let short = "-A -t 10.0.0.1:80 -p 360 -M 255.255.255.0 -s rr\n-a -t 10.0.0.1:80 -w 3 -m -r 10.1.0.1:80\n";
    assert_eq!(parse(long), parse(short));
    // Without these words ipvsadm has its own mind.
    let brief = "-A -t 10.0.0.20 -p\n-a -t 10.0.0.20 -r 10.1.1.1\n-A -f 16\n-a -f 16 -r 10.1.1.1\n-A -t [fd00::1] -p 5\n";
    let full = "-A -t 10.0.0.20:0 -s wlc -p 360\n-a -t 10.0.0.20:0 -r 10.1.1.1:0 -g -w 1\n\
        -A -t [fd00::1]:0 -s wlc -p 5\n-A -f 16 -s wlc\n-a -f 16 -r 10.1.1.1:0 -g -w 1\n";
    assert_eq!(emitted(&parse(brief).unwrap()), full);
    assert_eq!(
        parse("-A -t 10.0.0.1:1 -b flag-2,sh-fallback -s sh"),
        parse("-A -t 10.0.0.1:1 -s sh -b sh-fallback,sh-port")
    );
    assert_eq!(
        parse("-A -t 10.0.0.1:1 -s rr -M 255.0.0.0"),
        parse("-A -t 10.0.0.1:1 -s rr"),
        "a mask needs -p"
    );
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, words) in [
        ("-D -t 10.0.0.1:80", "line 1, column 1: expected -A or -a"),
        ("\n-A", "line 2, column 3: expected -t, -u, --sctp-service or -f"),
        ("-A -x", "line 1, column 4: expected -t, -u, --sctp-service or -f"),
        ("-A -t", "line 1, column 6: expected an address and a port"),
        ("-A -t web:80", "line 1, column 7: expected an address and a port, as 10.0.0.1:80 or [fd00::1]:80"),
        (
            "-A -t 10.0.0.1:65536",
            "line 1, column 7: expected an address and a port, as 10.0.0.1:80 or [fd00::1]:80",
        ),
        (
            "-A -t fd00::1:80",
            "line 1, column 7: expected an address and a port, as 10.0.0.1:80 or [fd00::1]:80",
        ),
        (
            "-A -t [10.0.0.1]:80",
            "line 1, column 7: expected an address and a port, as 10.0.0.1:80 or [fd00::1]:80",
        ),
        (
            "-A -t 10.0.0.1:80 # x",
            "line 1, column 19: expected -s, -p, -M, --pe, -o, -b or the end of the line",
        ),
        ("-A -t 10.0.0.1:80 -s RR", "line 1, column 22: expected the name of a scheduler"),
        ("-A -t 10.0.0.1:80 -s rr -p x", "line 1, column 28: expected a number of seconds"),
        ("-A -t 10.0.0.1:80 -s rr -b mh-port", "line 1, column 28: expected flags that scheduler `rr` has"),
        (
            "-A -t 10.0.0.1:80 -p 1 -M 255.0.255.0",
            "line 1, column 27: expected a mask without gaps, as 255.255.255.0",
        ),
        ("-A -t [::1]:80 -p 1 -M 0", "line 1, column 24: expected a length of 1 to 128"),
        ("-A -f 0 -s rr", "line 1, column 7: expected a mark, not 0"),
        (
            "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80",
            "line 2, column 4: expected another virtual server: this one is there twice",
        ),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1", "line 1, column 4: expected a virtual server that was made"),
        ("-A -f 1\n-a -f 1 -m", "line 2, column 11: expected -r and a real server"),
        (
            "-A -f 1\n-a -f 1 -r 10.0.0.1\n-a -f 1 -r 10.0.0.1:0",
            "line 3, column 12: expected another real server: this one is there twice",
        ),
        ("-A -f 1\n-a -f 1 -r 10.0.0.1 -w -1", "line 2, column 24: expected a weight"),
        ("-A -f 1\n-a -f 1 -r 10.0.0.1 --tun-type vxlan", "line 2, column 32: expected ipip, gue or gre"),
        (
            "-A -f 1\n-a -f 1 -r 10.0.0.1 é",
            "line 2, column 21: expected -r, -m, -g, -i, -w, -x, -y, an option of a tunnel or the end of the line",
        ),
    ] {
        assert_eq!(errors(text), words, "{text}");
    }
}

#[test]
fn lines_know_what_they_were_made_for() {
    let mut servers = parse("-A -t 10.0.0.1:80\n-a -t 10.0.0.1:80 -r 10.1.0.1\n-A -t 10.0.0.2:80\n").unwrap();
    servers.get_mut(&key("tcp 10.0.0.1:80")).unwrap().tag = Some(Tag(7));
    let emitted = emit(&servers, "# one\ntwo");
    assert!(emitted.text.starts_with(b"# one\n# two\n-A -t 10.0.0.1:80"));
    let tags: Vec<Option<Tag>> = (1..7).map(|line| emitted.lines.tag_at(line)).collect();
    assert_eq!(tags, [None, None, Some(Tag(7)), Some(Tag(7)), None, None]);
    let mut buffer = Vec::new();
    write_document(&mut buffer, &servers, "# one\ntwo");
    let mut written = Vec::new();
    write_document_to(&mut written, &servers, "# one\ntwo").unwrap();
    assert_eq!((&buffer, &written), (&emitted.text, &emitted.text));
}

#[test]
fn requests_are_told_as_arguments_of_ipvsadm() {
    let web = key("tcp 10.0.0.1:80");
    let real = at("10.1.0.1:80");
    let one = RealServer::masqueraded(1);
    let requests = [
        Request::NewService(web, server(&[])),
        Request::SetService(web, server(&[])),
        Request::NewDestination(web, real, one),
        Request::SetDestination(web, real, RealServer { forward: Forward::Bypass, ..one }),
        Request::DeleteDestination(web, real),
        Request::DeleteService(ServiceKey::Mark { family: IpFamily::V6, mark: 3 }),
        Request::SetTimeouts(Timeouts { tcp: 900, tcp_fin: 0, udp: 300 }),
    ];
    let mut text = Vec::new();
    requests.iter().for_each(|request| write_request(&mut text, request));
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "-A -t 10.0.0.1:80 -s rr\n-E -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n\
         -e -t 10.0.0.1:80 -r 10.1.0.1:80 -g -w 1\n-d -t 10.0.0.1:80 -r 10.1.0.1:80\n-D -f 3 -6\n--set 900 0 300\n"
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(v4 in servers(IpFamily::V4), v6 in servers(IpFamily::V6)) {
        let mut both = v4;
        both.extend(v6);
        prop_assert_eq!(parse(&emitted(&both)), Ok(both));
    }

    #[test]
    fn any_text_gives_an_answer(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn any_words_give_an_answer(words in proptest::collection::vec(0..32usize, 0..40)) {
        const WORDS: [&str; 32] = [
            "-A", "-a", "\n-A", "\n-a", "-t", "-u", "-f", "-6", "10.0.0.1:80", "[fd00::1]:80", "-r", "-s", "rr",
            "-p", "5", "-M", "255.0.0.0", "64", "-m", "-i", "-w", "-b", "flag-1,", "--tun-type", "gue",
            "--tun-port", "--tun-csum", "--pe", "-o", "-x", "\n", "ipvsadm",
        ];
        let _ = parse(&words.iter().map(|word| WORDS[*word]).collect::<Vec<_>>().join(" "));
    }
}
