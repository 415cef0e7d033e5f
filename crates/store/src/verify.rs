//! Recomputes a session's chain. Whoever changed a byte, took a row away or put another in its place is found out;
//! what was cut off at the end is known to whoever kept the head.

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Down, Hash, Head, RowKind, Verdict};

use crate::erase::everything;
use crate::log::{Opened, SealedLog};
use crate::seal::mac;

pub(crate) async fn verify(log: &SealedLog, session: SessionId) -> Result<Verdict, Down> {
    let kept = everything(log, session).await?;
    let mut chain = Chain { log, session, verdict: empty(), expected: 1 };
    let broken = chain.walk(kept).await;
    let mut verdict = chain.verdict;
    verdict.broken = broken.err();
    if verdict.broken.is_none()
        && let Some(snapshot) = log.shelf.snapshot(session).await?
        && snapshot.at.seq > verdict.head.seq
    {
        let (seq, at) = (verdict.head.seq, snapshot.at.seq);
        verdict.broken = Some(format!("the log ends at {seq}, but a snapshot was taken at {at}"));
    }
    Ok(verdict)
}

fn empty() -> Verdict {
    Verdict { rows: 0, erased: 0, broken: None, head: Head::default() }
}

struct Chain<'a> {
    log: &'a SealedLog,
    session: SessionId,
    verdict: Verdict,
    /// The position that comes next.
    expected: Seq,
}

impl Chain<'_> {
    /// The error is what is broken, in words.
    async fn walk(&mut self, kept: crate::shelf::Kept) -> Result<(), String> {
        for sealed in &kept.segments {
            self.follows(sealed.from)?;
            let opened = self.log.open_segment(self.session, sealed).await.map_err(|it| it.0)?;
            for row in opened {
                // Packed history has gaps where frames were.
                self.check(row).await?;
            }
            if self.verdict.head.hash != sealed.hash {
                return Err(format!("the rows up to {} do not end as recorded", sealed.to));
            }
            self.ends(sealed.to, sealed.hash);
        }
        for sealed in kept.rows {
            self.follows(sealed.header.seq)?;
            let opened = self.log.open_row(self.session, sealed).await.map_err(|it| it.0)?;
            self.check(opened).await?;
        }
        Ok(())
    }

    fn follows(&self, seq: Seq) -> Result<(), String> {
        match seq == self.expected {
            true => Ok(()),
            false => Err(format!("row {} is missing", self.expected)),
        }
    }

    async fn check(&mut self, Opened { header, content, .. }: Opened) -> Result<(), String> {
        let seq = header.seq;
        if header.prev != self.verdict.head.hash {
            return Err(format!("row {seq} does not follow the row before it"));
        }
        let body = self.log.body_of(self.session, &content).await.map_err(|it| it.0)?;
        match &content.salt {
            Some(salt) if mac(salt, &body) != header.mac => {
                return Err(format!("row {seq} says something else than was written"));
            }
            Some(_) => {}
            None => self.verdict.erased += 1,
        }
        self.verdict.rows += 1;
        let hash = match header.kind {
            RowKind::Events => header.hash(self.session),
            RowKind::Frame => header.prev,
        };
        self.ends(seq, hash);
        Ok(())
    }

    fn ends(&mut self, seq: Seq, hash: Hash) {
        self.verdict.head = Head { seq, hash };
        self.expected = seq + 1;
    }
}

#[cfg(test)]
mod tests;
