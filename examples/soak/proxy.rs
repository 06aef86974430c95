//! Proxies: each stands before a node and lets bytes pass, late, not at all, or not any more.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What becomes of the bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Each part of what is sent passes so much later.
    Delayed(Duration),
    /// Nothing is read: what is sent stands in the buffers of the system.
    Stalled,
    /// What is sent is taken and goes nowhere, and no end is told anything.
    Silent,
    /// The connection ends.
    Cut,
}

/// So long the other end of a silent connection stands when one has ended.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);
/// So long what was sent before the end of a connection may take to arrive.
const LINGER: Duration = Duration::from_millis(200);

/// A place where one node is reached by all others.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<watch::Sender<Way>>>>,
    refuses: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    /// Opens a place that leads to a node.
    pub(crate) async fn before(node: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self {
            address: listener.local_addr()?,
            lines: Arc::default(),
            refuses: Arc::default(),
            connections: Arc::default(),
        };
        let (lines, refuses, count) = (proxy.lines.clone(), proxy.refuses.clone(), proxy.connections.clone());
        tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    sleep(LINGER).await;
                    continue;
                };
                if refuses.load(Ordering::Relaxed) {
                    // Reset, as by a machine where nobody listens.
                    let _ = socket.set_zero_linger();
                    continue;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let (way, changes) = watch::channel(Way::Open);
                {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.retain(|line| !line.is_closed());
                    lines.push(way);
                }
                tokio::spawn(line(socket, node, changes));
            }
        });
        Ok(proxy)
    }

    /// Lets no new connection through for a while.
    pub(crate) fn refuse_for(&self, time: Duration) {
        self.refuses.store(true, Ordering::Relaxed);
        let refuses = self.refuses.clone();
        tokio::spawn(async move {
            sleep(time).await;
            refuses.store(false, Ordering::Relaxed);
        });
    }

    /// Changes what becomes of the connections that `pick` picks by their positions, and returns how many there were.
    /// What is stalled or delayed passes again after `time`.
    pub(crate) fn change(&self, way: Way, time: Duration, pick: impl Fn(usize) -> bool) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        let open = lines.iter().filter(|line| !line.is_closed());
        for (_, line) in open.enumerate().filter(|(n, _)| pick(*n)) {
            // Whatever was silenced or cut stays so.
            let changed = line.send_if_modified(|known| {
                let may = !matches!(known, Way::Silent | Way::Cut) || way == Way::Cut;
                if may {
                    *known = way;
                }
                may
            });
            count += usize::from(changed);
            if changed && matches!(way, Way::Stalled | Way::Delayed(_)) {
                let line = line.clone();
                tokio::spawn(async move {
                    sleep(time).await;
                    line.send_if_modified(|known| {
                        let is_still = *known == way;
                        if is_still {
                            *known = Way::Open;
                        }
                        is_still
                    });
                });
            }
        }
        count
    }

    /// How many connections stand.
    pub(crate) fn open(&self) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| !line.is_closed()).count()
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// One connection, to its end.
async fn line(dialler: TcpStream, node: SocketAddr, mut way: watch::Receiver<Way>) {
    let Ok(Ok(node)) = timeout(Duration::from_secs(5), TcpStream::connect(node)).await else {
        return;
    };
    let _ = (dialler.set_nodelay(true), node.set_nodelay(true));
    let (there, back) = (pump(&dialler, &node, way.clone()), pump(&node, &dialler, way.clone()));
    tokio::select! {
        _ = there => {}
        _ = back => {}
        _ = way.wait_for(|way| *way == Way::Cut) => return,
    }
    if *way.borrow() == Way::Silent {
        let _ = timeout(GIVEN_UP_AFTER, way.wait_for(|way| *way == Way::Cut)).await;
    }
}

/// Lets bytes pass one way until the connection ends at either side.
async fn pump(from: &TcpStream, to: &TcpStream, mut way: watch::Receiver<Way>) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while *way.borrow() == Way::Stalled {
            way.changed().await.map_err(io::Error::other)?;
        }
        from.readable().await?;
        if *way.borrow() == Way::Stalled {
            continue;
        }
        let len = match from.try_read(&mut buffer) {
            Ok(0) => {
                sleep(LINGER).await;
                return Ok(());
            }
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let now = *way.borrow();
        match now {
            Way::Silent => continue,
            Way::Delayed(time) => sleep(time).await,
            Way::Open | Way::Stalled | Way::Cut => {}
        }
        let mut rest = buffer.get(..len).unwrap_or_default();
        while !rest.is_empty() {
            to.writable().await?;
            match to.try_write(rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
