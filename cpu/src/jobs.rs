//! Jobs of similar size, handed out one by one: no thread waits for another longer than for one job.

use rayon::prelude::*;
use std::sync::Mutex;

/// What `job(memory, k, item)` makes of every item, in order; each thread's working memory is from `init`.
pub fn each<T: Send, W, O: Send>(
    items: Vec<T>,
    init: impl Fn() -> W + Sync,
    job: impl Fn(&mut W, usize, T) -> O + Sync,
) -> Vec<O> {
    let count = items.len();
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let thread = |_| {
        let (mut done, mut memory) = (vec![], None);
        while let Some((k, item)) = next() {
            done.push((k, job(memory.get_or_insert_with(&init), k, item)));
        }
        done
    };
    let threads = rayon::current_num_threads().min(count);
    let done: Vec<Vec<(usize, O)>> = (0..threads).into_par_iter().with_max_len(1).map(thread).collect();
    let mut results: Vec<Option<O>> = (0..count).map(|_| None).collect();
    done.into_iter().flatten().for_each(|(k, result)| results[k] = Some(result));
    results.into_iter().flatten().collect()
}
