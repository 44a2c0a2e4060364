//! Host memory of tensors: 64-byte aligned blocks from a free list that keeps what one search step gave back.
//!
//! A search step asks for the same sizes again and again; giving them back to the system would cost a page fault
//! per 4 KiB each time. Blocks that are live plus blocks kept for reuse never exceed [`resident`] of the high-water
//! mark of the live ones.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const ALIGN: usize = 64;
/// Blocks from this size on lie on huge pages where the system has them: 512 times fewer page faults.
const HUGE: usize = 2 << 20;
/// Blocks from this size on come from the system directly: what is given back is its again, without holes between.
const MAPPED: usize = 1 << 16;

/// Bytes that live and kept blocks take together, at the most, when the live ones take up to `peak`. Some slack, since
/// the sizes that are kept are not always those that are asked for next.
pub fn resident(peak: usize) -> usize {
    peak + peak / SLACK + (2 << 20)
}
const SLACK: usize = 64;

/// Bytes in use by tensors, and their high-water mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of live blocks.
    pub live: usize,
    /// Largest `live` since the start or the last [`reset_peak`].
    pub peak: usize,
    /// Bytes kept for reuse.
    pub kept: usize,
}

#[derive(Default)]
struct Pool {
    free: BTreeMap<usize, Vec<NonNull<u8>>>,
    usage: Usage,
    ever: usize, // largest live since the start: bounds what is kept
}

// SAFETY: the pointers are owned by the pool and handed out to one block each.
unsafe impl Send for Pool {}

static POOL: Mutex<Pool> =
    Mutex::new(Pool { free: BTreeMap::new(), usage: Usage { live: 0, peak: 0, kept: 0 }, ever: 0 });

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Memory in use now.
pub fn usage() -> Usage {
    pool().usage
}

/// Starts a new high-water mark at what is live now.
pub fn reset_peak() {
    let mut pool = pool();
    pool.usage.peak = pool.usage.live;
}

/// Counts the bytes of phantom blocks: what a dry run would have needed.
#[derive(Debug, Default)]
pub struct Meter {
    live: AtomicUsize,
    peak: AtomicUsize,
}

impl Meter {
    /// Largest number of bytes that were live at once.
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
    /// Bytes live now.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }
}

/// An owned, aligned run of bytes. Its content is initialised, but arbitrary: whatever the last owner left.
/// A phantom block has a size but no memory; its bytes may not be looked at.
pub struct Block {
    start: NonNull<u8>,
    capacity: usize,
    bytes: usize,
    meter: Option<Arc<Meter>>,
}

// SAFETY: a block owns its memory; shared access is read-only through `&self`.
unsafe impl Send for Block {}
unsafe impl Sync for Block {}

impl Block {
    /// A block of `bytes` bytes with arbitrary content.
    pub fn new(bytes: usize) -> Self {
        let capacity = size_class(bytes);
        let mut pool = pool();
        pool.usage.live += capacity;
        pool.usage.peak = pool.usage.peak.max(pool.usage.live);
        pool.ever = pool.ever.max(pool.usage.live);
        if let Some((found, start)) = pool.take(capacity) {
            pool.usage.live += found - capacity;
            pool.usage.peak = pool.usage.peak.max(pool.usage.live);
            pool.ever = pool.ever.max(pool.usage.live);
            return Self { start, capacity: found, bytes, meter: None };
        }
        pool.trim();
        drop(pool);
        let start = obtain(capacity);
        Self { start, capacity, bytes, meter: None }
    }

    /// A block that is only counted, by `meter`.
    pub fn phantom(bytes: usize, meter: &Arc<Meter>) -> Self {
        let capacity = size_class(bytes);
        let live = meter.live.fetch_add(capacity, Ordering::Relaxed) + capacity;
        meter.peak.fetch_max(live, Ordering::Relaxed);
        Self { start: NonNull::dangling(), capacity, bytes, meter: Some(meter.clone()) }
    }

