//! Images as data: which pages of a linear memory differ from a reference, and their file format.
//!
//! Owns: the page-set format on disk and its validation. Never: maps anything (see `memory`), decides where files live
//! (see `store`).

use std::ops::Range;

/// Granularity of images, rewinding and the kernel's page tables, in bytes.
pub const PAGE_BYTES: usize = 4096;

/// Runs of differing pages with at most this many equal pages between them are stored as one.
///
/// Every run becomes a kernel mapping in every slot that shows the image; a mapping costs about as much as three pages
/// in time, and there are only 65,530 per process.
const GAP_PAGES_MAX: usize = 6;

/// Largest memory an image may describe, in pages: 1 GiB.
const PAGES_MAX: u32 = 1 << 18;

const MAGIC: &[u8; 8] = b"pqimage1";

/// A run of consecutive pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRun {
    /// Index of the first page in the memory.
    pub(crate) first: u32,
    /// Number of pages.
    pub(crate) count: u32,
}

impl PageRun {
    /// The bytes of the memory that the run covers.
    pub(crate) fn bytes(self) -> Range<usize> {
        let start = self.first as usize * PAGE_BYTES;
        start..start + self.count as usize * PAGE_BYTES
    }
}

/// The pages of a linear memory that differ from a reference: from zeros for the base image, from the base image for a
/// script's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSet {
    memory_pages: u32,
    /// Ascending, not touching, not empty.
    runs: Vec<PageRun>,
    /// The runs' contents, one after the other.
    content: Vec<u8>,
}

/// Why bytes are no page set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageFormatError {
    /// Not our format, or one of another release.
    #[error("not an image of this format")]
    Magic,
    /// The compressed stream is damaged.
    #[error("the image cannot be decompressed: {0}")]
    Compression(String),
    /// Lengths and positions contradict each other.
    #[error("the image's table of pages is inconsistent")]
    Table,
}

impl PageSet {
    /// What of `memory` is not zero.
    ///
    /// # Panics
    /// If the length is no multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn nonzero(memory: &[u8]) -> Self {
        Self::collect(memory, |_, page| page.iter().any(|byte| *byte != 0))
    }

    /// What of `memory` differs from `reference`, which has the same length.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn difference(memory: &[u8], reference: &[u8]) -> Self {
        assert_eq!(memory.len(), reference.len(), "an image and its reference have one size");
        Self::collect(memory, |range, page| reference[range] != *page)
    }

    fn collect(memory: &[u8], differs: impl Fn(Range<usize>, &[u8]) -> bool) -> Self {
        assert_eq!(memory.len() % PAGE_BYTES, 0, "linear memories consist of whole pages");
        let mut runs: Vec<PageRun> = Vec::new();
        for (index, page) in memory.chunks_exact(PAGE_BYTES).enumerate() {
            let start = index * PAGE_BYTES;
            if !differs(start..start + PAGE_BYTES, page) {
                continue;
            }
            let index = u32::try_from(index).expect("a wasm32 memory has at most 2^20 pages");
            match runs.last_mut() {
                Some(run) if (index - run.first - run.count) as usize <= GAP_PAGES_MAX => {
                    run.count = index - run.first + 1;
                }
                _ => runs.push(PageRun { first: index, count: 1 }),
            }
        }
        let content = runs.iter().flat_map(|run| &memory[run.bytes()]).copied().collect();
        let memory_pages = u32::try_from(memory.len() / PAGE_BYTES).expect("a wasm32 memory has at most 2^20 pages");
        Self { memory_pages, runs, content }
    }

    /// Size of the memory this describes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_pages as usize * PAGE_BYTES
    }

    /// Number of stored pages.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.content.len() / PAGE_BYTES
    }

    pub(crate) fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    /// The file format: magic, then zstd of (pages of the memory, number of runs, runs, contents), all little endian.
    ///
    /// Contents are stored as their exclusive or with `reference` (the base image; empty for zeros), because most bytes of a
    /// page that differs are equal: that makes files five times smaller. `level` is zstd's. Equal page sets give equal bytes.
    ///
    /// # Errors
    /// If the compressor fails, for want of memory.
    pub fn encode(&self, level: i32, reference: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut plain = Vec::with_capacity(8 + self.runs.len() * 8 + self.content.len());
        plain.extend(self.memory_pages.to_le_bytes());
        plain.extend(u32::try_from(self.runs.len()).expect("fewer runs than pages").to_le_bytes());
        for run in &self.runs {
            plain.extend(run.first.to_le_bytes());
            plain.extend(run.count.to_le_bytes());
        }
        let content_at = plain.len();
        plain.extend(&self.content);
        exclusive_or(&self.runs, &mut plain[content_at..], reference);
        let mut file = MAGIC.to_vec();
        file.extend(zstd::bulk::compress(&plain, level)?);
        Ok(file)
    }

    /// Reads [`Self::encode`]'s format.
    ///
    /// # Errors
    /// If the bytes are anything else. Nothing in them is trusted: every length and position is checked.
    pub fn decode(file: &[u8], reference: &[u8]) -> Result<Self, ImageFormatError> {
        let compressed = file.strip_prefix(MAGIC).ok_or(ImageFormatError::Magic)?;
        let plain_bytes_max = PAGES_MAX as usize * (PAGE_BYTES + 8) + 8;
        let plain_bytes = zstd::zstd_safe::get_frame_content_size(compressed)
            .ok()
            .flatten()
            .and_then(|bytes| usize::try_from(bytes).ok())
            .filter(|bytes| *bytes <= plain_bytes_max)
            .ok_or(ImageFormatError::Table)?;
        let plain = zstd::bulk::decompress(compressed, plain_bytes)
            .map_err(|error| ImageFormatError::Compression(error.to_string()))?;
        let mut pages = Self::parse(&plain)?;
        if !reference.is_empty() && reference.len() != pages.memory_bytes() {
            return Err(ImageFormatError::Table);
        }
        exclusive_or(&pages.runs, &mut pages.content, reference);
        Ok(pages)
    }

    fn parse(plain: &[u8]) -> Result<Self, ImageFormatError> {
        let mut words = plain.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let mut word = || words.next().ok_or(ImageFormatError::Table);
        let memory_pages = word()?;
        let n_runs = word()? as usize;
        if memory_pages > PAGES_MAX || n_runs > memory_pages as usize {
            return Err(ImageFormatError::Table);
        }
        let mut runs = Vec::with_capacity(n_runs);
        let (mut free_from, mut n_pages) = (0, 0_usize);
        for _ in 0..n_runs {
            let run = PageRun { first: word()?, count: word()? };
            let end =
                run.first.checked_add(run.count).filter(|end| *end <= memory_pages).ok_or(ImageFormatError::Table)?;
            if run.count == 0 || run.first < free_from {
                return Err(ImageFormatError::Table);
            }
            free_from = end;
            n_pages += run.count as usize;
            runs.push(run);
        }
        let content = &plain[8 + n_runs * 8..];
        if content.len() != n_pages * PAGE_BYTES {
            return Err(ImageFormatError::Table);
        }
        Ok(Self { memory_pages, runs, content: content.to_vec() })
    }
}

