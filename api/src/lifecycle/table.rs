//! Every phase against every event.
