//! Group commit: a thread that writes for everybody who waits, in one commit.
//!
//! While one commit is on its way to the disk the next jobs gather, so a lone job never waits for company and a
//! storm costs one commit per disk flush, not one per client. Jobs are written, and reported, in the order in which they came.

use tokio::sync::mpsc;

use super::{Change, Store};

/// Jobs in one commit; the rest goes into the next.
const BATCH: usize = 1024;

/// The jobs of one commit, done one way or the other. One report for all: each would else wake the reader, who
/// would find one answer to send and sleep again.
#[derive(Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What was handed in with the changes, in the order of the jobs.
    pub tokens: Vec<T>,
    /// The changes are on stable storage. If not, none of them counts.
    pub stored: bool,
}

#[derive(Debug)]
struct Job<T> {
    changes: Vec<Change>,
    token: T,
}

/// Hands jobs to the writing thread, which ends when this is closed or dropped and all is written.
#[derive(Debug)]
pub struct Writer<T>(Option<mpsc::Sender<Job<T>>>);

impl<T: Send + 'static> Writer<T> {
    /// Starts the thread. At most `depth` jobs wait. When the reports end, the store is closed.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        store: impl Store,
        depth: usize,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<Written<T>>)> {
        let (jobs, waiting) = mpsc::channel(depth);
        // As bounded as the jobs are, as long as somebody reads them: there is one report a commit.
        let (reports, written) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("store".into()).spawn(move || write(store, waiting, &reports))?;
        Ok((Self(Some(jobs)), written))
    }

    /// Hands in changes that belong together; `token` comes back when they are written.
    ///
    /// # Errors
    /// The token, when too many jobs wait or the writer is closed.
    pub fn submit(&self, changes: Vec<Change>, token: T) -> Result<(), T> {
        let Some(jobs) = &self.0 else { return Err(token) };
        jobs.try_send(Job { changes, token }).map_err(|refused| refused.into_inner().token)
    }

    /// Takes no more jobs. The thread writes and reports what it has, closes the store and ends.
    pub fn close(&mut self) {
        self.0 = None;
    }
}

fn write<T>(
    mut store: impl Store,
    mut waiting: mpsc::Receiver<Job<T>>,
    reports: &mpsc::UnboundedSender<Written<T>>,
) {
    let mut failing = false;
    while let Some(first) = waiting.blocking_recv() {
        let (mut changes, mut tokens) = (first.changes, vec![first.token]);
        while tokens.len() < BATCH
            && let Ok(job) = waiting.try_recv()
        {
            changes.extend(job.changes);
            tokens.push(job.token);
        }
        let result = store.commit(&changes);
        // A full disk fails at every try; one line when it begins and one when it is over say it all.
        match &result {
            Err(error) if !failing => {
                tracing::error!("{error}; nothing is acknowledged until this works again");
            }
            Ok(()) if failing => tracing::warn!("the store can be written again"),
            _ => {}
        }
        failing = result.is_err();
        // Nobody is waiting for the report any more; the commit counts all the same.
        let _ = reports.send(Written { tokens, stored: result.is_ok() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{Change, Store, Writer, Written};
    use crate::store::{Error, Memory};

    /// A store whose commits wait for a word from the test, and fail when told to.
    struct Slow {
        started: mpsc::Sender<usize>,
        go: mpsc::Receiver<bool>,
        content: Memory,
    }

    impl Store for Slow {
        fn list(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
            self.content.list()
        }

        fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
            self.started.send(changes.len()).unwrap();
            if self.go.recv().unwrap() {
                self.content.commit(changes)
            } else {
                Err(Error::Database { what: "write", path: "here".into(), why: "no space".into() })
            }
        }
    }

    fn put(number: u8) -> Vec<Change> {
        vec![Change::Put { key: format!("k{number}"), value: vec![number] }]
    }

    #[test]
    fn those_who_wait_share_one_commit_and_its_fate() {
        let (started, starts) = mpsc::channel();
        let (word, go) = mpsc::channel();
        let content = Memory::default();
        let store = Slow { started, go, content: content.clone() };
        let (mut writer, mut written) = Writer::start(store, 4).unwrap();

        writer.submit(put(0), 0).unwrap();
        assert_eq!(starts.recv(), Ok(1), "a lone job does not wait for company");
        for number in 1..=4 {
            writer.submit(put(number), number).unwrap();
        }
        assert_eq!(writer.submit(put(5), 5), Err(5), "four may wait, not five");
        assert!(written.try_recv().is_err(), "nothing is reported before it is written");
        assert!(content.list().unwrap().is_empty());

        word.send(true).unwrap();
        assert_eq!(starts.recv(), Ok(4), "the four who waited go together");
        assert_eq!(written.blocking_recv(), Some(Written { tokens: vec![0], stored: true }));
        word.send(false).unwrap();
        assert_eq!(
            written.blocking_recv(),
            Some(Written { tokens: vec![1, 2, 3, 4], stored: false }),
            "one report for the four"
        );

        writer.submit(put(6), 6).unwrap();
        word.send(true).unwrap();
        writer.close();
        assert_eq!(
            written.blocking_recv(),
            Some(Written { tokens: vec![6], stored: true }),
            "a failure is not for ever"
        );
        assert_eq!(written.blocking_recv(), None);
        let keys: Vec<String> = content.list().unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["k0", "k6"]);
    }
}
