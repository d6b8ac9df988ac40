//! The listeners of a running process with their endpoints, as a table or as JSON.

use std::io;

use comfy_table::{CellAlignment, Table, presets};

use crate::program::listener::{EndpointStatus, Status};

use super::one_line;

/// Writes a line about the process, then a table: each listener, and below it its endpoints.
pub fn write(out: &mut dyn io::Write, status: &Status) -> io::Result<()> {
    let Status { process, seconds, current, max, turned_away, draining, listeners } = status;
    let state = if *draining { ", ending" } else { "" };
    let away = if *turned_away > 0 { format!(", {turned_away} turned away") } else { String::new() };
    writeln!(out, "process {process} for {seconds} s{state}: {current} of {max} connections{away}")?;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["SERVICE", "LISTENER", "ENDPOINT", "NOW", "TOTAL", "IN", "OUT", "FAILED", "STATE"]);
    for column in 3..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for listener in listeners {
        let affinity = listener.affinity_seconds.map(|seconds| format!("affinity {seconds} s"));
        let empty = listener.endpoints.is_empty().then(|| "no endpoint".to_owned());
        let states: Vec<String> = [affinity, empty].into_iter().flatten().collect();
        table.add_row([
            one_line(&listener.label),
            format!("{} {}", listener.protocol, listener.address),
            String::new(),
            listener.current.to_string(),
            listener.total.to_string(),
            bytes(listener.bytes_to),
            bytes(listener.bytes_from),
            listener.failures.to_string(),
            states.join(", "),
        ]);
        for endpoint in &listener.endpoints {
            table.add_row([
                String::new(),
                String::new(),
                one_line(&endpoint.address),
                endpoint.current.to_string(),
                endpoint.total.to_string(),
                bytes(endpoint.bytes_to),
                bytes(endpoint.bytes_from),
                endpoint.failures.to_string(),
                state_of(endpoint),
            ]);
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes all of it as one JSON document.
pub fn write_json(out: &mut dyn io::Write, status: &Status) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, status)?;
    writeln!(out)
}

fn state_of(endpoint: &EndpointStatus) -> String {
    let aside = endpoint.set_aside_seconds.map(|seconds| format!("set aside for {seconds:.1} s"));
    let leaving = endpoint.leaving.then(|| "leaving".to_owned());
    [aside, leaving].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Bytes in the largest unit of which there are ten at least.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut rest = n;
    let mut unit = 0;
    while rest >= 10 << 10 && unit + 1 < UNITS.len() {
        rest >>= 10;
        unit += 1;
    }
    format!("{rest} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::listener::ListenerStatus;

    #[test]
    fn a_table_has_a_line_for_each() {
        let endpoint = |address: &str| EndpointStatus {
            address: address.to_owned(),
            current: 2,
            total: 30,
            bytes_to: 10_240,
            bytes_from: 5 << 30,
            failures: 0,
            set_aside_seconds: None,
            leaving: false,
        };
        let dead = EndpointStatus { set_aside_seconds: Some(3.96), failures: 4, ..endpoint("10.0.0.2:80") };
        let left = EndpointStatus { leaving: true, ..endpoint("10.0.0.3:80") };
        let listener = ListenerStatus {
            label: "shop/api:grpc".to_owned(),
            protocol: "tcp".to_owned(),
            address: "0.0.0.0:20345".to_owned(),
            affinity_seconds: Some(10),
            current: 4,
            total: 60,
            endpoints: vec![endpoint("10.0.0.1:80"), dead, left],
            ..ListenerStatus::default()
        };
        let status = Status {
            process: 7,
            seconds: 61,
            current: 4,
            max: 9000,
            turned_away: 1,
            draining: false,
            listeners: vec![listener],
        };
        let mut out = Vec::new();
        write(&mut out, &status).unwrap();
        expect_test::expect![[r#"
            process 7 for 61 s: 4 of 9000 connections, 1 turned away
             SERVICE        LISTENER           ENDPOINT     NOW  TOTAL      IN       OUT  FAILED  STATE
             shop/api:grpc  tcp 0.0.0.0:20345                 4     60     0 B       0 B       0  affinity 10 s
                                               10.0.0.1:80    2     30  10 KiB  5120 MiB       0
                                               10.0.0.2:80    2     30  10 KiB  5120 MiB       4  set aside for 4.0 s
                                               10.0.0.3:80    2     30  10 KiB  5120 MiB       0  leaving
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
