//! Up to four extents, by value.

/// Extents of a tensor, outermost first; rank 0 is a scalar.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: u8,
}

impl Shape {
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }
    pub fn rank(&self) -> usize {
        self.rank as usize
    }
    /// Number of elements; 1 for a scalar.
    pub fn count(&self) -> usize {
        self.dims().iter().product()
    }
    /// The innermost extent; 1 for a scalar.
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }
    /// `(N, H, W, C)` of an image batch, or `None` if the rank is another.
    pub fn nhwc(&self) -> Option<[usize; 4]> {
        (self.rank == 4).then_some(self.dims)
    }
}

impl<const D: usize> From<[usize; D]> for Shape {
    fn from(extents: [usize; D]) -> Self {
        Self::from(&extents[..])
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        assert!(extents.len() <= 4, "rank of at most 4");
        let mut dims = [1; 4];
        dims[..extents.len()].copy_from_slice(extents);
        Self { dims, rank: extents.len() as u8 }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let extents: Vec<String> = self.dims().iter().map(usize::to_string).collect();
        write!(f, "({})", extents.join(", "))
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
