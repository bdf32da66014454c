//! How much memory reviews take.

use crate::besieged::Besieged;
use crate::siege::hostile;

/// A memory limit, in MiB.
const LIMIT: usize = 64;

/// What may be taken beside reviews, in MiB: connections, and what the allocator keeps.
const BESIDE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reviews_take_no_more_than_half_of_the_memory_limit() {
    let mut forestall = Besieged::start(&[], LIMIT);
    let idle = forestall.peak();
    forestall.withstands(&hostile()).await;
    let taken = forestall.peak() - idle;
    println!("reviews took {taken} of {LIMIT} MiB");
    assert!(taken <= LIMIT / 2 + BESIDE, "{taken} of {LIMIT} MiB");
    // Otherwise nothing was tried.
    assert!(taken > LIMIT / 8, "{taken} of {LIMIT} MiB");
}
