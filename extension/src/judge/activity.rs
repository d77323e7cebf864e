//! What `pg_stat_activity` shows while an identity's policies run.
//!
//! A policy can swallow a timeout, so whoever waits ends the session from outside. It reads here whose policies they
//! were. Only what is shown changes, not the setting: that would cost more than many a policy.

use pgrx::prelude::*;
use std::ffi::CStr;

/// `NAMEDATALEN - 1`: what an application name may have, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// While it lives the session may be shown as judging somebody.
pub(super) struct Activity {
    name: Vec<u8>,
}

impl Activity {
    /// Notes the session's own name.
    pub(super) fn begin() -> Self {
        // SAFETY: the setting is a terminated string or null.
        let name = unsafe {
            let name = pg_sys::application_name;
            if name.is_null() { Vec::new() } else { CStr::from_ptr(name).to_bytes().to_vec() }
        };
        Self { name }
    }

    /// Shows that this identity's policies run now: the name ends in ` judging <id>`, whatever has to be cut before it.
    pub(super) fn judging(&self, id: i32) {
        let suffix = format!(" judging {id}");
        let kept = self.name.len().min(NAME_BYTES_MAX - suffix.len());
        let mut name = self.name[..kept].to_vec();
        name.extend_from_slice(suffix.as_bytes());
        show(name);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        show(std::mem::take(&mut self.name));
    }
}

fn show(mut name: Vec<u8>) {
    name.push(0);
    // SAFETY: terminated, and copied by the callee, which cannot raise.
    unsafe { pg_sys::pgstat_report_appname(name.as_ptr().cast()) };
}
