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

const MAGIC: &[u8; 8] = b"pqimage2";

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

/// Which pages of a linear memory an image holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageTable {
    memory_pages: u32,
    /// Ascending, not touching, not empty.
    runs: Vec<PageRun>,
}

/// The pages of a linear memory that differ from a reference: from zeros for the base image, from the base image for a
/// script's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSet {
    table: PageTable,
    /// The runs' contents, one after the other.
    content: Vec<u8>,
}

/// An image file whose table is sound; its content is still compressed.
#[derive(Debug)]
pub(crate) struct EncodedImage<'a> {
    table: PageTable,
    compressed: &'a [u8],
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

impl PageTable {
    /// Size of the memory this describes, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_pages as usize * PAGE_BYTES
    }

    /// The runs, ascending.
    pub(crate) fn runs(&self) -> &[PageRun] {
        &self.runs
    }

    /// Size of all runs together, in bytes.
    pub(crate) fn content_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.bytes().len()).sum()
    }

    /// Reads the table at the start of `file`; gives what is behind it, too. Nothing is trusted: every position is checked.
    fn parse(file: &[u8]) -> Result<(Self, &[u8]), ImageFormatError> {
        let mut rest = file;
        let mut word = || {
            let (word, behind) = rest.split_first_chunk().ok_or(ImageFormatError::Table)?;
            rest = behind;
            Ok(u32::from_le_bytes(*word))
        };
        let memory_pages = word()?;
        let n_runs = word()?;
        if memory_pages > PAGES_MAX || n_runs > memory_pages {
            return Err(ImageFormatError::Table);
        }
        let mut runs = Vec::with_capacity(n_runs as usize);
        let mut free_from = 0;
        for _ in 0..n_runs {
            let run = PageRun { first: word()?, count: word()? };
            let end =
                run.first.checked_add(run.count).filter(|end| *end <= memory_pages).ok_or(ImageFormatError::Table)?;
            if run.count == 0 || run.first < free_from {
                return Err(ImageFormatError::Table);
            }
            free_from = end;
            runs.push(run);
        }
        Ok((Self { memory_pages, runs }, rest))
    }
}

