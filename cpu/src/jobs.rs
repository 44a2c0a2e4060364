//! Jobs of similar size, handed out one by one: no thread waits for another longer than for one job.

use rayon::prelude::*;
use std::sync::{Mutex, MutexGuard};

/// What `job(memory, k, item)` makes of every item, in order; each thread's working memory is from `init`.
pub fn each<T: Send, W, O: Send>(
    items: impl IntoIterator<Item = T>,
    init: impl Fn() -> W + Sync,
    job: impl Fn(&mut W, usize, T) -> O + Sync,
) -> Vec<O> {
    let items: Vec<T> = items.into_iter().collect();
    let results = Mutex::new((0..items.len()).map(|_| None).collect::<Vec<Option<O>>>());
    let threads = rayon::current_num_threads().min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || lock(&queue).next(); // its lock is gone once it has returned
    crew(threads, &|| {
        let mut memory = None;
        while let Some((k, item)) = next() {
            let result = job(memory.get_or_insert_with(&init), k, item);
            lock(&results)[k] = Some(result);
        }
    });
    results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_iter().flatten().collect()
}

/// What `job(item)` makes of every item, in order, where that takes about `work` additions: several items make one job, and
/// no other thread is woken where all of them do.
pub fn small<T: Send, O: Send>(items: Vec<T>, work: usize, job: impl Fn(T) -> O + Sync) -> Vec<O> {
    const ENOUGH: usize = 1 << 14;
    let (group, count) = ((ENOUGH / work.max(1)).max(1), items.len());
    if count <= group {
        return items.into_iter().map(job).collect();
    }
    let mut items = items.into_iter();
    let groups = (0..count.div_ceil(group)).map(|_| items.by_ref().take(group).collect::<Vec<T>>());
    let made = each(groups, || (), |(), _, group| group.into_iter().map(&job).collect::<Vec<O>>());
    made.into_iter().flatten().collect()
}

/// `job` of every item.
pub fn all<T: Send>(items: impl IntoIterator<Item = T>, job: impl Fn(T) + Sync) {
    each(items, || (), |(), _, item| job(item));
}

/// Runs `thread` on as many threads. Not generic: what rayon makes of a closure is long to compile.
fn crew(threads: usize, thread: &(dyn Fn() + Sync)) {
    (0..threads).into_par_iter().with_max_len(1).for_each(|_| thread());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_jobs_keep_their_order_in_groups_of_any_size() {
        for work in [0, 1 << 12, 1 << 13, 1 << 20] {
            for count in 0..12 {
                let made = small((0..count).collect(), work, |k: usize| k * k);
                assert_eq!(made, (0..count).map(|k| k * k).collect::<Vec<_>>(), "{work}");
            }
        }
    }
}
