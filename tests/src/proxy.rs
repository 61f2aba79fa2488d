//! A TCP proxy that can be cut, held, slowed and healed: the network between an operator and what it talks to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::error::{Doing as _, Error};

/// Treatment of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Pass,
    /// Connections are closed, new ones as soon as they are accepted.
    Cut,
    /// Connections stay open and nothing arrives: what a lost route looks like.
    Hold,
    /// Each piece waits that long.
    Slow(Duration),
}

#[derive(Clone, Copy, Debug)]
struct State {
    mode: Mode,
    target: SocketAddr,
}

/// Runs on a thread of its own, so that it may be shared by tests on different runtimes. Ends on drop.
pub struct Proxy {
    address: SocketAddr,
    state: Option<watch::Sender<State>>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a port of its own and passes everything on to `target`.
    pub fn start(target: SocketAddr) -> Result<Self, Error> {
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", crate::ports::free())).doing("opening a proxy's port")?;
        listener.set_nonblocking(true).doing("opening a proxy's port")?;
        let address = listener.local_addr().doing("opening a proxy's port")?;
        let (state, watched) = watch::channel(State {
            mode: Mode::Pass,
            target,
        });
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(serve(listener, watched, &counter));
            })
            .doing("starting a proxy")?;
        Ok(Self {
            address,
            state: Some(state),
            accepted,
            thread: Some(thread),
        })
    }

    /// Address of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Closes what is open and refuses what comes.
    pub fn cut(&self) {
        self.set(|state| state.mode = Mode::Cut);
    }

    /// Keeps connections open and lets nothing through, in either direction.
    pub fn hold(&self) {
        self.set(|state| state.mode = Mode::Hold);
    }

    /// Delays each piece (of up to 16 KiB) by `delay`.
    pub fn slow(&self, delay: Duration) {
        self.set(|state| state.mode = Mode::Slow(delay));
    }

    /// Passes everything again, and at once what was held.
    pub fn heal(&self) {
        self.set(|state| state.mode = Mode::Pass);
    }

    /// Leads new connections elsewhere.
    pub fn redirect(&self, target: SocketAddr) {
        self.set(|state| state.target = target);
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = &self.state {
            state.send_modify(change);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Everything that waits on the state ends with its sender.
        self.state.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, state: watch::Receiver<State>, accepted: &AtomicUsize) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut ended = state.clone();
    loop {
        tokio::select! {
            () = closed(&mut ended) => return,
            connection = listener.accept() => {
                let Ok((client, _)) = connection else { continue };
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(client, state.clone()));
            }
        }
    }
}

async fn closed(state: &mut watch::Receiver<State>) {
    while state.changed().await.is_ok() {}
}

/// Carries one connection until an end closes, the proxy is cut or it ends.
async fn carry(client: TcpStream, mut state: watch::Receiver<State>) {
    if allowed(&mut state).await.is_none() {
        return;
    }
    let target = state.borrow().target;
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let mut cut = state.clone();
    tokio::select! {
        _ = cut.wait_for(|state| state.mode == Mode::Cut) => {}
        () = async {
            tokio::join!(
                pump(&mut from_client, &mut to_server, state.clone()),
                pump(&mut from_server, &mut to_client, state.clone()),
            );
        } => {}
    }
}

/// Waits until bytes may pass and says how long they take; `None` when they never will.
async fn allowed(state: &mut watch::Receiver<State>) -> Option<Duration> {
    let now = state.wait_for(|state| state.mode != Mode::Hold).await.ok()?;
    match now.mode {
        Mode::Slow(delay) => Some(delay),
        Mode::Pass | Mode::Hold => Some(Duration::ZERO),
        Mode::Cut => None,
    }
}

async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let Some(delay) = allowed(&mut state).await else {
            return;
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
