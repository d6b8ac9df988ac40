//! `svcproxy run --mode ipvs`: after each change, and after somebody has taken the virtual servers away, the kernel has what the
//! manifests compile to.

use std::fs;
use std::process::{Child, Command, Stdio};

use svcproxy::host::LinuxHost;

use super::alone;
use crate::api_server::until;
use crate::live::Folder;
use crate::rig::Namespace;

const PROGRAM: &str = env!("CARGO_BIN_EXE_svcproxy");

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn manifests(endpoints: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  clusterIP: 10.96.0.1\n  \
         ports: [{{name: http, port: 80, protocol: TCP}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-1, namespace: shop, \
         labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\n\
         endpoints: [{endpoints}]\nports: [{{name: http, port: 8080, protocol: TCP}}]\n"
    )
}

#[test]
fn virtual_servers_stay_in_step() {
    alone(|namespace: &Namespace, _: &mut LinuxHost| {
        let folder = Folder::new();
        let path = folder.write("web.yaml", &manifests("{addresses: [10.128.0.5]}"));
        let of_node = [
            "--mode",
            "ipvs",
            "--node",
            "n",
            "--node-ip",
            "192.0.2.1",
            "--family",
            "ipv4",
            "--iptables",
            "legacy",
            "-f",
            &path,
        ];
        let log = folder.write("run.log", "");
        let said = fs::OpenOptions::new().append(true).open(&log).unwrap();
        let child = namespace.inside(|| {
            Command::new(PROGRAM)
                .args([&["run", "--sync-period", "1h", "--min-sync-period", "10ms"], &of_node[..]].concat())
                .stdout(Stdio::null())
                .stderr(said)
                .spawn()
                .unwrap()
        });
        let mut running = Running(child);
        let mut is_in_step = || {
            until(|| {
                let said = fs::read_to_string(&log).unwrap();
                assert!(running.0.try_wait().unwrap().is_none(), "{said}");
                let compared = namespace.run_with(&[&[PROGRAM, "diff"], &of_node[..]].concat(), b"");
                let differs = || format!("{}{said}", String::from_utf8_lossy(&compared.stdout));
                if compared.status.success() { Ok(()) } else { Err(differs()) }
            });
        };
        is_in_step();
        assert!(namespace.run(&["ipvsadm", "-L", "-n"]).contains("10.128.0.5:8080"));
        folder.write("draft", &manifests("{addresses: [10.128.0.6]}, {addresses: [10.128.0.7]}"));
        fs::rename(folder.0.join("draft"), &path).unwrap();
        is_in_step();
        let servers = namespace.run(&["ipvsadm", "-L", "-n"]);
        assert!(servers.contains("10.128.0.7:8080") && !servers.contains("10.128.0.5:8080"), "{servers}");
        namespace.run(&["ipvsadm", "-C"]);
        is_in_step();
        let ended = Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap();
        assert!(ended.success());
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
        assert!(namespace.run(&["ipvsadm", "-L", "-n"]).contains("10.128.0.7:8080"), "they stay");
    });
}