/// Combines the runs' `content` with the same pages of `reference`; with an empty one, with zeros.
fn exclusive_or(runs: &[PageRun], content: &mut [u8], reference: &[u8]) {
    if reference.is_empty() {
        return;
    }
    let mut rest = content;
    for run in runs {
        let (pages, behind) = rest.split_at_mut(run.bytes().len());
        pages.iter_mut().zip(&reference[run.bytes()]).for_each(|(byte, other)| *byte ^= other);
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(n_pages: usize, dirty: &[usize]) -> Vec<u8> {
        let mut memory = vec![0; n_pages * PAGE_BYTES];
        for page in dirty {
            memory[page * PAGE_BYTES + page % PAGE_BYTES] = 7;
        }
        memory
    }

    #[test]
    fn keeps_the_pages_that_differ_and_bridges_small_gaps() {
        let set = PageSet::nonzero(&memory(100, &[0, 1, 5, 40, 99]));
        let runs: Vec<_> = set.runs().iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(runs, [(0, 6), (40, 1), (99, 1)]);
        assert_eq!(set.n_pages(), 8);
        assert_eq!(set.memory_bytes(), 100 * PAGE_BYTES);
    }

    #[test]
    fn a_difference_counts_pages_that_became_zero() {
        let set = PageSet::difference(&memory(10, &[]), &memory(10, &[3]));
        assert_eq!(set.runs(), [PageRun { first: 3, count: 1 }]);
        assert!(set.content().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn survives_its_file_format() {
        for dirty in [&[][..], &[0], &[0, 9, 30, 63]] {
            let set = PageSet::nonzero(&memory(64, dirty));
            assert_eq!(PageSet::decode(&set.encode(3, &[]).unwrap(), &[]), Ok(set.clone()));
            let reference = memory(64, &[0, 1, 40]);
            let set = PageSet::difference(&memory(64, dirty), &reference);
            assert_eq!(PageSet::decode(&set.encode(3, &reference).unwrap(), &reference), Ok(set));
        }
    }

    #[test]
    fn refuses_damaged_files() {
        let file = PageSet::nonzero(&memory(64, &[0, 9, 30, 63])).encode(3, &[]).unwrap();
        assert_eq!(PageSet::decode(b"", &[]), Err(ImageFormatError::Magic));
        assert_eq!(PageSet::decode(&[b"pqimage0", &file[8..]].concat(), &[]), Err(ImageFormatError::Magic));
        for end in 8..file.len() {
            assert!(PageSet::decode(&file[..end], &[]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn refuses_tables_that_lie() {
        let table = |words: &[u32], n_pages: usize| {
            let mut plain: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            plain.resize(plain.len() + n_pages * PAGE_BYTES, 1);
            PageSet::parse(&plain)
        };
        assert!(table(&[4, 1, 0, 1], 1).is_ok());
        for (what, words, n_pages) in [
            ("empty run", vec![4, 1, 0, 0], 0),
            ("run past the end", vec![4, 1, 3, 2], 2),
            ("overflowing run", vec![4, 1, u32::MAX, 2], 2),
            ("overlapping runs", vec![4, 2, 0, 2, 1, 1], 3),
            ("descending runs", vec![4, 2, 2, 1, 0, 1], 2),
            ("content too short", vec![4, 1, 0, 2], 1),
            ("content too long", vec![4, 1, 0, 1], 2),
            ("more runs than pages", vec![4, 5], 0),
            ("memory too large", vec![PAGES_MAX + 1, 0], 0),
        ] {
            assert_eq!(table(&words, n_pages), Err(ImageFormatError::Table), "{what}");
        }
    }
}
