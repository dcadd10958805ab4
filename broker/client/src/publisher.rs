//! Publishing with confirmation: messages go out as they come, and one future
//! stands for all of them.
//!
//! A [`Publisher`] collects what it sends into a receipt that is still open. Frames
//! on the wire point to it, and the reader adds the broker's answers to it. Taking
//! the receipt gives a [`Confirmation`], which is ready when the last frame of it
//! is answered.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use weir_protocol::{ErrorCode, Level, Published};

use crate::client::Handle;
use crate::outgoing::FrameInFlight;
use crate::{Error, Message, PublisherOptions};

/// What became of a batch of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Messages that the broker answered for.
    pub messages: u64,
    /// How safely the stored copies are kept: the lowest level of any of them.
    /// [`Level::Memory`] when nothing was stored.
    pub level: Level,
    /// Copies kept in queues and streams.
    pub stored: u64,
    /// Deliveries handed to listeners of channels.
    pub reached: u64,
    /// Messages that nobody listens for.
    pub unrouted: u64,
    /// Messages that were refused, by position.
    pub refusals: Vec<Refusal>,
}

/// Neighbouring messages that were refused alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Position of the first among the messages of the receipt, from 0.
    pub position: u64,
    /// How many.
    pub count: u64,
    /// Why.
    pub code: ErrorCode,
    /// Why, one sentence; "" when the code says it all.
    pub message: Cow<'static, str>,
}

/// The window of a publisher: bytes on their way.
#[derive(Debug, Default)]
pub(crate) struct Window {
    bytes: AtomicUsize,
    room: Notify,
}

/// A receipt that is not complete yet.
#[derive(Debug)]
pub(crate) struct ReceiptState {
    window: Arc<Window>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Messages sent; final once `taken`.
    sent: u64,
    /// No further messages will be added.
    taken: bool,
    receipt: Receipt,
    stored_any: bool,
    lost: u64,
    waker: Option<Waker>,
}

impl Progress {
    fn complete(&self) -> bool {
        self.taken && self.receipt.messages + self.lost == self.sent
    }
}

impl Receipt {
    /// Number of refused messages.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals.iter().map(|refusal| refusal.count).sum()
    }
}

impl ReceiptState {
    fn new(window: Arc<Window>) -> Self {
        Self { window, progress: Mutex::default() }
    }

    fn update(&self, bytes: usize, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut progress);
        let waker = if progress.complete() { progress.waker.take() } else { None };
        drop(progress);
        if bytes > 0 {
            self.window.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.window.room.notify_waiters();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The broker answered for a frame.
    pub(crate) fn answered(&self, frame: &FrameInFlight, published: Published) {
        self.update(frame.message_bytes, |progress| {
            let receipt = &mut progress.receipt;
            receipt.messages += u64::from(frame.count);
            if published.stored > 0 {
                receipt.level = if progress.stored_any {
                    receipt.level.min(published.level)
                } else {
                    published.level
                };
                progress.stored_any = true;
            }
            receipt.stored += published.stored;
            receipt.reached += published.reached;
            receipt.unrouted += published.unrouted;
            for refusal in published.refusals {
                receipt.refusals.push(Refusal {
                    position: frame.first + u64::from(refusal.row),
                    count: u64::from(refusal.count),
                    code: refusal.code,
                    message: refusal.message,
                });
            }
        });
    }

    /// The broker refused a whole frame.
    pub(crate) fn refused(&self, frame: &FrameInFlight, error: &weir_protocol::WireError) {
        self.update(frame.message_bytes, |progress| {
            progress.receipt.messages += u64::from(frame.count);
            progress.receipt.refusals.push(Refusal {
                position: frame.first,
                count: u64::from(frame.count),
                code: error.code,
                message: error.message.clone(),
            });
        });
    }

    /// Nobody will ever answer for a frame.
    pub(crate) fn lost(&self, frame: &FrameInFlight) {
        self.update(frame.message_bytes, |progress| progress.lost += u64::from(frame.count));
    }
}

/// Publishes with confirmation. Sending is cheap and returns before the broker has
/// answered; [`flush`](Self::flush) or [`take`](Self::take) tell what became of
/// everything sent since the last of them.
///
/// ```no_run
/// # async fn example(client: weir_client::Client) -> Result<(), weir_client::Error> {
/// use weir_client::Message;
///
/// let mut publisher = client.publisher();
/// for number in 0..10_000 {
///     let payload = format!("order {number}");
///     publisher.send(&Message::new("orders").payload(&payload)).await?;
/// }
/// let receipt = publisher.flush().await?;
/// println!("{} kept, {} refused", receipt.stored, receipt.refusals.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Publisher {
    handle: Arc<Handle>,
    options: PublisherOptions,
    window: Arc<Window>,
    open: Arc<ReceiptState>,
    sent: u64,
}

