//! The lanes' end of a model's queue.
//!
//! A channel keeps what is in it when its receiver goes, and the clients behind those requests would wait for
//! ever. So the end is told to the producers by a flag: the consumer raises it and then empties the channel,
//! a producer sends and then looks at it. Whoever comes second sees the other's step, so no request stays.
//!
//! While no lane is at work and one hangs, the same is told for as long as it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::Receiver;

use super::Request;
use crate::error::{Code, Error};

/// Gives requests to the lanes of one model; once it is dropped, all requests are answered with an error.
pub struct Consumer {
    pub(super) requests: Receiver<Request>,
    pub(super) end: End,
}

#[derive(Clone, Default)]
pub(super) struct End(Arc<Lanes>);

#[derive(Default)]
struct Lanes {
    /// The consumer has gone.
    gone: AtomicBool,
    up: AtomicUsize,
    hang: AtomicUsize,
}

/// A lane is at work, until this is dropped.
pub struct Up(End);

/// A lane hangs, until this is dropped: nobody knows when it will be back.
pub struct Hang(End);

impl Consumer {
    pub fn requests(&self) -> &Receiver<Request> {
        &self.requests
    }

    pub fn up(&self) -> Up {
        self.end.0.up.fetch_add(1, Ordering::SeqCst);
        Up(self.end.clone())
    }

    /// Answers what waits in the channel, if no lane will take it.
    pub fn refuse_if_stuck(&self) -> bool {
        let stuck = !self.end.is_open();
        if stuck {
            refuse_all(&self.requests);
        }
        stuck
    }
}

impl Up {
    pub fn hangs(self) -> Hang {
        // In this order it is never neither: a lane that is neither will be back soon.
        self.0.0.hang.fetch_add(1, Ordering::SeqCst);
        Hang(self.0.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.0.up.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.0.0.hang.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.end.0.gone.store(true, Ordering::SeqCst);
        refuse_all(&self.requests);
    }
}

impl End {
    pub fn is_open(&self) -> bool {
        let Lanes { gone, up, hang } = &*self.0;
        let stuck = up.load(Ordering::SeqCst) == 0 && hang.load(Ordering::SeqCst) > 0;
        !stuck && !gone.load(Ordering::SeqCst)
    }

    pub fn lanes(&self) -> usize {
        self.0.up.load(Ordering::SeqCst)
    }
}

/// Answers all requests that wait in a channel that no lane will read.
pub(super) fn refuse_all(requests: &Receiver<Request>) {
    requests.try_iter().for_each(|request| request.refuse(not_ready()));
}

/// Why nothing is taken.
pub fn not_ready() -> Error {
    Error::new(Code::ModelNotReady, "no instance of the model is at work")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Draft, Memory, Places, Producer, channel};
    use crate::reply::Mailbox;
    use std::task::{Context, Poll, Waker};

    fn submit(producer: &Producer, mailbox: &Arc<Mailbox<()>>) {
        producer.submit(Draft::empty(), mailbox.issue(()));
    }

    fn codes(mailbox: &Mailbox<()>) -> Vec<Code> {
        let mut ready = Vec::new();
        while let Poll::Ready(true) =
            mailbox.poll_answers(&mut Context::from_waker(Waker::noop()), &mut ready)
        {}
        ready.into_iter().map(|((), answer)| answer.unwrap_err().code).collect()
    }

    #[test]
    fn what_waits_and_what_comes_late_is_refused_when_the_lanes_end() {
        let (producer, consumer) = channel(Places::new(8), Memory::new(0));
        let mailbox = Mailbox::new(8);
        submit(&producer, &mailbox);
        submit(&producer, &mailbox);
        assert_eq!(codes(&mailbox), []);
        drop(consumer);
        submit(&producer, &mailbox);
        assert_eq!(codes(&mailbox), [Code::ModelNotReady; 3]);
        assert_eq!(producer.depth(), 0);
    }

    #[test]
    fn what_is_sent_while_the_lanes_end_is_refused() {
        for _ in 0..2_000 {
            let (producer, consumer) = channel(Places::new(8), Memory::new(0));
            let mailbox = Mailbox::new(8);
            std::thread::scope(|scope| {
                scope.spawn(|| drop(consumer));
                (0..4).for_each(|_| submit(&producer, &mailbox));
            });
            assert_eq!(codes(&mailbox), [Code::ModelNotReady; 4]);
        }
    }
}
