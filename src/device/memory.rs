//! Host memory of tensors: 64-byte aligned blocks, kept for reuse.
//!
//! A search step asks for the same sizes again and again; giving them back to the system would cost a page fault per
//! page each time. Small blocks wait in lists by size, large ones are cut out of an [`Arena`].

use super::arena::{Arena, HUGE};
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

const ALIGN: usize = 64;
/// Blocks from this size on are cut out of the arena.
const LARGE: usize = 64 << 10;

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
    small: BTreeMap<usize, Vec<NonNull<u8>>>,
    arena: Arena,
    usage: Usage,
    ever: usize, // largest live since the start: bounds what is kept
}

// SAFETY: the pointers are owned by the pool and handed out to one block each.
unsafe impl Send for Pool {}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

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
        let start = if capacity < LARGE { pool.small(capacity) } else { pool.large(capacity) };
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
        if self.capacity < LARGE {
            pool.small.entry(self.capacity).or_default().push(self.start);
        } else {
            pool.arena.give(self.start.addr().get(), self.capacity);
        }
        pool.trim();
    }
}

impl Pool {
    fn small(&mut self, capacity: usize) -> NonNull<u8> {
        match self.small.get_mut(&capacity).and_then(Vec::pop) {
            Some(start) => {
                self.usage.kept -= capacity;
                start
            }
            None => obtain(capacity, ALIGN),
        }
    }

    fn large(&mut self, capacity: usize) -> NonNull<u8> {
        let mut found = self.arena.take(capacity);
        if found.is_none() {
            let size = Arena::slab_for(capacity);
            let slab = obtain_slab(size);
            self.usage.kept += size;
            self.arena.add_slab(slab.as_ptr().expose_provenance(), size);
            found = self.arena.take(capacity);
        }
        self.usage.kept -= capacity;
        match found.and_then(|at| NonNull::new(std::ptr::with_exposed_provenance_mut(at))) {
            Some(start) => start,
            None => unreachable!("the slab holds the block"),
        }
    }

    /// Gives slabs that are wholly free back to the system until live and kept fit the bound: an eighth more than was
    /// ever live at once.
    fn trim(&mut self) {
        let bound = self.ever + self.ever / 8 + Arena::slab_for(0);
        while self.usage.live + self.usage.kept > bound {
            let Some((start, size)) = self.arena.remove_free_slab() else { return };
            self.usage.kept -= size;
            give_back_slab(std::ptr::with_exposed_provenance_mut(start), size);
        }
    }
}

/// Zeroed memory for a slab, on huge pages where the system has them.
#[cfg(target_os = "linux")]
fn obtain_slab(size: usize) -> NonNull<u8> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh anonymous mapping, of which the unaligned head and the rest of the tail are given back. Advice
    // does not change its content; refusal costs speed only.
    unsafe {
        let whole = libc::mmap(std::ptr::null_mut(), size + HUGE, protection, flags, -1, 0);
        if whole == libc::MAP_FAILED {
            handle_alloc_error(layout(size, HUGE));
        }
        let head = whole.align_offset(HUGE);
        let start = whole.byte_add(head);
        if head > 0 {
            libc::munmap(whole, head);
        }
        libc::munmap(start.byte_add(size), HUGE - head);
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
        NonNull::new_unchecked(start.cast())
    }
}

#[cfg(not(target_os = "linux"))]
fn obtain_slab(size: usize) -> NonNull<u8> {
    obtain(size, HUGE)
}

/// Gives back what [`obtain_slab`] gave, with nobody holding it any more.
fn give_back_slab(start: *mut u8, size: usize) {
    // SAFETY: exactly the memory that was obtained.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::munmap(start.cast(), size);
        #[cfg(not(target_os = "linux"))]
        std::alloc::dealloc(start, layout(size, HUGE));
    }
}

fn obtain(size: usize, align: usize) -> NonNull<u8> {
    let layout = layout(size, align);
    // SAFETY: the layout has a non-zero size.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

fn layout(size: usize, align: usize) -> Layout {
    match Layout::from_size_align(size, align) {
        Ok(layout) => layout,
        Err(_) => handle_alloc_error(Layout::new::<u8>()),
    }
}

/// Rounds up so that near-equal sizes share a list: to 256 bytes below 64 KiB, to 4 KiB above.
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