    /// The meter of a phantom block.
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.meter.as_ref()
    }

    pub fn bytes(&self) -> &[u8] {
        assert!(self.meter.is_none(), "a dry run has no values to look at");
        // SAFETY: `start` is valid for `bytes` initialised bytes as long as the block lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.meter.is_none(), "a dry run has no values to write");
        // SAFETY: as in `bytes`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.live.fetch_sub(self.capacity, Ordering::Relaxed);
            return;
        }
        let mut pool = pool();
        pool.usage.live -= self.capacity;
        pool.usage.kept += self.capacity;
        pool.free.entry(self.capacity).or_default().push(self.start);
        pool.trim();
    }
}

impl Pool {
    /// The smallest kept block that fits and wastes at most a quarter.
    fn take(&mut self, capacity: usize) -> Option<(usize, NonNull<u8>)> {
        let found = *self.free.range(capacity..=capacity + capacity / 4).next()?.0;
        let list = self.free.get_mut(&found)?;
        let start = list.pop()?;
        if list.is_empty() {
            self.free.remove(&found);
        }
        self.usage.kept -= found;
        Some((found, start))
    }

    /// Gives kept blocks back to the system, largest first, until live and kept fit the bound.
    fn trim(&mut self) {
        let bound = resident(self.ever);
        while self.usage.live + self.usage.kept > bound {
            let Some((&capacity, _)) = self.free.last_key_value() else { return };
            let Some((_, start)) = self.take(capacity) else { return };
            give_back(start, capacity);
        }
    }
}

/// Zeroed memory; aligned to huge pages and on them if it is large enough for one.
#[cfg(target_os = "linux")]
fn obtain(capacity: usize) -> NonNull<u8> {
    if capacity < MAPPED {
        return obtain_small(capacity);
    }
    let align = if capacity < HUGE { 0 } else { HUGE }; // to pages as it is
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping, of which the unaligned head and the rest of the tail are given back. Advice
    // does not change its content; refusal costs speed only.
    unsafe {
        let whole = libc::mmap(std::ptr::null_mut(), capacity + align, protection, flags, -1, 0);
        if whole == libc::MAP_FAILED {
            handle_alloc_error(layout(capacity));
        }
        if align == 0 {
            return NonNull::new_unchecked(whole.cast());
        }
        let head = whole.align_offset(HUGE);
        let start = whole.byte_add(head);
        if head > 0 {
            libc::munmap(whole, head);
        }
        libc::munmap(start.byte_add(capacity), HUGE - head);
        libc::madvise(start, capacity, libc::MADV_HUGEPAGE);
        NonNull::new_unchecked(start.cast())
    }
}

#[cfg(not(target_os = "linux"))]
fn obtain(capacity: usize) -> NonNull<u8> {
    obtain_small(capacity)
}

fn obtain_small(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: the layout has a non-zero size.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Gives back what [`obtain`] gave, with nobody holding it any more.
fn give_back(start: NonNull<u8>, capacity: usize) {
    #[cfg(target_os = "linux")]
    if capacity >= MAPPED {
        // SAFETY: exactly the mapping that `obtain` left.
        unsafe { libc::munmap(start.as_ptr().cast(), capacity) };
        return;
    }
    // SAFETY: allocated with this layout.
    unsafe { dealloc(start.as_ptr(), layout(capacity)) };
}

fn layout(capacity: usize) -> Layout {
    match Layout::from_size_align(capacity, ALIGN) {
        Ok(layout) => layout,
        Err(_) => handle_alloc_error(Layout::new::<u8>()),
    }
}

/// Rounds up so that near-equal sizes share a list: to 256 bytes below 64 KiB, to pages of 4 KiB above.
fn size_class(bytes: usize) -> usize {
    let grain = if bytes < 1 << 16 { 256 } else { 4096 };
    bytes.max(1).next_multiple_of(grain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_used_again_and_counts_are_right() {
        let size = 7 << 20; // a size no other test of this binary uses
        let first = Block::new(size);
        let address = first.start;
        assert_eq!(first.bytes().len(), size);
        drop(first);
        let second = Block::new(size - 100);
        assert_eq!(second.start, address);
        assert!(usage().live >= size && usage().peak >= usage().live);
    }
}
