//! What is set on the socket of a connection.
//!
//! A peer that is gone without a word (no power, a cut cable) would be waited for for ever
//! where nothing is sent to it, so the kernel asks it now and then. What was sent and is not
//! acknowledged the kernel gives up by itself, in a quarter of an hour. There is no shorter
//! limit on that (`TCP_USER_TIMEOUT`): it ends connections of peers that are there and only
//! do not read, too, and those are waited for.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tracing::debug;

use crate::limits::{KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS, KEEPALIVE_PROBES};

/// Sets what a connection's socket needs. One without it works, too.
pub(crate) fn prepare(socket: &TcpStream, peer: SocketAddr) {
    // Batches are formed by draining, not by the kernel's waiting for more.
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "cannot switch off delayed sending");
    }
    if let Err(error) = keep_alive(socket) {
        debug!(%peer, %error, "cannot let the peer be asked whether it is there");
    }
}

fn keep_alive(socket: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_keepidle(socket, Duration::from_millis(KEEPALIVE_IDLE_MS))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_millis(KEEPALIVE_INTERVAL_MS))?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(socket, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_says_nothing_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, (socket, peer)) = (client.unwrap(), accepted.unwrap());
        prepare(&socket, peer);
        assert!(socket.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let ms = |time: Duration| time.as_millis() as u64;
        assert_eq!(ms(sockopt::tcp_keepidle(&socket).unwrap()), KEEPALIVE_IDLE_MS);
        assert_eq!(ms(sockopt::tcp_keepintvl(&socket).unwrap()), KEEPALIVE_INTERVAL_MS);
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_PROBES);
    }
}
