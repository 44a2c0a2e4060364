//! Host memory of tensors: 64-byte aligned blocks from a pool that keeps what one search step gave back.
//!
//! A search step asks for the same sizes again and again; giving them back to the system would cost page faults each
//! time. Large blocks are cut from ranges of pages and join again when they are free, small ones go by their size. Blocks that are live plus blocks kept for reuse never exceed [`resident`] of the high-water
//! mark of the live ones.

use crate::ranges::Ranges;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;

const ALIGN: usize = 64;
/// Ranges come in multiples of this, on huge pages where the system has them: 512 times fewer page faults.
const HUGE: usize = 2 << 20;
/// Blocks from this size on are cut from ranges of pages.
const LARGE: usize = if cfg!(unix) { 1 << 16 } else { usize::MAX };

/// Bytes that live and kept blocks take together, at the most, when the live ones take up to `peak`. Some slack, since
/// what is free lies scattered.
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
    ranges: Ranges,
    /// Small blocks by size.
    small: BTreeMap<usize, Vec<NonNull<u8>>>,
    usage: Usage,
    ever: usize, // largest live since the start: bounds what is kept
}

// SAFETY: the pointers are owned by the pool and handed out to one block each.
unsafe impl Send for Pool {}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    ranges: Ranges::new(),
    small: BTreeMap::new(),
    usage: Usage { live: 0, peak: 0, kept: 0 },
    ever: 0,
});

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

/// Gives back to the system what the program's heap, which tensors lie outside of, holds free.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: a call that looks at free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// An owned, aligned run of bytes. Its content is initialised, but arbitrary: whatever the last owner left.
pub struct Block {
    start: NonNull<u8>,
    capacity: usize,
    bytes: usize,
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
        let start = match pool.take(capacity) {
            Some(start) => start,
            None => pool.obtain(capacity),
        };
        Self { start, capacity, bytes }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the start is valid for `bytes` initialised bytes as long as the block lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut pool = pool();
        pool.usage.live -= self.capacity;
        pool.usage.kept += self.capacity;
        pool.keep(self.start, self.capacity);
        pool.trim();
    }
}

impl Pool {
    /// A kept block of `capacity` bytes.
    fn take(&mut self, capacity: usize) -> Option<NonNull<u8>> {
        let start = if capacity >= LARGE {
            pointer(self.ranges.take(capacity)?)
        } else {
            let list = self.small.get_mut(&capacity)?;
            let start = list.pop()?;
            if list.is_empty() {
                self.small.remove(&capacity);
            }
            start
        };
        self.usage.kept -= capacity;
        Some(start)
    }

    fn keep(&mut self, start: NonNull<u8>, capacity: usize) {
        if capacity >= LARGE {
            self.ranges.give(start.as_ptr().expose_provenance(), capacity);
        } else {
            self.small.entry(capacity).or_default().push(start);
        }
    }

    /// A block from the system; what is left of a range is kept.
    fn obtain(&mut self, capacity: usize) -> NonNull<u8> {
        self.trim();
        if capacity < LARGE {
            return obtain_small(capacity);
        }
        let whole = capacity.next_multiple_of(HUGE);
        let start = map(whole);
        if whole > capacity {
            self.usage.kept += whole - capacity;
            self.ranges.give(start.as_ptr().expose_provenance() + capacity, whole - capacity);
        }
        start
    }

    /// Gives kept memory back to the system, from the largest ranges first, until live and kept fit the bound.
    fn trim(&mut self) {
        let bound = resident(self.ever);
        loop {
            let excess = (self.usage.live + self.usage.kept).saturating_sub(bound);
            if excess == 0 {
                return;
            }
            if let Some((start, size)) = self.ranges.cut(excess, HUGE) {
                self.usage.kept -= size;
                unmap(pointer(start), size);
                continue;
            }
            let Some((&capacity, _)) = self.small.last_key_value() else { return };
            let Some(start) = self.take(capacity) else { return };
            // SAFETY: allocated by `obtain_small` with this layout, with nobody holding it any more.
            unsafe { dealloc(start.as_ptr(), layout(capacity)) };
        }
    }
}

/// The block at an address that the pool keeps.
fn pointer(address: usize) -> NonNull<u8> {
    let start = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: ranges are made of mappings, and no mapping starts at 0.
    unsafe { NonNull::new_unchecked(start) }
}

fn obtain_small(capacity: usize) -> NonNull<u8> {
    let layout = layout(capacity);
    // SAFETY: the layout has a non-zero size.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Zeroed memory of a multiple of huge pages, aligned to them and on them if the system has any.
#[cfg(unix)]
fn map(size: usize) -> NonNull<u8> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a fresh anonymous mapping, of which the unaligned head and the rest of the tail are given back. Advice
    // does not change its content; refusal costs speed only.
    unsafe {
        let whole = libc::mmap(std::ptr::null_mut(), size + HUGE, protection, flags, -1, 0);
        if whole == libc::MAP_FAILED {
            handle_alloc_error(layout(size));
        }
        let head = whole.align_offset(HUGE);
        let start = whole.byte_add(head);
        if head > 0 {
            libc::munmap(whole, head);
        }
        libc::munmap(start.byte_add(size), HUGE - head);
        #[cfg(target_os = "linux")]
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
        NonNull::new_unchecked(start.cast())
    }
}

#[cfg(unix)]
fn unmap(start: NonNull<u8>, size: usize) {
    // SAFETY: whole pages that `map` obtained, with nobody holding them any more.
    unsafe { libc::munmap(start.as_ptr().cast(), size) };
}

/// Without pages to cut from there are no large blocks.
#[cfg(not(unix))]
fn map(size: usize) -> NonNull<u8> {
    obtain_small(size)
}

#[cfg(not(unix))]
fn unmap(_start: NonNull<u8>, _size: usize) {}

fn layout(capacity: usize) -> Layout {
    match Layout::from_size_align(capacity, ALIGN) {
        Ok(layout) => layout,
        Err(_) => handle_alloc_error(Layout::new::<u8>()),
    }
}

/// Rounds up so that near-equal sizes share a list: to 256 bytes below 64 KiB, to pages of 4 KiB above.
pub fn size_class(bytes: usize) -> usize {
    let grain = if bytes < 1 << 16 { 256 } else { 4096 };
    bytes.max(1).next_multiple_of(grain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_counted() {
        // other tests of this binary use the pool meanwhile
        let mut kept: Vec<(Block, u8)> = Vec::new();
        for (i, size) in (0..200u8).zip([100, 5000, 70_000, 3 << 20, 1 << 16, 2 << 20].into_iter().cycle()) {
            let mut block = Block::new(size);
            block.bytes_mut().fill(i);
            kept.push((block, i));
            if i % 3 == 2 {
                kept.swap_remove(usize::from(i) * 7 % kept.len());
            }
        }
        let live: usize = kept.iter().map(|(block, _)| block.capacity).sum();
        assert!(usage().live >= live && usage().peak >= usage().live);
        for (block, i) in &kept {
            assert!(block.start.align_offset(ALIGN) == 0 && block.bytes().iter().all(|byte| byte == i));
        }
    }
}
