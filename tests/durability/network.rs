//! A network between clients and the broker that fails: all connections are cut at once,
//! or one direction goes silent first. Where bytes end is up to chance, in the middle of a
//! frame where those are long. Who finds bytes at hand that nobody read resets its
//! connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Bytes that are passed on at once, at most.
const PASSED_BYTES_MAX: usize = 3_000;

/// What of the network fails before connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silent {
    /// Nothing.
    Neither,
    /// What clients say.
    Clients,
    /// What the broker says.
    Broker,
}

/// See the file's head. Ends with [`Network::cut`] only.
pub(crate) struct Network {
    /// Where clients reach the broker.
    pub(crate) address: String,
    links: Arc<Links>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Links {
    are_clients_silent: AtomicBool,
    is_broker_silent: AtomicBool,
    is_cut: AtomicBool,
    /// Both ends of each connection, and who passes on what comes in there.
    ends: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

impl Network {
    /// One that works, up to a broker at `address`.
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, broker) = (listener.local_addr().unwrap().to_string(), address.to_owned());
        let links = Arc::new(Links::default());
        let accepting = std::thread::spawn({
            let links = links.clone();
            move || {
                for client in listener.incoming() {
                    if links.is_cut.load(Ordering::Acquire) {
                        return;
                    }
                    links.join(client.unwrap(), TcpStream::connect(&broker).unwrap());
                }
            }
        });
        Self { address: own, links, accepting }
    }

    /// Swallows what one side says from now on.
    pub(crate) fn silence(&self, side: Silent) {
        match side {
            Silent::Neither => {}
            Silent::Clients => self.links.are_clients_silent.store(true, Ordering::Release),
            Silent::Broker => self.links.is_broker_silent.store(true, Ordering::Release),
        }
    }

    /// Cuts all connections, for good.
    pub(crate) fn cut(self) {
        self.links.is_cut.store(true, Ordering::Release);
        // Who accepts looks up.
        drop(TcpStream::connect(&self.address));
        self.accepting.join().unwrap();
        let ends = std::mem::take(&mut *self.links.ends.lock().unwrap());
        for (end, _) in &ends {
            // It may be closed already.
            let _ = end.shutdown(Shutdown::Both);
        }
        ends.into_iter().for_each(|(_, passing)| passing.join().unwrap());
    }
}

impl Links {
    fn join(self: &Arc<Self>, client: TcpStream, broker: TcpStream) {
        let (to_client, to_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
        for (from, to, is_client) in [(client, to_broker, true), (broker, to_client, false)] {
            let (end, links) = (from.try_clone().unwrap(), self.clone());
            let passing = std::thread::spawn(move || {
                let both = [&links.is_broker_silent, &links.are_clients_silent];
                pass_on(from, to, both[usize::from(is_client)]);
            });
            self.ends.lock().unwrap().push((end, passing));
        }
    }
}

/// Passes bytes on until one of the ends is closed, then closes the other.
fn pass_on(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
    let mut bytes = [0; PASSED_BYTES_MAX];
    while let Ok(len) = from.read(&mut bytes)
        && len > 0
    {
        if !silent.load(Ordering::Acquire) && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
