//! How often somebody may call.

use serde::{Deserialize, Serialize};

/// Most requests of a limit: who may send more needs none.
const REQUESTS_MAX: u32 = 1_000_000;

/// Longest time of a limit, in seconds: a day. Hosts remember what was sent for that long.
const SECONDS_MAX: u32 = 86_400;

/// So many requests in so many seconds: at once, or spread evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "Unchecked")]
pub struct RateLimit {
    /// How many
    #[schema(minimum = 1, maximum = 1000000)]
    requests: u32,
    /// In how many seconds
    #[schema(minimum = 1, maximum = 86400)]
    seconds: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    requests: u32,
    seconds: u32,
}

/// The numbers are no [`RateLimit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate limit has 1 to {REQUESTS_MAX} `requests` in 1 to {SECONDS_MAX} `seconds`, not {requests} in {seconds}")]
pub struct InvalidRateLimit {
    requests: u32,
    seconds: u32,
}

impl RateLimit {
    /// So many requests in so many seconds.
    ///
    /// # Errors
    /// For none, or too many.
    pub fn new(requests: u32, seconds: u32) -> Result<Self, InvalidRateLimit> {
        if (1..=REQUESTS_MAX).contains(&requests) && (1..=SECONDS_MAX).contains(&seconds) {
            return Ok(Self { requests, seconds });
        }
        Err(InvalidRateLimit { requests, seconds })
    }

    /// How many, at least 1.
    #[must_use]
    pub fn requests(self) -> u32 {
        self.requests
    }

    /// In how many seconds, at least 1.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

impl TryFrom<Unchecked> for RateLimit {
    type Error = InvalidRateLimit;

    fn try_from(Unchecked { requests, seconds }: Unchecked) -> Result<Self, InvalidRateLimit> {
        Self::new(requests, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_lets_something_through_and_is_remembered_for_a_day_at_most() {
        let read = serde_json::from_str::<RateLimit>;
        assert_eq!(read(r#"{"requests": 100, "seconds": 60}"#).unwrap(), RateLimit::new(100, 60).unwrap());
        for bad in [
            r#"{"requests": 0, "seconds": 60}"#,
            r#"{"requests": 1, "seconds": 0}"#,
            r#"{"requests": 1000001, "seconds": 60}"#,
            r#"{"requests": 1, "seconds": 86401}"#,
            r#"{"requests": -1, "seconds": 60}"#,
            r#"{"requests": 1.5, "seconds": 60}"#,
            r#"{"requests": 1}"#,
            r#"{"requests": 1, "seconds": 60, "burst": 5}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
