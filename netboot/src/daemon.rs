//! The one place that opens privileged things and puts the parts together.
