//! Our own processes.
