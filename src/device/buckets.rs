//! The batch sizes that a device prepares for.

/// A batch runs in the smallest bucket that holds it; the rows that are missing are filled up. A bucket's tensors have
/// a fixed shape at a fixed place, so that they are bound to the model once and its run can be captured as a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets(Vec<usize>);

impl Buckets {
    /// The sizes that are configured, or powers of two; the limit itself is always one.
    pub fn new(limit: usize, configured: &[usize]) -> Self {
        let limit = limit.max(1);
        let mut sizes = match configured {
            [] => std::iter::successors(Some(1), |size: &usize| size.checked_mul(2))
                .take_while(|&size| size < limit)
                .collect(),
            sizes => sizes.to_vec(),
        };
        sizes.push(limit);
        sizes.retain(|size| (1..=limit).contains(size));
        sizes.sort_unstable();
        sizes.dedup();
        Self(sizes)
    }

    /// The index and the size of the bucket for so many rows; `None` if they are beyond the limit.
    pub fn holding(&self, rows: usize) -> Option<(usize, usize)> {
        let index = self.0.partition_point(|&size| size < rows);
        Some((index, *self.0.get(index)?))
    }

    pub fn sizes(&self) -> &[usize] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_reach_the_limit() {
        let sizes = |limit, configured: &[usize]| Buckets::new(limit, configured).0;
        assert_eq!(sizes(1, &[]), [1]);
        assert_eq!(sizes(0, &[]), [1]);
        assert_eq!(sizes(8, &[]), [1, 2, 4, 8]);
        assert_eq!(sizes(12, &[]), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(12, &[6, 3, 6, 0, 99]), [3, 6, 12]);
        assert_eq!(*sizes(usize::MAX, &[]).last().unwrap(), usize::MAX);
    }

    #[test]
    fn a_batch_runs_in_the_smallest_bucket_that_holds_it() {
        let buckets = Buckets::new(12, &[]);
        let found = [0, 1, 3, 4, 9, 12, 13].map(|rows| buckets.holding(rows).map(|(_, size)| size));
        assert_eq!(found, [Some(1), Some(1), Some(4), Some(4), Some(12), Some(12), None]);
        assert_eq!(buckets.holding(3), Some((2, 4)));
    }
}
