//! Who runs on which core: under overload, clients that share the broker's cores take
//! from it what they offer too much, and that is measured instead of the broker.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The broker's core, and those of the clients.
#[derive(Debug)]
pub(crate) struct Cores {
    pub(crate) broker: usize,
    clients: Vec<usize>,
}

impl Cores {
    /// The first for the broker, the others for the clients; `None` where there is only one.
    pub(crate) fn split() -> io::Result<Option<Self>> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let (Some(broker), clients) = (cores.next(), cores.collect::<Vec<_>>()) else {
            return Ok(None);
        };
        Ok((!clients.is_empty()).then_some(Self { broker, clients }))
    }

    /// Keeps every thread of this process, and those they start, on the clients' cores.
    pub(crate) fn keep_clients(&self) -> io::Result<()> {
        let mut set = CpuSet::new();
        self.clients.iter().for_each(|&core| set.set(core));
        for thread in std::fs::read_dir("/proc/self/task")? {
            let name = thread?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            if let Some(thread) = number.and_then(Pid::from_raw) {
                match sched_setaffinity(Some(thread), &set) {
                    // It has ended since it was listed.
                    Err(rustix::io::Errno::SRCH) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }
}
