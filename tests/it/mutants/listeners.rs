//! Every way to break one thing in the listeners of a process.

use svcproxy::net::{AddrPort, IpFamily};
use svcproxy::program::Program;
use svcproxy::program::listener::{Listener, Listeners};

use super::next;

/// All programs that differ from one in a single listener of one family, each with a word on what that is.
pub(super) fn mutants(program: &Program, family: IpFamily) -> Vec<(String, Program)> {
    let mut all = Vec::new();
    let Some(listeners) = &program.listeners else { return all };
    for (key, listener) in listeners.iter().filter(|(key, _)| key.family() == family) {
        let mut add = |what: &str, change: &dyn Fn(&mut Listeners)| {
            let mut mutant = program.clone();
            change(mutant.listeners.as_mut().unwrap());
            all.push((format!("listener {key}: {what}"), mutant));
        };
        add("closed", &|all| {
            all.remove(key);
        });
        let mut other = *key;
        other.at.port += 1;
        add("at another port", &|all| {
            let moved = all.remove(key).unwrap();
            all.insert(other, moved);
        });
        for target in &listener.targets {
            let without = |change: &dyn Fn(&mut Listener)| {
                let mut changed = listener.clone();
                changed.targets.remove(target);
                change(&mut changed);
                changed
            };
            let others =
                [AddrPort::new(next(target.addr), target.port), AddrPort::new(target.addr, target.port + 1)];
            add(&format!("without {target}"), &|all| {
                all.insert(*key, without(&|_| {}));
            });
            for other in others {
                add(&format!("{other} for {target}"), &|all| {
                    all.insert(*key, without(&|listener| listener.targets.extend([other])));
                });
            }
        }
        let stranger = AddrPort::new(next(listener.targets.first().map_or(key.at.addr, |one| one.addr)), 9);
        add("one target more", &|all| {
            all.get_mut(key).unwrap().targets.insert(stranger);
        });
        let affinity = match listener.affinity_seconds {
            None => Some(60),
            Some(_) => None,
        };
        add("affinity turned round", &|all| all.get_mut(key).unwrap().affinity_seconds = affinity);
        if let Some(seconds) = listener.affinity_seconds {
            add("affinity shorter", &|all| {
                all.get_mut(key).unwrap().affinity_seconds = Some(seconds - 1);
            });
        }
        for (other, twin) in listeners.iter().filter(|(other, _)| other.family() == family && *other > key) {
            add(&format!("exchanged with {other}"), &|all| {
                all.insert(*key, twin.clone());
                all.insert(*other, listener.clone());
            });
        }
    }
    all
}
