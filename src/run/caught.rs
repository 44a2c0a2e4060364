//! A mistake of this program in one of many trials, as an error of that one: the others go on.

use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `work` gives; an error if it panics. What it leaves half done must not be used after.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("for a reason unknown");
        Err(Error::device(format!("panicked: {text}; this is a mistake in Oche, please report it")))
    })
}