impl Publisher {
    pub(crate) fn new(handle: Arc<Handle>, options: PublisherOptions) -> Self {
        let window = Arc::new(Window::default());
        let open = Arc::new(ReceiptState::new(window.clone()));
        Self { handle, options, window, open, sent: 0 }
    }

    /// Publishes a message; its answer goes into the open receipt. Waits only while
    /// the window or the line to the socket is full.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::InvalidMessage`], [`Error::MessageTooLarge`]; the
    /// message is then not part of the receipt.
    pub async fn send(&mut self, message: &Message<'_>) -> Result<(), Error> {
        self.send_all(std::slice::from_ref(message)).await
    }

    /// Publishes messages in order, as [`Publisher::send`] does each of them: for many
    /// at once it is cheaper. The window may be passed by what one call brings.
    ///
    /// # Errors
    /// As [`Publisher::send`]. With [`Error::InvalidMessage`] nothing was sent; with
    /// [`Error::MessageTooLarge`] the messages before that one were, and are part of
    /// the receipt.
    pub async fn send_all(&mut self, messages: &[Message<'_>]) -> Result<(), Error> {
        let mut left = messages;
        while !left.is_empty() {
            if self.window.bytes.load(Ordering::Acquire) >= self.options.window_bytes_max {
                self.wait_for_window().await;
            }
            let receipt = Some((&self.open, self.sent));
            let pushed = self.handle.shared.push_waiting(left, receipt).await?;
            self.window.bytes.fetch_add(pushed.bytes, Ordering::AcqRel);
            self.sent += pushed.messages as u64;
            left = &left[pushed.messages..];
        }
        Ok(())
    }

    /// Messages in the open receipt.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.sent
    }

    /// True when nothing was sent since the receipt was last taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == 0
    }

    /// Takes the open receipt: a future that is ready when everything sent since the
    /// last time is answered. The next message begins a new receipt, so several can
    /// be on their way.
    #[must_use = "the confirmation tells what became of the messages"]
    pub fn take(&mut self) -> Confirmation {
        let fresh = Arc::new(ReceiptState::new(self.window.clone()));
        let state = std::mem::replace(&mut self.open, fresh);
        let sent = std::mem::take(&mut self.sent);
        {
            let mut progress = state.progress.lock().unwrap_or_else(PoisonError::into_inner);
            progress.sent = sent;
            progress.taken = true;
        }
        Confirmation { state }
    }

    /// Waits until everything sent since the last time is answered.
    ///
    /// # Errors
    /// [`Error::ConnectionLost`] when the connection broke before all answers came.
    pub async fn flush(&mut self) -> Result<Receipt, Error> {
        self.take().await
    }

    async fn wait_for_window(&self) {
        loop {
            let room = self.window.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.window.bytes.load(Ordering::Acquire) < self.options.window_bytes_max {
                return;
            }
            room.await;
        }
    }
}

/// Ready when every message of a receipt is answered. Dropping it loses nothing but
/// the receipt.
#[derive(Debug)]
pub struct Confirmation {
    state: Arc<ReceiptState>,
}

impl Future for Confirmation {
    type Output = Result<Receipt, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut progress = self.state.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if !progress.complete() {
            progress.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        if progress.lost > 0 {
            return Poll::Ready(Err(Error::ConnectionLost { unconfirmed: progress.lost }));
        }
        let mut receipt = std::mem::take(&mut progress.receipt);
        receipt.refusals.sort_by_key(|refusal| refusal.position);
        Poll::Ready(Ok(receipt))
    }
}