impl PageSet {
    /// What of `memory` is not zero.
    ///
    /// # Panics
    /// If the length is no multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn nonzero(memory: &[u8]) -> Self {
        Self::collect(memory, 0..memory.len() / PAGE_BYTES, |_, page| page.iter().any(|byte| *byte != 0))
    }

    /// What of `memory` differs from `reference`, which has the same length.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn difference(memory: &[u8], reference: &[u8]) -> Self {
        Self::difference_among(memory, reference, 0..memory.len() / PAGE_BYTES)
    }

    /// [`Self::difference`] if all other pages than `candidates`, in ascending order, are known to be equal.
    pub(crate) fn difference_among(memory: &[u8], reference: &[u8], candidates: impl Iterator<Item = usize>) -> Self {
        assert_eq!(memory.len(), reference.len(), "an image and its reference have one size");
        Self::collect(memory, candidates, |range, page| reference[range] != *page)
    }

    fn collect(
        memory: &[u8],
        candidates: impl Iterator<Item = usize>,
        differs: impl Fn(Range<usize>, &[u8]) -> bool,
    ) -> Self {
        assert_eq!(memory.len() % PAGE_BYTES, 0, "linear memories consist of whole pages");
        let mut runs: Vec<PageRun> = Vec::new();
        for index in candidates {
            let range = index * PAGE_BYTES..(index + 1) * PAGE_BYTES;
            if !differs(range.clone(), &memory[range]) {
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
        Self { table: PageTable { memory_pages, runs }, content }
    }

    /// Size of the memory this describes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// Number of stored pages.
    #[must_use]
    pub fn n_pages(&self) -> usize {
        self.content.len() / PAGE_BYTES
    }

    pub(crate) fn table(&self) -> &PageTable {
        &self.table
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.content
    }

    /// The file format: magic; pages of the memory, number of runs, first page and length of each, all `u32` in little
    /// endian; then the contents, compressed with zstd.
    ///
    /// Contents are stored as their exclusive or with `reference` (the base image; empty for zeros), because most bytes of a
    /// page that differs are equal: that makes files five times smaller. `level` is zstd's. Equal page sets give equal bytes.
    ///
    /// # Errors
    /// If the compressor fails, for want of memory.
    pub fn encode(&self, level: i32, reference: &[u8]) -> std::io::Result<Vec<u8>> {
        let Self { table: PageTable { memory_pages, runs }, content } = self;
        let mut file = MAGIC.to_vec();
        file.extend(memory_pages.to_le_bytes());
        file.extend(u32::try_from(runs.len()).expect("fewer runs than pages").to_le_bytes());
        for run in runs {
            file.extend(run.first.to_le_bytes());
            file.extend(run.count.to_le_bytes());
        }
        let mut content = content.clone();
        exclusive_or(runs, &mut content, reference);
        file.extend(zstd::bulk::compress(&content, level)?);
        Ok(file)
    }
}

impl<'a> EncodedImage<'a> {
    /// Reads the table of [`PageSet::encode`]'s format.
    ///
    /// # Errors
    /// If there is none, or it contradicts itself.
    pub(crate) fn parse(file: &'a [u8]) -> Result<Self, ImageFormatError> {
        let (table, compressed) = PageTable::parse(file.strip_prefix(MAGIC).ok_or(ImageFormatError::Magic)?)?;
        Ok(Self { table, compressed })
    }

    /// Which pages the image holds.
    pub(crate) fn table(&self) -> &PageTable {
        &self.table
    }

    /// Fills `content`, which has the size that the table says, with the runs' contents. `reference` is that of
    /// [`PageSet::encode`].
    ///
    /// # Errors
    /// If the content is damaged, or `reference` is of a memory of another size.
    pub(crate) fn decode_into(&self, content: &mut [u8], reference: &[u8]) -> Result<(), ImageFormatError> {
        if !reference.is_empty() && reference.len() != self.table.memory_bytes() {
            return Err(ImageFormatError::Table);
        }
        let n_bytes = zstd::bulk::decompress_to_buffer(self.compressed, content)
            .map_err(|error| ImageFormatError::Compression(error.to_string()))?;
        if n_bytes != content.len() {
            return Err(ImageFormatError::Table);
        }
        exclusive_or(&self.table.runs, content, reference);
        Ok(())
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

    fn decode(file: &[u8], reference: &[u8]) -> Result<PageSet, ImageFormatError> {
        let encoded = EncodedImage::parse(file)?;
        let mut content = vec![0; encoded.table().content_bytes()];
        encoded.decode_into(&mut content, reference)?;
        Ok(PageSet { table: encoded.table, content })
    }

    #[test]
    fn keeps_the_pages_that_differ_and_bridges_small_gaps() {
        let set = PageSet::nonzero(&memory(100, &[0, 1, 5, 40, 99]));
        let runs: Vec<_> = set.table().runs().iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(runs, [(0, 6), (40, 1), (99, 1)]);
        assert_eq!(set.n_pages(), 8);
        assert_eq!(set.memory_bytes(), 100 * PAGE_BYTES);
    }

    #[test]
    fn a_difference_counts_pages_that_became_zero() {
        let set = PageSet::difference(&memory(10, &[]), &memory(10, &[3]));
        assert_eq!(set.table().runs(), [PageRun { first: 3, count: 1 }]);
        assert!(set.content().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_difference_among_candidates_keeps_those_that_differ() {
        let (now, before) = (memory(100, &[2, 50, 70]), memory(100, &[50]));
        let all = PageSet::difference(&now, &before);
        assert_eq!(PageSet::difference_among(&now, &before, [1, 2, 50, 70, 99].into_iter()), all);
    }

    #[test]
    fn survives_its_file_format() {
        for dirty in [&[][..], &[0], &[0, 9, 30, 63]] {
            let set = PageSet::nonzero(&memory(64, dirty));
            assert_eq!(decode(&set.encode(3, &[]).unwrap(), &[]), Ok(set.clone()));
            let reference = memory(64, &[0, 1, 40]);
            let set = PageSet::difference(&memory(64, dirty), &reference);
            assert_eq!(decode(&set.encode(3, &reference).unwrap(), &reference), Ok(set));
        }
    }

    #[test]
    fn refuses_damaged_files() {
        let file = PageSet::nonzero(&memory(64, &[0, 9, 30, 63])).encode(3, &[]).unwrap();
        assert_eq!(decode(b"", &[]), Err(ImageFormatError::Magic));
        assert_eq!(decode(&[b"pqimage0", &file[8..]].concat(), &[]), Err(ImageFormatError::Magic));
        for end in 8..file.len() {
            assert!(decode(&file[..end], &[]).is_err(), "cut at {end}");
        }
        assert_eq!(decode(&file, &memory(63, &[])), Err(ImageFormatError::Table), "another base image");
    }

    #[test]
    fn refuses_contents_of_another_size() {
        let file = PageSet::nonzero(&memory(64, &[0, 20])).encode(3, &[]).unwrap();
        let (table, _) = file.split_at(MAGIC.len() + 8 + 2 * 8);
        for n_pages in [0, 1, 3] {
            let content = zstd::bulk::compress(&vec![1; n_pages * PAGE_BYTES], 3).unwrap();
            assert!(decode(&[table, &content].concat(), &[]).is_err(), "{n_pages} pages instead of 2");
        }
    }

    #[test]
    fn refuses_tables_that_lie() {
        let table = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            PageTable::parse(&bytes).map(|(_, rest)| rest.len())
        };
        assert_eq!(table(&[4, 1, 0, 1, 7]), Ok(4));
        for (what, words) in [
            ("empty run", vec![4, 1, 0, 0]),
            ("run past the end", vec![4, 1, 3, 2]),
            ("overflowing run", vec![4, 1, u32::MAX, 2]),
            ("overlapping runs", vec![4, 2, 0, 2, 1, 1]),
            ("descending runs", vec![4, 2, 2, 1, 0, 1]),
            ("table too short", vec![4, 2, 0, 1]),
            ("more runs than pages", vec![4, 5]),
            ("memory too large", vec![PAGES_MAX + 1, 0]),
        ] {
            assert_eq!(table(&words), Err(ImageFormatError::Table), "{what}");
        }
    }
}
