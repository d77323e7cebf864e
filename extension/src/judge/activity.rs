//! What `pg_stat_activity` shows while an identity's policies run.
//!
//! A policy can swallow a timeout, so whoever waits ends the session from outside. It reads here whose policies they
//! were: in the place of the statement, which no SQL can write. The session's name, say, is the policy's to set.

use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// While it lives the session may be shown as judging somebody, when the statement begins with a comment: whoever wants
/// to find it again has marked it so. Others' statements are shown as they are.
pub(super) struct Activity {
    mark: Option<Vec<u8>>,
}

impl Activity {
    /// Notes the statement's mark.
    pub(super) fn begin() -> Self {
        Self { mark: statement().and_then(|text| leading_comment(text.to_bytes())).map(<[u8]>::to_vec) }
    }

    /// Shows that this identity's policies run now: the mark and ` judging <id>`.
    pub(super) fn judging(&self, id: i32) {
        let Some(mark) = &self.mark else { return };
        let mut shown = Vec::with_capacity(mark.len() + 24);
        shown.extend_from_slice(mark);
        shown.extend_from_slice(format!(" judging {id}").as_bytes());
        // What came out of a C string has no zero in it.
        show(&CString::new(shown).unwrap_or_default());
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        if let (Some(_), Some(text)) = (&self.mark, statement()) {
            show(text);
        }
    }
}

/// What the client has sent, as long as it is being run.
fn statement<'a>() -> Option<&'a CStr> {
    // SAFETY: a terminated string or null; it stays for as long as the statement runs, and so do all who ask.
    unsafe {
        let text = pg_sys::debug_query_string;
        (!text.is_null()).then(|| CStr::from_ptr(text))
    }
}

fn leading_comment(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"/*")?;
    let end = rest.windows(2).position(|pair| pair == b"*/")?;
    text.get(..end + 4)
}

fn show(text: &CStr) {
    // SAFETY: terminated, and copied by the callee, which cannot raise.
    unsafe { pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr()) };
}
