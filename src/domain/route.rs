//! Routes: which requests of a tenant an endpoint answers.
